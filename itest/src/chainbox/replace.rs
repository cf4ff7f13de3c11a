//! Replacing what waits: BIP 125's rules 2 to 5 as Core has them, signalled or not.

use std::collections::BTreeSet;

use bitcoin::Txid;
use fulmen_channel::amount::Sat;

use super::accept::Mode;
use super::mempool::{Entry, Mempool};
use super::policy::{PerKvb, RELAY_MINIMUM};
use super::reject::{money, Reject};

/// The most that one may drive out.
const MAX_REPLACED: usize = 100;

/// What `new`, which spends what `conflicts` spend, would drive out: nothing, or those and all
/// their descendants.
///
/// # Errors
/// When it does not pay enough for that, or breaks another rule.
pub fn check(
    new: &Entry,
    conflicts: &BTreeSet<Txid>,
    pool: &Mempool,
    mode: Mode,
) -> Result<BTreeSet<Txid>, Reject> {
    if conflicts.is_empty() || mode == Mode::Returning {
        return Ok(BTreeSet::new());
    }
    let gone = pool.with_descendants(conflicts.clone());
    let too_little = |details| Reject::detailed("insufficient fee", details);
    let named = format!("rejecting replacement {}", new.txid);
    let rate = PerKvb::of(new.fee, new.vsize);
    for old in conflicts.iter().filter_map(|txid| pool.get(txid)) {
        let old = PerKvb::of(old.fee, old.vsize);
        if rate <= old {
            let (new, old) = (btc_per_kvb(rate), btc_per_kvb(old));
            let details = format!("{named}; new feerate {new} <= old feerate {old}");
            return Err(too_little(details).unless_in_package());
        }
    }
    if gone.len() > MAX_REPLACED {
        let details =
            format!("{named}; too many potential replacements ({} > {MAX_REPLACED})", gone.len());
        return Err(Reject::detailed("too many potential replacements", details));
    }
    let old_parents: BTreeSet<Txid> = conflicts
        .iter()
        .filter_map(|txid| pool.get(txid))
        .flat_map(|old| pool.parents(&old.tx))
        .collect();
    if let Some(number) = new.tx.input.iter().position(|input| {
        let parent = input.previous_output.txid;
        pool.get(&parent).is_some() && !old_parents.contains(&parent)
    }) {
        let details = format!("replacement {} adds unconfirmed input, idx {number}", new.txid);
        return Err(Reject::detailed("replacement-adds-unconfirmed", details));
    }
    let old = pool.sum(&gone).fee;
    if new.fee < old {
        let (new, old) = (money(new.fee), money(old));
        let details = format!("{named}, less fees than conflicting txs; {new} < {old}");
        return Err(too_little(details).unless_in_package());
    }
    let (more, least) = (new.fee.saturating_sub(old), RELAY_MINIMUM.fee(new.vsize));
    if more < least {
        let (more, least) = (money(more), money(least));
        let details = format!("{named}, not enough additional fees to relay; {more} < {least}");
        return Err(too_little(details).unless_in_package());
    }
    Ok(gone)
}

fn btc_per_kvb(rate: PerKvb) -> String {
    format!("{} BTC/kvB", money(Sat::new(rate.sat_per_kvb())))
}
