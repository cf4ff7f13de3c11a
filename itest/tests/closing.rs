//! Two daemons close together: each makes a closing transaction, the dearest wins, and each share
//! goes where its owner wants it, to the satoshi.

use bitcoin::hashes::Hash;
use bitcoin::{Address, Txid};
use bitcoincore_rpc::json::AddressType;
use bitcoincore_rpc::RpcApi;
use fulmen_channel::amount::{Msat, Sat};
use fulmen_itest::failure::{Failure, Result};
use fulmen_itest::proxy::{Answers, Proxy};
use fulmen_itest::regtest::{Cluster, Daemon};
use fulmen_proto::lnrpc::close_status_update::Update;
use fulmen_proto::lnrpc::{
    ChannelCloseSummary, ChannelCloseUpdate, CloseStatusUpdate, ClosedChannelsRequest,
    ConnectPeerRequest, Initiator, LightningAddress, PendingUpdate,
};
use tonic::Streaming;

/// A closing transaction with two P2WPKH outputs weighs 674 units with the longest signatures.
const AT_2_SAT_VB: i64 = 337;
const AT_10_SAT_VB: i64 = 1_685;

#[tokio::test(flavor = "multi_thread")]
async fn both_close_at_once_and_a_dearer_version_wins() -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob) = (cluster.daemon("alice").await?, cluster.daemon("bob").await?);
    alice.receives_coins(Sat::new(2_000_000)).await?;
    let between = Proxy::to_peer(bob.listen_address())?;
    connect(&alice, &bob, between.address()).await?;
    let channel = alice.opens(&bob, Sat::new(1_000_000)).await?;
    alice.pays(&bob, Msat::new(400_000_000)).await?;
    bob.quiet_channel().await?;
    alice.quiet_channel().await?;
    let (to_alice, to_bob) = (fresh_address(&cluster)?, fresh_address(&cluster)?);
    let bobs_channel = bob.channel().await?;
    // Neither knows of the other's wish when it is told its own.
    between.set(Answers::Hold);
    let mut bobs = bob
        .begins_to_close_with(&bobs_channel, |request| {
            request.delivery_address = to_bob.to_string();
            request.sat_per_vbyte = 2;
        })
        .await?;
    let mut alices = alice
        .begins_to_close_with(&channel, |request| {
            request.delivery_address = to_alice.to_string();
            request.sat_per_vbyte = 2;
        })
        .await?;
    between.set(Answers::Pass);
    let (first, theirs) = both_versions(&mut alices).await?;
    both_versions(&mut bobs).await?;
    assert!((1..=2).contains(&first.fee_per_vbyte) && (1..=2).contains(&theirs.fee_per_vbyte));

    let low = alice.begins_to_close_with(&channel, |request| request.sat_per_vbyte = 2).await;
    let why = low.map(drop).unwrap_err().to_string();
    assert!(why.contains("replaces nothing"), "{why}");
    let mut again =
        alice.begins_to_close_with(&channel, |request| request.sat_per_vbyte = 10).await?;
    let dearest = alice.own_close(&mut again).await?;
    assert!((9..=11).contains(&dearest.fee_per_vbyte));
    let txid = Txid::from_slice(&dearest.txid)?;
    assert_eq!(cluster.bitcoind().mempool()?, [txid]);
    let waiting = alice.pending_channels().await?.waiting_close_channels;
    assert_eq!(waiting[0].closing_txid, txid.to_string());
    assert!(waiting[0].limbo_balance > 590_000);
    cluster.bitcoind().mine(1)?;

    let shares = (600_000 - AT_10_SAT_VB, 400_000);
    for (updates, (mine, other)) in
        [(&mut alices, shares), (&mut again, shares), (&mut bobs, (shares.1, shares.0))]
    {
        let close = closed(updates).await?;
        assert_eq!(Txid::from_slice(&close.closing_txid)?, txid);
        let amount = |output: Option<fulmen_proto::lnrpc::CloseOutput>| output.unwrap().amount_sat;
        assert_eq!(
            (amount(close.local_close_output), amount(close.remote_close_output)),
            (mine, other)
        );
    }
    for (address, share) in [(&to_alice, shares.0), (&to_bob, shares.1)] {
        let paid = cluster.bitcoind().rpc().get_received_by_address(address, Some(1))?;
        assert_eq!(paid.to_sat(), u64::try_from(share)?);
    }
    for (daemon, share) in [(&alice, shares.0), (&bob, shares.1)] {
        let summary = summary(daemon).await?;
        assert_eq!(summary.closing_tx_hash, txid.to_string());
        assert_eq!((summary.settled_balance, summary.time_locked_balance), (share, 0));
        assert_eq!(summary.close_initiator(), Initiator::Local, "both wanted it");
        assert!(daemon.channels().await?.is_empty());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_closes_pays_and_the_address_fixed_at_opening_holds() -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob) = (cluster.daemon("alice").await?, cluster.daemon("bob").await?);
    alice.receives_coins(Sat::new(2_000_000)).await?;
    alice.connects(&bob).await?;
    let (fixed, other) = (fresh_address(&cluster)?, fresh_address(&cluster)?);
    let channel = alice
        .opens_with(&bob, Sat::new(1_000_000), |request| {
            request.push_sat = 250_000;
            request.close_address = fixed.to_string();
        })
        .await?;
    assert_eq!(channel.close_address, fixed.to_string());
    let refused = alice
        .begins_to_close_with(&channel, |request| request.delivery_address = other.to_string())
        .await;
    let why = refused.map(drop).unwrap_err().to_string();
    assert!(why.contains("shutdown script does not match upfront shutdown script"), "{why}");
    let refused = alice
        .begins_to_close_with(&channel, |request| {
            (request.sat_per_vbyte, request.max_fee_per_vbyte) = (9, 5);
        })
        .await;
    let why = refused.map(drop).unwrap_err().to_string();
    assert!(why.contains("is above max_fee_per_vbyte"), "{why}");

    let had = bob.coins().await?.confirmed_balance;
    let mut updates = bob
        .begins_to_close_with(&bob.channel().await?, |request| request.sat_per_vbyte = 2)
        .await?;
    let txid = Txid::from_slice(&bob.own_close(&mut updates).await?.txid)?;
    cluster.bitcoind().mine(1)?;
    assert_eq!(Txid::from_slice(&closed(&mut updates).await?.closing_txid)?, txid);
    let paid = cluster.bitcoind().rpc().get_received_by_address(&fixed, Some(1))?;
    assert_eq!(paid.to_sat(), 750_000);
    bob.until("bob's share", async || {
        let back = bob.coins().await?.confirmed_balance - had;
        Ok((back == 250_000 - AT_2_SAT_VB).then_some(()))
    })
    .await?;
    assert_eq!(summary(&bob).await?.close_initiator(), Initiator::Local);
    let alices = alice
        .until("alice sees it, too", async || Ok(summaries(&alice).await?.into_iter().next()))
        .await?;
    assert_eq!(alices.close_initiator(), Initiator::Remote);
    assert_eq!(alices.settled_balance, 750_000);
    Ok(())
}

fn fresh_address(cluster: &Cluster) -> Result<Address> {
    let address = cluster.bitcoind().rpc().get_new_address(None, Some(AddressType::Bech32))?;
    Ok(address.require_network(bitcoin::Network::Regtest)?)
}

/// Connects `daemon` to `peer`, which is behind `address`.
async fn connect(daemon: &Daemon, peer: &Daemon, address: String) -> Result<()> {
    let addr = Some(LightningAddress { pubkey: peer.id()?.to_string(), host: address });
    let request = ConnectPeerRequest { addr, ..Default::default() };
    daemon.lightning().await?.connect_peer(request).await?;
    daemon.is_connected_to(peer).await
}

type Updates = Streaming<CloseStatusUpdate>;

async fn next(updates: &mut Updates) -> Result<Update> {
    let update = updates.message().await?.and_then(|update| update.update);
    update.ok_or_else(|| Failure::new("the updates ended"))
}

/// Our own version and the peer's, in whichever order they come.
async fn both_versions(updates: &mut Updates) -> Result<(PendingUpdate, PendingUpdate)> {
    let mut seen = Vec::new();
    while seen.len() < 2 {
        if let Update::ClosePending(pending) = next(updates).await? {
            seen.push(pending);
        }
    }
    seen.sort_by_key(|pending| !pending.local_close_tx);
    assert!(seen[0].local_close_tx && !seen[1].local_close_tx);
    Ok((seen[0].clone(), seen[1].clone()))
}

async fn closed(updates: &mut Updates) -> Result<ChannelCloseUpdate> {
    loop {
        if let Update::ChanClose(close) = next(updates).await? {
            return Ok(close);
        }
    }
}

async fn summaries(daemon: &Daemon) -> Result<Vec<ChannelCloseSummary>> {
    let request = ClosedChannelsRequest::default();
    Ok(daemon.lightning().await?.closed_channels(request).await?.into_inner().channels)
}

pub async fn summary(daemon: &Daemon) -> Result<ChannelCloseSummary> {
    let found = summaries(daemon).await?.into_iter().next();
    found.ok_or_else(|| Failure::new("no closed channel"))
}
