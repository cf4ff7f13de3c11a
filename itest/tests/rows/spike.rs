//! A feerate that jumps from 1 to 300 sat/vB while a close by force is under way: what is worth it
//! is paid for within its budget, the rest waits for better days, and nobody loses.

use fulmen_channel::params::CommitmentFormat::Anchors;
use fulmen_itest::failure::Result;
use fulmen_itest::proxy::Answers;

use super::chain::{Paper, What};
use super::money::Output;
use super::story::{block_of, Here, Play};
use super::table::{row, Group, Htlc, InFlight, Who, RACING};
use crate::sweeps::best_ancestor_rate;

/// Outputs of less are not worth a claim at 300 sat/vB.
pub const WORTH: u64 = 100_000;

static SPIKE: Group = Group {
    name: "spike",
    rows: &[
        row(Who::Local, InFlight::Uneven, Anchors, &[Paper::HE, Paper::HED]),
        row(Who::Remote, InFlight::Uneven, Anchors, &[Paper::HE, Paper::HED]),
    ],
    ..RACING
};

static EARLY: Group = Group {
    name: "early",
    told: true,
    rows: &[row(Who::Local, InFlight::Uneven, Anchors, &[Paper::Anchor, Paper::HE, Paper::HED])],
    ..RACING
};

pub async fn while_claims_wait() -> Result<()> {
    let mut play = Play::begins(&SPIKE).await?;
    play.confirms().await?;
    play.world.bob.starts().await?;
    play.waits(Here::BOTH, None).await?;
    // bitcoind has dropped what pays less, and takes no such thing any more.
    play.world.bitcoind().restart_with(&["-minrelaytxfee=0.003", "-persistmempool=0"])?;
    play.world.bitcoind().mine(1)?;
    play.least = WORTH;
    let soon = play.ledger.tip() + 30;
    play.goes_on(Here::BOTH, Some(soon)).await?;
    let trees = play.trees();
    let outputs = trees.iter().flat_map(|(_, tree)| &tree.outputs);
    for output in outputs.filter(|output| output.value < WORTH && output.what != What::Anchor) {
        assert_eq!(output.spent, None, "{output:?}");
    }
    play.world.bitcoind().restart()?;
    play.world.bitcoind().mine(1)?;
    play.least = 0;
    play.goes_on(Here::BOTH, None).await?;
    stays_within_budgets(&play);
    play.ends().await
}

/// The estimate jumps to 300 sat/vB while our commitment waits at 1 sat/vB: its anchor pays what
/// half of what is at stake on it buys.
pub async fn while_the_commitment_waits() -> Result<()> {
    let mut play = Play::begins(&EARLY).await?;
    play.world.asks.set(Answers::Estimate(300));
    // A block that takes nothing.
    block_of(play.world.bitcoind(), &[])?;
    let alice = &play.world.alice;
    alice
        .until("the commitment and its child pay what they may", async || {
            let best = best_ancestor_rate(&play.world.cluster)?;
            Ok(best.filter(|rate| (200.0..310.0).contains(rate)).map(drop))
        })
        .await?;
    play.confirms().await?;
    play.world.bob.starts().await?;
    let soon = play.ledger.tip() + 30;
    play.goes_on(Here::BOTH, Some(soon)).await?;
    // What nobody else can take, and is worth too little, has waited.
    play.world.asks.set(Answers::Pass);
    play.world.bitcoind().mine(1)?;
    play.goes_on(Here::BOTH, None).await?;
    stays_within_budgets(&play);
    play.ends().await
}

/// Half of what is at stake is the most that is paid for it.
fn stays_within_budgets(play: &Play) {
    let trees = play.trees();
    for (channel, tree) in &trees {
        for output in &tree.outputs {
            let Some((txid, paper)) = output.spent else { continue };
            let taken: u64 = match paper {
                Paper::Anchor => channel.htlcs.iter().map(Htlc::sat).sum(),
                _ => {
                    let all = trees.iter().flat_map(|(_, tree)| &tree.outputs);
                    let by = |it: &&Output| it.spent.is_some_and(|(by, _)| by == txid);
                    all.filter(by).map(|output| output.value).sum()
                }
            };
            let fee = play.ledger.fee(&txid);
            assert!(fee <= taken / 2, "{}: {paper} pays {fee} for {taken}", channel.row);
        }
    }
}
