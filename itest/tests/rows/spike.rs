//! A feerate that jumps from 1 to 300 sat/vB while a close by force is under way: what is worth it
//! is paid for within its budget, the rest waits for better days, and nobody loses.

use fulmen_channel::params::CommitmentFormat::Anchors;
use fulmen_itest::failure::Result;

use super::chain::{Paper, What};
use super::story::{Here, Play};
use super::table::{row, Group, InFlight, Who, RACING};

/// Outputs of less are not worth a claim at 300 sat/vB.
const WORTH: u64 = 100_000;

static SPIKE: Group = Group {
    name: "spike",
    rows: &[
        row(Who::Local, InFlight::Uneven, Anchors, &[Paper::HE, Paper::HED]),
        row(Who::Remote, InFlight::Uneven, Anchors, &[Paper::HE, Paper::HED]),
    ],
    ..RACING
};

pub async fn plays() -> Result<()> {
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
    let mut trees = play.trees();
    let outputs = trees.iter().flat_map(|(_, tree)| &tree.outputs);
    for output in outputs.filter(|output| output.value < WORTH && output.what != What::Anchor) {
        assert_eq!(output.spent, None, "{output:?}");
    }
    play.world.bitcoind().restart()?;
    play.world.bitcoind().mine(1)?;
    play.least = 0;
    play.goes_on(Here::BOTH, None).await?;
    // Half of what is at stake is the most that is paid for it.
    trees = play.trees();
    for (channel, tree) in &trees {
        for output in &tree.outputs {
            let Some((txid, paper)) = output.spent.filter(|(_, it)| *it != Paper::Anchor) else {
                continue;
            };
            let taken = trees.iter().flat_map(|(_, tree)| &tree.outputs);
            let taken = taken.filter(|it| it.spent.is_some_and(|(by, _)| by == txid));
            let taken: u64 = taken.map(|output| output.value).sum();
            let fee = play.ledger.fee(&txid);
            assert!(fee <= taken / 2, "{}: {paper} pays {fee} for {taken}", channel.row);
        }
    }
    play.ends().await
}
