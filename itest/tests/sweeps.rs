//! Closes by force on bitcoind with HTLCs on both sides: each side gets what is its own, claims and
//! their fees are shown, and a fee spike in between is paid for.

use std::fs;

use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::Transaction;
use bitcoincore_rpc::RpcApi as _;

use crate::command_line::says;
use crate::two_daemons::CAPACITY;
use fulmen_channel::amount::{Msat, Sat};
use fulmen_itest::failure::Result;
use fulmen_itest::regtest::{Cluster, Daemon, Peer};
use fulmen_proto::lnrpc::channel_point::FundingTxid;
use fulmen_proto::lnrpc::payment::PaymentStatus;
use fulmen_proto::lnrpc::pending_channels_response::force_closed_channel::AnchorState;
use fulmen_proto::lnrpc::pending_channels_response::ForceClosedChannel;
use fulmen_proto::lnrpc::{Channel, ChannelPoint, PendingChannelsRequest};
use fulmen_proto::walletrpc::{
    BumpForceCloseFeeRequest, PendingSweep, PendingSweepsRequest, WitnessType, WitnessType::*,
};

/// What a daemon's wallet holds, confirmed or not, in satoshi.
pub async fn coins(daemon: &Daemon) -> Result<i64> {
    Ok(daemon.coins().await?.total_balance)
}

pub async fn sweeps(daemon: &Daemon) -> Result<Vec<PendingSweep>> {
    let answer = daemon.wallet_kit().await?.pending_sweeps(PendingSweepsRequest {}).await?;
    Ok(answer.into_inner().pending_sweeps)
}

/// From the next start on it neither settles nor fails what it receives, or does again.
pub fn holds(daemon: &Daemon, holds: bool) -> Result<()> {
    let line = if holds { "hodl.exit-settle=1\n" } else { "" };
    Ok(fs::write(daemon.dir().join("fulmen.conf"), line)?)
}

/// Two daemons that hold what they receive, with HTLCs in flight: 60,000 sat from Alice, 50,000
/// sat from Bob.
pub async fn with_htlcs_both_ways(cluster: &Cluster) -> Result<(Daemon, Daemon, Channel)> {
    let (alice, bob, channel) = cluster.pair(CAPACITY).await?;
    bob.receives_coins(Sat::new(1_000_000)).await?;
    alice.pays(&bob, Msat::new(300_000_000)).await?;
    alice.quiet_channel().await?;
    for daemon in [&alice, &bob] {
        daemon.stops().await?;
        holds(daemon, true)?;
        daemon.starts().await?;
    }
    alice.active_channel(bob.node_id()?).await?;
    bob.active_channel(alice.node_id()?).await?;
    for (payer, payee, sat) in [(&alice, &bob, 60_000), (&bob, &alice, 50_000)] {
        payer.is_at_tip().await?;
        let invoice = payee.invoices(Msat::new(sat * 1_000), "held").await?;
        payer.begins_to_pay(&invoice).await?;
    }
    for daemon in [&alice, &bob] {
        daemon
            .until("both HTLCs are on both commitments", async || {
                let htlcs = daemon.channel().await?.pending_htlcs;
                Ok((htlcs.iter().filter(|htlc| htlc.locked_in).count() == 2).then_some(()))
            })
            .await?;
    }
    Ok((alice, bob, channel))
}

/// Mines a block at a time, all daemons following, until `done`.
async fn mines_until(
    cluster: &Cluster,
    daemons: &[&Daemon],
    what: &str,
    mut done: impl AsyncFnMut() -> Result<bool>,
) -> Result<()> {
    for _ in 0..400 {
        for daemon in daemons {
            daemon.is_at_tip().await?;
        }
        if done().await? {
            return Ok(());
        }
        cluster.bitcoind().mine(1)?;
    }
    panic!("{what}: not within 400 blocks");
}

/// Waits until a daemon that is at the tip has published what the next block may hold. How much it
/// has yet to take.
pub async fn claims_are_published(daemon: &Daemon) -> Result<usize> {
    let height = u32::try_from(daemon.bitcoind().height()?)?;
    let ripe = |sweep: &PendingSweep| sweep.maturity_height <= height + 1;
    daemon
        .until("what is ripe is published", async || {
            let sweeps = sweeps(daemon).await?;
            let waits = sweeps.iter().any(|sweep| ripe(sweep) && sweep.sat_per_vbyte == 0);
            Ok((!waits).then_some(sweeps.len()))
        })
        .await
}

/// Mines until the sweeper has nothing left to take, waiting at each block for what it publishes.
pub async fn takes_everything(cluster: &Cluster, daemons: &[&Daemon]) -> Result<()> {
    mines_until(cluster, daemons, "everything is taken", async || {
        let mut left = 0;
        for daemon in daemons {
            left += claims_are_published(daemon).await?;
        }
        Ok(left == 0)
    })
    .await
}

/// The highest feerate in the mempool, in sat/vB, of a transaction with all that it descends from.
pub fn best_ancestor_rate(cluster: &Cluster) -> Result<Option<f64>> {
    let bitcoind = cluster.bitcoind();
    let mut best: Option<f64> = None;
    for txid in bitcoind.mempool()? {
        let entry = bitcoind.rpc().call("getmempoolentry", &[txid.to_string().into()]);
        // Another version may have taken its place meanwhile.
        let Ok::<serde_json::Value, _>(entry) = entry else { continue };
        let number = |name: &str| entry[name].as_f64().unwrap_or_default();
        let fee = entry["fees"]["ancestor"].as_f64().unwrap_or_default() * 100_000_000.0;
        let rate = fee / number("ancestorsize");
        best = Some(best.map_or(rate, |best| best.max(rate)));
    }
    Ok(best)
}

async fn forced(daemon: &Daemon) -> Result<ForceClosedChannel> {
    daemon
        .until("the channel is closed by force, with an HTLC to take", async || {
            let channels = daemon.pending_channels().await?.pending_force_closing_channels;
            Ok(channels.into_iter().find(|closed| !closed.pending_htlcs.is_empty()))
        })
        .await
}

/// Waits until a daemon's commitment and the child that pays for it are in the mempool.
async fn pays_for_its_commitment(daemon: &Daemon, known: usize) -> Result<()> {
    daemon
        .until("its commitment and a child are published", async || {
            let sweeps = sweeps(daemon).await?;
            let anchor = sweeps.iter().find(|it| it.witness_type() == CommitmentAnchor);
            let paid = anchor.is_some_and(|anchor| anchor.sat_per_vbyte > 0);
            let both = daemon.bitcoind().mempool()?.len() == known + 2;
            Ok((paid && both).then_some(()))
        })
        .await
}

/// Waits until all payments have arrived: the mempool shows their preimages.
async fn knows_that_it_paid(daemon: &Daemon) -> Result<()> {
    daemon
        .until("the mempool shows the preimage of what it paid", async || {
            let payments = daemon.payments().await?;
            let mut ended = payments.iter().map(|payment| payment.status());
            Ok(ended.all(|status| status == PaymentStatus::Succeeded).then_some(()))
        })
        .await
}

fn types(sweeps: &[PendingSweep]) -> Vec<WitnessType> {
    let mut types: Vec<_> = sweeps.iter().map(PendingSweep::witness_type).collect();
    types.sort();
    types
}

/// The operator has a commitment pay 30 sat/vB, and so it does.
async fn is_bumped(cluster: &Cluster, daemon: &Daemon, channel: &Channel) -> Result<()> {
    let point = channel.channel_point.parse::<bitcoin::OutPoint>()?;
    let request = BumpForceCloseFeeRequest {
        chan_point: Some(ChannelPoint {
            funding_txid: Some(FundingTxid::FundingTxidStr(point.txid.to_string())),
            output_index: point.vout,
        }),
        starting_feerate: 30,
        budget: 20_000,
        ..Default::default()
    };
    let status = daemon.wallet_kit().await?.bump_force_close_fee(request).await?.into_inner();
    assert!(status.status.starts_with("Successfully registered"), "{status:?}");
    pays_thirty(cluster, daemon).await
}

async fn pays_thirty(cluster: &Cluster, daemon: &Daemon) -> Result<()> {
    daemon
        .until("a child pays 30 sat/vB for both", async || {
            Ok(best_ancestor_rate(cluster)?.filter(|rate| (29.0..32.0).contains(rate)))
        })
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_shows_a_preimage_and_both_take_back_what_they_offered() -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob, channel) = with_htlcs_both_ways(&cluster).await?;
    // Bob had no coins when the channel came: he was not refused, but told.
    let lacks = "the wallet lacks 10000 sat of the anchor reserve";
    assert!(bob.wrote()?.contains(lacks) && !alice.wrote()?.contains(lacks));
    let (alice_had, bob_had) = (coins(&alice).await?, coins(&bob).await?);
    let (ours, theirs) = (alice.channel().await?, bob.channel().await?);
    let known = cluster.bitcoind().mempool()?.len();
    alice.begins_to_close(&channel, true).await?;
    pays_for_its_commitment(&alice, known).await?;
    // HTLCs are at stake, so that the anchor may pay; the operator wants it sooner.
    is_bumped(&cluster, &alice, &channel).await?;
    let request = PendingChannelsRequest { include_raw_tx: true };
    let waiting = alice.lightning().await?.pending_channels(request).await?.into_inner();
    let waiting = &waiting.waiting_close_channels[0];
    let tx: Transaction = deserialize_hex(&waiting.closing_tx_hex)?;
    assert_eq!(tx.compute_txid().to_string(), waiting.closing_txid);
    cluster.bitcoind().mine(1)?;
    let closed = forced(&alice).await?;
    // HT needs coins as the commitment did: its reserve stays.
    assert_eq!(alice.coins().await?.reserved_balance_anchor_chan, 10_000);
    // The child that paid for the commitment brought its anchor home; nobody moves the peer's.
    alice
        .until("its anchor is back", async || {
            Ok((forced(&alice).await?.anchor() == AnchorState::Recovered).then_some(()))
        })
        .await?;
    assert_eq!(forced(&bob).await?.anchor(), AnchorState::Limbo);
    assert_eq!(closed.limbo_balance, ours.local_balance + 60_000);
    assert_eq!(forced(&bob).await?.limbo_balance, theirs.local_balance + 50_000);
    assert_eq!(closed.pending_htlcs.len(), 1);
    let htlc = &closed.pending_htlcs[0];
    assert_eq!((htlc.incoming, htlc.amount, htlc.stage), (false, 60_000, 1));
    let height = i64::try_from(cluster.bitcoind().height()?)?;
    assert_eq!(i64::from(htlc.maturity_height) - height, i64::from(htlc.blocks_til_maturity));
    let outpoint = htlc.outpoint.parse::<bitcoin::OutPoint>()?;
    assert_eq!(outpoint.txid.to_string(), closed.closing_txid);
    let of_alice = types(&sweeps(&alice).await?);
    assert_eq!(of_alice, [CommitmentTimeLock, HtlcOfferedTimeoutSecondLevelInputConfirmed]);
    let of_bob = types(&sweeps(&bob).await?);
    assert_eq!(of_bob, [HtlcOfferedRemoteTimeout, CommitmentToRemoteConfirmed]);
    // A restart of all three in between changes nothing.
    for daemon in [&alice, &bob] {
        daemon.stops().await?;
        daemon.starts().await?;
    }
    takes_everything(&cluster, &[&alice, &bob]).await?;
    // Nothing goes to the other side, and little to the miners.
    for (daemon, had, mine) in [
        (&alice, alice_had, ours.local_balance + 60_000),
        (&bob, bob_had, theirs.local_balance + 50_000),
    ] {
        let back = coins(daemon).await? - had;
        assert!((mine - 25_000..=mine).contains(&back), "{}: {back} of {mine}", daemon.name());
    }
    cluster.bitcoind().mine(6)?;
    for daemon in [&alice, &bob] {
        daemon
            .until("nothing is left to keep a reserve for", async || {
                Ok((daemon.coins().await?.reserved_balance_anchor_chan == 0).then_some(()))
            })
            .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn preimages_and_a_fee_spike_on_chain() -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob, channel) = with_htlcs_both_ways(&cluster).await?;
    let (alice_had, bob_had) = (coins(&alice).await?, coins(&bob).await?);
    let (ours, theirs) = (alice.channel().await?, bob.channel().await?);
    // Each knows a preimage that the other has not heard of.
    for daemon in [&alice, &bob] {
        daemon.stops().await?;
        holds(daemon, false)?;
    }
    bob.starts().await?;
    bob.until("it settles without its peer", async || {
        let settled = bob.all_invoices().await?.into_iter().filter(|it| it.amt_paid_sat > 0);
        Ok((settled.count() == 2).then_some(()))
    })
    .await?;
    let known = cluster.bitcoind().mempool()?.len();
    bob.begins_to_close(&channel, true).await?;
    pays_for_its_commitment(&bob, known).await?;
    cluster.bitcoind().mine(1)?;
    let htlcs = forced(&bob).await?.pending_htlcs;
    assert!(htlcs.iter().any(|htlc| htlc.incoming && htlc.amount == 60_000), "{htlcs:?}");
    alice.starts().await?;
    bob.until("HE is published", async || {
        let sweeps = sweeps(&bob).await?;
        let he = |sweep: &&PendingSweep| {
            sweep.witness_type() == HtlcAcceptedSuccessSecondLevelInputConfirmed
        };
        Ok(sweeps.iter().find(he).filter(|he| he.sat_per_vbyte > 0).map(drop))
    })
    .await?;
    let hed = alice
        .until("HED is published", async || {
            let mut sweeps = sweeps(&alice).await?.into_iter();
            let hed = sweeps.find(|it| it.witness_type() == HtlcAcceptedRemoteSuccess);
            Ok(hed.filter(|hed| hed.sat_per_vbyte > 0))
        })
        .await?;
    knows_that_it_paid(&alice).await?;
    assert!(hed.sat_per_vbyte < 50 && hed.deadline_height > 0, "{hed:?}");
    assert_eq!((hed.amount_sat, hed.budget), (50_000, 25_000));
    // bitcoind drops what pays less from now on, and so do the miners.
    cluster.bitcoind().restart_relaying_from(50)?;
    cluster.bitcoind().mine(1)?;
    for daemon in [&alice, &bob] {
        daemon
            .until("its claims pay more", async || {
                let sweeps = sweeps(daemon).await?;
                let dear = sweeps.iter().filter(|sweep| sweep.sat_per_vbyte >= 50).count();
                Ok((dear >= 1).then_some(()))
            })
            .await?;
    }
    takes_everything(&cluster, &[&alice, &bob]).await?;
    for (daemon, had, mine) in [
        (&alice, alice_had, ours.local_balance + 50_000),
        (&bob, bob_had, theirs.local_balance + 60_000),
    ] {
        let back = coins(daemon).await? - had;
        assert!((mine - 50_000..=mine).contains(&back), "{}: {back} of {mine}", daemon.name());
        let payments = daemon.payments().await?;
        let made = payments.iter().filter(|it| it.status() == PaymentStatus::Succeeded);
        assert_eq!(made.count(), payments.len());
    }
    Ok(())
}

/// Alice closes by force and Bob takes his balance: fulmen-cli says what may be paid for both, and
/// why not for other outputs.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_says_what_may_be_paid() -> Result<()> {
    let cluster = Cluster::start()?;
    let (alice, bob, channel) = cluster.pair(CAPACITY).await?;
    alice.pays(&bob, Msat::new(300_000_000)).await?;
    alice.quiet_channel().await?;
    let point = channel.channel_point.as_str();
    let bumps = |daemon, call, what: &str, words: &[&str]| {
        says(daemon, &[&["wallet", call, what], words].concat())
    };
    let refuses = |daemon, call, what: &str| {
        bumps(daemon, call, what, &["--conf_target=3"]).expect_err("it must not").to_string()
    };
    let early = refuses(&alice, "bumpforceclosefee", point);
    assert!(early.contains("the channel has no anchor to pay by"), "{early}");
    let known = cluster.bitcoind().mempool()?.len();
    alice.begins_to_close(&channel, true).await?;
    let published = async || Ok((sweeps(&alice).await?.len() == 1).then_some(()));
    alice.until("its commitment waits for a block", published).await?;
    for rate in ["--conf_target=3", "--sat_per_vbyte=30"] {
        let status = bumps(&alice, "bumpforceclosefee", point, &[rate])?;
        assert!(status["status"].as_str().unwrap().starts_with("Successfully"), "{status}");
    }
    pays_for_its_commitment(&alice, known).await?;
    pays_thirty(&cluster, &alice).await?;
    // No HTLC is at stake; what may be paid for the commitment is shown all the same.
    let risk = says(&alice, &["channel", "risk", "--json"])?["channels"][0].clone();
    let budget = sweeps(&alice).await?[0].budget;
    let number = |name: &str| risk[name].to_string().replace('"', "");
    assert_eq!((number("at_risk_sat"), number("fee_budget_sat")), ("0".into(), budget.to_string()));
    assert!(budget > 0);

    cluster.bitcoind().mine(1)?;
    let delivery = bob
        .until("his balance is to be taken", async || {
            let sweep = sweeps(&bob).await?.into_iter().next();
            let sweep = sweep.filter(|it| it.witness_type() == CommitmentToRemoteConfirmed);
            Ok(sweep
                .and_then(|it| it.outpoint)
                .map(|it| format!("{}:{}", it.txid_str, it.output_index)))
        })
        .await?;
    bumps(&bob, "bumpfee", &delivery, &["--conf_target=3"])?;
    bumps(&bob, "bumpfee", &delivery, &["--sat_per_vbyte=25"])?;
    bob.until("25 sat/vB is offered", async || {
        let sweeps = sweeps(&bob).await?;
        Ok(sweeps.iter().any(|sweep| sweep.sat_per_vbyte == 25).then_some(()))
    })
    .await?;
    let both = bumps(&bob, "bumpfee", &delivery, &["--conf_target=3", "--sat_per_vbyte=25"]);
    assert!(both.unwrap_err().to_string().contains("not both"));
    let foreign = refuses(&bob, "bumpfee", &format!("{}:0", "11".repeat(32)));
    assert!(foreign.contains("the passed output does not belong to the wallet"), "{foreign}");
    let unspent = says(&alice, &["listunspent"])?["utxos"][0]["outpoint"].clone();
    let coin = refuses(&alice, "bumpfee", unspent.as_str().unwrap());
    assert!(coin.contains("is none of the pending sweeps"), "{coin}");
    Ok(())
}
