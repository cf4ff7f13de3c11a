//! Many payments at once over one connection of a client.

use fulmen_channel::amount::{Msat, Sat};
use fulmen_itest::failure::{Context, Result};
use fulmen_itest::regtest::{is_ended, Cluster, Peer};
use fulmen_proto::lnrpc::payment::PaymentStatus;
use fulmen_proto::routerrpc::SendPaymentRequest;
use tokio::task::JoinSet;

/// More than go out with one commitment, so that most of them say nothing for a while.
const AT_ONCE: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_payments_begin_and_end_over_one_connection() -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob, _) = cluster.pair(Sat::new(2_000_000)).await?;
    let router = alice.router().await?;
    for round in 0..3 {
        let mut payments = JoinSet::new();
        for _ in 0..AT_ONCE {
            let payment_request = bob.invoices(Msat::new(1_000), "at once").await?;
            let mut router = router.clone();
            payments.spawn(async move {
                let request = SendPaymentRequest {
                    payment_request,
                    timeout_seconds: 60,
                    no_inflight_updates: true,
                    ..SendPaymentRequest::default()
                };
                let mut updates = router.send_payment_v2(request).await?.into_inner();
                let first = updates.message().await?.context("an end")?;
                assert!(is_ended(&first), "only the end is told");
                Ok::<_, fulmen_itest::failure::Failure>(first.status())
            });
        }
        while let Some(status) = payments.join_next().await {
            assert_eq!(status??, PaymentStatus::Succeeded, "in round {round}");
        }
    }
    assert_eq!(alice.payments().await?.len(), 3 * AT_ONCE);
    Ok(())
}
