//! A tower watches while we are off, and the chain is in trouble: six blocks are gone after each
//! step, or the feerate jumps from 1 to 300 sat/vB in the middle of the breach.

use fulmen_channel::params::CommitmentFormat::{Anchors, StaticRemoteKey};
use fulmen_itest::failure::Result;

use super::chain::{Paper::*, What};
use super::spike::WORTH;
use super::story::{Here, Play};
use super::table::{row, Group, InFlight, Who, SEALED, WATCHED};

pub static SHAKEN: Group = Group {
    name: "watched, shaken",
    reorgs: true,
    blocks: 80,
    rows: &[
        row(Who::Revoked, InFlight::Both, Anchors, &[C, D, BR, HE, HT, HEBR, HTBR]),
        row(Who::Revoked, InFlight::Offered, StaticRemoteKey, &[C, D, BR, HE, HEBR]),
    ],
    ..WATCHED
};

pub static SEALED_SHAKEN: Group = Group {
    name: "sealed, shaken",
    reorgs: true,
    blocks: 80,
    rows: &[
        row(Who::Revoked, InFlight::Both, Anchors, &[C, D, BR]),
        row(Who::Revoked, InFlight::Received, StaticRemoteKey, &[C, D, BR, HBR]),
    ],
    ..SEALED
};

static SPIKE: Group = Group {
    name: "watched, spike",
    rows: &[
        row(Who::Revoked, InFlight::Uneven, Anchors, &[C, D, BR, HE, HT, HEBR, HTBR]),
        row(Who::Revoked, InFlight::Nothing, StaticRemoteKey, &[C, D, BR]),
    ],
    ..WATCHED
};

/// The tower's remedies are not mined at the old feerate: it pays the new one out of what they
/// take, while the cheater moves what is worth it to him.
pub async fn through_a_spike() -> Result<()> {
    const AWAY: Here = Here { alice: false, bob: true, tower: true };
    let mut play = Play::begins(&SPIKE).await?;
    play.goes_on(AWAY, Some(0)).await?;
    // The tower's first remedies wait; then bitcoind drops them, and takes no such any more.
    play.waits(AWAY, None).await?;
    play.world.bitcoind().restart_with(&["-minrelaytxfee=0.003", "-persistmempool=0"])?;
    play.world.bitcoind().mine(1)?;
    play.least = WORTH;
    let htlcs = play.world.channels.iter().flat_map(|channel| &channel.htlcs);
    let expired = htlcs.map(|htlc| htlc.expiry).max().unwrap_or(0);
    play.goes_on(AWAY, Some(expired + 5)).await?;
    let mut dear = 0;
    for (channel, tree) in play.trees() {
        let outputs = tree.outputs.iter().filter(|output| output.what != What::Anchor);
        for output in outputs {
            let Some((txid, paper)) = output.spent.filter(|(_, paper)| *paper != C) else {
                // It waits for her, or for better days.
                let waits = output.value < WORTH || output.what == What::ToRemote;
                assert!(waits, "{}: {output:?}", channel.row);
                continue;
            };
            let (_, tx) = play.ledger.tx(&txid);
            let rate = play.ledger.fee(&txid) / tx.vsize() as u64;
            assert!(rate >= 300, "{}: {paper} pays {rate} sat/vB", channel.row);
            dear += u32::from(matches!(paper, BR | HTBR | HEBR));
        }
    }
    assert_eq!(dear, 4, "the tower took both balances, and what the cheater moved");
    play.world.bitcoind().restart()?;
    play.world.bitcoind().mine(1)?;
    play.least = 0;
    play.goes_on(AWAY, Some(expired + 12)).await?;
    play.world.alice.starts().await?;
    play.goes_on(Here { alice: true, ..AWAY }, None).await?;
    play.ends().await
}
