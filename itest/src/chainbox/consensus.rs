//! Consensus rules about one transaction: its form, its times, what it spends.

use std::collections::BTreeSet;

use bitcoin::locktime::absolute::LOCK_TIME_THRESHOLD;
use bitcoin::{Amount, OutPoint, Sequence, Transaction, TxOut, Weight};
use fulmen_channel::amount::{Height, Sat};

use super::reject::{money, Reject};

/// Confirmations that a coinbase needs before it may be spent.
pub const MATURITY: u32 = 100;
/// Blocks until the subsidy halves on regtest.
pub const HALVING: u32 = 150;
/// The most signature operations of a block, each counted four times unless in a witness.
pub const MAX_BLOCK_SIGOPS: usize = 80_000;

/// An unspent output, and since when it is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coin {
    /// The output.
    pub output: TxOut,
    /// The block that made it; for one in the mempool the next block.
    pub height: Height,
    /// Whether a coinbase made it.
    pub coinbase: bool,
}

/// What the miner of the block at `height` gets beside fees.
pub fn subsidy(height: Height) -> Sat {
    let halvings = height.number().checked_div(HALVING).unwrap_or(0);
    Sat::new(Amount::ONE_BTC.to_sat().saturating_mul(50).checked_shr(halvings).unwrap_or(0))
}

/// What can be said of a transaction without knowing any other.
///
/// # Errors
/// Core's reasons of CheckTransaction.
pub fn check_form(tx: &Transaction) -> Result<(), Reject> {
    if tx.input.is_empty() {
        return Err(Reject::new("bad-txns-vin-empty"));
    }
    if tx.output.is_empty() {
        return Err(Reject::new("bad-txns-vout-empty"));
    }
    let stripped = u64::try_from(tx.base_size()).unwrap_or(u64::MAX);
    if stripped.saturating_mul(4) > Weight::MAX_BLOCK.to_wu() {
        return Err(Reject::new("bad-txns-oversize"));
    }
    let mut total = Amount::ZERO;
    for output in &tx.output {
        if i64::try_from(output.value.to_sat()).is_err() {
            return Err(Reject::new("bad-txns-vout-negative"));
        }
        if output.value > Amount::MAX_MONEY {
            return Err(Reject::new("bad-txns-vout-toolarge"));
        }
        total = total.checked_add(output.value).unwrap_or(Amount::MAX);
        if total > Amount::MAX_MONEY {
            return Err(Reject::new("bad-txns-txouttotal-toolarge"));
        }
    }
    let distinct: BTreeSet<&OutPoint> =
        tx.input.iter().map(|input| &input.previous_output).collect();
    if distinct.len() != tx.input.len() {
        return Err(Reject::new("bad-txns-inputs-duplicate"));
    }
    if tx.is_coinbase() {
        let script = tx.input.first().map_or(0, |input| input.script_sig.len());
        if !(2..=100).contains(&script) {
            return Err(Reject::new("bad-cb-length"));
        }
    } else if distinct.contains(&OutPoint::null()) {
        return Err(Reject::new("bad-txns-prevout-null"));
    }
    Ok(())
}

/// Whether a transaction's lock time lets it into the block at `height`, of which `median` is
/// the median time past (BIP 113).
pub fn is_final(tx: &Transaction, height: Height, median: u32) -> bool {
    let lock = tx.lock_time.to_consensus_u32();
    let now = if lock < LOCK_TIME_THRESHOLD { height.number() } else { median };
    lock == 0 || lock < now || tx.input.iter().all(|input| input.sequence == Sequence::MAX)
}

/// Whether the relative locks of BIP 68 let a transaction into the block at `height`. `median` is
/// that block's median time past, `median_before` that of the block at a height.
pub fn is_ripe(
    tx: &Transaction,
    spent: &[Coin],
    height: Height,
    median: u32,
    median_before: impl Fn(Height) -> u32,
) -> bool {
    const UNIT: u32 = 9;
    if tx.version.0 < 2 {
        return true;
    }
    tx.input.iter().zip(spent).all(|(input, coin)| {
        let sequence = input.sequence.to_consensus_u32();
        let waits = sequence & 0xffff;
        if !input.sequence.is_relative_lock_time() {
            true
        } else if input.sequence.is_time_locked() {
            let since = median_before(coin.height.minus(1));
            since.saturating_add(waits.checked_shl(UNIT).unwrap_or(u32::MAX)) <= median
        } else {
            coin.height.plus(waits) <= height
        }
    })
}

/// What a transaction in the block at `height` leaves as fee of the coins that it spends.
///
/// # Errors
/// Immature coinbases and amounts that do not add up, with Core's reasons of CheckTxInputs.
pub fn fee(tx: &Transaction, spent: &[Coin], height: Height) -> Result<Sat, Reject> {
    let mut into = Amount::ZERO;
    for coin in spent {
        let depth = height.number().saturating_sub(coin.height.number());
        if coin.coinbase && depth < MATURITY {
            let details = format!("tried to spend coinbase at depth {depth}");
            return Err(Reject::detailed("bad-txns-premature-spend-of-coinbase", details));
        }
        into = into.checked_add(coin.output.value).unwrap_or(Amount::MAX);
        if into > Amount::MAX_MONEY {
            return Err(Reject::new("bad-txns-inputvalues-outofrange"));
        }
    }
    let out: Amount = tx.output.iter().map(|output| output.value).sum();
    match into.checked_sub(out) {
        Some(fee) => Ok(fee.into()),
        None => {
            let (into, out) = (money(into.into()), money(out.into()));
            let details = format!("value in ({into}) < value out ({out})");
            Err(Reject::detailed("bad-txns-in-belowout", details))
        }
    }
}
