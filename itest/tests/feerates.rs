//! Feerates change while payments fly both ways: bitcoind relays from another feerate on, and the
//! funder follows at the next block.

use std::sync::Arc;

use fulmen_channel::amount::{Msat, Sat};
use fulmen_itest::failure::Result;
use fulmen_itest::regtest::{Cluster, Daemon, Peer};
use fulmen_proto::lnrpc::payment::PaymentStatus;
use fulmen_proto::lnrpc::CommitmentType;
use tokio::task::JoinSet;

use crate::two_daemons::both_agree;

/// What bitcoind relays from, in sat/vB, and what the commitment pays then, in sat/kw.
type Steps = [(u64, i64); 3];

#[tokio::test(flavor = "multi_thread")]
async fn with_anchors_the_commitment_follows_the_mempool() -> Result<()> {
    // A tenth more than the least, and never more than 10 sat/vB.
    payments_fly(CommitmentType::Anchors, [(5, 1_375), (20, 2_500), (1, 253)]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_anchors_the_commitment_follows_what_confirms_soon() -> Result<()> {
    // On regtest nothing is estimated: 10 sat/vB, or the least that enters the mempool and a bit.
    payments_fly(CommitmentType::StaticRemoteKey, [(20, 5_060), (100, 25_300), (1, 2_500)]).await
}

async fn payments_fly(kind: CommitmentType, steps: Steps) -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob) = (cluster.daemon("alice").await?, cluster.daemon("bob").await?);
    let (alice, bob) = (Arc::new(alice), Arc::new(bob));
    alice.receives_coins(Sat::new(3_000_000)).await?;
    alice.connects(&*bob).await?;
    alice
        .opens_with(&*bob, Sat::new(1_000_000), |request| {
            request.set_commitment_type(kind);
            request.push_sat = 400_000;
        })
        .await?;
    for (sat_per_vb, paid) in steps {
        let mut flying = JoinSet::new();
        for n in 0..40 {
            let (payer, payee) = if n % 2 == 0 { (&alice, &bob) } else { (&bob, &alice) };
            // Some are trimmed, some become so.
            let invoice =
                payee.invoices(Msat::new([1_000, 900_000, 4_000_000][n % 3]), "fees").await?;
            let payer = Arc::clone(payer);
            flying.spawn(async move { Ok(payer.tries_to_pay(&invoice).await?.status()) });
        }
        cluster.bitcoind().restart_relaying_from(sat_per_vb)?;
        for daemon in [&alice, &bob] {
            follows(&cluster, daemon, paid).await?;
        }
        while let Some(payment) = flying.join_next().await {
            let payment: Result<PaymentStatus> = payment?;
            assert_eq!(payment?, PaymentStatus::Succeeded, "at {sat_per_vb} sat/vB");
        }
        both_agree(&alice, &bob).await?;
    }
    Ok(())
}

/// Mines until a daemon's commitment pays so much.
async fn follows(cluster: &Cluster, daemon: &Daemon, paid: i64) -> Result<()> {
    daemon
        .until("its commitment follows", async || {
            if daemon.channel().await?.fee_per_kw == paid {
                return Ok(Some(()));
            }
            cluster.bitcoind().mine(1).map(|_| None)
        })
        .await
}
