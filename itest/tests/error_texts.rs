//! Errors whose code and text clients of lnd compare, each provoked in real daemons.

use std::collections::BTreeSet;
use std::fmt::Debug;

use fulmen_channel::amount::{Msat, Sat};
use fulmen_itest::failure::Result;
use fulmen_itest::proxy::{Answers, Proxy};
use fulmen_itest::regtest::{is_ended, Cluster, Daemon, Peer};
use fulmen_proto::lnrpc::{
    ConnectPeerRequest, GetInfoRequest, Invoice, LightningAddress, NewAddressRequest,
    OpenChannelRequest, OutPoint, PaymentHash, SendCoinsRequest, UnlockWalletRequest,
};
use fulmen_proto::routerrpc::{SendPaymentRequest, TrackPaymentRequest};
use fulmen_proto::walletrpc::BumpFeeRequest;
use tonic::{Code, Status};

const NOT_SYNCED: &str = "channels cannot be created before the wallet is fully synced";

/// What happens, the code, and the text; `*` stands for anything.
const TEXTS: [(&str, Code, &str); 21] = [
    ("no wallet", Code::Unknown, "wallet not created, create one to enable full RPC access"),
    ("no permission", Code::Unknown, "permission denied"),
    ("unlocked", Code::Unknown, "wallet already unlocked, WalletUnlocker service is no longer *"),
    ("connected", Code::Unknown, "already connected to *"),
    ("connect to self", Code::Unknown, "cannot make connection to self"),
    ("peer away", Code::Unknown, "peer * is not online"),
    ("no money", Code::Unknown, "not enough witness outputs to create funding*"),
    ("open to self", Code::Unknown, "cannot open channel to self"),
    ("long memo", Code::Unknown, "provided memo (*) is of length 501, exceeds 500"),
    ("not synced", Code::Unknown, NOT_SYNCED),
    ("peer not synced", Code::Unknown, "Synchronizing blockchain"),
    ("many pending", Code::Unknown, "Number of pending channels exceed maximum"),
    ("no coins", Code::Unknown, "insufficient funds available to construct transaction"),
    ("foreign output", Code::Unknown, "the passed output does not belong to the wallet"),
    ("same hash", Code::Unknown, "invoice with payment hash already exists"),
    ("no invoice", Code::NotFound, "unable to locate invoice"),
    ("no payment", Code::NotFound, "payment isn't initiated"),
    ("already paid", Code::AlreadyExists, "invoice is already paid"),
    ("in transition", Code::AlreadyExists, "payment is in transition"),
    ("to self", Code::Unknown, "self-payments not allowed"),
    ("short limit", Code::Unknown, "cltv limit * should be greater than *"),
];

/// What this story does not provoke, and why.
const ELSEWHERE: [(&str, &str); 5] = [
    ("wallet locked, wrong or short password, wallet exists", "wallet_life"),
    ("chain backend is still syncing", "refusals"),
    ("the RPC server is in the process of starting up", "over at once: rpc/gate.rs"),
    ("waiting to start", "over at once: rpc/gate.rs"),
    ("peer exiting, disconnected", "needs a peer that goes between two messages"),
];

struct Seen(BTreeSet<&'static str>);

impl Seen {
    #[track_caller]
    fn says<T: Debug>(&mut self, what: &str, answer: std::result::Result<T, Status>) {
        let row = TEXTS.iter().find(|(name, ..)| *name == what).expect(what);
        let status = answer.expect_err(what);
        assert_eq!(status.code(), row.1, "{what}: {status:?}");
        assert!(fits(status.message(), row.2), "{what}: {:?} is not {:?}", status.message(), row.2);
        self.0.insert(row.0);
    }
}

fn fits(text: &str, pattern: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return text == pattern;
    };
    let Some(left) = text.strip_prefix(start) else { return false };
    (0..=left.len()).any(|at| left.get(at..).is_some_and(|left| fits(left, rest)))
}

#[tokio::test(flavor = "multi_thread")]
async fn are_those_of_lnd() -> Result<()> {
    assert!(ELSEWHERE.iter().all(|(text, why)| !text.is_empty() && !why.is_empty()));
    let mut seen = Seen(BTreeSet::new());
    let cluster = Cluster::start()?;
    let carol = Daemon::without_wallet(cluster.bitcoind(), "carol", &[])?;
    carol.spawn()?;
    carol.unlocker().await?;
    let mut bare = carol.lightning_with(None).await?;
    seen.says("no wallet", bare.get_info(GetInfoRequest {}).await);

    let alice = cluster.daemon("alice").await?;
    let proxy = Proxy::to(cluster.bitcoind().rpc_address())?;
    let through = format!("--bitcoind.rpchost={}", proxy.address());
    let bob = Daemon::new(cluster.bitcoind(), "bob", &[&through])?;
    bob.starts().await?;
    let unlock = UnlockWalletRequest { wallet_password: b"password".into(), ..Default::default() };
    seen.says("unlocked", alice.unlocker().await?.unlock_wallet(unlock).await);
    let readonly = std::fs::read(alice.admin_macaroon().with_file_name("readonly.macaroon"))?;
    let mut reader = alice.lightning_with(Some(&readonly)).await?;
    seen.says("no permission", reader.add_invoice(Invoice::default()).await);

    let mut lightning = alice.lightning().await?;
    let opening = |peer: &Daemon| OpenChannelRequest {
        node_pubkey: peer.id().unwrap().serialize().to_vec(),
        local_funding_amount: 500_000,
        ..Default::default()
    };
    let connecting = |peer: &Daemon| ConnectPeerRequest {
        addr: Some(LightningAddress {
            pubkey: peer.id().unwrap().to_string(),
            host: peer.listen_address(),
        }),
        ..Default::default()
    };
    seen.says("open to self", lightning.open_channel_sync(opening(&alice)).await);
    seen.says("peer away", lightning.open_channel_sync(opening(&bob)).await);
    seen.says("connect to self", lightning.connect_peer(connecting(&alice)).await);
    alice.connects(&bob).await?;
    seen.says("connected", lightning.connect_peer(connecting(&bob)).await);
    seen.says("no money", lightning.open_channel_sync(opening(&bob)).await);
    let addr = lightning.new_address(NewAddressRequest::default()).await?.into_inner().address;
    let send = SendCoinsRequest { addr, amount: 100_000, ..Default::default() };
    seen.says("no coins", lightning.send_coins(send).await);

    let foreign = OutPoint { txid_str: "11".repeat(32), ..Default::default() };
    let bump = BumpFeeRequest { outpoint: Some(foreign), target_conf: 3, ..Default::default() };
    seen.says("foreign output", alice.wallet_kit().await?.bump_fee(bump).await);

    alice.receives_coins(Sat::new(3_000_000)).await?;
    alice.opens(&bob, Sat::new(1_000_000)).await?;
    paying(&mut seen, &alice, &bob).await?;
    proxy.set(Answers::WarmingUp);
    cluster.bitcoind().mine(1)?;
    let stalls = async || Ok((!bob.info().await?.synced_to_chain).then_some(()));
    bob.until("its chain stalls", stalls).await?;
    seen.says("not synced", bob.lightning().await?.open_channel_sync(opening(&alice)).await);
    alice.is_at_tip().await?;
    seen.says("peer not synced", lightning.open_channel_sync(opening(&bob)).await);
    proxy.set(Answers::Pass);
    bob.is_at_tip().await?;
    let noted = OpenChannelRequest { memo: "m".repeat(501), ..opening(&bob) };
    seen.says("long memo", lightning.open_channel_sync(noted).await);
    alice.begins_to_open(&bob, Sat::new(500_000), |_| {}).await?;
    seen.says("many pending", lightning.open_channel_sync(opening(&bob)).await);
    let missed: Vec<_> = TEXTS.iter().filter(|(name, ..)| !seen.0.contains(name)).collect();
    assert!(missed.is_empty(), "not provoked: {missed:?}");
    Ok(())
}

async fn paying(seen: &mut Seen, alice: &Daemon, bob: &Daemon) -> Result<()> {
    let (mut lightning, mut router) = (alice.lightning().await?, alice.router().await?);
    let preimage = Invoice { r_preimage: vec![7; 32], ..Default::default() };
    lightning.add_invoice(preimage.clone()).await?;
    seen.says("same hash", lightning.add_invoice(preimage).await);
    let hash = PaymentHash { r_hash: vec![9; 32], ..Default::default() };
    seen.says("no invoice", lightning.lookup_invoice(hash).await);
    let track = TrackPaymentRequest { payment_hash: vec![9; 32], ..Default::default() };
    seen.says("no payment", router.track_payment_v2(track).await);
    let pay = |payment_request: &str| SendPaymentRequest {
        payment_request: payment_request.into(),
        timeout_seconds: 60,
        ..Default::default()
    };
    let own = alice.invoices(Msat::new(1_000), "self").await?;
    seen.says("to self", router.send_payment_v2(pay(&own)).await);
    let tea = bob.invoices(Msat::new(1_000), "tea").await?;
    let short = SendPaymentRequest { cltv_limit: 10, ..pay(&tea) };
    seen.says("short limit", router.send_payment_v2(short).await);
    bob.signal("STOP")?;
    let mut updates = router.send_payment_v2(pay(&tea)).await?.into_inner();
    updates.message().await?;
    seen.says("in transition", router.send_payment_v2(pay(&tea)).await);
    bob.signal("CONT")?;
    while updates.message().await?.is_some_and(|payment| !is_ended(&payment)) {}
    seen.says("already paid", router.send_payment_v2(pay(&tea)).await);
    Ok(())
}
