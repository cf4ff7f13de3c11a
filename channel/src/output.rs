//! The second door: what a channel wants done, in order.

use crate::amount::{Height, Msat, Sat};
use crate::changeset::ChangeSet;
use crate::contract::htlc::Removal;
use crate::input::FundingRequest;
use crate::message::Message;
use crate::payment::{PaymentHash, Preimage};
use bitcoin::{OutPoint, Transaction, Txid};
use lightning::ln::types::ChannelId;

/// One thing to do. Those that rely on a change come out only after it was reported durable.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Write this in one database transaction, then say [`crate::input::Input::Persisted`].
    Persist(Persist),
    /// Say this to the peer.
    Send(Message),
    /// Publish this, and again at each block until it is deep.
    Broadcast(Box<Transaction>),
    /// Tell of F's confirmations and of what spends it.
    Watch {
        /// F's output.
        outpoint: OutPoint,
        /// Its script.
        script: bitcoin::ScriptBuf,
    },
    /// Tell by [`crate::input::Input::OutputSpent`] of what spends these outputs of a commitment,
    /// and of HT and HE: each with the height from which it is there.
    WatchOutputs(Vec<(OutPoint, Height)>),
    /// Close the connection to the peer.
    Disconnect,
    /// Something the node wants to know.
    Event(Event),
    /// Nothing more to do until something happens; at this height at the latest.
    Idle {
        /// None: no HTLC has a deadline.
        act_by: Option<Height>,
    },
}

/// A unit of work for the store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Persist {
    /// Number to report when it is durable.
    pub id: u64,
    /// The channel's rows.
    pub changes: ChangeSet,
    /// HTLCs of ours that are over for good with these changes: what the node writes about them
    /// belongs into the same transaction, and acts on only when it is durable (rules 2.3).
    pub resolved: Vec<Resolved>,
}

/// An HTLC of ours that is off both commitments for good, or never got onto them.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// Its id.
    pub id: u64,
    /// What it was worth.
    pub amount: Msat,
    /// What it was locked to.
    pub payment_hash: PaymentHash,
    /// How it ended. `Failed` with an empty reason: it never left, or came back on chain.
    pub removal: Removal,
    /// What the node wanted to find again with it.
    pub memo: Vec<u8>,
}

/// An HTLC of the peer's that is irrevocably on both commitments.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// Its id.
    pub id: u64,
    /// What it is worth.
    pub amount: Msat,
    /// What it is locked to.
    pub payment_hash: PaymentHash,
    /// When the peer may take it back.
    pub cltv_expiry: Height,
    /// What the node wanted to find again with it.
    pub memo: Vec<u8>,
    /// It must be failed: too much dust is in flight.
    pub over_dust_exposure: bool,
}

/// Who published what spends F.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spend {
    /// Both, by ES.
    Mutual,
    /// We, by our commitment.
    Local,
    /// The peer, by its latest commitment, or the one before that it has not revoked yet.
    Remote,
    /// The peer, by one that is newer than our state.
    Other,
    /// The peer, by one it had revoked: a breach.
    Revoked,
    /// Nobody by anything that our books know: no commitment, and no ES that we signed. Both keys
    /// of F were needed for it, so somebody has our state or our keys.
    Unknown,
}

/// An ES that is signed by both and being published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Its id.
    pub txid: Txid,
    /// Our own version, or the one that both agreed on; not the peer's own version.
    pub ours: bool,
    /// The peer's, while a version of ours waits for its signature, which most likely wins.
    pub awaits_ours: bool,
    /// What it pays.
    pub fee: Sat,
    /// Its weight, in weight units.
    pub weight: u64,
    /// Which output pays us.
    pub output: Option<u32>,
}

/// Something the node wants to know.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The peer accepted: build F and hand it over by [`crate::input::Command::Fund`].
    FundingNeeded(FundingRequest),
    /// Both first commitments are signed and durable: the channel has its id.
    Opened {
        /// The id for the rest of its life.
        channel_id: ChannelId,
        /// F's output.
        outpoint: OutPoint,
    },
    /// Both sides have said channel_ready.
    Ready,
    /// HTLCs may be offered now; also after each reconnection.
    Usable,
    /// Come back to this HTLC until it is removed. Repeated after a restart.
    Received(Received),
    /// The peer showed the preimage of one of ours: act at once. Repeated after a restart.
    Fulfilled {
        /// Its id.
        id: u64,
        /// The preimage.
        preimage: Preimage,
        /// What the node wanted to find again with it.
        memo: Vec<u8>,
    },
    /// The peer's signatures for the channel's announcement.
    AnnouncementSignatures(Box<lightning::ln::msgs::AnnouncementSignatures>),
    /// An ES is signed by both and being published.
    Closing(Settled),
    /// The channel failed; our commitment, if there is one to publish, is.
    Failed(String),
    /// F is spent in a block.
    Spent {
        /// By whom.
        spend: Spend,
        /// By which transaction.
        txid: Txid,
    },
    /// What we may claim on chain has changed: see [`crate::protocol::open::Open::claims`]. Again
    /// after a restart.
    Claims,
    /// The channel never came to be; nothing of it is kept.
    Abandoned(String),
}
