//! The sweeper: budgets, batches and plans, as tables.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod batches;
mod curve;
mod plans;

use bitcoin::hashes::Hash;
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use bitcoin::{OutPoint, ScriptBuf, Sequence, TxOut, Txid};
use fulmen_channel::amount::{FeeratePerKw, Height, Sat};
use fulmen_channel::onchain::claim::{Claim, Name, Pays};
use fulmen_channel::params::CommitmentFormat;
use fulmen_channel::transactions::delivery;
use fulmen_node::sweeper::plan::Estimates;
use fulmen_node::sweeper::version::{Lent, Version};
use fulmen_node::sweeper::wanted::Wanted;

pub const NOW: Height = Height::new(1_000);

pub fn kw(rate: u32) -> FeeratePerKw {
    FeeratePerKw::new(rate)
}

pub fn at(number: u8) -> OutPoint {
    OutPoint { txid: Txid::from_byte_array([number; 32]), vout: 0 }
}

fn key() -> PublicKey {
    SecretKey::from_slice(&[7; 32]).unwrap().public_key(&Secp256k1::new())
}

/// A claim, ripe and without a deadline.
pub fn claim(number: u8, name: Name, sat: u64) -> Wanted {
    let spend = delivery::spend(CommitmentFormat::Anchors, &key(), at(number), Sat::new(sat));
    let (htlc, until) = (None, None);
    let pays = match name {
        Name::HT | Name::HE => Pays::Beside(spend.output.clone()),
        _ => Pays::Anything,
    };
    Wanted::new(1, Claim { name, htlc, spend, pays, from: NOW, until })
}

/// The same with a deadline so many blocks from now.
pub fn due(number: u8, name: Name, sat: u64, blocks: u32) -> Wanted {
    let mut wanted = claim(number, name, sat);
    wanted.claim.until = Some(NOW.plus(blocks));
    wanted
}

/// A coin of the wallet's.
pub fn coin(number: u8, sat: u64) -> Lent {
    let (outpoint, value, weight) = (at(number), Sat::new(sat), 272);
    Lent { outpoint, value, weight, script_sig: ScriptBuf::new(), confirmed: true }
}

/// Feerates for 2, 6, 12 and 144 blocks.
pub fn estimates([two, six, twelve, day]: [u32; 4]) -> Estimates {
    let within = [(2, kw(two)), (6, kw(six)), (12, kw(twelve)), (144, kw(day))];
    Estimates { within: within.into(), entering: kw(253) }
}

pub const CALM: [u32; 4] = [2_500, 1_250, 1_000, 500];

/// What was published of these claims.
pub fn version(draft: &fulmen_node::sweeper::plan::Draft) -> Version {
    Version {
        tx: draft.built.tx.clone(),
        fee: draft.built.fee,
        weight: draft.built.weight,
        claims: draft.claims.iter().map(|claim| (1, *claim)).collect(),
        coins: draft.built.coins.clone(),
        rest: draft.built.rest,
        parent: None,
        since: draft.since,
        start: draft.start,
        attempts: draft.attempts,
    }
}

/// The sum of what the inputs bring and of what the outputs take.
pub fn fee_of(draft: &fulmen_node::sweeper::plan::Draft, wanted: &[Wanted]) -> u64 {
    let brings = |outpoint: &OutPoint| {
        let claim = wanted.iter().find(|wanted| wanted.outpoint() == *outpoint);
        let coin = draft.built.coins.iter().find(|coin| coin.outpoint == *outpoint);
        let value = claim.map(|claim| claim.claim.spend.value());
        value.or(coin.map(|coin| coin.value)).unwrap().sat()
    };
    let income: u64 = draft.built.tx.input.iter().map(|i| brings(&i.previous_output)).sum();
    let pays = |output: &TxOut| output.value.to_sat();
    income - draft.built.tx.output.iter().map(pays).sum::<u64>()
}

/// HT and HE have a sequence of one with anchors; so may tests.
pub fn delayed(mut wanted: Wanted, blocks: u16) -> Wanted {
    wanted.claim.spend.sequence = Sequence::from_height(blocks);
    wanted
}
