//! One parent and one child handed in together, where the child may pay for both.

use bitcoin::{Transaction, Txid};

use super::accept::{Candidate, Mode, World};
use super::policy::{PerKvb, RELAY_MINIMUM};
use super::reject::Reject;

/// What may enter of a package, in order, and why the rest may not.
#[derive(Debug, Default)]
pub struct Judged {
    /// Those that may enter, parent first.
    pub accepted: Vec<Candidate>,
    /// Those that may not.
    pub refused: Vec<(Txid, Reject)>,
    /// The feerate of those that were judged together.
    pub together: Option<PerKvb>,
}

/// The form of a package: one parent, and a child that spends from it.
///
/// # Errors
/// Core's reasons.
pub fn check_form(package: &[Transaction]) -> Result<(&Transaction, &Transaction), Reject> {
    let [parent, child] = package else {
        return Err(Reject::detailed("package-not-child-with-parents", "one parent and one child"));
    };
    let txid = parent.compute_txid();
    if txid == child.compute_txid() {
        return Err(Reject::new("package-contains-duplicates"));
    }
    if !child.input.iter().any(|input| input.previous_output.txid == txid) {
        let sorted =
            parent.input.iter().all(|input| input.previous_output.txid != child.compute_txid());
        let why = if sorted { "package-not-child-with-parents" } else { "package-not-sorted" };
        return Err(Reject::new(why));
    }
    Ok((parent, child))
}

/// Judges each alone, and both together where only its fee keeps the parent out. Replacements are
/// judged one by one.
pub fn judge(world: &World, parent: &Transaction, child: &Transaction) -> Judged {
    let mut judged = Judged::default();
    let txid = parent.compute_txid();
    let mut pool = world.pool.clone();
    let known = pool.get(&txid).is_some();
    match world.judge(parent, Mode::Alone) {
        Ok(first) => {
            pool.remove(&first.replaces);
            pool.insert(first.entry.clone());
            judged.accepted.push(first);
        }
        Err(_) if known => {}
        Err(why) if why.may_be_mended() => return judge_both(world, parent, child, why),
        Err(why) => judged.refused.push((txid, why)),
    }
    match (World { pool: &pool, ..*world }).judge(child, Mode::Alone) {
        Ok(second) => judged.accepted.push(second),
        Err(_) if world.pool.get(&child.compute_txid()).is_some() => {}
        Err(why) => judged.refused.push((child.compute_txid(), why)),
    }
    judged
}

/// The child must pay for both what the parent alone does not: `why`.
fn judge_both(world: &World, parent: &Transaction, child: &Transaction, why: Reject) -> Judged {
    let refuse = |txid: Txid, why| Judged { refused: vec![(txid, why)], ..Judged::default() };
    let first = match world.judge(parent, Mode::Package) {
        Ok(first) => first,
        Err(_) => return refuse(parent.compute_txid(), why),
    };
    let mut pool = world.pool.clone();
    pool.remove(&first.replaces);
    pool.insert(first.entry.clone());
    let second = match (World { pool: &pool, ..*world }).judge(child, Mode::Package) {
        Ok(second) => second,
        Err(why) => return refuse(child.compute_txid(), why),
    };
    let vsize = first.entry.vsize.saturating_add(second.entry.vsize);
    let fee = first.entry.fee.saturating_add(second.entry.fee);
    let least = RELAY_MINIMUM.max(world.pool.minimum).fee(vsize);
    if fee < least {
        let name = if fee < RELAY_MINIMUM.fee(vsize) { "min relay" } else { "mempool min" };
        let why = Reject::detailed(
            &format!("{name} fee not met"),
            format!("{} < {}", fee.sat(), least.sat()),
        );
        let refused = vec![(first.entry.txid, why.clone()), (second.entry.txid, why)];
        return Judged { refused, ..Judged::default() };
    }
    let together = Some(PerKvb::of(fee, vsize));
    Judged { accepted: vec![first, second], refused: Vec::new(), together }
}
