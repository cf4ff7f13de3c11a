//! Messages of a connection: BOLT 1's own, BOLT 7's announcements, and the channel's, told apart by
//! their type.

use fulmen_channel::message::{BadMessage, Message};
use lightning::ln::msgs::{self, DecodeError};
use lightning::ln::wire::Type;
use lightning::util::ser::{LengthReadable, Writeable};

/// A message between two peers.
#[derive(Clone, Debug, PartialEq)]
pub enum WireMessage {
    /// `init` (16): features and chains, the first message of a connection.
    Init(Box<msgs::Init>),
    /// `ping` (18).
    Ping(msgs::Ping),
    /// `pong` (19).
    Pong(msgs::Pong),
    /// A message about a channel, or about all of them.
    Channel(Message),
    /// `peer_storage` (7): keep this for me.
    PeerStorage(Box<msgs::PeerStorage>),
    /// `peer_storage_retrieval` (9): what you had me keep.
    PeerStorageRetrieval(Box<msgs::PeerStorageRetrieval>),
    /// `channel_announcement` (256).
    ChannelAnnouncement(Box<msgs::ChannelAnnouncement>),
    /// `node_announcement` (257).
    NodeAnnouncement(Box<msgs::NodeAnnouncement>),
    /// `channel_update` (258).
    ChannelUpdate(Box<msgs::ChannelUpdate>),
}

/// A received message that BOLT 1 answers by closing the connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Shorter than a message's type.
    #[error("a message without a type")]
    NoType,
    /// An even type that we do not know.
    #[error("a message of the unknown, required type {0}")]
    UnknownType(u16),
    /// A type that we know, in the wrong format.
    #[error("{0}")]
    Bad(#[from] BadMessage),
}

impl WireMessage {
    /// The message as it is sent: 2-byte type, then the body.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            WireMessage::Init(m) => typed(&**m),
            WireMessage::Ping(m) => typed(m),
            WireMessage::Pong(m) => typed(m),
            WireMessage::Channel(m) => m.encode(),
            WireMessage::PeerStorage(m) => typed(&**m),
            WireMessage::PeerStorageRetrieval(m) => typed(&**m),
            WireMessage::ChannelAnnouncement(m) => typed(&**m),
            WireMessage::NodeAnnouncement(m) => typed(&**m),
            WireMessage::ChannelUpdate(m) => typed(&**m),
        }
    }

    /// Reads a message. `None` where BOLT 1 says to ignore it: an odd type that we do not know;
    /// so is an announcement whose values we cannot read, as its author is seldom who sends it.
    ///
    /// # Errors
    /// [`WireError`] if the connection must be closed.
    pub fn decode(bytes: &[u8]) -> Result<Option<WireMessage>, WireError> {
        let (type_id, body) = bytes.split_first_chunk::<2>().ok_or(WireError::NoType)?;
        let type_id = u16::from_be_bytes(*type_id);
        Ok(match type_id {
            7 => Some(WireMessage::PeerStorage(Box::new(read(type_id, body)?))),
            9 => Some(WireMessage::PeerStorageRetrieval(Box::new(read(type_id, body)?))),
            16 => Some(WireMessage::Init(Box::new(read(type_id, body)?))),
            18 => Some(WireMessage::Ping(read(type_id, body)?)),
            19 => Some(WireMessage::Pong(read(type_id, body)?)),
            256 => gossip(type_id, body)?.map(WireMessage::ChannelAnnouncement),
            257 => gossip(type_id, body)?.map(WireMessage::NodeAnnouncement),
            258 => gossip(type_id, body)?.map(WireMessage::ChannelUpdate),
            _ => match Message::decode(type_id, body)? {
                Some(message) => Some(WireMessage::Channel(message)),
                None if type_id % 2 == 0 => return Err(WireError::UnknownType(type_id)),
                None => None,
            },
        })
    }
}

fn typed<T: Type>(message: &T) -> Vec<u8> {
    let mut bytes = message.type_id().to_be_bytes().to_vec();
    bytes.extend(Writeable::encode(message));
    bytes
}

fn read<T: LengthReadable>(type_id: u16, mut body: &[u8]) -> Result<T, BadMessage> {
    T::read_from_fixed_length_buffer(&mut body).map_err(|e| {
        let why = match e {
            DecodeError::ShortRead => "ends too early",
            _ => "cannot be read",
        };
        BadMessage { type_id, why }
    })
}

fn gossip<T: LengthReadable>(type_id: u16, mut body: &[u8]) -> Result<Option<Box<T>>, BadMessage> {
    match T::read_from_fixed_length_buffer(&mut body) {
        Ok(message) => Ok(Some(Box::new(message))),
        Err(DecodeError::ShortRead) => Err(BadMessage { type_id, why: "ends too early" }),
        Err(_) => Ok(None),
    }
}
