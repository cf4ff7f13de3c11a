//! Which coins pay. Pure: chance comes in as a number.
//!
//! ```text
//!   Largest:  a set without change, if there is one (branch and bound) ─▶ else the largest first
//!   Random:   coins in the order of the lot; what turns out not to be needed is put back
//! ```

use super::coins::Coin;
use super::fund::DUST;
use bitcoin::hashes::{sha256, Hash, HashEngine};
use bitcoin::{OutPoint, TxOut, VarInt};
use fulmen_channel::amount::{FeeratePerKw, Sat};
use std::cmp::Reverse;

/// How coins are chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Strategy {
    /// No change if that can be had, otherwise few inputs: the cheapest now.
    #[default]
    Largest,
    /// At random, by this number: tells less about what else we have.
    Random(u64),
}

/// The most weight that nodes relay in one transaction.
const MAX_WEIGHT: u64 = 400_000;

/// Weight of a change output, p2wkh.
const CHANGE_WEIGHT: u64 = 4 * (8 + 1 + 22);

/// How many sets are tried for one without change.
const TRIES: usize = 100_000;

/// What is to be paid.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub outputs: &'a [TxOut],
    pub feerate: FeeratePerKw,
}

/// Coins that pay for outputs, and what is left over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    pub coins: Vec<Coin>,
    pub fee: Sat,
    pub change: Sat,
}

impl Target<'_> {
    /// The sum of the outputs.
    pub fn sum(&self) -> Sat {
        let values = self.outputs.iter().map(|output| Sat::from(output.value));
        values.fold(Sat::ZERO, Sat::saturating_add)
    }

    /// What a transaction that spends `coins` costs.
    pub fn fee(&self, coins: &[Coin], change: bool) -> Sat {
        self.feerate.fee(weight(coins, self.outputs, change))
    }

    /// Divides what `coins` are worth into outputs, fee and change; nothing if it is not enough,
    /// or too heavy.
    pub fn settle(&self, coins: Vec<Coin>) -> Option<Choice> {
        if weight(&coins, self.outputs, true) > MAX_WEIGHT {
            return None;
        }
        let rest = sum(&coins).checked_sub(self.sum())?;
        let (with, without) = (self.fee(&coins, true), self.fee(&coins, false));
        let change = rest.saturating_sub(with);
        if change >= DUST {
            return Some(Choice { coins, fee: with, change });
        }
        // Too little for an output of its own goes to the miners.
        (rest >= without).then_some(Choice { coins, fee: rest, change: Sat::ZERO })
    }

    /// What a coin adds once its own fee is paid, and no more than that.
    fn worth(&self, coin: &Coin) -> Sat {
        let cost = self.feerate.fee(coin.input_weight()).saturating_add(Sat::new(1));
        coin.value().saturating_sub(cost)
    }

    /// The coins that are worth more than they cost, best first.
    fn worthy(&self, coins: &[Coin]) -> Vec<Coin> {
        let mut worthy: Vec<Coin> =
            coins.iter().filter(|coin| self.worth(coin) > Sat::ZERO).cloned().collect();
        worthy.sort_by_key(|coin| (Reverse(self.worth(coin)), coin.outpoint));
        worthy
    }
}

/// Coins among `coins` that pay for `target`. Those that cost more to spend than they are worth
/// are never taken.
pub(super) fn select(coins: &[Coin], target: Target, strategy: Strategy) -> Option<Choice> {
    let mut worthy = target.worthy(coins);
    match strategy {
        Strategy::Largest => without_change(&worthy, target).or_else(|| in_order(worthy, target)),
        Strategy::Random(lot) => {
            worthy.sort_by_key(|coin| drawn(lot, coin.outpoint));
            in_order(worthy, target).map(|choice| needed(choice, target))
        }
    }
}

/// All the coins that a sweep takes: those that are worth it.
pub(super) fn all_worthy(coins: &[Coin], target: Target) -> Vec<Coin> {
    target.worthy(coins)
}

/// Nodes would not relay a transaction that spends so many coins.
pub(super) fn too_heavy(coins: &[Coin], outputs: &[TxOut]) -> bool {
    weight(coins, outputs, true) > MAX_WEIGHT
}

/// The first of `coins` that are enough.
fn in_order(coins: Vec<Coin>, target: Target) -> Option<Choice> {
    let wanted = target.sum();
    let (mut chosen, mut sum) = (Vec::new(), Sat::ZERO);
    for coin in coins {
        sum = sum.saturating_add(coin.value());
        chosen.push(coin);
        if sum < wanted {
            continue;
        }
        if let Some(choice) = target.settle(chosen.clone()) {
            return Some(choice);
        }
    }
    None
}

/// Puts back the coins that the others make superfluous, the smallest first.
fn needed(mut choice: Choice, target: Target) -> Choice {
    let mut smallest: Vec<OutPoint> = choice.coins.iter().map(|coin| coin.outpoint).collect();
    smallest.sort_by_key(|outpoint| {
        choice.coins.iter().find(|coin| coin.outpoint == *outpoint).map(Coin::value)
    });
    for outpoint in smallest {
        let fewer = choice.coins.iter().filter(|coin| coin.outpoint != outpoint).cloned();
        if let Some(better) = target.settle(fewer.collect()) {
            choice = better;
        }
    }
    choice
}

/// The set of `coins` (best first) that pays for `target` with the least beside it, if that is
/// less than a change output would cost and hold.
fn without_change(coins: &[Coin], target: Target) -> Option<Choice> {
    let worths: Vec<u64> = coins.iter().map(|coin| target.worth(coin).sat()).collect();
    let wanted = target.sum().saturating_add(target.fee(&[], false));
    let window = target.feerate.fee(CHANGE_WEIGHT).saturating_add(DUST);
    let taken = branch_and_bound(&worths, wanted.sat(), window.sat())?;
    let chosen = coins.iter().zip(taken).filter(|(_, taken)| *taken).map(|(coin, _)| coin.clone());
    target.settle(chosen.collect()).filter(|choice| choice.change == Sat::ZERO)
}

/// Which of `worths` (in falling order) to take so that they sum up to `wanted` or up to `window`
/// above it, as close as can be found in so many tries.
fn branch_and_bound(worths: &[u64], wanted: u64, window: u64) -> Option<Vec<bool>> {
    let mut ahead = worths.iter().copied().fold(0, u64::saturating_add);
    let mut taken: Vec<bool> = Vec::new();
    let mut sum: u64 = 0;
    let mut best: Option<(u64, Vec<bool>)> = None;
    for _ in 0..TRIES {
        let excess = sum.checked_sub(wanted);
        if let Some(excess) = excess.filter(|excess| *excess <= window) {
            if best.as_ref().is_none_or(|(least, _)| excess < *least) {
                best = Some((excess, taken.clone()));
            }
        }
        let next = worths.get(taken.len());
        let (Some(next), None, true) = (next, excess, sum.saturating_add(ahead) >= wanted) else {
            if !back(worths, &mut taken, &mut sum, &mut ahead) {
                break;
            }
            continue;
        };
        ahead = ahead.saturating_sub(*next);
        // A coin like the one that was just left out leads to the same sums.
        let before = taken.len().checked_sub(1);
        let same = before.is_some_and(|at| worths.get(at) == Some(next));
        let take = !(same && taken.last() == Some(&false));
        sum = sum.saturating_add(if take { *next } else { 0 });
        taken.push(take);
    }
    best.map(|(_, taken)| taken)
}

/// Leaves out the last coin that was taken; false when every set was tried.
fn back(worths: &[u64], taken: &mut Vec<bool>, sum: &mut u64, ahead: &mut u64) -> bool {
    while let Some(took) = taken.pop() {
        let worth = worths.get(taken.len()).copied().unwrap_or(0);
        if took {
            *sum = sum.saturating_sub(worth);
            taken.push(false);
            return true;
        }
        *ahead = ahead.saturating_add(worth);
    }
    false
}

/// A coin's place in the order of the lot.
fn drawn(lot: u64, outpoint: OutPoint) -> sha256::Hash {
    let mut engine = sha256::Hash::engine();
    engine.input(&lot.to_be_bytes());
    engine.input(outpoint.txid.as_byte_array());
    engine.input(&outpoint.vout.to_be_bytes());
    sha256::Hash::from_engine(engine)
}

/// What coins are worth.
pub(super) fn sum(coins: &[Coin]) -> Sat {
    coins.iter().map(Coin::value).fold(Sat::ZERO, Sat::saturating_add)
}

/// The weight of the signed transaction, in weight units.
fn weight(coins: &[Coin], outputs: &[TxOut], change: bool) -> u64 {
    // Version, lock time, segwit marker and flag.
    const FIXED: u64 = 4 * (4 + 4) + 2;
    let count = |number: usize| (VarInt::from(number).size() as u64).saturating_mul(4);
    let number = outputs.len().saturating_add(usize::from(change));
    let counts = [count(coins.len()), count(number)];
    let pays = outputs.iter().map(|output| output.weight().to_wu());
    let parts = coins.iter().map(Coin::input_weight).chain(pays).chain(counts);
    let fixed = if change { FIXED + CHANGE_WEIGHT } else { FIXED };
    parts.fold(fixed, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::branch_and_bound;

    #[test]
    fn the_closest_set_is_found_or_none() {
        for (worths, wanted, window, sum) in [
            (vec![9, 7, 5, 3], 12, 0, Some(12)),
            (vec![9, 7, 5, 3], 13, 0, None),
            (vec![9, 7, 5, 3], 13, 1, Some(14)),
            (vec![9, 7, 5, 3], 24, 5, Some(24)),
            (vec![9, 7, 5, 3], 25, 5, None),
            (vec![5, 5, 5, 5, 1], 11, 3, Some(11)),
            (vec![], 1, 10, None),
            (vec![u64::MAX, u64::MAX], u64::MAX, 0, Some(u64::MAX)),
        ] {
            let taken = branch_and_bound(&worths, wanted, window);
            let of = |taken: Vec<bool>| {
                worths.iter().zip(taken).filter(|(_, taken)| *taken).map(|(worth, _)| *worth).sum()
            };
            assert_eq!(taken.map(of), sum, "{worths:?} {wanted} {window}");
        }
    }

    #[test]
    fn a_search_that_would_take_for_ever_ends() {
        // Odd numbers in pairs never sum up to an odd one and a half.
        let worths: Vec<u64> = (0..2_000).rev().map(|number| 1_000_000 + 2 * number).collect();
        assert_eq!(branch_and_bound(&worths, 500_000_001, 0), None);
    }
}
