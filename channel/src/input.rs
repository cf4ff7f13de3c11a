//! The first door: everything that can happen to a channel, as values.

use crate::amount::{FeeratePerKw, Height, Sat};
use crate::contract::commitments::Offer;
use crate::contract::htlc::{PenaltyRecord, Removal};
use crate::message::Message;
use crate::params::{CommitmentFormat, Negotiated};
use crate::transactions::commitment::HtlcRef;
use bitcoin::{ScriptBuf, Transaction};
use lightning::ln::msgs::UpdateAddHTLC;

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The peer said something. `update_add_htlc` comes as [`Input::PeerAdd`] when the node has
    /// something to remember with it.
    Message(Message),
    /// The peer offers an HTLC, and the node has read its onion: `memo` is what it wants to find
    /// again with it. The onion itself is not kept.
    PeerAdd {
        /// The message.
        message: Box<UpdateAddHTLC>,
        /// Opaque here.
        memo: Vec<u8>,
    },
    /// The connection to the peer is up, and init was exchanged.
    Connected(Negotiated),
    /// The connection is gone.
    Disconnected,
    /// A witness that only we can have written says that our commitment had this number once: all
    /// before it are revoked. If ours is older, the channel is not run any more (rules 4.4).
    Witnessed(u64),
    /// Blocks are read up to this height, and peers are connected to: whoever knows more of this
    /// channel than we do can tell from now on.
    PeersMayTell(Height),
    /// All change sets up to this number are durable.
    Persisted(u64),
    /// Something the node wants.
    Command(Command),
    /// A block was connected; its height is the best now.
    Block(Height),
    /// F as it was found in a block: to be told before its depth is. The peer names an outpoint,
    /// but only F itself shows that it pays what was agreed (BOLT 2, channel_ready).
    FundingFound(Box<Transaction>),
    /// F has this many confirmations (0: a reorganisation took it out again).
    FundingDepth {
        /// 1 when it is in the best block.
        confirmations: u32,
        /// Where it is: block, index, output (BOLT 7).
        short_channel_id: u64,
    },
    /// A transaction that spends F is in a block.
    FundingSpent {
        /// The transaction.
        tx: Box<Transaction>,
        /// The height of its block.
        height: Height,
        /// The channel's rows [`crate::changeset::Row::Penalty`]: what a breach is judged by.
        records: Vec<(HtlcRef, PenaltyRecord)>,
    },
    /// A transaction in a block spends outputs that [`crate::output::Output::WatchOutputs`] named.
    OutputSpent {
        /// The transaction.
        tx: Box<Transaction>,
        /// The height of its block.
        height: Height,
    },
    /// A transaction in the mempool spends F, or outputs that
    /// [`crate::output::Output::WatchOutputs`] named. It may never be in a block; the same may come
    /// again.
    Unconfirmed(Box<Transaction>),
    /// The block of this height and all after it are gone.
    Unblock(Height),
    /// A minute has passed. Needed only while the peer owes us an answer in closing, see
    /// [`crate::protocol::open::Open::awaits_closing`].
    Minute,
    /// New fee estimates.
    Feerates(Feerates),
    /// What the channel may lose to fees at most, if not the default
    /// ([`crate::contract::exposure::MAX_FEE_EXPOSURE`]).
    MaxFeeExposure(Sat),
}

/// Fee estimates, as the node sees them now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feerates {
    /// What a commitment with anchors should pay: enough to enter a mempool.
    pub anchors: FeeratePerKw,
    /// What confirms soon: what a commitment without anchors should pay, since nothing can be added
    /// to it later. Whatever a commitment pays beyond it counts as lost to fees.
    pub urgent: FeeratePerKw,
    /// What a mutual close should pay.
    pub close: FeeratePerKw,
}

impl Feerates {
    /// What a commitment of this shape should pay.
    pub fn commitment(&self, format: CommitmentFormat) -> FeeratePerKw {
        match format {
            CommitmentFormat::Anchors => self.anchors,
            CommitmentFormat::StaticRemoteKey => self.urgent,
        }
    }
}

/// Something the node wants of the channel. Refused commands change nothing.
#[derive(Clone, Debug)]
pub enum Command {
    /// F was built (opener only): signed, not broadcast.
    Fund(Box<Transaction>),
    /// Offer an HTLC.
    Offer(Offer),
    /// Settle or fail an HTLC of the peer's.
    Remove {
        /// Its id.
        id: u64,
        /// How.
        removal: Removal,
    },
    /// Close together, our share going to this script. Said again on a channel that closes by
    /// closing_complete, it replaces our ES by one that pays more.
    Close {
        /// Where our share goes.
        script: ScriptBuf,
        /// A feerate to aim at; none takes the last estimate.
        feerate: Option<FeeratePerKw>,
        /// Pay no more than this; none leaves it to us.
        max_feerate: Option<FeeratePerKw>,
    },
    /// Publish our commitment now.
    ForceClose(String),
    /// The channel never got funded, or the node gives up opening it. A funded channel is forgotten
    /// so too, if the peer opened it and nothing of ours is at stake
    /// ([`crate::protocol::open::Open::may_be_forgotten`]).
    Abandon(String),
}

/// What [`crate::channel::Channel::handle`] says of a command that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// Nothing to report.
    Done,
    /// The HTLC has this id.
    Offered(u64),
}

/// A funding output that the opener is to build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FundingRequest {
    /// The 2-of-2, as P2WSH.
    pub script: ScriptBuf,
    /// What it must hold.
    pub amount: Sat,
}
