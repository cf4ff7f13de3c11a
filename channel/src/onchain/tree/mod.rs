//! The tree of a channel's transactions under the paper's names: what is on chain, what could come,
//! who may spend what, from which height. A value to look at; it decides nothing.
//!
//! ```text
//!   F ─ 2-of-2 ─┬─ C ours ────┬─ to_local ── RD, BR
//!               ├─ C theirs   ├─ HTLC ────── HT ─ second stage ─ HTRD, HTBR
//!               └─ ES         └─ …
//!   a transaction   an output   what may spend it, each a transaction again
//! ```

mod grow;
mod lost;

pub use lost::{of_restored, Remains};

use super::claim::Name;
use super::resolution::OnChain;
use crate::amount::{Height, Sat};
use crate::contract::Commitments;
use crate::keys::signer::Signer;
use crate::params::Side;
use crate::transactions::commitment::{Htlc, HtlcRef};
use bitcoin::Txid;
use std::fmt;

/// The paper's name of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(clippy::upper_case_acronyms, reason = "they are the paper's names")]
pub enum Title {
    /// Funding.
    F,
    /// Commitment.
    C,
    /// Exercise settlement: the cooperative close.
    ES,
    /// What takes an output of a commitment, or of HT and HE.
    Claim(Name),
    /// None that our books know.
    Unknown,
}

/// Whose doing a transaction is, or could be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// Ours.
    Us,
    /// The peer's.
    Them,
    /// Only both together.
    Both,
    /// Anybody's: it takes no secret.
    Anybody,
}

/// Where a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// In a block.
    OnChain,
    /// Given to the network, and in no block that we know of.
    Published,
    /// The next block may hold it.
    Ready,
    /// Not before something else: a height, the transaction above it, or what it needs.
    Waits,
    /// Not any more.
    Gone,
}

/// What a transaction needs besides time and a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// The HTLC's preimage.
    Preimage {
        /// We know it. What the peer knows, nobody else can tell.
        known: bool,
    },
    /// That the commitment above it was revoked.
    Revocation,
    /// That both agree.
    Agreement,
}

/// What an output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// F's 2-of-2.
    Funding,
    /// The broadcaster's balance, after a delay.
    ToLocal,
    /// The countersigner's balance.
    ToRemote,
    /// To raise the commitment's fee.
    Anchor,
    /// An HTLC.
    Htlc,
    /// What HT or HE pays: its owner's after a delay.
    SecondStage,
    /// What ES pays.
    Share,
}

/// A transaction of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub title: Title,
    /// Whose doing it is, or could be.
    pub by: By,
    /// Where it stands.
    pub state: State,
    /// Its id, if it can be told: what takes outputs has none before it is made.
    pub txid: Option<Txid>,
    /// The height of its block.
    pub height: Option<Height>,
    /// A commitment's number, counting up from 0.
    pub number: Option<u64>,
    /// Blocks that it waits after the one above it.
    pub delay: u32,
    /// The first block that may hold it, as far as that can be told: as long as the one above it is
    /// in no block, by its lock time alone.
    pub from: Option<Height>,
    /// The first block in which somebody else may take the same output.
    pub until: Option<Height>,
    /// What it needs besides.
    pub needs: Needs,
    /// Its outputs, as far as they belong to the tree.
    pub outputs: Vec<Output>,
}

/// An output of a transaction of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// What it is.
    pub what: What,
    /// Its place among the outputs; none while the transaction is not made.
    pub place: Option<u32>,
    /// What it holds, if that can be told.
    pub value: Option<Sat>,
    /// Whose it is if nobody cheats; an HTLC is its offerer's until it is settled.
    pub owner: By,
    /// The HTLC that it is about.
    pub htlc: Option<(HtlcRef, Htlc)>,
    /// What took it, and the height of that one's block.
    pub taken: Option<(Txid, Height)>,
    /// What may spend it, or did.
    pub spends: Vec<Node>,
}

/// An ES that both signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Its id.
    pub txid: Txid,
    /// Its outputs: place, value, whose.
    pub shares: Vec<(u32, Sat, Side)>,
}

/// What there is to know of a channel, beside its contract.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Who owns what.
    pub contract: &'a Commitments,
    /// What the chain did with F and after.
    pub onchain: &'a OnChain,
    /// The best block.
    pub height: Height,
    /// The height of F's block.
    pub funded_at: Option<Height>,
    /// The transaction in a block that spends F.
    pub spent_by: Option<Txid>,
    /// Every ES that both signed.
    pub settlements: &'a [Settlement],
    /// The channel failed: nothing is signed or revoked any more.
    pub failed: bool,
    /// Our state is old: our commitment must never be published.
    pub behind: bool,
}

/// The tree, from F on.
pub fn of(facts: &Facts<'_>, signer: &dyn Signer) -> Node {
    grow::funding(facts, signer)
}

impl Node {
    /// What spends F is neither a commitment nor an ES that was agreed on.
    pub fn spent_by_unknown(&mut self, txid: Txid) {
        let spends = self.outputs.iter_mut().flat_map(|output| &mut output.spends);
        for spend in spends.filter(|spend| spend.txid == Some(txid)) {
            spend.title = Title::Unknown;
        }
    }

    /// This transaction and all below it, each above what spends it.
    pub fn all(&self) -> Vec<&Node> {
        let below = self.outputs.iter().flat_map(|output| &output.spends);
        std::iter::once(self).chain(below.flat_map(Node::all)).collect()
    }
}

impl From<Side> for By {
    fn from(side: Side) -> By {
        match side {
            Side::Local => By::Us,
            Side::Remote => By::Them,
        }
    }
}

impl fmt::Display for Title {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Title::F => f.write_str("F"),
            Title::C => f.write_str("C"),
            Title::ES => f.write_str("ES"),
            Title::Claim(name) => name.fmt(f),
            Title::Unknown => f.write_str("unknown"),
        }
    }
}
