//! One transaction for a batch of claims: which coins of the wallet pay, what is left over.
//!
//! ```text
//!   HT, HE with anchors     input i ─▶ output i, as the peer signed it; coins ─▶ fee, change
//!   an anchor               330 sat and coins ─▶ fee, change; pays for its commitment too
//!   everything else         all inputs ─▶ fee, and one output of the wallet's
//! ```

use super::plan::Waits;
use super::version::Lent;
use super::wanted::{Parent, Wanted};
use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{ScriptBuf, Sequence, Transaction, TxIn, TxOut, VarInt, WPubkeyHash, Witness};
use fulmen_channel::amount::{FeeratePerKw, Height, Sat};
use fulmen_channel::onchain::claim::Pays;
use fulmen_channel::transactions::weight::dust_threshold;
use std::cmp::Reverse;

/// What a transaction may and must pay.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The feerate that it should have, together with its parent.
    pub rate: FeeratePerKw,
    /// What it must pay beside a further 1 sat/vB of its own: the fee of what it replaces
    /// (BIP 125, rules 3 and 4).
    pub replaces: Option<Sat>,
    /// What it must pay at least, whatever it weighs.
    pub at_least: Sat,
    /// What it may pay at most.
    pub budget: Sat,
    /// The commitment that it pays for.
    pub parent: Option<&'a Parent>,
}

impl Terms<'_> {
    /// The fee of so much weight.
    fn fee(&self, weight: u64) -> Sat {
        let wanted = match self.parent {
            Some(parent) => {
                let both = self.rate.fee(weight.saturating_add(parent.weight()));
                both.saturating_sub(parent.fee)
            }
            None => self.rate.fee(weight),
        };
        wanted.max(self.least(weight)).min(self.budget.max(self.least(weight)))
    }

    /// The least that the mempool takes.
    fn least(&self, weight: u64) -> Sat {
        let relay = FeeratePerKw::FLOOR.fee(weight);
        let replaces = self.replaces.map_or(relay, |fee| fee.saturating_add(relay));
        replaces.max(self.at_least)
    }
}

/// A transaction, unsigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// It; what is left over pays to [`nowhere`] until the wallet gives it a script.
    pub tx: Transaction,
    /// What it pays.
    pub fee: Sat,
    /// Its weight with the longest signatures.
    pub weight: u64,
    /// The wallet's coins in it.
    pub coins: Vec<Lent>,
    /// Which output is what is left over.
    pub rest: Option<u32>,
}

/// A script as long as the wallet's, for what has no script yet.
pub fn nowhere() -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&WPubkeyHash::all_zeros())
}

/// A transaction that takes `claims`. `held` are the coins of the version that it replaces, `free`
/// those that may be added.
///
/// # Errors
/// [`Waits`] says what it waits for.
pub fn build(
    claims: &[&Wanted],
    terms: Terms,
    held: &[Lent],
    free: &[Lent],
) -> Result<Built, Waits> {
    if let [wanted] = claims {
        if let Pays::Only(output) = &wanted.claim.pays {
            return Ok(as_it_is(wanted, output));
        }
    }
    let draft = Draft { claims, terms };
    let mut coins = held.to_vec();
    if let Some(built) = draft.settle(&coins) {
        return draft.affordable(built);
    }
    if !draft.needs_coins() {
        return Err(Waits::Uneconomic(terms.rate));
    }
    let mut free: Vec<&Lent> = free.iter().collect();
    free.sort_by_key(|coin| (Reverse(coin.confirmed), coin.value, coin.outpoint));
    let enough = free.iter().filter(|coin| coin.confirmed).find_map(|coin| {
        let coins: Vec<Lent> = coins.iter().cloned().chain([(*coin).clone()]).collect();
        draft.settle(&coins)
    });
    if let Some(built) = enough {
        return draft.affordable(built);
    }
    free.sort_by_key(|coin| (Reverse(coin.confirmed), Reverse(coin.value), coin.outpoint));
    for coin in free {
        coins.push(coin.clone());
        if let Some(built) = draft.settle(&coins) {
            return draft.affordable(built);
        }
    }
    match draft.all_in(&coins) {
        Some(built) => draft.affordable(built),
        None => Err(Waits::Coins(draft.missing(&coins))),
    }
}

/// What the peer signed, and nothing else.
fn as_it_is(wanted: &Wanted, output: &TxOut) -> Built {
    let mut tx = empty(wanted.claim.spend.lock_time);
    tx.input.push(wanted.claim.spend.input());
    tx.output.push(output.clone());
    let fee = wanted.claim.spend.value().saturating_sub(output.value.into());
    let witness = wanted.claim.spend.weight();
    let weight = frame(1, 1).saturating_add(witness).saturating_add(output.weight().to_wu());
    Built { tx, fee, weight, coins: Vec::new(), rest: None }
}

struct Draft<'a> {
    claims: &'a [&'a Wanted],
    terms: Terms<'a>,
}

impl Draft<'_> {
    /// The outputs that peers' signatures ask for.
    fn fixed(&self) -> Vec<TxOut> {
        let beside = |wanted: &&Wanted| match &wanted.claim.pays {
            Pays::Beside(output) => Some(output.clone()),
            Pays::Anything | Pays::Only(_) => None,
        };
        self.claims.iter().filter_map(beside).collect()
    }

    /// Whether the fee is not to come from the claims.
    fn needs_coins(&self) -> bool {
        self.claims.iter().any(|wanted| wanted.lacks_fee())
    }

    fn settle(&self, coins: &[Lent]) -> Option<Built> {
        let fixed = self.fixed();
        let rest = self.income(coins).checked_sub(sum(fixed.iter().map(|o| o.value.into())))?;
        let script = nowhere();
        let with = self.weight(coins, &fixed, true);
        let left = rest.checked_sub(self.terms.fee(with));
        if let Some(value) = left.filter(|left| *left >= dust_threshold(&script)) {
            let place = u32::try_from(fixed.len()).ok();
            let value = value.to_amount();
            let outputs = fixed.into_iter().chain([TxOut { value, script_pubkey: script }]);
            return Some(self.built(coins, outputs.collect(), (self.terms.fee(with), with), place));
        }
        let without = self.weight(coins, &fixed, false);
        let pays = !fixed.is_empty() && rest >= self.terms.fee(without);
        pays.then(|| self.built(coins, fixed, (rest, without), None))
    }

    /// All that the coins are worth, where that is less than wanted but more than nothing.
    fn all_in(&self, coins: &[Lent]) -> Option<Built> {
        let fixed = self.fixed();
        let rest = self.income(coins).checked_sub(sum(fixed.iter().map(|o| o.value.into())))?;
        let weight = self.weight(coins, &fixed, fixed.is_empty());
        let script_pubkey = nowhere();
        let dust = dust_threshold(&script_pubkey);
        let (fee, outputs, place) = match fixed.is_empty() {
            false => (rest, fixed, None),
            true => {
                let output = TxOut { value: dust.to_amount(), script_pubkey };
                (rest.checked_sub(dust)?, vec![output], Some(0))
            }
        };
        let pays = !coins.is_empty() && fee >= self.terms.least(weight);
        pays.then(|| self.built(coins, outputs, (fee, weight), place))
    }

    fn built(
        &self,
        coins: &[Lent],
        output: Vec<TxOut>,
        (fee, weight): (Sat, u64),
        rest: Option<u32>,
    ) -> Built {
        let lock_time = self.claims.iter().map(|wanted| wanted.claim.spend.lock_time).max();
        let mut tx = empty(lock_time.unwrap_or_default());
        tx.input = self.claims.iter().map(|wanted| wanted.claim.spend.input()).collect();
        tx.input.extend(coins.iter().map(|coin| TxIn {
            previous_output: coin.outpoint,
            script_sig: coin.script_sig.clone(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::new(),
        }));
        tx.output = output;
        Built { tx, fee, weight, coins: coins.to_vec(), rest }
    }

    /// The same, unless it costs more than may be paid.
    fn affordable(&self, built: Built) -> Result<Built, Waits> {
        match self.terms.fee(built.weight) > self.terms.budget {
            true => Err(Waits::Uneconomic(self.terms.rate)),
            false => Ok(built),
        }
    }

    fn income(&self, coins: &[Lent]) -> Sat {
        let claims = self.claims.iter().map(|wanted| wanted.claim.spend.value());
        sum(claims.chain(coins.iter().map(|coin| coin.value)))
    }

    /// What the wallet would have to have beside.
    fn missing(&self, coins: &[Lent]) -> Sat {
        let fixed = self.fixed();
        let needs = self.terms.fee(self.weight(coins, &fixed, true));
        let pays = sum(fixed.iter().map(|output| output.value.into()));
        needs.saturating_add(pays).saturating_sub(self.income(coins))
    }

    fn weight(&self, coins: &[Lent], fixed: &[TxOut], rest: bool) -> u64 {
        let inputs = self.claims.len().saturating_add(coins.len());
        let outputs = fixed.len().saturating_add(usize::from(rest));
        let value = bitcoin::Amount::ZERO;
        let ours = rest.then(|| TxOut { value, script_pubkey: nowhere() });
        let claims = self.claims.iter().map(|wanted| wanted.claim.spend.weight());
        let coins = coins.iter().map(|coin| coin.weight);
        let pays = fixed.iter().chain(&ours).map(|output| output.weight().to_wu());
        let parts = claims.chain(coins).chain(pays);
        parts.fold(frame(inputs, outputs), u64::saturating_add)
    }
}

/// The weight of what is neither input nor output.
fn frame(inputs: usize, outputs: usize) -> u64 {
    const VERSION_LOCK_TIME_MARKER_FLAG: u64 = 4 * (4 + 4) + 2;
    let count = |number: usize| (VarInt::from(number).size() as u64).saturating_mul(4);
    VERSION_LOCK_TIME_MARKER_FLAG.saturating_add(count(inputs)).saturating_add(count(outputs))
}

fn empty(lock_time: Height) -> Transaction {
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::from_consensus(lock_time.number()),
        input: Vec::new(),
        output: Vec::new(),
    }
}

fn sum(values: impl Iterator<Item = Sat>) -> Sat {
    values.fold(Sat::ZERO, Sat::saturating_add)
}
