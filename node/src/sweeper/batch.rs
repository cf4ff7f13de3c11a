//! Which claims go into one transaction.
//!
//! ```text
//!   nobody else's, no hurry    D RD HTRD HERD of all channels           together
//!   theirs with a preimage     HTD; HT of one lock time                 together
//!   theirs from a height on    HE HED HBR HTBR HEBR, like deadlines     together until it is near
//!   near its deadline, BR, a commitment's anchor, by order, refused     alone
//! ```
//!
//! Whoever can spend one input of a transaction can hold up all of it. So what is ours alone is
//! never mixed with what others may take, near a deadline each claim stands for itself, and so does
//! what bitcoind would not take together with others: one of them is held up.

use super::budget::left;
use super::wanted::Wanted;
use crate::chain::Target;
use fulmen_channel::amount::Height;
use fulmen_channel::onchain::claim::{Name, Pays};

/// Deadlines that are so many blocks apart are alike.
pub const LIKE: u32 = 12;
/// So many blocks before its deadline a claim is alone.
pub const NEAR: u32 = 6;
/// The most claims in one transaction, far below what is relayed.
pub const MOST: usize = 50;

/// Whether `wanted` must be in a transaction of its own.
pub fn alone(wanted: &Wanted, height: Height) -> bool {
    let near = wanted.deadline().is_some_and(|deadline| left(height, deadline) <= NEAR);
    let named = matches!(wanted.claim.name, Name::BR | Name::Anchor);
    let told = wanted.order.feerate.is_some() || wanted.refused.is_some();
    near || named || told || wanted.is_fixed()
}

/// What claims have in common that may be together.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Kind {
    /// The lock time that the peer's signature asks for.
    lock_time: Option<Height>,
    /// How soon, without a deadline.
    leisure: Option<Target>,
    /// The earliest deadline.
    deadline: Option<Height>,
}

impl Kind {
    fn of(wanted: &Wanted) -> Kind {
        let lock_time = match wanted.claim.pays {
            Pays::Beside(_) | Pays::Only(_) => Some(wanted.claim.spend.lock_time),
            Pays::Anything => None,
        };
        let deadline = wanted.deadline();
        let leisure = deadline.is_none().then(|| wanted.leisure());
        Kind { lock_time, leisure, deadline }
    }

    /// Whether `other`, whose deadline is no earlier, may go with it.
    fn takes(&self, other: &Kind) -> bool {
        let like = match (self.deadline, other.deadline) {
            (Some(first), Some(other)) => other <= first.plus(LIKE),
            (first, other) => first == other,
        };
        self.lock_time == other.lock_time && self.leisure == other.leisure && like
    }
}

/// Puts claims together, the best block being `height`.
pub fn together<'a>(
    claims: impl IntoIterator<Item = &'a Wanted>,
    height: Height,
) -> Vec<Vec<&'a Wanted>> {
    let mut claims: Vec<&Wanted> = claims.into_iter().collect();
    claims.sort_by_key(|wanted| (wanted.deadline(), wanted.outpoint()));
    let mut batches: Vec<(Option<Kind>, Vec<&Wanted>)> = Vec::new();
    for wanted in claims {
        let kind = (!alone(wanted, height)).then(|| Kind::of(wanted));
        let fits = |(of, batch): &&mut (Option<Kind>, Vec<&Wanted>)| {
            let takes = of.zip(kind).is_some_and(|(of, kind)| of.takes(&kind));
            takes && batch.len() < MOST
        };
        match batches.iter_mut().find(fits) {
            Some((_, batch)) => batch.push(wanted),
            None => batches.push((kind, vec![wanted])),
        }
    }
    batches.into_iter().map(|(_, batch)| batch).collect()
}
