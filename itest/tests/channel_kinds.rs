//! Kinds of channels between two daemons: without anchors, with a name instead of their place in
//! the chain, and used before they are in it.

use std::sync::Arc;

use bitcoin::OutPoint;
use bitcoincore_rpc::RpcApi;
use fulmen_channel::amount::{Msat, Sat};
use fulmen_itest::failure::Result;
use fulmen_itest::regtest::{Cluster, Daemon, Peer};
use fulmen_proto::lnrpc::{
    Channel, ClosedChannelsRequest, CommitmentType, ListAliasesRequest, OpenChannelRequest,
    PayReqString,
};

use crate::two_daemons::both_agree;

const CAPACITY: Sat = Sat::new(1_000_000);

fn without_anchors(request: &mut OpenChannelRequest) {
    request.set_commitment_type(CommitmentType::StaticRemoteKey);
}

fn zero_conf(request: &mut OpenChannelRequest) {
    request.set_commitment_type(CommitmentType::Anchors);
    (request.zero_conf, request.private) = (true, true);
}

async fn coins(daemon: &Daemon) -> Result<i64> {
    Ok(daemon.coins().await?.confirmed_balance)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_anchors_they_pay_restart_and_close_together_or_by_force() -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob) = (cluster.daemon("alice").await?, cluster.daemon("bob").await?);
    alice.receives_coins(Sat::new(3_000_000)).await?;
    alice.connects(&bob).await?;
    for by_force in [false, true] {
        alice.opens_with(&bob, CAPACITY, without_anchors).await?;
        for daemon in [&alice, &bob] {
            let kind = daemon.channel().await?.commitment_type();
            assert_eq!(kind, CommitmentType::StaticRemoteKey);
        }
        alice.pays(&bob, Msat::new(400_000_000)).await?;
        bob.pays(&alice, Msat::new(50_000_000)).await?;
        for daemon in [&alice, &bob] {
            daemon.stops().await?;
            daemon.starts().await?;
        }
        alice.active_channel(bob.node_id()?).await?;
        bob.pays(&alice, Msat::new(50_000_000)).await?;
        both_agree(&alice, &bob).await?;
        let (channel, bob_had) = (alice.channel().await?, coins(&bob).await?);
        if by_force {
            let alice_had = coins(&alice).await?;
            drop(alice.begins_to_close(&channel, true).await?);
            found_on_chain(&cluster, &bob, bob_had + 299_000).await?;
            found_on_chain(&cluster, &alice, alice_had + 680_000).await?;
        } else {
            alice.closes(&channel).await?;
            found_on_chain(&cluster, &bob, bob_had + 300_000).await?;
        }
    }
    Ok(())
}

/// Mines until a daemon's coins come back.
async fn found_on_chain(cluster: &Cluster, daemon: &Daemon, wanted: i64) -> Result<()> {
    daemon
        .until("its share comes back", async || {
            cluster.bitcoind().mine(12)?;
            Ok((coins(daemon).await? >= wanted).then_some(()))
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_without_anchors_opens_and_accepts_only_channels_without() -> Result<()> {
    let cluster = Cluster::start()?;
    let alice = Daemon::new(cluster.bitcoind(), "alice", &["--protocol.no-anchors"])?;
    alice.starts().await?;
    let bob = cluster.daemon("bob").await?;
    bob.receives_coins(Sat::new(3_000_000)).await?;
    alice.connects(&bob).await?;
    let anchors = |request: &mut OpenChannelRequest| {
        request.set_commitment_type(CommitmentType::Anchors);
    };
    let refused = bob.begins_to_open(&alice, CAPACITY, anchors).await.unwrap_err();
    let why = "requested channel type not supported";
    assert!(refused.to_string().contains(why), "{refused}");
    let channel = bob.opens(&alice, CAPACITY).await?;
    assert_eq!(channel.commitment_type(), CommitmentType::StaticRemoteKey);
    bob.pays(&alice, Msat::new(1_000_000)).await.map(drop)
}

const ZERO_CONF: [&str; 2] = ["--protocol.option-scid-alias", "--protocol.zero-conf"];

/// Bob takes zero-conf channels from Alice, who has coins.
async fn trusting(cluster: &Cluster) -> Result<(Daemon, Daemon)> {
    let alice = Daemon::new(cluster.bitcoind(), "alice", &ZERO_CONF)?;
    alice.starts().await?;
    let trust = format!("--zeroconfpeer={}", alice.id()?);
    let bob = Daemon::new(cluster.bitcoind(), "bob", &[&ZERO_CONF[..], &[&trust]].concat())?;
    bob.starts().await?;
    alice.receives_coins(Sat::new(3_000_000)).await?;
    alice.connects(&bob).await?;
    Ok((alice, bob))
}

/// Alice opens a channel that both use at once; nothing is mined.
async fn opens_at_once(alice: &Daemon, bob: &Daemon) -> Result<(OutPoint, Channel)> {
    let funding = alice.begins_to_open(bob, CAPACITY, zero_conf).await?;
    let channel = alice.active_channel(bob.node_id()?).await?;
    bob.active_channel(alice.node_id()?).await?;
    Ok((funding, channel))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zero_conf_channel_is_used_at_once_and_keeps_its_name() -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob) = trusting(&cluster).await?;
    let (_, channel) = opens_at_once(&alice, &bob).await?;
    assert!(channel.zero_conf && channel.private);
    assert_eq!(channel.alias_scids, [channel.chan_id]);
    assert_eq!(channel.zero_conf_confirmed_scid, 0);
    let theirs = bob.channel().await?;
    assert_eq!((theirs.alias_scids[0], theirs.chan_id), (channel.peer_scid_alias, theirs.chan_id));
    assert!(alice.pending_channels().await?.pending_open_channels.is_empty());
    alice.pays(&bob, Msat::new(300_000_000)).await?;
    bob.pays(&alice, Msat::new(100_000_000)).await?;

    for daemon in [&alice, &bob] {
        daemon.killed();
        daemon.starts().await?;
    }
    alice.active_channel(bob.node_id()?).await?;
    bob.pays(&alice, Msat::new(50_000_000)).await?;
    assert_eq!(hinted(&bob).await?, [channel.alias_scids[0]], "Alice knows Bob's end so");

    alice.bitcoind().mine(6)?;
    let real = confirmed(&alice, |real| real != 0).await?;
    let now = alice.channel().await?;
    assert_eq!((now.chan_id, real >> 40), (channel.chan_id, cluster.bitcoind().height()? - 5));
    reorganised(&cluster, &alice, real).await?;
    bob.pays(&alice, Msat::new(50_000_000)).await?;
    both_agree(&alice, &bob).await?;
    let maps = alice.lightning().await?.list_aliases(ListAliasesRequest {}).await?.into_inner();
    assert_eq!(maps.alias_maps.len(), 1);
    assert_eq!(maps.alias_maps[0].base_scid, channel.chan_id);
    assert_eq!(maps.alias_maps[0].aliases, channel.alias_scids);

    alice.closes(&alice.channel().await?).await?;
    let request = ClosedChannelsRequest::default();
    let closed = alice.lightning().await?.closed_channels(request).await?.into_inner().channels;
    assert_eq!(closed[0].alias_scids, channel.alias_scids);
    assert!(closed[0].zero_conf_confirmed_scid > 0 && closed[0].chan_id == channel.chan_id);
    Ok(())
}

/// What a daemon's new invoice calls the channels that lead to it.
async fn hinted(daemon: &Daemon) -> Result<Vec<u64>> {
    let request =
        fulmen_proto::lnrpc::Invoice { value: 1_000, private: true, ..Default::default() };
    let pay_req =
        daemon.lightning().await?.add_invoice(request).await?.into_inner().payment_request;
    let read = daemon.lightning().await?.decode_pay_req(PayReqString { pay_req }).await?;
    let hops = read.into_inner().route_hints.into_iter().flat_map(|hint| hint.hop_hints);
    Ok(hops.map(|hop| hop.chan_id).collect())
}

async fn confirmed(daemon: &Daemon, wanted: impl Fn(u64) -> bool) -> Result<u64> {
    daemon
        .until("its channel is in the chain", async || {
            let real = daemon.channel().await?.zero_conf_confirmed_scid;
            Ok(wanted(real).then_some(real))
        })
        .await
}

/// The block with F goes, and F comes back one block later.
async fn reorganised(cluster: &Cluster, alice: &Daemon, real: u64) -> Result<()> {
    let rpc = cluster.bitcoind().rpc();
    rpc.invalidate_block(&rpc.get_block_hash(real >> 40)?)?;
    let address = rpc.get_new_address(None, None)?.assume_checked().to_string();
    let _: serde_json::Value =
        rpc.call("generateblock", &[address.into(), Vec::<String>::new().into()])?;
    cluster.bitcoind().mine(8)?;
    let now = confirmed(alice, |now| now != real && now != 0).await?;
    assert_eq!(now >> 40, (real >> 40) + 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zero_conf_channel_needs_anchors_the_feature_and_trust() -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob) = trusting(&cluster).await?;
    let carol = cluster.daemon("carol").await?;
    bob.receives_coins(Sat::new(3_000_000)).await?;
    alice.connects(&carol).await?;
    type Change = fn(&mut OpenChannelRequest);
    let table: [(&Daemon, &Daemon, Change, &str); 4] = [
        (&alice, &bob, |open| open.zero_conf = true, "use anchors for zero-conf"),
        (&alice, &carol, zero_conf, "requested channel type not supported"),
        (&alice, &carol, |open| open.scid_alias = true, "requested channel type not supported"),
        (&alice, &bob, |open| open.scid_alias = true, "chantype for public channel"),
    ];
    for (from, to, change, why) in table {
        let refused = from.begins_to_open(to, CAPACITY, change).await.unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
    }
    let refused = bob.begins_to_open(&alice, CAPACITY, zero_conf).await.unwrap_err();
    let why = "zero-conf channels are not taken from this peer";
    assert!(refused.to_string().contains(why), "{refused}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_place_of_a_scid_alias_channel_is_a_secret() -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob) = trusting(&cluster).await?;
    let channel = alice
        .opens_with(&bob, CAPACITY, |request| {
            (request.private, request.scid_alias) = (true, true);
            request.push_sat = 100_000;
        })
        .await?;
    assert!(!channel.zero_conf && channel.chan_id != channel.alias_scids[0]);
    assert_eq!(hinted(&bob).await?, channel.alias_scids);
    assert_eq!(hinted(&alice).await?, [channel.peer_scid_alias]);
    bob.pays(&alice, Msat::new(1_000_000)).await?;
    alice.pays(&bob, Msat::new(2_000_000)).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_whose_funding_never_comes_is_forgotten_or_failed() -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob) = trusting(&cluster).await?;
    let alice = Arc::new(alice);
    let (used, _) = opens_at_once(&alice, &bob).await?;
    alice.pays(&bob, Msat::new(300_000_000)).await?;
    let unused = alice.begins_to_open(&bob, CAPACITY, |_| {}).await?;
    let rpc = cluster.bitcoind().rpc();
    for funding in [used, unused] {
        // Miners do not want it.
        let arguments = [funding.txid.to_string().into(), 0.into(), (-100_000_000_i64).into()];
        let _: bool = rpc.call("prioritisetransaction", &arguments)?;
    }
    bob.until("it waits for the other channel", async || {
        Ok((bob.pending_channels().await?.pending_open_channels.len() == 1).then_some(()))
    })
    .await?;
    for _ in 0..67 {
        // bitcoind answers within a few seconds, or its client gives up.
        cluster.bitcoind().mine(30)?;
    }
    bob.until("it has caught up", async || {
        let info = bob.info().await?;
        Ok((u64::from(info.block_height) == cluster.bitcoind().height()?).then_some(()))
    })
    .await?;
    assert_eq!(bob.pending_channels().await?.pending_open_channels.len(), 1);
    assert_eq!(bob.channels().await?.len(), 1);
    cluster.bitcoind().mine(10)?;
    bob.until("one is forgotten, the other takes no payments", async || {
        let pending = bob.pending_channels().await?;
        let waits = pending.pending_open_channels.is_empty()
            && pending.waiting_close_channels.len() == 1
            && bob.channels().await?.is_empty();
        Ok(waits.then_some(()))
    })
    .await?;
    bob.stops().await?;
    bob.starts().await?;
    let pending = bob.pending_channels().await?;
    assert!(pending.pending_open_channels.is_empty());
    assert_eq!(pending.waiting_close_channels.len(), 1);
    Ok(())
}
