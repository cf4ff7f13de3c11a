//! Thirty rows on real bitcoind with whole daemons: whatever is published, each honest side ends
//! with what is due to it, to the satoshi.
//!
//! ```text
//!   F ── C ─┬─ to_local ──────────────── RD or, if C was revoked, BR
//!           ├─ to_remote ─────────────── D
//!           ├─ HTLC ─┬─ HT ─ to_local ── HTRD or HTBR        every output: whose, by which
//!           │        ├─ HE ─ to_local ── HERD or HEBR        transaction, at which fee
//!           │        └─ HTD, HED, HBR
//!           └─ anchors                                       nobody's, or the publisher's
//! ```
//!
//! `table` has the rows, in groups: those of a group are channels of one pair of daemons, end in
//! the same blocks, and share batches. `world` gets them into their states, `story` plays them;
//! `money` follows F's satoshis through bitcoind's blocks, `chain` reads these. Nothing is
//! tolerated: base fees, anchors, HTLCs without an output and parts of a satoshi are counted by
//! BOLT 3, and fees are inputs less outputs.
//!
//! On a busy machine some take more than 20 s: two daemons and their bitcoind follow some 300
//! blocks, one by one where something is spent, and start again up to four times.

pub mod chain;
mod harder;
mod money;
mod spike;
mod story;
mod table;
mod watched;
mod world;

use std::collections::BTreeSet;

use chain::Paper;
use fulmen_itest::failure::Result;
use table::{Row, GROUPS};

#[test]
fn thirty_rows_touch_each_transaction_of_the_paper() {
    let rows: Vec<&Row> = GROUPS.iter().flat_map(|group| group.rows).collect();
    assert_eq!(rows.len(), 30);
    // What a row says that it shows is looked for on chain when it is played.
    let shown: BTreeSet<Paper> = rows.iter().flat_map(|row| row.shows).copied().collect();
    assert_eq!(shown, BTreeSet::from(Paper::ALL));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_peer_is_gone_and_nobody_knows_a_preimage() -> Result<()> {
    story::plays(&table::GONE).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_peer_races_and_both_know_all_preimages() -> Result<()> {
    story::plays(&table::RACING).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_peer_is_gone_and_we_know_our_preimages() -> Result<()> {
    story::plays(&table::KNOWING).await
}

#[tokio::test(flavor = "multi_thread")]
async fn both_take_back_what_they_offered_and_six_blocks_are_gone_after_each_step() -> Result<()> {
    story::plays(&table::SHAKEN).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cheater_is_caught_and_six_blocks_are_gone_after_each_step() -> Result<()> {
    story::plays(&table::CAUGHT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cheater_takes_second_stages_while_we_are_off() -> Result<()> {
    story::plays(&table::ROBBED).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_tower_watches_while_we_are_off() -> Result<()> {
    story::plays(&table::WATCHED).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_altruist_tower_watches_while_we_are_off() -> Result<()> {
    story::plays(&table::SEALED).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feerate_jumps_from_1_to_300_sat_per_vbyte() -> Result<()> {
    spike::while_claims_wait().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_estimate_jumps_to_300_while_our_commitment_waits() -> Result<()> {
    spike::while_the_commitment_waits().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_version_of_a_claim_gets_into_the_block() -> Result<()> {
    harder::another_form_confirms().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_peer_takes_one_of_the_outputs_that_we_take_together() -> Result<()> {
    harder::the_peer_takes_one_of_a_batch().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_tower_watches_and_six_blocks_are_gone_after_each_step() -> Result<()> {
    story::plays(&watched::SHAKEN).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_altruist_tower_watches_and_six_blocks_are_gone_after_each_step() -> Result<()> {
    story::plays(&watched::SEALED_SHAKEN).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feerate_jumps_from_1_to_300_sat_per_vbyte_while_a_private_tower_watches() -> Result<()>
{
    watched::through_a_spike().await
}

#[tokio::test(flavor = "multi_thread")]
async fn six_blocks_are_gone_after_each_step_with_less_in_flight() -> Result<()> {
    harder::six_blocks_are_gone().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_blocks_are_gone_with_claims_that_were_settled() -> Result<()> {
    harder::a_hundred_blocks_are_gone().await
}
