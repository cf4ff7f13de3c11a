//! What a daemon refuses: calls without the right macaroon, openings that cannot be, invoices that
//! cannot be paid; and how it bears a bitcoind that is not there.

use std::fmt::Debug;
use std::time::UNIX_EPOCH;

use bitcoin::hashes::{sha256, Hash};
use bitcoin::secp256k1::{Secp256k1, SecretKey};
use fulmen_channel::amount::{Msat, Sat};
use fulmen_itest::failure::Result;
use fulmen_itest::regtest::{Cluster, Daemon, Peer};
use fulmen_proto::lnrpc::payment::PaymentStatus;
use fulmen_proto::lnrpc::{GetInfoRequest, Invoice, PayReqString, PaymentFailureReason};
use lightning_invoice::{Currency, InvoiceBuilder, PaymentSecret};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_the_right_macaroon() -> Result<()> {
    let cluster = Cluster::start()?;
    let alice = cluster.daemon("alice").await?;
    let good = std::fs::read(alice.admin_macaroon())?;
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    for (macaroon, says) in [
        (None, "expected 1 macaroon, got 0"),
        (Some(&forged[..]), "verification failed: signature mismatch after caveat verification"),
        (Some(&b"no macaroon at all"[..]), "macaroon"),
        (Some(&[][..]), "macaroon"),
    ] {
        let mut lightning = alice.lightning_with(macaroon).await?;
        let status = lightning.get_info(GetInfoRequest {}).await.unwrap_err();
        assert_eq!(status.code(), Code::Unknown);
        assert!(status.message().contains(says), "{status:?}");
    }
    alice.lightning_with(Some(&good)).await?.get_info(GetInfoRequest {}).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opening_without_money_without_peer_or_to_itself() -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob) = (cluster.daemon("alice").await?, cluster.daemon("bob").await?);
    let wanted = Sat::new(500_000);
    refused(alice.begins_to_open(&bob, wanted, |_| {}).await, "is not online");
    alice.connects(&bob).await?;
    let poor = "not enough witness outputs to create funding";
    refused(alice.begins_to_open(&bob, wanted, |_| {}).await, poor);
    alice.receives_coins(Sat::new(400_000)).await?;
    refused(alice.begins_to_open(&bob, wanted, |_| {}).await, poor);
    refused(alice.begins_to_open(&alice, wanted, |_| {}).await, "cannot open channel to self");
    refused(alice.begins_to_open(&bob, Sat::new(1_000), |_| {}).await, "");
    refused(alice.begins_to_open(&bob, Sat::ZERO, |_| {}).await, "");
    assert!(alice.pending_channels().await?.pending_open_channels.is_empty());
    alice.opens(&bob, Sat::new(300_000)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn invoices_that_cannot_be_paid() -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob, _) = cluster.pair(Sat::new(1_000_000)).await?;
    let good = bob.invoices(Msat::new(10_000), "tea").await?;
    let mutated = good.replace("lnbcrt100n1", "lnbcrt900n1");
    assert_ne!(mutated, good);
    for bad in ["", "lnbcrt", "lnbc1", &good[..good.len() - 1], &mutated, &of_mainnet()] {
        refused(alice.tries_to_pay(bad).await, "");
        let request = PayReqString { pay_req: bad.into() };
        refused(alice.lightning().await?.decode_pay_req(request).await, "");
    }
    refused(alice.tries_to_pay(&alice.invoices(Msat::new(1), "self").await?).await, "self-payment");

    let much = alice.tries_to_pay(&bob.invoices(Msat::new(5_000_000_000), "much").await?).await?;
    assert_eq!(much.status(), PaymentStatus::Failed);
    let reason = PaymentFailureReason::FailureReasonInsufficientBalance;
    assert_eq!(much.failure_reason(), reason);

    alice.pays_invoice(&good).await?;
    refused(alice.tries_to_pay(&good).await, "already paid");
    an_expired_one(&alice, &bob).await
}

#[tokio::test(flavor = "multi_thread")]
async fn bitcoind_is_down_at_start() -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob, _) = cluster.pair(Sat::new(1_000_000)).await?;
    let before = alice.coins().await?;
    let height = alice.info().await?.block_height;
    alice.stops().await?;
    cluster.bitcoind().kill()?;
    alice.spawn()?;
    // What needs neither the chain nor peers answers meanwhile, from what is known.
    let look = async || Ok(alice.info().await.ok());
    let info = alice.until("it answers", look).await?;
    assert_eq!((info.synced_to_chain, info.block_height), (false, height));
    assert_eq!(alice.coins().await?, before);
    assert_eq!(alice.channels().await?.len(), 1);
    let syncing = "chain backend is still syncing, server not active yet";
    refused(alice.connects(&bob).await, syncing);
    refused(alice.begins_to_open(&bob, Sat::new(100_000), |_| {}).await, syncing);
    let invoice = bob.invoices(Msat::new(1_000), "later").await?;
    refused(alice.tries_to_pay(&invoice).await, syncing);
    cluster.bitcoind().restart()?;
    alice.catches_up().await?;
    alice.active_channel(bob.node_id()?).await?;
    alice.pays_invoice(&invoice).await.map(drop)
}

/// An invoice that lives a second is refused once the second is over.
async fn an_expired_one(alice: &Daemon, bob: &Daemon) -> Result<()> {
    let short = Invoice { value: 1, expiry: 1, ..Invoice::default() };
    let short = bob.lightning().await?.add_invoice(short).await?.into_inner().payment_request;
    let decoded = PayReqString { pay_req: short.clone() };
    let made = alice.lightning().await?.decode_pay_req(decoded).await?.into_inner().timestamp;
    alice
        .until("the second is over", async || {
            let now = UNIX_EPOCH.elapsed()?.as_secs();
            Ok((now > u64::try_from(made)? + 1).then_some(()))
        })
        .await?;
    refused(alice.tries_to_pay(&short).await, "expired");
    Ok(())
}

/// A perfect invoice, but for mainnet.
fn of_mainnet() -> String {
    let key = SecretKey::from_slice(&[7; 32]).unwrap();
    let invoice = InvoiceBuilder::new(Currency::Bitcoin)
        .amount_milli_satoshis(10_000)
        .description("tea".into())
        .payment_hash(sha256::Hash::hash(b"preimage"))
        .payment_secret(PaymentSecret([7; 32]))
        .duration_since_epoch(UNIX_EPOCH.elapsed().unwrap())
        .min_final_cltv_expiry_delta(80)
        .build_signed(|hash| Secp256k1::new().sign_ecdsa_recoverable(hash, &key));
    invoice.unwrap().to_string()
}

fn refused<T: Debug, E: Debug>(answer: std::result::Result<T, E>, says: &str) {
    let why = format!("{:?}", answer.unwrap_err());
    assert!(why.contains(says), "{why} does not say {says:?}");
}
