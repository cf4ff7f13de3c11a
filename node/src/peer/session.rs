//! What two connected peers owe each other before and beside channels (BOLT 1). Pure: frames and
//! the time go in, steps come out.
//!
//! ```text
//!     us            them
//!     init  -->  <-- init      nothing else before; then all messages may flow
//!     ping  -->  <-- pong      each minute; no sign of life after a ping: closed
//! ```

use std::time::Duration;

use bitcoin::constants::ChainHash;
use fulmen_channel::message::Message;
use lightning::ln::msgs;
use lightning::ln::types::ChannelId;
use lightning::types::features::InitFeatures;

use super::features::{self, Incompatible};
use super::noise::{FrameError, HandshakeError};
use super::wire::{WireError, WireMessage};

/// From this `num_pong_bytes` on a ping asks for no answer (BOLT 1).
const NO_PONG: u16 = 65_532;

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the texts say it
pub enum CloseReason {
    #[error("the peer closed the connection")]
    Closed,
    #[error("the connection was lost: {0}")]
    Lost(String),
    #[error("{0}")]
    Handshake(#[from] HandshakeError),
    #[error("the peer did not finish the handshake in time")]
    HandshakeTimeout,
    #[error("the peer did not send init in time")]
    InitTimeout,
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("the peer sent {0}")]
    Wire(#[from] WireError),
    #[error("the peer sent another message before init")]
    InitFirst,
    #[error("the peer sent init twice")]
    InitTwice,
    #[error("{0}")]
    Features(#[from] Incompatible),
    #[error("the peer has no blockchain in common with us")]
    OtherChain,
    #[error("the peer does not answer pings")]
    Silent,
    #[error("the peer does not read what we send")]
    NotReading,
    #[error("the peer sends pings faster than it reads the answers")]
    PingFlood,
    #[error("too many peers are connected already")]
    TooManyPeers,
    #[error("a newer connection of the same peer took its place")]
    Replaced,
    #[error("both sides connected at once, the other connection is kept")]
    Duplicate,
    #[error("we disconnected")]
    Asked,
    #[error("we are shutting down")]
    Stopping,
}

impl CloseReason {
    /// What to tell the peer before closing: a warning if it did something wrong. A handshake or
    /// frame that fails is answered with nothing (BOLT 8).
    pub fn farewell(&self) -> Option<WireMessage> {
        use CloseReason::*;
        match self {
            InitTimeout | Wire(_) | InitFirst | InitTwice | Features(_) | OtherChain
            | TooManyPeers => {
                let channel_id = ChannelId([0; 32]);
                let warning = msgs::WarningMessage { channel_id, data: self.to_string() };
                Some(WireMessage::Channel(Message::Warning(warning)))
            }
            _ => None,
        }
    }
}

/// How patient a session is.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How long the peer's `init` may take.
    pub init: Duration,
    /// The time from one ping to the next.
    pub ping_every: Duration,
    /// How long after a ping the peer must have given any sign of life.
    pub pong_within: Duration,
}

/// What a ping carries behind its two lengths (BOLT 1); nothing if the frame is no ping.
pub fn ping_payload(frame: &[u8]) -> Option<&[u8]> {
    const PING: [u8; 2] = 18_u16.to_be_bytes();
    frame.strip_prefix(&PING)?.get(4..)
}

/// What to do about a received frame.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Nothing: it was for the session itself, or is to be ignored.
    Nothing,
    /// The peer's `init` came: the connection is open.
    Open(InitFeatures),
    /// Send this at once.
    Send(WireMessage),
    /// Hand this to the node.
    Deliver(WireMessage),
}

/// One connection's state. Times count from the connection's beginning.
pub struct Session {
    ours: InitFeatures,
    chain: ChainHash,
    patience: Patience,
    open: bool,
    heard_at: Duration,
    ping_at: Duration,
    pings: u8,
    awaited: Option<Awaited>,
    round_trip: Option<Duration>,
}

/// A ping not yet answered.
struct Awaited {
    sent_at: Duration,
    due: Duration,
    pong_bytes: u16,
}

impl Session {
    /// A session that begins at `now`, offering `ours` on `chain`.
    pub fn new(ours: InitFeatures, chain: ChainHash, patience: Patience, now: Duration) -> Self {
        Self {
            ours,
            chain,
            patience,
            open: false,
            heard_at: now,
            ping_at: now.saturating_add(patience.init),
            pings: 0,
            awaited: None,
            round_trip: None,
        }
    }

    /// Our `init`, to be sent first; it tells the peer the address we see it at, if given.
    pub fn init(&self, their_address: Option<msgs::SocketAddress>) -> WireMessage {
        WireMessage::Init(Box::new(msgs::Init {
            features: self.ours.clone(),
            networks: Some(vec![self.chain]),
            remote_network_address: their_address,
        }))
    }

    /// Takes a decrypted frame.
    ///
    /// # Errors
    /// [`CloseReason`] if the peer broke a rule of BOLT 1 that ends the connection.
    pub fn receive(&mut self, now: Duration, frame: &[u8]) -> Result<Step, CloseReason> {
        self.heard_at = now;
        match WireMessage::decode(frame)? {
            Some(WireMessage::Init(_)) if self.open => Err(CloseReason::InitTwice),
            Some(WireMessage::Init(init)) => self.take_init(now, *init),
            _ if !self.open => Err(CloseReason::InitFirst),
            None => Ok(Step::Nothing),
            Some(WireMessage::Ping(ping)) if ping.ponglen < NO_PONG => {
                Ok(Step::Send(WireMessage::Pong(msgs::Pong { byteslen: ping.ponglen })))
            }
            Some(WireMessage::Ping(_)) => Ok(Step::Nothing),
            Some(WireMessage::Pong(pong)) => {
                self.take_pong(now, pong.byteslen);
                Ok(Step::Nothing)
            }
            Some(message) => Ok(Step::Deliver(message)),
        }
    }

    fn take_init(&mut self, now: Duration, init: msgs::Init) -> Result<Step, CloseReason> {
        features::check(&self.ours, &init.features)?;
        if init.networks.is_some_and(|chains| !chains.contains(&self.chain)) {
            return Err(CloseReason::OtherChain);
        }
        self.open = true;
        self.ping_at = now;
        Ok(Step::Open(init.features))
    }

    /// A pong that answers no ping of ours is let pass.
    fn take_pong(&mut self, now: Duration, bytes: u16) {
        if let Some(ping) = self.awaited.take_if(|ping| ping.pong_bytes == bytes) {
            self.round_trip = Some(now.saturating_sub(ping.sent_at));
        }
    }

    /// When [`Session::tick`] is due next.
    pub fn wake_at(&self) -> Duration {
        self.awaited.as_ref().map_or(self.ping_at, |ping| ping.due.min(self.ping_at))
    }

    /// Time has passed: gives a ping to send when one is due.
    ///
    /// # Errors
    /// [`CloseReason::InitTimeout`] or [`CloseReason::Silent`] when patience has run out.
    pub fn tick(&mut self, now: Duration) -> Result<Option<WireMessage>, CloseReason> {
        let overdue = self.awaited.take_if(|ping| ping.due <= now);
        if overdue.is_some_and(|ping| self.heard_at <= ping.sent_at) {
            return Err(CloseReason::Silent);
        }
        if now < self.ping_at {
            return Ok(None);
        }
        if !self.open {
            return Err(CloseReason::InitTimeout);
        }
        // Each ping asks for another length, so that a late pong is not taken for the next one's.
        self.pings = self.pings.wrapping_add(1);
        let pong_bytes = u16::from(self.pings);
        self.ping_at = now.saturating_add(self.patience.ping_every);
        let due = now.saturating_add(self.patience.pong_within);
        self.awaited.get_or_insert(Awaited { sent_at: now, due, pong_bytes });
        Ok(Some(WireMessage::Ping(msgs::Ping { ponglen: pong_bytes, byteslen: 0 })))
    }

    /// How long the last ping that was answered took.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }
}
