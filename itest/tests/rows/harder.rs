//! Claims that do not go as planned: an earlier version gets into the block, the peer takes one of
//! the outputs that a transaction of ours takes together, or a hundred blocks are gone.

use std::collections::BTreeSet;

use bitcoin::{OutPoint, Txid};
use bitcoincore_rpc::RpcApi;
use fulmen_channel::params::CommitmentFormat::{Anchors, StaticRemoteKey};
use fulmen_itest::failure::{Context, Result};
use fulmen_itest::wait::{self, PATIENCE};
use fulmen_proto::lnrpc;
use fulmen_proto::walletrpc::BumpFeeRequest;

use super::chain::{waiting_spend, Paper, What};
use super::story::{block_of, Here, Play};
use super::table::{row, Group, InFlight, Who, GONE, RACING, SHAKEN};

static FORMS: Group = Group {
    name: "forms",
    rows: &[
        row(Who::Local, InFlight::Both, Anchors, &[Paper::HT, Paper::HTRD]),
        row(Who::Remote, InFlight::Both, Anchors, &[Paper::D, Paper::HTD]),
        row(Who::Remote, InFlight::Twenty, Anchors, &[Paper::D, Paper::HTD]),
    ],
    ..GONE
};

static TAKEN: Group = Group {
    name: "taken",
    bob_knows: true,
    rows: &[
        row(Who::Remote, InFlight::Offered, StaticRemoteKey, &[Paper::D, Paper::HE]),
        row(Who::Remote, InFlight::Offered, Anchors, &[Paper::D, Paper::HTD]),
    ],
    ..GONE
};

static DEEP: Group = Group {
    name: "deep",
    blocks: 140,
    rows: &[
        row(Who::Local, InFlight::Both, Anchors, &[Paper::RD, Paper::HE, Paper::HERD, Paper::HED]),
        row(Who::Remote, InFlight::Both, Anchors, &[Paper::D, Paper::HE, Paper::HERD, Paper::HED]),
        row(Who::Local, InFlight::Received, StaticRemoteKey, &[Paper::RD, Paper::HE, Paper::HERD]),
    ],
    ..RACING
};

static SHAKEN_MORE: Group = Group {
    name: "shaken more",
    rows: &[
        row(Who::Local, InFlight::Offered, StaticRemoteKey, &[Paper::RD, Paper::HT, Paper::HTRD]),
        row(Who::Remote, InFlight::Offered, Anchors, &[Paper::D, Paper::HTD]),
        row(Who::Remote, InFlight::Dust, StaticRemoteKey, &[Paper::D, Paper::RD]),
        row(Who::Local, InFlight::Dust, Anchors, &[Paper::D, Paper::RD]),
    ],
    ..SHAKEN
};

/// Six blocks after each step, where there is less in flight.
pub async fn six_blocks_are_gone() -> Result<()> {
    super::story::plays(&SHAKEN_MORE).await
}

/// The commitments are in a block, and what both took of them at once, so deep that it counts as
/// settled. All of that is gone, and of what was in those blocks bitcoind keeps only the last.
pub async fn a_hundred_blocks_are_gone() -> Result<()> {
    let mut play = Play::begins(&DEEP).await?;
    play.confirms().await?;
    let committed = play.ledger.tip();
    play.world.bob.starts().await?;
    play.goes_on(Here::BOTH, Some(committed + 1)).await?;
    let second_stages = |play: &Play| {
        let trees = play.trees();
        let outputs = trees.iter().flat_map(|(_, tree)| &tree.outputs);
        outputs.filter(|output| matches!(output.what, What::Second(..))).count()
    };
    assert_eq!(second_stages(&play), 3, "Alice's HE, Bob's HE, Alice's HE");
    play.world.bitcoind().mine(committed + 99 - play.ledger.tip())?;
    play.waits(Here::BOTH, Some(0)).await?;
    play.loses(100)?;
    play.ledger.catches_up(play.world.bitcoind())?;
    assert_eq!((second_stages(&play), play.ledger.tip()), (0, committed + 100));
    play.world.alice.stops().await?;
    play.world.alice.starts().await?;
    play.goes_on(Here::BOTH, None).await?;
    play.ends().await
}

/// Claims are bumped, and the version before is what the miner takes.
pub async fn another_form_confirms() -> Result<()> {
    let mut play = Play::begins(&FORMS).await?;
    play.confirms().await?;
    loop {
        let ripe = play.waits(Here::ALICE, None).await?;
        let bitcoind = play.world.bitcoind();
        let Some(richest) = richest(&play, &ripe) else {
            let Some(from) = play.first(Here::ALICE) else { break };
            bitcoind.mine(from - play.ledger.tip() - 1)?;
            continue;
        };
        let mut versions = BTreeSet::new();
        for outpoint in &ripe {
            versions.extend(waiting_spend(bitcoind, outpoint)?);
        }
        let txs = versions.iter().map(|txid| raw(&play, txid)).collect::<Result<Vec<_>>>()?;
        bumps(&play, &richest).await?;
        wait::until("another version waits", PATIENCE, || {
            let now = waiting_spend(bitcoind, &richest)?;
            Ok(now.filter(|txid| !versions.contains(txid)).map(drop))
        })?;
        block_of(bitcoind, &txs)?;
    }
    play.ends().await
}

/// The one that is worth most: it can pay for a version that takes a whole batch's place.
fn richest(play: &Play, ripe: &[OutPoint]) -> Option<OutPoint> {
    let trees = play.trees();
    let outputs = trees.iter().flat_map(|(_, tree)| &tree.outputs);
    let ripe = outputs.filter(|output| ripe.contains(&output.outpoint));
    ripe.max_by_key(|output| output.value).map(|output| output.outpoint)
}

fn raw(play: &Play, txid: &Txid) -> Result<String> {
    Ok(play.world.bitcoind().rpc().get_raw_transaction_hex(txid, None)?)
}

async fn bumps(play: &Play, outpoint: &OutPoint) -> Result<()> {
    let outpoint = lnrpc::OutPoint {
        txid_str: outpoint.txid.to_string(),
        output_index: outpoint.vout,
        ..Default::default()
    };
    let outpoint = Some(outpoint);
    let request = BumpFeeRequest { outpoint, sat_per_vbyte: 30, ..Default::default() };
    play.world.alice.wallet_kit().await?.bump_fee(request).await?;
    Ok(())
}

/// A batch of ours takes back two HTLCs, and the peer's HE of one of them gets into a block.
pub async fn the_peer_takes_one_of_a_batch() -> Result<()> {
    let mut play = Play::begins(&TAKEN).await?;
    play.confirms().await?;
    // What waits in her mempool would show her both preimages.
    play.world.alice.stops().await?;
    play.world.bob.starts().await?;
    let htlcs: Vec<OutPoint> = play
        .trees()
        .iter()
        .flat_map(|(_, tree)| &tree.outputs)
        .filter(|output| matches!(output.what, What::Htlc(_)))
        .map(|output| output.outpoint)
        .collect();
    let [taken, other] = htlcs[..] else { panic!("two HTLCs: {htlcs:?}") };
    let he = wait::until("HE waits", PATIENCE, || waiting_spend(play.world.bitcoind(), &taken))?;
    let he = raw(&play, &he)?;
    play.world.bob.stops().await?;
    // bitcoind forgets it, and Alice's batch takes its place.
    play.world.bitcoind().restart_with(&["-persistmempool=0"])?;
    play.world.alice.starts().await?;
    let mut batch = None;
    while batch.is_none() {
        let ripe = play.waits(Here::ALICE, None).await?;
        let bitcoind = play.world.bitcoind();
        if ripe.contains(&taken) {
            batch = waiting_spend(bitcoind, &taken)?;
            assert_eq!(batch, waiting_spend(bitcoind, &other)?, "they are together");
        } else if ripe.is_empty() {
            let from = play.first(Here::ALICE).context("something is left")?;
            bitcoind.mine(from - play.ledger.tip() - 1)?;
        } else {
            bitcoind.mine(1)?;
        }
    }
    block_of(play.world.bitcoind(), &[he])?;
    play.lost.insert(play.world.channels[0].funding);
    play.goes_on(Here::ALICE, None).await?;
    play.ends().await
}
