//! What client and tower say to each other, inside Noise frames (BOLT 8). One question, one answer.
//!
//! ```text
//!     client (a key for each session)          tower
//!     Hello { version, chain }         ->
//!                                      <-  Welcome { what it grants, how far the session is }
//!     Put { sequence, records, note }  ->
//!                                      <-  Stored { receipt }          once on disk
//!     Recall { None }                  ->
//!                                      <-  Recalled { note }           as it was handed in
//!     End                              ->                              the channel is closed
//!                                      <-  Done                        all of it is deleted
//!
//!     PutChannel, Reveal, DropChannel  ->  private mode: clients that the tower's owner named
//!                                      <-  Done | Refused { why }
//!     Recall { Some(F) }               ->
//!                                      <-  Recalled { note }
//! ```
//!
//! A message is postcard: a variant's number, then its fields in order.

use crate::record::{tagged, Sealed, MAX_SEALED};
use bitcoin::hashes::{sha256, Hash};
use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::secp256k1::{Message, PublicKey, Secp256k1, SecretKey};
use bitcoin::{BlockHash, OutPoint};
use serde::{Deserialize, Serialize};

/// The only version of these messages.
pub const VERSION: u16 = 1;
/// The longest script that is accepted for anything here is inside this many bytes of records.
pub const MAX_PUT: usize = MAX_SEALED;
/// The longest note that is kept beside a session or a channel, in bytes.
pub const MAX_NOTE: usize = 128;

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// The first message on a connection.
    Hello {
        /// [`VERSION`].
        version: u16,
        /// The genesis block of the client's network.
        chain: BlockHash,
    },
    /// Keep these records.
    Put {
        /// How many the session has before them.
        sequence: u64,
        /// The records, of at most [`MAX_PUT`] bytes together.
        records: Vec<Sealed>,
        /// What the tower keeps of the session beside them, in place of what it kept before: at
        /// most [`MAX_NOTE`] bytes that mean something to the client alone.
        note: Vec<u8>,
    },
    /// Delete the session and its records.
    End,
    /// Keep this channel, or replace what there is of it.
    PutChannel {
        /// [`crate::private::PrivateChannel`].
        body: Vec<u8>,
        /// As in [`Request::Put`].
        note: Vec<u8>,
    },
    /// The peer revoked this state.
    Reveal {
        /// The channel's F.
        funding: OutPoint,
        /// The state's number.
        number: u64,
        /// Its secret.
        secret: [u8; 32],
    },
    /// Forget this channel.
    DropChannel(OutPoint),
    /// What note is kept: of the session, or of the channel with this F.
    Recall(Option<OutPoint>),
}

/// What the tower answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To Hello.
    Welcome(Welcome),
    /// To Put.
    Stored(Receipt),
    /// To Recall: empty if there is none.
    Recalled(Vec<u8>),
    /// To the others.
    Done,
    /// Nothing was changed.
    Refused(Refusal),
}

/// What a tower grants this client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The client may hand in channels.
    pub private: bool,
    /// How many states a session may have.
    pub max_states: u64,
    /// How many this session has, and the hash of them all.
    pub session: Standing,
}

/// How far a session is: the number of its records, and a hash over all of them in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Records kept.
    pub states: u64,
    /// A chain of hashes over them.
    pub hash: [u8; 32],
}

/// The tower's word that it keeps all records of a session up to here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// What it keeps.
    pub standing: Standing,
    /// By the key that the tower is known by.
    pub signature: Signature,
}

/// Why a tower does not do what it is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// Hello comes first, once.
    #[error("the first message must be a hello, and no other")]
    HelloFirst,
    /// The client speaks another version.
    #[error("the tower speaks version {VERSION} of the protocol only")]
    Version,
    /// The client's chain is not the tower's.
    #[error("the tower watches another chain")]
    OtherChain,
    /// The records do not follow those that are there.
    #[error("the session has {0} records: the next one has that number")]
    Sequence(u64),
    /// The session is full: another one may be begun, under another key.
    #[error("the session is full")]
    SessionFull,
    /// The tower has no room for it, or not for more of the client's address.
    #[error("the tower is full, or what it grants to one address is used up")]
    TowerFull,
    /// A record is empty, or a message has too many bytes of them, or of a note.
    #[error("a record is empty, or they are too long together, or the note is")]
    TooLong,
    /// Requests come faster than the tower allows.
    #[error("too many requests: try again later")]
    TooFast,
    /// Channels are taken from the tower's owner only.
    #[error("the tower's owner has not named this client with --privateclient")]
    NotPrivate,
    /// The bytes are no channel, or the secret does not fit those before it.
    #[error("the channel or secret makes no sense: {0}")]
    BadChannel(String),
    /// The tower's own trouble.
    #[error("the tower cannot store anything now")]
    Trouble,
}

impl Standing {
    /// The same after this record.
    pub fn after(self, record: &Sealed) -> Standing {
        let record = sha256::Hash::hash(&[record.hint.as_slice(), &record.bytes].concat());
        let hash = tagged(b"fulmen tower records", &[&self.hash, record.as_byte_array()]);
        Standing { states: self.states.saturating_add(1), hash }
    }

    fn digest(&self, client: &PublicKey) -> Message {
        let (client, states) = (client.serialize(), self.states.to_be_bytes());
        Message::from_digest(tagged(b"fulmen tower receipt", &[&client, &states, &self.hash]))
    }
}

impl Receipt {
    /// The tower's word for the session of `client`.
    pub fn sign(standing: Standing, client: &PublicKey, tower: &SecretKey) -> Receipt {
        let signature = Secp256k1::signing_only().sign_ecdsa(&standing.digest(client), tower);
        Receipt { standing, signature }
    }

    /// Whether `tower` gave it to `client`.
    pub fn is_genuine(&self, client: &PublicKey, tower: &PublicKey) -> bool {
        let digest = self.standing.digest(client);
        Secp256k1::verification_only().verify_ecdsa(&digest, &self.signature, tower).is_ok()
    }
}

/// The bytes of a message.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    // Cannot fail: the sink is a Vec and every message has a known length.
    postcard::to_stdvec(message).unwrap_or_default()
}

/// What [`encode`] wrote; nothing for any other bytes.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    postcard::take_from_bytes(bytes)
        .ok()
        .and_then(|(message, rest)| rest.is_empty().then_some(message))
}
