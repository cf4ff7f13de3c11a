//! What a commitment holds: two base balances and a fold of the live logs (BOLT 3, commitment
//! outputs). Nothing here is ever mutated.

use super::commitments::Commitments;
use super::htlc::{Htlc, Presence, Removal, Stage, Step};
use crate::amount::{FeeratePerKw, Msat};
use crate::params::Side;
use serde::{Deserialize, Serialize};

/// What belongs to each side, before fees and anchors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balances {
    /// Ours.
    pub local: Msat,
    /// The peer's.
    pub remote: Msat,
}

impl Balances {
    /// What `side` has.
    pub fn of(&self, side: Side) -> Msat {
        match side {
            Side::Local => self.local,
            Side::Remote => self.remote,
        }
    }
    fn of_mut(&mut self, side: Side) -> &mut Msat {
        match side {
            Side::Local => &mut self.local,
            Side::Remote => &mut self.remote,
        }
    }
}

/// What HTLCs do to the balances. Summed up first and applied as one: what a fulfilled HTLC brings
/// in may already be on its way out again in the next.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Movements {
    incoming: Balances,
    outgoing: Balances,
}

impl Movements {
    /// An HTLC that is still there: its value is nobody's.
    fn hold(&mut self, offerer: Side, htlc: &Htlc) {
        let outgoing = self.outgoing.of_mut(offerer);
        *outgoing = outgoing.saturating_add(htlc.amount);
    }
    /// An HTLC that is over: its value moves if it was fulfilled.
    pub fn settle(&mut self, offerer: Side, htlc: &Htlc) {
        if let Some(Removal::Fulfilled(_)) = htlc.removal {
            self.hold(offerer, htlc);
            let incoming = self.incoming.of_mut(offerer.other());
            *incoming = incoming.saturating_add(htlc.amount);
        }
    }
    /// The balances after these movements. That they suffice was checked when the HTLC was taken.
    pub fn applied_to(&self, base: Balances) -> Balances {
        let after = |base: Msat, incoming: Msat, outgoing| {
            base.saturating_add(incoming).saturating_sub(outgoing)
        };
        Balances {
            local: after(base.local, self.incoming.local, self.outgoing.local),
            remote: after(base.remote, self.incoming.remote, self.outgoing.remote),
        }
    }
}

/// Which state of a commitment is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// As signed before that. Only of the peer's, and only as long as it has not revoked it: what
    /// would undo the last signature is not kept any longer.
    Before,
    /// As last signed.
    Signed,
    /// As it would be if it were signed now.
    Next,
}

/// A commitment's content, seen from its contract: balances, feerate and live HTLCs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Balances with the HTLCs' value taken out.
    pub balances: Balances,
    /// The commitment feerate.
    pub feerate: FeeratePerKw,
    /// HTLCs on it: offerer, id.
    pub htlcs: Vec<(Side, u64, Htlc)>,
}

impl Content {
    /// Offerer and amount of each HTLC.
    pub fn amounts(&self) -> impl Iterator<Item = (Side, Msat)> + '_ {
        self.htlcs.iter().map(|(by, _, htlc)| (*by, htlc.amount))
    }
}

impl Commitments {
    /// The content of `holder`'s commitment.
    pub fn content(&self, holder: Side, view: View) -> Content {
        let stage_in = |stage: Stage, offerer: Side| match view {
            View::Before => stage.before(Step::Signs(holder.other()), offerer),
            View::Signed => stage,
            View::Next => stage.after(Step::Signs(holder.other()), offerer),
        };
        let mut movements = Movements::default();
        let mut htlcs = Vec::new();
        for (&(offerer, id), htlc) in &self.htlcs {
            match stage_in(htlc.stage, offerer).on_commitment(holder, offerer) {
                Presence::NotYet => {}
                Presence::Present => {
                    movements.hold(offerer, htlc);
                    htlcs.push((offerer, id, htlc.clone()));
                }
                Presence::Removed => movements.settle(offerer, htlc),
            }
        }
        let funder = self.params.funder;
        let on_it = |stage| stage_in(stage, funder).on_commitment(holder, funder);
        let feerate = self.state.fees.iter().rev().find(|f| on_it(f.stage) == Presence::Present);
        let feerate = feerate.map(|f| f.feerate).unwrap_or(FeeratePerKw::FLOOR);
        Content { balances: movements.applied_to(self.state.base), feerate, htlcs }
    }
}

/// The value of HTLCs offered by `offerer` among `htlcs`, and their number.
pub fn in_flight(content: &Content, offerer: Side) -> (Msat, usize) {
    let of_side = || content.htlcs.iter().filter(|(by, _, _)| *by == offerer);
    let value = of_side().fold(Msat::ZERO, |sum, (_, _, htlc)| sum.saturating_add(htlc.amount));
    (value, of_side().count())
}
