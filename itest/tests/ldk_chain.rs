//! A channel with an LDK node that ends on chain: by our force, by LDK's, and by an old copy of LDK
//! that cheats. Each ends with our wallet holding what is ours, to the satoshi.

mod cheats;
mod htlcs;
mod lost;
pub mod money;

use std::collections::BTreeSet;
use std::sync::Arc;

use bitcoin::OutPoint;
use bitcoincore_rpc::RpcApi;
use fulmen_channel::amount::{Msat, Sat};
use fulmen_itest::failure::{Context, Result};
use fulmen_itest::ldk::LdkPeer;
use fulmen_itest::regtest::{Cluster, Daemon, Peer};
use fulmen_itest::wait::{self, PATIENCE};
use fulmen_proto::lnrpc::channel_close_summary::ClosureType;
use fulmen_proto::lnrpc::{
    ChannelCloseSummary, ClosedChannelsRequest, CommitmentType, ResolutionOutcome, ResolutionType,
};
use tokio::task::spawn_blocking;

const CAPACITY: Sat = Sat::new(2_000_000);
/// LDK's share, to begin with.
const HANDED_OVER: i64 = 800_000;

/// Alice and LDK's Carol with a channel: 1,200,000 sat less fees at Alice's.
async fn with_channel() -> Result<(Cluster, Daemon, Arc<LdkPeer>)> {
    let cluster = Cluster::start()?;
    let alice = Daemon::new(cluster.bitcoind(), "alice", &[])?;
    let carol = with_channel_of(&cluster, &alice).await?;
    Ok((cluster, alice, carol))
}

/// The same with an Alice who does not run yet.
async fn with_channel_of(cluster: &Cluster, alice: &Daemon) -> Result<Arc<LdkPeer>> {
    with_channel_in(CommitmentType::Anchors, cluster, alice).await
}

/// The same in this format.
async fn with_channel_in(
    format: CommitmentType,
    cluster: &Cluster,
    alice: &Daemon,
) -> Result<Arc<LdkPeer>> {
    let bitcoind = Arc::clone(cluster.bitcoind());
    let carol = spawn_blocking(move || {
        let anchors = format == CommitmentType::Anchors;
        let carol = LdkPeer::start_with(&bitcoind, "carol", anchors, &[])?;
        // One raises the fee of a commitment, while another pays for HTLCs.
        carol.receives_coins(Sat::new(500_000))?;
        carol.receives_coins(Sat::new(500_000)).map(|()| carol)
    });
    alice.starts().await?;
    let carol = carol.await??;
    alice.receives_coins(Sat::new(10_000_000)).await?;
    alice.connects(&carol).await?;
    let opened = alice.opens_with(&carol, CAPACITY, |open| {
        open.push_sat = HANDED_OVER;
        open.set_commitment_type(format);
    });
    opened.await?;
    assert_eq!(alice.channel().await?.commitment_type(), format);
    Ok(Arc::new(carol))
}

/// Mines until Alice lists the channel as closed.
async fn closes(cluster: &Cluster, alice: &Daemon) -> Result<ChannelCloseSummary> {
    alice
        .until("the channel is history", async || {
            cluster.bitcoind().mine(1)?;
            alice.is_at_tip().await?;
            let request = ClosedChannelsRequest::default();
            let closed = alice.lightning().await?.closed_channels(request).await?;
            Ok(closed.into_inner().channels.pop())
        })
        .await
}

/// What the sweeps of a closed channel's outputs paid to Alice.
fn swept(cluster: &Cluster, closed: &ChannelCloseSummary) -> Result<i64> {
    let sweeps: BTreeSet<&str> =
        closed.resolutions.iter().map(|end| end.sweep_txid.as_str()).collect();
    let (rpc, mut sum) = (cluster.bitcoind().rpc(), 0);
    for height in u64::from(closed.close_height)..=cluster.bitcoind().height()? {
        for tx in rpc.get_block(&rpc.get_block_hash(height)?)?.txdata {
            if sweeps.contains(tx.compute_txid().to_string().as_str()) {
                sum += tx.output.iter().map(|output| output.value.to_sat()).sum::<u64>();
            }
        }
    }
    Ok(i64::try_from(sum)?)
}

/// What was claimed of outputs of this kind.
fn claimed(closed: &ChannelCloseSummary, kind: ResolutionType) -> u64 {
    let ends = closed.resolutions.iter();
    let claimed = ends
        .filter(|end| end.resolution_type() == kind && end.outcome() == ResolutionOutcome::Claimed);
    claimed.map(|end| end.amount_sat).sum()
}

/// The wallet holds what it held, and what was swept.
async fn holds(
    cluster: &Cluster,
    alice: &Daemon,
    before: i64,
    closed: &ChannelCloseSummary,
) -> Result<()> {
    let swept = swept(cluster, closed)?;
    assert!(swept > 0, "{closed:?}");
    alice
        .until("the sweeps are in the wallet", async || {
            let coins = alice.coins().await?;
            Ok((coins.confirmed_balance == before + swept).then_some(()))
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn we_close_by_force() -> Result<()> {
    let (cluster, alice, _carol) = with_channel().await?;
    let channel = alice.channel().await?;
    let before = alice.coins().await?.confirmed_balance;
    let mut close = alice.begins_to_close_with(&channel, |request| request.force = true).await?;
    close.message().await?.context("an update")?;
    let closed = closes(&cluster, &alice).await?;
    assert_eq!(closed.close_type(), ClosureType::LocalForceClose);
    let balance = u64::try_from(channel.local_balance)?;
    assert_eq!(claimed(&closed, ResolutionType::Commit), balance);
    holds(&cluster, &alice, before, &closed).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ldk_closes_by_force() -> Result<()> {
    let (cluster, alice, carol) = with_channel().await?;
    let channel = alice.channel().await?;
    let before = alice.coins().await?.confirmed_balance;
    let theirs = carol.usable_channel(alice.id()?)?;
    // Told by LDK of its close, Alice would publish her own commitment, and either could confirm.
    alice.stops().await?;
    carol.force_closes(&theirs)?;
    in_mempool(&cluster, &channel.channel_point)?;
    cluster.bitcoind().mine(1)?;
    alice.starts().await?;
    let closed = closes(&cluster, &alice).await?;
    assert_eq!(closed.close_type(), ClosureType::RemoteForceClose);
    let balance = u64::try_from(channel.local_balance)?;
    assert_eq!(claimed(&closed, ResolutionType::Commit), balance);
    holds(&cluster, &alice, before, &closed).await
}

/// Something that spends F waits for a block.
pub fn in_mempool(cluster: &Cluster, channel_point: &str) -> Result<()> {
    let funding: OutPoint = channel_point.parse()?;
    let bitcoind = Arc::clone(cluster.bitcoind());
    wait::until("the commitment is published", PATIENCE, || {
        for txid in bitcoind.mempool()? {
            let tx = bitcoind.rpc().get_raw_transaction(&txid, None)?;
            if tx.input.iter().any(|input| input.previous_output == funding) {
                return Ok(Some(()));
            }
        }
        Ok(None)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn ldk_cheats_while_we_are_away_and_loses_everything() -> Result<()> {
    let (cluster, alice, carol) = with_channel().await?;
    // Carol keeps a copy of the state in which she is rich, and goes on.
    carol.stop()?;
    let copy = carol.copies()?;
    carol.starts_again()?;
    alice.active_channel(Peer::node_id(&carol)?).await?;
    carol.usable_channel(alice.id()?)?;
    carol.pays(&alice.invoices(Msat::new(700_000_000), "everything").await?)?;
    let channel = alice.quiet_channel().await?;
    let before = alice.coins().await?.confirmed_balance;
    carol.stop()?;
    alice.stops().await?;
    // The old copy knows nothing of that payment.
    carol.goes_back_to(&copy)?;
    carol.starts_again()?;
    let old = carol.channels()?.pop().context("the old copy has the channel")?;
    carol.force_closes(&old)?;
    in_mempool(&cluster, &channel.channel_point)?;
    cluster.bitcoind().mine(1)?;
    alice.starts().await?;
    let closed = closes(&cluster, &alice).await?;
    assert_eq!(closed.close_type(), ClosureType::BreachClose);
    // All of it: hers and Carol's, less the commitment's own fee and both anchors.
    let all = claimed(&closed, ResolutionType::Commit);
    let others = u64::try_from(channel.commit_fee)?;
    assert_eq!(all, CAPACITY.sat() - others - 660, "{closed:?}");
    holds(&cluster, &alice, before, &closed).await
}
