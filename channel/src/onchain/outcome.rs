//! How each output of a commitment that could be ours ended: what a closed channel's history shows.

use super::published::{Role, Whose};
use super::resolution::{Resolution, SecondStage, Taken};
use crate::amount::Sat;
use crate::params::Side;
use crate::transactions::commitment::HtlcRef;
use bitcoin::{OutPoint, Txid};

/// What an output was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Our balance, or a cheater's that is ours.
    Balance,
    /// Our anchor.
    Anchor,
    /// An HTLC that the peer offered.
    Incoming,
    /// An HTLC that we offered.
    Outgoing,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By who may take it in the end: with the preimage, if it is an HTLC's.
    Claimed,
    /// Nobody took it.
    Unclaimed,
    /// By our HT or HE, whose own output is the next one to take.
    FirstStage,
    /// By who had offered it, after its expiry.
    TimedOut,
}

/// An output and how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What it was for.
    pub what: What,
    /// How it ended.
    pub ended: Ended,
    /// The output: the commitment's, or a second stage's.
    pub outpoint: OutPoint,
    /// What it held.
    pub value: Sat,
    /// What took it.
    pub taken_by: Option<Txid>,
}

impl Resolution {
    /// How outputs ended, of the commitment in their order and then of second stages. What is the
    /// peer's anyway is left out.
    pub fn outcomes(&self) -> Vec<Outcome> {
        let first = self.published.outputs.iter().filter_map(|(place, (value, role))| {
            let outpoint = self.published.outpoint(*place);
            let (what, ended) = self.ended(role, self.taken.get(&outpoint))?;
            Some(self.outcome(what, ended, outpoint, *value))
        });
        let second = self.second.iter().filter_map(|(outpoint, stage)| {
            let (what, ended) = self.second_ended(stage, self.taken.contains_key(outpoint))?;
            Some(self.outcome(what, ended, *outpoint, stage.value))
        });
        first.chain(second).collect()
    }

    fn outcome(&self, what: What, ended: Ended, outpoint: OutPoint, value: Sat) -> Outcome {
        let taken_by = self.taken.get(&outpoint).map(|taken| taken.txid);
        Outcome { what, ended, outpoint, value, taken_by }
    }

    fn ended(&self, role: &Role, taken: Option<&Taken>) -> Option<(What, Ended)> {
        let claimed = if taken.is_some() { Ended::Claimed } else { Ended::Unclaimed };
        let whose = self.published.whose;
        match (role, whose) {
            (Role::ToLocal, Whose::Local(_) | Whose::Revoked(_))
            | (Role::ToRemote, Whose::Remote | Whose::Revoked(_) | Whose::Newer) => {
                Some((What::Balance, claimed))
            }
            (Role::Anchor(Side::Local), _) => Some((What::Anchor, claimed)),
            (Role::Htlc(tag, _, _), _) => Some((what_of(*tag), self.htlc_ended(*tag, taken))),
            _ => None,
        }
    }

    fn htlc_ended(&self, tag: HtlcRef, taken: Option<&Taken>) -> Ended {
        let Some(taken) = taken else { return Ended::Unclaimed };
        let by_preimage = taken.preimage.is_some();
        // We take what we offered by its expiry, and what the peer offered by its preimage.
        let by_us = by_preimage == (tag.0 == Side::Remote);
        match self.published.whose {
            Whose::Local(_) if by_us => Ended::FirstStage,
            Whose::Revoked(_) => Ended::Claimed,
            _ if by_preimage => Ended::Claimed,
            _ => Ended::TimedOut,
        }
    }

    fn second_ended(&self, stage: &SecondStage, taken: bool) -> Option<(What, Ended)> {
        let what = what_of(stage.htlc?);
        let ended = match (self.published.whose, taken) {
            (Whose::Remote | Whose::Newer, _) => return None,
            (_, false) => Ended::Unclaimed,
            (Whose::Local(_), true) if what == What::Outgoing => Ended::TimedOut,
            (_, true) => Ended::Claimed,
        };
        Some((what, ended))
    }
}

fn what_of(htlc: HtlcRef) -> What {
    match htlc.0 {
        Side::Local => What::Outgoing,
        Side::Remote => What::Incoming,
    }
}
