//! Two daemons do whatever there is to tell of, and every answer is taken down.

use std::collections::{BTreeMap, BTreeSet};

use fulmen_channel::amount::{Msat, Sat};
use fulmen_itest::failure::{Context, Result};
use fulmen_itest::regtest::{Cluster, Daemon, Peer};
use fulmen_proto::lnrpc::*;
use fulmen_proto::routerrpc::{SendPaymentRequest, TrackPaymentRequest};

use super::Seen;

/// Tells it all; returns the methods that the daemon serves.
pub async fn told(seen: &mut Seen) -> Result<BTreeSet<String>> {
    let cluster = Cluster::start()?;
    let alice = Daemon::new(cluster.bitcoind(), "alice", &["--externalip=10.9.8.7"])?;
    alice.starts().await?;
    let bob = cluster.daemon("bob").await?;
    macaroons(&alice, seen).await?;
    around(&alice, seen).await?;
    coins(&alice, seen).await?;
    open(&alice, &bob, seen).await?;
    backups(&alice, seen).await?;
    invoices(&alice, &bob, seen).await?;
    payments(&alice, &bob, seen).await?;
    in_flight(&alice, &bob, seen).await?;
    closing(&alice, &bob, seen).await?;
    let permissions = alice.lightning().await?.list_permissions(ListPermissionsRequest {}).await?;
    let permissions = seen.note(permissions.into_inner()).method_permissions;
    let stopped = alice.lightning().await?.stop_daemon(StopRequest {}).await?;
    seen.note(stopped.into_inner());
    let free = ["GenSeed", "InitWallet", "UnlockWallet", "ChangePassword"];
    let free = free.map(|method| format!("/lnrpc.WalletUnlocker/{method}"));
    let states = ["GetState", "SubscribeState"].map(|method| format!("/lnrpc.State/{method}"));
    Ok(permissions.into_keys().chain(free).chain(states).collect())
}

async fn macaroons(alice: &Daemon, seen: &mut Seen) -> Result<()> {
    let mut lightning = alice.lightning().await?;
    let read = MacaroonPermission { entity: "info".into(), action: "read".into() };
    let request = BakeMacaroonRequest {
        permissions: vec![read.clone()],
        root_key_id: 4,
        allow_external_permissions: false,
    };
    let baked = seen.note(lightning.bake_macaroon(request).await?.into_inner());
    let request = CheckMacPermRequest {
        macaroon: hex::decode(baked.macaroon)?,
        permissions: vec![read],
        ..Default::default()
    };
    seen.note(lightning.check_macaroon_permissions(request).await?.into_inner());
    seen.note(lightning.list_macaroon_i_ds(ListMacaroonIDsRequest {}).await?.into_inner());
    let request = DeleteMacaroonIdRequest { root_key_id: 4 };
    seen.note(lightning.delete_macaroon_id(request).await?.into_inner());
    let request = DebugLevelRequest { show: true, ..Default::default() };
    seen.note(lightning.debug_level(request).await?.into_inner());
    Ok(())
}

async fn around(alice: &Daemon, seen: &mut Seen) -> Result<()> {
    let mut lightning = alice.lightning().await?;
    seen.note(lightning.get_recovery_info(GetRecoveryInfoRequest {}).await?.into_inner());
    let mut state = alice.state().await?;
    seen.note(state.get_state(GetStateRequest {}).await?.into_inner());
    let mut states = state.subscribe_state(SubscribeStateRequest {}).await?.into_inner();
    seen.note(states.message().await?.context("a state")?);
    Ok(())
}

async fn coins(alice: &Daemon, seen: &mut Seen) -> Result<()> {
    let mut lightning = alice.lightning().await?;
    let request =
        NewAddressRequest { r#type: AddressType::TaprootPubkey.into(), ..Default::default() };
    let taproot = seen.note(lightning.new_address(request).await?.into_inner()).address;
    let address = taproot.parse::<bitcoin::Address<_>>()?.assume_checked();
    alice.receives_coins(Sat::new(5_000_000)).await?;
    alice.bitcoind().send_to(&address, Sat::new(300_000))?;
    alice
        .until("unconfirmed coins", async || {
            Ok((alice.coins().await?.unconfirmed_balance > 0).then_some(()))
        })
        .await?;
    seen.note(alice.coins().await?);
    let mut news =
        lightning.subscribe_transactions(GetTransactionsRequest::default()).await?.into_inner();
    let to = BTreeMap::from([(taproot.clone(), 50_000)]);
    let request =
        EstimateFeeRequest { addr_to_amount: to.clone(), target_conf: 6, ..Default::default() };
    seen.note(lightning.estimate_fee(request).await?.into_inner());
    let request = SendManyRequest { addr_to_amount: to, sat_per_vbyte: 2, ..Default::default() };
    seen.note(lightning.send_many(request).await?.into_inner());
    seen.note(news.message().await?.context("a transaction")?);
    let request = SendCoinsRequest {
        addr: taproot,
        amount: 60_000,
        sat_per_vbyte: 2,
        label: "rent".into(),
        ..Default::default()
    };
    seen.note(lightning.send_coins(request).await?.into_inner());
    alice.bitcoind().mine(1)?;
    alice
        .until("confirmed coins", async || {
            Ok((alice.coins().await?.unconfirmed_balance == 0).then_some(()))
        })
        .await?;
    let request = ListUnspentRequest { min_confs: 0, max_confs: 999, ..Default::default() };
    seen.note(lightning.list_unspent(request).await?.into_inner());
    let request = GetTransactionsRequest { end_height: -1, ..Default::default() };
    seen.note(lightning.get_transactions(request).await?.into_inner());
    Ok(())
}

async fn backups(alice: &Daemon, seen: &mut Seen) -> Result<()> {
    let mut lightning = alice.lightning().await?;
    let all = lightning.export_all_channel_backups(ChanBackupExportRequest {}).await?.into_inner();
    let all = seen.note(all);
    let chan_point = all.multi_chan_backup.as_ref().and_then(|multi| multi.chan_points.first());
    let request = ExportChannelBackupRequest { chan_point: chan_point.cloned() };
    seen.note(lightning.export_channel_backup(request).await?.into_inner());
    seen.note(lightning.verify_chan_backup(all.clone()).await?.into_inner());
    let multi = all.multi_chan_backup.unwrap_or_default().multi_chan_backup;
    let backup = Some(restore_chan_backup_request::Backup::MultiChanBackup(multi));
    let request = RestoreChanBackupRequest { backup };
    seen.note(lightning.restore_channel_backups(request).await?.into_inner());
    Ok(())
}

async fn open(alice: &Daemon, bob: &Daemon, seen: &mut Seen) -> Result<()> {
    let mut lightning = alice.lightning().await?;
    let addr = LightningAddress { pubkey: bob.id()?.to_string(), host: bob.listen_address() };
    let request = ConnectPeerRequest { addr: Some(addr.clone()), ..Default::default() };
    seen.note(lightning.connect_peer(request.clone()).await?.into_inner());
    let hang_up = DisconnectPeerRequest { pub_key: addr.pubkey };
    seen.note(lightning.disconnect_peer(hang_up).await?.into_inner());
    alice.connects(bob).await?;
    let wanted = OpenChannelRequest {
        node_pubkey: bob.id()?.serialize().to_vec(),
        local_funding_amount: 1_000_000,
        push_sat: 200_000,
        private: true,
        memo: "to bob".into(),
        ..Default::default()
    };
    let mut updates = lightning.open_channel(wanted.clone()).await?.into_inner();
    seen.note(updates.message().await?.context("pending")?);
    pending(alice, seen).await?;
    alice.bitcoind().mine(3)?;
    seen.note(updates.message().await?.context("open")?);
    let public = OpenChannelRequest { private: false, ..wanted };
    seen.note(lightning.open_channel_sync(public).await?.into_inner());
    alice
        .until("F is in the mempool", async || {
            Ok((!alice.bitcoind().mempool()?.is_empty()).then_some(()))
        })
        .await?;
    alice.bitcoind().mine(6)?;
    // It is told in whole seconds.
    alice
        .until("its peer was there for a second", async || {
            Ok(alice.channels().await?.iter().any(|channel| channel.uptime > 0).then_some(()))
        })
        .await?;
    for (daemon, peer) in [(alice, bob), (bob, alice)] {
        daemon.active_channel(peer.id()?).await?;
        daemon
            .until("two channels", async || {
                let channels = daemon.channels().await?;
                let active = channels.iter().filter(|channel| channel.active).count();
                Ok((active == 2).then_some(()))
            })
            .await?;
    }
    seen.note(lightning.list_peers(ListPeersRequest::default()).await?.into_inner());
    Ok(())
}

/// The calls about channels.
async fn pending(daemon: &Daemon, seen: &mut Seen) -> Result<()> {
    let mut lightning = daemon.lightning().await?;
    seen.note(lightning.get_info(GetInfoRequest {}).await?.into_inner());
    seen.note(lightning.list_channels(ListChannelsRequest::default()).await?.into_inner());
    seen.note(lightning.channel_balance(ChannelBalanceRequest {}).await?.into_inner());
    let request = PendingChannelsRequest { include_raw_tx: true };
    seen.note(lightning.pending_channels(request).await?.into_inner());
    seen.note(lightning.closed_channels(ClosedChannelsRequest::default()).await?.into_inner());
    Ok(())
}

async fn invoices(alice: &Daemon, bob: &Daemon, seen: &mut Seen) -> Result<()> {
    let mut lightning = bob.lightning().await?;
    let request = NewAddressRequest::default();
    let fallback_addr = lightning.new_address(request).await?.into_inner().address;
    let request = Invoice {
        memo: "tea".into(),
        value: 1_000,
        private: true,
        fallback_addr,
        ..Default::default()
    };
    let added = seen.note(lightning.add_invoice(request).await?.into_inner());
    let hashed = Invoice { description_hash: vec![7; 32], value_msat: 5_000, ..Default::default() };
    let hashed = lightning.add_invoice(hashed).await?.into_inner();
    for pay_req in [&added.payment_request, &hashed.payment_request] {
        let request = PayReqString { pay_req: pay_req.clone() };
        seen.note(alice.lightning().await?.decode_pay_req(request).await?.into_inner());
    }
    let request = InvoiceSubscription { add_index: 1, settle_index: 0 };
    let mut news = lightning.subscribe_invoices(request).await?.into_inner();
    let request = SendPaymentRequest {
        payment_request: added.payment_request,
        timeout_seconds: 60,
        dest_custom_records: BTreeMap::from([(65_537, vec![1, 2])]),
        ..Default::default()
    };
    pays(alice, request, seen).await?;
    for _ in 0..2 {
        seen.note(news.message().await?.context("news")?);
    }
    let request = PaymentHash { r_hash: added.r_hash, ..Default::default() };
    seen.note(lightning.lookup_invoice(request).await?.into_inner());
    seen.note(lightning.list_invoices(ListInvoiceRequest::default()).await?.into_inner());
    Ok(())
}

/// SendPaymentV2 to its end.
async fn pays(alice: &Daemon, request: SendPaymentRequest, seen: &mut Seen) -> Result<Payment> {
    let mut updates = alice.router().await?.send_payment_v2(request).await?.into_inner();
    let mut last = None;
    while let Some(payment) = updates.message().await? {
        last = Some(seen.note(payment));
    }
    last.context("a payment")
}

async fn payments(alice: &Daemon, bob: &Daemon, seen: &mut Seen) -> Result<()> {
    let mut lightning = alice.lightning().await?;
    let payment_request = bob.invoices(Msat::new(7_000), "cake").await?;
    let request = SendRequest { payment_request, ..Default::default() };
    seen.note(lightning.send_payment_sync(request).await?.into_inner());
    let nobody_knows = SendPaymentRequest {
        dest: bob.id()?.serialize().to_vec(),
        payment_hash: vec![9; 32],
        payment_addr: vec![8; 32],
        amt: 100,
        final_cltv_delta: 80,
        timeout_seconds: 60,
        ..Default::default()
    };
    let failed = pays(alice, nobody_knows, seen).await?;
    let request = TrackPaymentRequest {
        payment_hash: hex::decode(&failed.payment_hash)?,
        ..Default::default()
    };
    let mut track = alice.router().await?.track_payment_v2(request).await?.into_inner();
    seen.note(track.message().await?.context("a payment")?);
    let request = SendRequest {
        dest: bob.id()?.serialize().to_vec(),
        payment_hash: vec![10; 32],
        payment_addr: vec![8; 32],
        amt: 100,
        final_cltv_delta: 80,
        ..Default::default()
    };
    seen.note(lightning.send_payment_sync(request).await?.into_inner());
    bob.pays(alice, Msat::new(9_000_000)).await?;
    let request = ListPaymentsRequest {
        include_incomplete: true,
        count_total_payments: true,
        ..Default::default()
    };
    seen.note(lightning.list_payments(request).await?.into_inner());
    seen.note(lightning.list_peers(ListPeersRequest::default()).await?.into_inner());
    pending(alice, seen).await
}

/// Bob stands still with an HTLC in flight, one on each side's way.
async fn in_flight(alice: &Daemon, bob: &Daemon, seen: &mut Seen) -> Result<()> {
    for (payer, payee) in [(alice, bob), (bob, alice)] {
        let payment_request = payee.invoices(Msat::new(50_000_000), "wait").await?;
        payee.signal("STOP")?;
        let request =
            SendPaymentRequest { payment_request, timeout_seconds: 60, ..Default::default() };
        let mut updates = payer.router().await?.send_payment_v2(request).await?.into_inner();
        payer
            .until("it is in flight", async || {
                let channels = payer.channels().await?;
                let waits = channels.iter().any(|channel| !channel.pending_htlcs.is_empty());
                Ok(waits.then_some(()))
            })
            .await?;
        pending(payer, seen).await?;
        payee.signal("CONT")?;
        while updates.message().await?.is_some() {}
    }
    Ok(())
}

async fn closing(alice: &Daemon, bob: &Daemon, seen: &mut Seen) -> Result<()> {
    let mut channels = alice.channels().await?.into_iter();
    let (one, two) = (channels.next().context("one")?, channels.next().context("two")?);
    let mut updates = alice.begins_to_close(&one, false).await?;
    seen.note(updates.message().await?.context("pending")?);
    pending(alice, seen).await?;
    published(alice).await?;
    alice.bitcoind().mine(6)?;
    while let Some(update) = updates.message().await? {
        if let Some(close_status_update::Update::ChanClose(_)) = seen.note(update).update {
            break;
        }
    }
    // Bob stands still again: what he has not revoked and what he was sent are both his.
    let payment_request = bob.invoices(Msat::new(300_000), "crumb").await?;
    bob.signal("STOP")?;
    alice.begins_to_pay(&payment_request).await?;
    alice
        .until("it is in flight", async || {
            let channels = alice.channels().await?;
            Ok(channels.iter().any(|it| !it.pending_htlcs.is_empty()).then_some(()))
        })
        .await?;
    bob.killed();
    alice
        .until("it is inactive", async || {
            Ok(alice.channels().await?.iter().any(|channel| !channel.active).then_some(()))
        })
        .await?;
    pending(alice, seen).await?;
    let mut updates = alice.begins_to_close(&two, true).await?;
    seen.note(updates.message().await?.context("pending")?);
    pending(alice, seen).await?;
    published(alice).await?;
    alice.bitcoind().mine(1)?;
    alice
        .until("its close is confirmed", async || {
            let pending = alice.pending_channels().await?.pending_force_closing_channels;
            Ok(pending.iter().any(|channel| channel.limbo_balance > 0).then_some(()))
        })
        .await?;
    pending(alice, seen).await?;
    alice
        .until("its delay is over", async || {
            alice.bitcoind().mine(10)?;
            let closed = alice.lightning().await?;
            let closed = { closed }.closed_channels(ClosedChannelsRequest::default()).await?;
            Ok((closed.into_inner().channels.len() == 2).then_some(()))
        })
        .await?;
    pending(alice, seen).await
}

/// Waits until something is to be mined.
async fn published(alice: &Daemon) -> Result<()> {
    alice
        .until("the close is published", async || {
            Ok((!alice.bitcoind().mempool()?.is_empty()).then_some(()))
        })
        .await
}
