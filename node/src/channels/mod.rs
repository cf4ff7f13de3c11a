//! Channels in the daemon: one task a channel that only moves things between the contract, the
//! store, the peer, the chain and the switch.
//!
//! ```text
//!   peers ── message ──┐                         ┌── Persist ──▶ store ── durable ──┐
//!   chain ── block ────┼─▶ inbox ─▶ Driver ─▶ Channel (pure)                        │
//!   switch ─ offer ────┘              ▲          ├── Send ─────▶ peers              │
//!                                     │          ├── Broadcast ▶ chain              │
//!                                     │          └── Event ────▶ switch ── Action   │
//!                                     └─────────────────────────────────────────────┘
//! ```

pub mod announce;
mod chain_side;
pub mod driver;
pub mod explain;
pub mod note;
pub mod opening;
pub mod policy;
mod presence;
pub mod pumps;
pub mod record;
pub mod registry;
pub mod restored;
pub mod services;
mod snapshot;
pub mod storage;

use bitcoin::secp256k1::PublicKey;
use bitcoin::{OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use fulmen_channel::amount::{FeeratePerKw, Height, Msat, Sat};
use fulmen_channel::contract::htlc::Removal;
use fulmen_channel::error::Refused;
use fulmen_channel::input::{Command, Feerates, Handled};
use fulmen_channel::message::Message;
use fulmen_channel::output::{Received, Resolved, Settled};
use fulmen_channel::params::{ChannelParams, Negotiated, Side};
use fulmen_channel::payment::{PaymentHash, Preimage};
use lightning::ln::msgs;
use lightning::ln::types::ChannelId;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

use crate::backup::Single;
use crate::peer::PeerLink;
use crate::store::{StoreError, Unit};

/// Something for one channel's task.
pub enum ToChannel {
    /// The peer said something about this channel.
    Peer(Message),
    /// The peer told its policy for this channel.
    PeerUpdate(Box<msgs::ChannelUpdate>),
    /// The peer is connected, and init was exchanged: this connection, and what holds on it.
    PeerUp(PeerLink, Negotiated),
    /// The connection is gone.
    PeerDown,
    /// Peers can be asked from this height on. It may be told before the blocks up to there.
    PeersMayTell(Height),
    /// Our own witness says that our commitment had this number once.
    Witnessed(u64),
    /// A command, and where its outcome goes.
    Command(Command, Option<oneshot::Sender<Result<Handled, Refused>>>),
    /// Offers that arrive together go out together.
    Offer(
        Box<fulmen_channel::contract::commitments::Offer>,
        oneshot::Sender<Result<Handled, Refused>>,
    ),
    /// The best block is this high.
    Block(Height),
    /// The block at this height is no longer in the chain. Dropped with what is left of the message
    /// once what follows from that is on its way to the disk.
    Unblock(Height, mpsc::Sender<()>),
    /// F is in a block.
    FundingConfirmed {
        /// F itself.
        tx: Box<Transaction>,
        /// Its height.
        height: Height,
        /// F's place in it.
        tx_index: u32,
    },
    /// F, or an output we watch because of it, is spent in a block.
    Spent {
        /// What was spent.
        outpoint: OutPoint,
        /// By what.
        tx: Box<Transaction>,
        /// The block's height.
        height: Height,
    },
    /// The same in the mempool.
    Unconfirmed(Box<Transaction>),
    /// Fee estimates.
    Feerates(Feerates),
    /// Tell what there is to tell.
    Describe(oneshot::Sender<Snapshot>),
    /// Tell the tree of its transactions and what its HTLCs ask for; none before it is funded.
    Explain(oneshot::Sender<Option<explain::Explained>>),
    /// Tell when the channel's close is on its way or failed.
    WatchClose(tokio::sync::mpsc::UnboundedSender<CloseUpdate>),
    /// The daemon stops: finish what is under way.
    Stop,
}

/// News of a close that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseUpdate {
    /// A mutual close is published, maybe in place of another.
    Settled(Settled),
    /// Our commitment is published.
    Forced(Txid),
    /// What closes the channel is in a block.
    Confirmed {
        /// The transaction.
        txid: Txid,
        /// Which output of a mutual close is ours, and which the peer's.
        shares: [Option<TxOut>; 2],
    },
    /// It cannot be done.
    Failed(String),
}

/// News of an opening that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenUpdate {
    /// F is published.
    Pending(OutPoint),
    /// The channel is ready on both sides.
    Open(OutPoint),
    /// It came to nothing.
    Failed(String),
}

/// What the switch wants done because of an event.
pub enum Action {
    /// Settle or fail an HTLC of a peer's.
    Remove {
        /// On which channel.
        channel: ChannelId,
        /// Its id.
        id: u64,
        /// How.
        removal: Removal,
    },
    /// Run this once what was written with it is durable: answers to clients, retries.
    After(Box<dyn FnOnce() + Send>),
}

/// What joins channels with payments and invoices. Each call adds what must be durable to `unit`,
/// and says what to do: `Remove` at once (the store keeps the order), `After` when it is durable.
/// All of it is idempotent: news come again after a restart.
pub trait Hub: Send + Sync + 'static {
    /// Reads the onion of an HTLC: what [`Hub::received`] wants to find again with it.
    fn peel(&self, add: &msgs::UpdateAddHTLC) -> Vec<u8>;
    /// An HTLC of the peer's is irrevocable.
    fn received(&self, channel: ChannelId, htlc: &Received, unit: &mut Unit) -> Vec<Action>;
    /// An HTLC of ours was fulfilled.
    fn fulfilled(&self, preimage: Preimage, memo: &[u8], unit: &mut Unit) -> Vec<Action>;
    /// An HTLC of ours is over for good.
    ///
    /// # Errors
    /// [`StoreError`]: then the unit must not be written, or nobody would hear of it again.
    fn resolved(&self, over: &Resolved, unit: &mut Unit) -> Result<Vec<Action>, StoreError>;
    /// A channel was read back at start: an HTLC of ours with this memo is still under way.
    fn restored(&self, memo: &[u8]);
}

/// What a channel tells about itself.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its number in our database.
    pub index: u64,
    /// The peer.
    pub peer: PublicKey,
    /// Its id: temporary while it opens.
    pub channel_id: ChannelId,
    /// One word for where it is.
    pub phase: &'static str,
    /// The peer is connected and in step.
    pub active: bool,
    /// What is known once it is funded.
    pub funded: Option<FundedSnapshot>,
    /// What is known if only its backup is left.
    pub restored: Option<RestoredSnapshot>,
}

/// What a channel tells about itself that was restored from its backup.
#[derive(Clone, Debug)]
pub struct RestoredSnapshot {
    /// The backup.
    pub backup: Single,
    /// What spent F.
    pub spent: Option<record::SpentRecord>,
    /// The peer was asked to close, since the start.
    pub told: bool,
}

/// What a funded channel tells about itself.
#[derive(Clone, Debug)]
pub struct FundedSnapshot {
    /// F's output.
    pub outpoint: OutPoint,
    /// What it holds.
    pub capacity: Sat,
    /// What was agreed.
    pub params: ChannelParams,
    /// Where F is in the chain.
    pub short_channel_id: Option<u64>,
    /// The name it is listed under: the same, but for a zero-conf channel our first alias.
    pub listed_as: Option<u64>,
    /// The name for r fields of our invoices.
    pub told_as: Option<u64>,
    /// Our aliases for it.
    pub aliases: Vec<u64>,
    /// The peer's alias for it.
    pub remote_alias: Option<u64>,
    /// Our balance on our commitment, HTLCs taken out.
    pub local: Msat,
    /// The peer's.
    pub remote: Msat,
    /// What we could send in one HTLC.
    pub spendable: Msat,
    /// What the peer could send in one HTLC.
    pub receivable: Msat,
    /// The commitment feerate.
    pub feerate: FeeratePerKw,
    /// Fee of our commitment.
    pub commit_fee: Sat,
    /// Weight of our commitment.
    pub commit_weight: u64,
    /// Commitments so far.
    pub updates: u64,
    /// How many of its commitments the peer has revoked.
    pub revoked: u64,
    /// HTLCs under way.
    pub htlcs: Vec<HtlcSnapshot>,
    /// Confirmations of F.
    pub confirmations: u32,
    /// Sums settled since the opening.
    pub totals: Totals,
    /// Our commitment's or the mutual close's txid, once published.
    pub closing_txid: Option<Txid>,
    /// The mutual close that is published and not in a block; the dearest version.
    pub closing_tx: Option<Transaction>,
    /// Where our share of a mutual close goes, when that is fixed or said already.
    pub close_script: Option<ScriptBuf>,
    /// The height of the block that spent F.
    pub closing_height: Option<Height>,
    /// Why it failed.
    pub failed: Option<String>,
    /// Our state is older than what was: it waits for the peer's commitment.
    pub behind: bool,
    /// The peer's policy for it, if it told one.
    pub remote_update: Option<msgs::ChannelUpdate>,
    /// What of ours waits on chain.
    pub limbo: Sat,
    /// What of ours came back from there.
    pub recovered: Sat,
    /// What took our anchor on the commitment in the block.
    pub anchor_taken_by: Option<Txid>,
    /// The height from which it can be spent.
    pub matures_at: Option<Height>,
    /// What was given and noted at its opening.
    pub note: note::Note,
    /// How long it was looked at since the start.
    pub looked_at: Duration,
    /// How long the peer was there meanwhile.
    pub with_peer: Duration,
    /// Our commitment's id.
    pub local_txid: Txid,
    /// The peer's commitment that it has not revoked: its id and fee.
    pub remote_commitment: (Txid, Sat),
    /// A later one that we have signed since.
    pub remote_pending: Option<(Txid, Sat)>,
}

/// An HTLC under way.
#[derive(Clone, Debug)]
pub struct HtlcSnapshot {
    /// Who offered it.
    pub by: Side,
    /// Its id.
    pub id: u64,
    /// What it is worth.
    pub amount: Msat,
    /// What it is locked to.
    pub payment_hash: PaymentHash,
    /// When its offerer may take it back.
    pub cltv_expiry: Height,
    /// Irrevocable on both commitments.
    pub locked_in: bool,
}

/// What was settled over a channel since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Totals {
    /// HTLCs of ours that were fulfilled.
    pub sent: Msat,
    /// HTLCs of the peer's that we fulfilled.
    pub received: Msat,
}
