//! What is to be taken, and what the operator says about it.

use super::budget::budget;
use crate::chain::Target;
use bitcoin::{OutPoint, Transaction, Txid};
use fulmen_channel::amount::{FeeratePerKw, Height, Sat};
use fulmen_channel::onchain::claim::{Claim, Name, Pays};

/// What the operator says about one claim; what is not said is decided by the sweeper.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// The most that may be paid.
    pub budget: Option<Sat>,
    /// The feerate to begin with.
    pub feerate: Option<FeeratePerKw>,
    /// It is to be in a block before this one.
    pub deadline: Option<Height>,
    /// Asked for at once.
    pub immediate: bool,
}

/// A commitment of ours that waits for a block, and whose anchor may pay for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The commitment, signed.
    pub tx: Transaction,
    /// What it pays itself.
    pub fee: Sat,
}

impl Parent {
    /// Its weight.
    pub fn weight(&self) -> u64 {
        self.tx.weight().to_wu()
    }

    /// Its id.
    pub fn txid(&self) -> Txid {
        self.tx.compute_txid()
    }
}

/// A claim of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The channel's number.
    pub channel: u64,
    /// The claim.
    pub claim: Claim,
    /// What is lost without it, at its deadline if it has one.
    pub at_risk: Sat,
    /// What only waits as long as it does: of a commitment.
    pub patient: Sat,
    /// For an anchor of a commitment that no block holds.
    pub parent: Option<Parent>,
    /// What the operator says.
    pub order: Order,
    /// Since the last block bitcoind refused it: alone it must pay this much at least.
    pub refused: Option<Sat>,
}

/// How long the feerate of a claim rises that races from the start: what was late when we came to
/// it, and HBR. Who loses that race has the second stage to take, so it is no deadline.
const RACE: u32 = 12;

impl Wanted {
    /// A claim whose value is what is lost without it. Who loses the race for HBR takes the second
    /// stage instead: a cheater who bids for show must not have us burn half of each HTLC.
    pub fn new(channel: u64, claim: Claim) -> Self {
        let value = claim.spend.value();
        let at_risk = match claim.name {
            Name::HBR => Sat::new(value.sat() / 5),
            _ => value,
        };
        let (patient, parent, order, refused) = Default::default();
        Wanted { channel, claim, at_risk, patient, parent, order, refused }
    }

    /// What it spends.
    pub fn outpoint(&self) -> OutPoint {
        self.claim.spend.outpoint
    }

    /// The most that may be paid for it.
    pub fn budget(&self) -> Sat {
        self.order.budget.unwrap_or_else(|| budget(self.at_risk.max(self.patient)))
    }

    /// The most that may be paid for it to be there before its deadline.
    pub(super) fn urgent_budget(&self) -> Sat {
        self.order.budget.unwrap_or_else(|| budget(self.at_risk))
    }

    /// The most that may be paid for what only waits.
    pub(super) fn patient_budget(&self) -> Sat {
        budget(self.patient)
    }

    /// The first block in which it may be too late.
    pub fn deadline(&self) -> Option<Height> {
        self.order.deadline.or(self.claim.until)
    }

    /// The end of the curve that began with the best block `since`.
    pub(super) fn horizon(&self, since: Height) -> Option<Height> {
        let deadline = self.deadline()?;
        // What is late already is a race too: whoever is first has it, and nobody may want it.
        let late = deadline <= since.plus(2);
        let races = self.claim.name == Name::HBR && self.order.deadline.is_none();
        Some(if races || late { deadline.max(since.plus(RACE)) } else { deadline })
    }

    /// How soon it should confirm where there is no deadline. What the peer may take too, with a
    /// preimage, is not left lying for a day; nor is a commitment.
    pub(super) fn leisure(&self) -> Target {
        match self.claim.name {
            Name::HT | Name::HTD => Target::Normal,
            Name::Anchor if self.parent.is_some() => Target::Normal,
            _ => Target::Background,
        }
    }

    /// Whether its fee comes from the wallet.
    pub(super) fn lacks_fee(&self) -> bool {
        matches!(self.claim.pays, Pays::Beside(_)) || self.parent.is_some()
    }

    /// Whether it is published as the peer signed it, at the feerate of its commitment.
    pub fn is_fixed(&self) -> bool {
        matches!(self.claim.pays, Pays::Only(_))
    }
}
