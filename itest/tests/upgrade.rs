//! Today's daemon on the data directories of released versions: nothing is lost.

use std::collections::BTreeSet;

use fulmen_channel::amount::Msat;
use fulmen_itest::failure::Result;
use fulmen_itest::fixture::{tells, Fixture, UNDER_WAY};
use fulmen_itest::regtest::Peer;
use fulmen_proto::lnrpc::invoice::InvoiceState;
use fulmen_proto::lnrpc::payment::PaymentStatus;

use crate::two_daemons::both_agree;

#[tokio::test(flavor = "multi_thread")]
async fn both_ends_of_a_channel_come_from_v0_1_0() -> Result<()> {
    let fixture = Fixture::of("v0.1.0");
    let bitcoind = fixture.bitcoind()?;
    let (alice, bob) = (fixture.daemon(&bitcoind, "alice")?, fixture.daemon(&bitcoind, "bob")?);
    let macaroon = std::fs::read(alice.admin_macaroon())?;
    for daemon in [&alice, &bob] {
        daemon.starts().await?;
        assert_eq!(tells(daemon).await?, fixture.told(daemon.name())?, "{}", daemon.name());
        let backup = "data/chain/bitcoin/regtest/fulmen.db.v1-backup";
        assert!(daemon.dir().join(backup).exists());
    }
    assert_eq!(std::fs::read(alice.admin_macaroon())?, macaroon, "it is still good");

    // What was under way ends: the HTLC is settled on both sides.
    alice.connects(&bob).await?;
    bob.active_channel(alice.node_id()?).await?;
    alice
        .until("the payment under way ends", async || {
            let payments = alice.payments().await?;
            let mut last = payments.iter().rev();
            Ok(last
                .next()
                .is_some_and(|last| last.status() == PaymentStatus::Succeeded)
                .then_some(()))
        })
        .await?;
    let invoices = bob.all_invoices().await?;
    let paid = invoices.iter().find(|invoice| invoice.memo == UNDER_WAY).unwrap();
    assert_eq!(paid.state(), InvoiceState::Settled);
    both_agree(&alice, &bob).await?;
    bob.pays(&alice, Msat::new(77_000)).await?;
    both_agree(&alice, &bob).await?;

    // A second start finds a file of today.
    let told = tells(&alice).await?;
    alice.stops().await?;
    alice.starts().await?;
    assert_eq!(tells(&alice).await?, told);
    alice.connects(&bob).await?;
    alice.closes(&alice.active_channel(bob.node_id()?).await?).await
}

#[test]
fn the_fixture_holds_a_payment_of_each_kind() -> Result<()> {
    let (alice, bob) = (Fixture::of("v0.1.0").told("alice")?, Fixture::of("v0.1.0").told("bob")?);
    let statuses = |payments: Vec<(String, String, i64)>| -> BTreeSet<String> {
        payments.into_iter().map(|(_, status, _)| status).collect()
    };
    assert_eq!(statuses(alice.payments), ["FAILED".to_owned(), "SUCCEEDED".into()].into());
    assert_eq!(statuses(bob.payments), ["SUCCEEDED".to_owned()].into());
    let states: BTreeSet<String> = bob.invoices.into_iter().map(|(_, _, state, _)| state).collect();
    assert_eq!(states, ["OPEN".to_owned(), "SETTLED".into()].into());
    Ok(())
}
