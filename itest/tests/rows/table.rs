//! The thirty rows: whose commitment, what is in flight, in which format, and what must be seen of
//! the paper's transactions.

use std::fmt;

use super::chain::Paper::{self, *};
use fulmen_channel::amount::{FeeratePerKw, Msat, Sat};
use fulmen_channel::params::CommitmentFormat::{self, Anchors, StaticRemoteKey};
use fulmen_channel::transactions::weight;

/// Every channel's capacity; Alice opens it, and pushes [`PUSHED`] to Bob.
pub const CAPACITY: Sat = Sat::new(1_000_000);
/// Bob's share, to begin with.
pub const PUSHED: Sat = Sat::new(400_000);

/// Whose commitment gets into a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Local,
    Remote,
    /// Bob's newest, which Alice has signed and whose forerunner he has not revoked.
    Next,
    /// One that Bob had revoked.
    Revoked,
}

/// What is in flight on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFlight {
    Nothing,
    Offered,
    Received,
    Dust,
    Both,
    Twenty,
    /// Two that are worth a claim at 300 sat/vB, and two that are not.
    Uneven,
}

/// A row, from Alice's point of view: a channel of its group's.
#[derive(Debug)]
pub struct Row {
    pub who: Who,
    pub in_flight: InFlight,
    pub format: CommitmentFormat,
    /// What must be on the chain in the end; more may be.
    pub shows: &'static [Paper],
}

pub const fn row(
    who: Who,
    in_flight: InFlight,
    format: CommitmentFormat,
    shows: &'static [Paper],
) -> Row {
    Row { who, in_flight, format, shows }
}

/// Which tower watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    Nobody,
    Private,
    Altruist,
}

/// Rows that are played together, by one pair of daemons.
#[derive(Debug)]
pub struct Group {
    pub name: &'static str,
    /// Who knows the preimages of what it receives.
    pub alice_knows: bool,
    pub bob_knows: bool,
    /// Bob takes what he may. Otherwise he is gone for good once his commitments are published.
    pub races: bool,
    /// Alice is off until nothing more happens without her.
    pub away: bool,
    pub tower: Watched,
    /// Each block in which something is spent is gone again, with the five before it.
    pub reorgs: bool,
    /// What HTLCs are given until they expire: more where blocks come and go in between.
    pub blocks: u64,
    /// Alice hears of bitcoind what the story lets her hear.
    pub told: bool,
    pub rows: &'static [Row],
}

/// An HTLC, as offered.
#[derive(Clone, Debug)]
pub struct Htlc {
    pub by_alice: bool,
    pub amount: Msat,
    /// What the invoice asks for.
    pub blocks: u64,
    /// The first block that may hold HT or HTD is the one after.
    pub expiry: u64,
}

/// Too small for an output in either format.
const DUST: u64 = 300_000;
/// The HTLC that Bob's newest commitment holds only, or his newest after the one that he revoked.
pub const LATE: Msat = Msat::new(29_000_000);

impl Htlc {
    fn new(by_alice: bool, msat: u64) -> Self {
        Htlc { by_alice, amount: Msat::new(msat), blocks: 0, expiry: 0 }
    }

    pub fn sat(&self) -> u64 {
        self.amount.floor().sat()
    }

    /// Whether Bob got it and cannot answer.
    pub fn is_late(&self) -> bool {
        self.amount == LATE
    }
}

impl Row {
    /// What both agree on. The amounts of a row differ, so that outputs are told apart by value.
    pub fn htlcs(&self) -> Vec<Htlc> {
        match self.in_flight {
            InFlight::Nothing => vec![],
            InFlight::Offered => vec![Htlc::new(true, 50_000_123)],
            InFlight::Received => vec![Htlc::new(false, 60_000_456)],
            InFlight::Dust => vec![Htlc::new(true, DUST + 7), Htlc::new(false, DUST + 1_011)],
            InFlight::Both => vec![Htlc::new(true, 50_000_123), Htlc::new(false, 60_000_456)],
            InFlight::Uneven => vec![
                Htlc::new(true, 250_000_123),
                Htlc::new(false, 240_000_456),
                Htlc::new(true, 20_000_789),
                Htlc::new(false, 21_000_321),
            ],
            InFlight::Twenty => (1..=20)
                .map(|n| {
                    let msat = if n % 7 == 0 { DUST } else { 6_000_000 * (n % 5 + 1) };
                    let by_alice = n % 2 == 0;
                    Htlc { blocks: n % 4, ..Htlc::new(by_alice, msat + 1_001 * n) }
                })
                .collect(),
        }
    }

    /// What Alice offers afterwards.
    pub fn late(&self) -> Option<Htlc> {
        matches!(self.who, Who::Next | Who::Revoked).then(|| Htlc::new(true, LATE.msat()))
    }

    /// Whether a cheater may put several second stages into one transaction.
    pub fn is_cheat_of_many(&self) -> bool {
        self.who == Who::Revoked && self.in_flight == InFlight::Twenty && self.format == Anchors
    }

    pub fn is_by_alice(&self) -> bool {
        self.who == Who::Local
    }

    /// What HT (`offered` by the publisher) or HE pays out of the HTLC.
    pub fn second_fee(&self, feerate: FeeratePerKw, offered: bool) -> u64 {
        weight::htlc_fee(self.format, feerate, offered).sat()
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { who, in_flight, format, .. } = self;
        write!(f, "{who:?}, {in_flight:?}, {format:?}")
    }
}

/// Nobody knows a preimage, and Bob is gone.
pub static GONE: Group = Group {
    name: "gone",
    alice_knows: false,
    bob_knows: false,
    races: false,
    away: false,
    tower: Watched::Nobody,
    reorgs: false,
    blocks: 24,
    told: false,
    rows: &[
        row(Who::Local, InFlight::Nothing, Anchors, &[C, RD]),
        row(Who::Local, InFlight::Both, StaticRemoteKey, &[C, RD, HT, HTRD]),
        row(Who::Local, InFlight::Twenty, Anchors, &[C, RD, HT, HTRD]),
        row(Who::Remote, InFlight::Offered, Anchors, &[C, D, HTD]),
        row(Who::Remote, InFlight::Received, StaticRemoteKey, &[C, D]),
        row(Who::Next, InFlight::Offered, Anchors, &[C, D, HTD]),
    ],
};

/// Both know all preimages and take what they may.
pub static RACING: Group = Group {
    name: "racing",
    alice_knows: true,
    bob_knows: true,
    races: true,
    rows: &[
        row(Who::Local, InFlight::Both, Anchors, &[C, RD, D, HE, HERD, HED]),
        row(Who::Local, InFlight::Dust, StaticRemoteKey, &[C, RD, D]),
        row(Who::Remote, InFlight::Twenty, StaticRemoteKey, &[C, RD, D, HE, HERD, HED]),
        row(Who::Remote, InFlight::Nothing, StaticRemoteKey, &[C, RD, D]),
        row(Who::Next, InFlight::Both, Anchors, &[C, RD, D, HE, HERD, HED]),
    ],
    ..GONE
};

/// Alice knows the preimages of what she received; Bob is gone.
pub static KNOWING: Group = Group {
    name: "knowing",
    alice_knows: true,
    rows: &[
        row(Who::Local, InFlight::Received, StaticRemoteKey, &[C, RD, HE, HERD]),
        row(Who::Local, InFlight::Offered, StaticRemoteKey, &[C, RD, HT, HTRD]),
        row(Who::Remote, InFlight::Both, Anchors, &[C, D, HED, HTD]),
        row(Who::Next, InFlight::Twenty, Anchors, &[C, D, HED, HTD]),
    ],
    ..GONE
};

/// Nobody knows a preimage, and both take back what they may; six blocks are gone after each step.
pub static SHAKEN: Group = Group {
    name: "shaken",
    races: true,
    reorgs: true,
    blocks: 80,
    rows: &[
        row(Who::Local, InFlight::Both, Anchors, &[C, RD, D, HT, HTRD, HTD]),
        row(Who::Remote, InFlight::Both, StaticRemoteKey, &[C, RD, D, HT, HTRD, HTD]),
        row(Who::Next, InFlight::Received, Anchors, &[C, RD, D, HT, HTRD, HTD]),
    ],
    ..GONE
};

/// Bob cheats before Alice's eyes, and is gone; six blocks are gone after each step.
pub static CAUGHT: Group = Group {
    name: "caught",
    reorgs: true,
    blocks: 80,
    rows: &[
        row(Who::Revoked, InFlight::Nothing, Anchors, &[C, D, BR]),
        row(Who::Revoked, InFlight::Both, StaticRemoteKey, &[C, D, BR, HBR]),
        row(Who::Revoked, InFlight::Twenty, Anchors, &[C, D, BR, HBR]),
    ],
    ..GONE
};

/// Bob cheats while Alice is off, shows every preimage, and takes back what has expired.
pub static ROBBED: Group = Group {
    name: "robbed",
    bob_knows: true,
    races: true,
    away: true,
    rows: &[
        row(Who::Revoked, InFlight::Both, StaticRemoteKey, &[C, D, BR, HE, HT, HEBR, HTBR]),
        row(Who::Revoked, InFlight::Twenty, Anchors, &[C, D, BR, HE, HT, HEBR, HTBR]),
        row(Who::Revoked, InFlight::Dust, Anchors, &[C, D, BR]),
    ],
    ..GONE
};

/// The same, watched by a tower of Alice's own.
pub static WATCHED: Group = Group {
    name: "watched",
    tower: Watched::Private,
    rows: &[
        row(Who::Revoked, InFlight::Twenty, Anchors, &[C, D, BR, HE, HT, HEBR, HTBR]),
        row(Who::Revoked, InFlight::Offered, StaticRemoteKey, &[C, D, BR, HE, HEBR]),
        row(Who::Revoked, InFlight::Nothing, Anchors, &[C, D, BR]),
    ],
    ..ROBBED
};

/// The same, watched by a tower that holds signatures only.
pub static SEALED: Group = Group {
    name: "sealed",
    tower: Watched::Altruist,
    rows: &[
        row(Who::Revoked, InFlight::Both, Anchors, &[C, D, BR]),
        row(Who::Revoked, InFlight::Received, StaticRemoteKey, &[C, D, BR, HBR]),
        row(Who::Revoked, InFlight::Nothing, StaticRemoteKey, &[C, D, BR]),
    ],
    ..ROBBED
};

/// All of them.
pub static GROUPS: [&Group; 8] =
    [&GONE, &RACING, &KNOWING, &SHAKEN, &CAUGHT, &ROBBED, &WATCHED, &SEALED];
