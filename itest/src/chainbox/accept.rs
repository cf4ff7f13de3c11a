//! Whether the mempool takes a transaction: Core's checks in Core's order.

use std::collections::BTreeSet;
use std::sync::Arc;

use bitcoin::{OutPoint, Transaction, TxOut, Txid};
use fulmen_channel::amount::{Height, Sat};

use super::chain::Chain;
use super::consensus::{self, Coin};
use super::mempool::{Entry, Mempool};
use super::policy::{self, RELAY_MINIMUM};
use super::reject::Reject;
use super::{replace, script, truc};

/// Transactions in a chain of unconfirmed ones, the new one included.
const MAX_CHAIN: usize = 25;
/// Their vbytes.
const MAX_CHAIN_VSIZE: u64 = 101_000;
/// A child of up to this many vbytes and one parent may be one descendant too many.
const CARVE_OUT: u64 = 10_000;

/// How strict to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As for one that comes alone.
    Alone,
    /// Beside another that may pay for it: the mempool's minimum is looked at for both together.
    Package,
    /// It was in a block that is gone: fees and limits do not matter.
    Returning,
}

/// One that may enter, and what it would drive out.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// It, as it would wait.
    pub entry: Entry,
    /// Those that it replaces, with their descendants.
    pub replaces: BTreeSet<Txid>,
}

/// The world that a transaction is judged in.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// The chain.
    pub chain: &'a Chain,
    /// The mempool.
    pub pool: &'a Mempool,
    /// The clock, in seconds since 1970.
    pub now: u64,
}

impl World<'_> {
    /// Judges a transaction.
    ///
    /// # Errors
    /// Core's reason why not.
    pub fn judge(&self, tx: &Transaction, mode: Mode) -> Result<Candidate, Reject> {
        let next = self.chain.height().plus(1);
        self.check_by_itself(tx, next)?;
        let spent = self.spent(tx, next)?;
        let median = self.chain.median_now();
        if !consensus::is_ripe(tx, &spent, next, median, |at| self.chain.median_at(at)) {
            return Err(Reject::new("non-BIP68-final"));
        }
        let fee = consensus::fee(tx, &spent, next)?;
        let outputs: Vec<TxOut> = spent.into_iter().map(|coin| coin.output).collect();
        let entry = self.entry(tx, &outputs, fee);
        policy::check_inputs(tx, &outputs, sigops(tx, &outputs))?;
        if mode != Mode::Returning {
            policy::check_dust(tx, fee)?;
            self.check_fee(&entry, mode)?;
        }
        let conflicts = self.conflicts(tx);
        let ancestors = self.pool.ancestors(tx);
        if mode != Mode::Returning {
            self.check_chain(&entry, &conflicts, &ancestors)?;
            truc::check(&entry, &conflicts, &ancestors, self.pool)?;
        }
        if let Some(both) = ancestors.intersection(&conflicts).next() {
            let details = format!("{} spends conflicting transaction {both}", entry.txid);
            return Err(Reject::detailed("bad-txns-spends-conflicting-tx", details));
        }
        let replaces = replace::check(&entry, &conflicts, self.pool, mode)?;
        policy::check_signatures(tx, &outputs)?;
        script::verify(tx, &outputs)?;
        Ok(Candidate { entry, replaces })
    }

    /// What can be said without its inputs.
    fn check_by_itself(&self, tx: &Transaction, next: Height) -> Result<(), Reject> {
        consensus::check_form(tx)?;
        if tx.is_coinbase() {
            return Err(Reject::new("coinbase"));
        }
        policy::check_form(tx)?;
        if !consensus::is_final(tx, next, self.chain.median_now()) {
            return Err(Reject::new("non-final"));
        }
        match self.pool.get(&tx.compute_txid()) {
            Some(known) if known.wtxid == tx.compute_wtxid() => {
                Err(Reject::new("txn-already-in-mempool"))
            }
            Some(_) => Err(Reject::new("txn-same-nonwitness-data-in-mempool")),
            None => Ok(()),
        }
    }

    /// The coins that it spends, of the chain or of the mempool.
    fn spent(&self, tx: &Transaction, next: Height) -> Result<Vec<Coin>, Reject> {
        let coin = |outpoint: &OutPoint| {
            self.chain.coin(outpoint).cloned().or_else(|| self.pool.coin(outpoint, next))
        };
        let spent = tx.input.iter().map(|input| coin(&input.previous_output));
        spent.collect::<Option<Vec<Coin>>>().ok_or_else(|| {
            let txid = tx.compute_txid();
            let made = (0_u32..).zip(&tx.output).map(|(vout, _)| OutPoint { txid, vout });
            match made.into_iter().any(|outpoint| self.chain.coin(&outpoint).is_some()) {
                true => Reject::new("txn-already-known"),
                false => Reject::missing(),
            }
        })
    }

    fn entry(&self, tx: &Transaction, outputs: &[TxOut], fee: Sat) -> Entry {
        Entry {
            tx: Arc::new(tx.clone()),
            txid: tx.compute_txid(),
            wtxid: tx.compute_wtxid(),
            fee,
            vsize: policy::vsize(tx, sigops(tx, outputs)),
            time: self.now,
            height: self.chain.height(),
            order: 0,
        }
    }

    fn check_fee(&self, entry: &Entry, mode: Mode) -> Result<(), Reject> {
        let too_low = |name, least: Sat| {
            Reject::detailed(name, format!("{} < {}", entry.fee.sat(), least.sat()))
        };
        let (relay, now) = (RELAY_MINIMUM.fee(entry.vsize), self.pool.minimum.fee(entry.vsize));
        let is_truc = entry.tx.version.0 == truc::VERSION;
        if entry.fee < relay && !(is_truc && mode == Mode::Package) {
            let reject = too_low("min relay fee not met", relay);
            // Of others no child can mend it: the child might be replaced away.
            return Err(if is_truc { reject.unless_in_package() } else { reject });
        }
        if entry.fee < now && mode != Mode::Package {
            return Err(too_low("mempool min fee not met", now).unless_in_package());
        }
        Ok(())
    }

    fn conflicts(&self, tx: &Transaction) -> BTreeSet<Txid> {
        tx.input.iter().filter_map(|input| self.pool.spender(&input.previous_output)).collect()
    }

    /// The limits on chains of unconfirmed transactions, with room for what is replaced.
    fn check_chain(
        &self,
        entry: &Entry,
        conflicts: &BTreeSet<Txid>,
        ancestors: &BTreeSet<Txid>,
    ) -> Result<(), Reject> {
        let room = match conflicts.first() {
            Some(only) if conflicts.len() == 1 => {
                (1, self.pool.get(only).map_or(0, |replaced| replaced.vsize))
            }
            _ => (0, 0),
        };
        let Err(why) = self.fits_chain(entry, ancestors, MAX_CHAIN, room) else { return Ok(()) };
        let carve_out = entry.vsize <= CARVE_OUT;
        if carve_out && self.fits_chain(entry, ancestors, 2, (1, CARVE_OUT)).is_ok() {
            return Ok(());
        }
        Err(Reject::detailed("too-long-mempool-chain", why))
    }

    /// At most `most` with its ancestors, and at most the limit and `room` with those of each.
    fn fits_chain(
        &self,
        entry: &Entry,
        ancestors: &BTreeSet<Txid>,
        most: usize,
        room: (usize, u64),
    ) -> Result<(), String> {
        let (count, vsize) =
            (MAX_CHAIN.saturating_add(room.0), MAX_CHAIN_VSIZE.saturating_add(room.1));
        let sum = self.pool.sum(ancestors);
        if sum.count.saturating_add(1) > most {
            return Err(format!("too many unconfirmed ancestors [limit: {most}]"));
        }
        for txid in ancestors {
            let sum = self.pool.sum(&self.pool.with_descendants(BTreeSet::from([*txid])));
            if sum.vsize.saturating_add(entry.vsize) > vsize {
                return Err(format!(
                    "exceeds descendant size limit for tx {txid} [limit: {vsize}]"
                ));
            }
            if sum.count.saturating_add(1) > count {
                return Err(format!("too many descendants for tx {txid} [limit: {count}]"));
            }
        }
        if sum.vsize.saturating_add(entry.vsize) > MAX_CHAIN_VSIZE {
            return Err(format!("exceeds ancestor size limit [limit: {MAX_CHAIN_VSIZE}]"));
        }
        Ok(())
    }
}

fn sigops(tx: &Transaction, spent: &[TxOut]) -> usize {
    let of = |outpoint: &OutPoint| {
        let number = tx.input.iter().position(|input| input.previous_output == *outpoint)?;
        spent.get(number).cloned()
    };
    tx.total_sigop_cost(of)
}
