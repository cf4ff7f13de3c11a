//! BIP 431: transactions of version 3 stay in pairs, a parent and a small child.

use std::collections::BTreeSet;

use bitcoin::Txid;

use super::mempool::{Entry, Mempool};
use super::reject::Reject;

/// The version that asks for these rules.
pub const VERSION: i32 = 3;
const MAX_VSIZE: u64 = 10_000;
const MAX_CHILD_VSIZE: u64 = 1_000;

/// Whether a new transaction keeps the rules beside those that wait. Siblings are not evicted.
///
/// # Errors
/// `TRUC-violation`, with what it would break.
pub fn check(
    new: &Entry,
    conflicts: &BTreeSet<Txid>,
    ancestors: &BTreeSet<Txid>,
    pool: &Mempool,
) -> Result<(), Reject> {
    let is_truc = |entry: &Entry| entry.tx.version.0 == VERSION;
    let refuse = |details: String| Err(Reject::detailed("TRUC-violation", details));
    let tx = format!("tx {} (wtxid={})", new.txid, new.wtxid);
    let parents = pool.parents(&new.tx);
    for parent in parents.iter().filter_map(|txid| pool.get(txid)) {
        let from = format!("tx {} (wtxid={})", parent.txid, parent.wtxid);
        match (is_truc(new), is_truc(parent)) {
            (true, false) => {
                return refuse(format!("version=3 {tx} cannot spend from non-version=3 {from}"))
            }
            (false, true) => {
                return refuse(format!("non-version=3 {tx} cannot spend from version=3 {from}"))
            }
            _ => {}
        }
    }
    if !is_truc(new) {
        return Ok(());
    }
    if new.vsize > MAX_VSIZE {
        let size = new.vsize;
        return refuse(format!("version=3 {tx} is too big: {size} > {MAX_VSIZE} virtual bytes"));
    }
    let Some(parent) = parents.first() else { return Ok(()) };
    if ancestors.len() > 1 {
        return refuse(format!("{tx} would have too many ancestors"));
    }
    if new.vsize > MAX_CHILD_VSIZE {
        let size = new.vsize;
        let what = "version=3 child";
        return refuse(format!("{what} {tx} is too big: {size} > {MAX_CHILD_VSIZE} virtual bytes"));
    }
    let siblings = pool.children(parent);
    if siblings.difference(conflicts).next().is_some() {
        return refuse(format!("tx {parent} would exceed descendant count limit"));
    }
    Ok(())
}
