//! Failures on their way back (BOLT 4, returning errors): the messages, the packet that seals
//! them for the origin, and its opening there.

use super::sphinx::{apply_stream, hmac, same, SharedSecret};
use fulmen_channel::amount::{Height, Msat};
use lightning::util::ser::{BigSize, Readable, Writeable};
use serde::{Deserialize, Serialize};

/// The failure code's bit for an onion that could not be read.
pub const BADONION: u16 = 0x8000;
/// The failure code's bit for a lasting failure.
pub const PERM: u16 = 0x4000;
/// The failure code's bit for a failure of the node, not of a channel.
pub const NODE: u16 = 0x2000;
/// The failure code's bit for a violated channel parameter.
pub const UPDATE: u16 = 0x1000;

/// A failure message (BOLT 4, failure messages). `update` is a `channel_update`, as it came,
/// often empty; it is never applied to the graph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // each variant and field is the BOLT's of that name
pub enum FailureMessage {
    TemporaryNodeFailure,
    PermanentNodeFailure,
    RequiredNodeFeatureMissing,
    InvalidOnionVersion([u8; 32]),
    InvalidOnionHmac([u8; 32]),
    InvalidOnionKey([u8; 32]),
    TemporaryChannelFailure {
        update: Vec<u8>,
    },
    PermanentChannelFailure,
    RequiredChannelFeatureMissing,
    UnknownNextPeer,
    AmountBelowMinimum {
        amount: Msat,
        update: Vec<u8>,
    },
    FeeInsufficient {
        amount: Msat,
        update: Vec<u8>,
    },
    IncorrectCltvExpiry {
        cltv: Height,
        update: Vec<u8>,
    },
    ExpiryTooSoon {
        update: Vec<u8>,
    },
    IncorrectOrUnknownPaymentDetails {
        amount: Msat,
        height: Height,
    },
    FinalIncorrectCltvExpiry {
        cltv: Height,
    },
    FinalIncorrectHtlcAmount {
        amount: Msat,
    },
    ChannelDisabled {
        flags: u16,
        update: Vec<u8>,
    },
    ExpiryTooFar,
    InvalidOnionPayload {
        kind: u64,
        offset: u16,
    },
    MppTimeout,
    InvalidOnionBlinding([u8; 32]),
    /// A code we do not know, or one whose data does not fit it.
    Other {
        code: u16,
        data: Vec<u8>,
    },
}
use FailureMessage as F;

impl FailureMessage {
    /// Its `failure_code`.
    pub fn code(&self) -> u16 {
        match self {
            F::TemporaryNodeFailure => NODE | 2,
            F::PermanentNodeFailure => PERM | NODE | 2,
            F::RequiredNodeFeatureMissing => PERM | NODE | 3,
            F::InvalidOnionVersion(_) => BADONION | PERM | 4,
            F::InvalidOnionHmac(_) => BADONION | PERM | 5,
            F::InvalidOnionKey(_) => BADONION | PERM | 6,
            F::TemporaryChannelFailure { .. } => UPDATE | 7,
            F::PermanentChannelFailure => PERM | 8,
            F::RequiredChannelFeatureMissing => PERM | 9,
            F::UnknownNextPeer => PERM | 10,
            F::AmountBelowMinimum { .. } => UPDATE | 11,
            F::FeeInsufficient { .. } => UPDATE | 12,
            F::IncorrectCltvExpiry { .. } => UPDATE | 13,
            F::ExpiryTooSoon { .. } => UPDATE | 14,
            F::IncorrectOrUnknownPaymentDetails { .. } => PERM | 15,
            F::FinalIncorrectCltvExpiry { .. } => 18,
            F::FinalIncorrectHtlcAmount { .. } => 19,
            F::ChannelDisabled { .. } => UPDATE | 20,
            F::ExpiryTooFar => 21,
            F::InvalidOnionPayload { .. } => PERM | 22,
            F::MppTimeout => 23,
            F::InvalidOnionBlinding(_) => BADONION | PERM | 24,
            F::Other { code, .. } => *code,
        }
    }

    /// Is it final, so that trying the same again is in vain?
    pub fn is_permanent(&self) -> bool {
        self.code() & PERM != 0
    }

    /// Code and data as they travel.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.code().to_be_bytes().to_vec();
        match self {
            F::InvalidOnionVersion(hash)
            | F::InvalidOnionHmac(hash)
            | F::InvalidOnionKey(hash)
            | F::InvalidOnionBlinding(hash) => bytes.extend(hash),
            F::TemporaryChannelFailure { update } | F::ExpiryTooSoon { update } => {
                put_update(&mut bytes, update);
            }
            F::AmountBelowMinimum { amount, update } | F::FeeInsufficient { amount, update } => {
                bytes.extend(amount.msat().to_be_bytes());
                put_update(&mut bytes, update);
            }
            F::IncorrectCltvExpiry { cltv, update } => {
                bytes.extend(cltv.number().to_be_bytes());
                put_update(&mut bytes, update);
            }
            F::IncorrectOrUnknownPaymentDetails { amount, height } => {
                bytes.extend(amount.msat().to_be_bytes());
                bytes.extend(height.number().to_be_bytes());
            }
            F::FinalIncorrectCltvExpiry { cltv } => bytes.extend(cltv.number().to_be_bytes()),
            F::FinalIncorrectHtlcAmount { amount } => bytes.extend(amount.msat().to_be_bytes()),
            F::ChannelDisabled { flags, update } => {
                bytes.extend(flags.to_be_bytes());
                put_update(&mut bytes, update);
            }
            F::InvalidOnionPayload { kind, offset } => {
                bytes.extend(BigSize(*kind).encode());
                bytes.extend(offset.to_be_bytes());
            }
            F::Other { data, .. } => bytes.extend(data),
            _ => {}
        }
        bytes
    }

    /// Reads code and data; extra bytes behind them are ignored. Nothing if there is no code.
    pub fn decode(bytes: &[u8]) -> Option<FailureMessage> {
        let (code, data) = bytes.split_first_chunk::<2>()?;
        let code = u16::from_be_bytes(*code);
        let other = || F::Other { code, data: data.to_vec() };
        Some(decode_data(code, data).unwrap_or_else(other))
    }
}

/// Appends a `channel_update` and its length; one too long for that is left out, as it may be.
fn put_update(bytes: &mut Vec<u8>, update: &[u8]) {
    let (len, update) = u16::try_from(update.len()).map_or((0, &[][..]), |len| (len, update));
    bytes.extend(len.to_be_bytes());
    bytes.extend(update);
}

fn decode_data(code: u16, data: &[u8]) -> Option<FailureMessage> {
    let mut data = Data(data);
    Some(match code {
        0x2002 => F::TemporaryNodeFailure,
        0x6002 => F::PermanentNodeFailure,
        0x6003 => F::RequiredNodeFeatureMissing,
        0xc004 => F::InvalidOnionVersion(data.take()?),
        0xc005 => F::InvalidOnionHmac(data.take()?),
        0xc006 => F::InvalidOnionKey(data.take()?),
        0x1007 => F::TemporaryChannelFailure { update: data.update()? },
        0x4008 => F::PermanentChannelFailure,
        0x4009 => F::RequiredChannelFeatureMissing,
        0x400a => F::UnknownNextPeer,
        0x100b => F::AmountBelowMinimum { amount: data.amount()?, update: data.update()? },
        0x100c => F::FeeInsufficient { amount: data.amount()?, update: data.update()? },
        0x100d => F::IncorrectCltvExpiry { cltv: data.height()?, update: data.update()? },
        0x100e => F::ExpiryTooSoon { update: data.update()? },
        // Old nodes sent neither amount nor height.
        0x400f => F::IncorrectOrUnknownPaymentDetails {
            amount: data.amount().unwrap_or_default(),
            height: data.height().unwrap_or_default(),
        },
        0x0012 => F::FinalIncorrectCltvExpiry { cltv: data.height()? },
        0x0013 => F::FinalIncorrectHtlcAmount { amount: data.amount()? },
        0x1014 => {
            F::ChannelDisabled { flags: u16::from_be_bytes(data.take()?), update: data.update()? }
        }
        0x0015 => F::ExpiryTooFar,
        0x4016 => F::InvalidOnionPayload {
            kind: BigSize::read(&mut data.0).ok()?.0,
            offset: u16::from_be_bytes(data.take()?),
        },
        0x0017 => F::MppTimeout,
        0xc018 => F::InvalidOnionBlinding(data.take()?),
        _ => return None,
    })
}

/// What is left of a message's data.
struct Data<'a>(&'a [u8]);

impl Data<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }
    fn amount(&mut self) -> Option<Msat> {
        self.take().map(u64::from_be_bytes).map(Msat::new)
    }
    fn height(&mut self) -> Option<Height> {
        self.take().map(u32::from_be_bytes).map(Height::new)
    }
    /// Bytes with a u16 length before them.
    fn update(&mut self) -> Option<Vec<u8>> {
        let len = u16::from_be_bytes(self.take()?);
        let (update, rest) = self.0.split_at_checked(usize::from(len))?;
        self.0 = rest;
        Some(update.to_vec())
    }
}

/// `failure_len` + `pad_len` of every packet we make, so that all are alike.
const PADDED: usize = 256;
/// How many layers the origin takes off, whoever failed: the longest route of TLV payloads.
const LAYERS: usize = 27;

/// The return packet before its first obfuscation: hmac, message, pad.
fn packet(um: &[u8; 32], message: &[u8]) -> Vec<u8> {
    let pad = vec![0; PADDED.saturating_sub(message.len())];
    let mut body = Vec::new();
    put_update(&mut body, message);
    put_update(&mut body, &pad);
    let mut packet = hmac(um, &[&body]).to_vec();
    packet.extend(body);
    packet
}

/// The message in a packet that is authentic under `um`: nothing if it is not; `Err` if it is but
/// makes no sense.
#[allow(clippy::option_option)]
fn parse(um: &[u8; 32], packet: &[u8]) -> Option<Option<FailureMessage>> {
    let (mac, body) = packet.split_first_chunk::<32>()?;
    if !same(&hmac(um, &[body]), mac) {
        return None;
    }
    let mut body = Data(body);
    let message = body.update().filter(|_| body.update().is_some() && body.0.is_empty());
    Some(message.and_then(|message| FailureMessage::decode(&message)))
}

/// Seals `failure` for the origin: the `reason` of our update_fail_htlc, 292 bytes (BOLT 4,
/// erring node).
pub fn seal(secret: &SharedSecret, failure: &FailureMessage) -> Vec<u8> {
    let mut packet = packet(&secret.key("um"), &failure.encode());
    wrap(secret, &mut packet);
    packet
}

/// Adds our layer to a failure on its way back (BOLT 4, intermediate nodes).
pub fn wrap(secret: &SharedSecret, packet: &mut [u8]) {
    apply_stream(&secret.key("ammag"), packet);
}

/// What the origin reads in a failure that came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Opened {
    /// A hop sent it.
    From {
        /// Which one, counted from 0, the first after us.
        hop: usize,
        /// What it says; nothing if it is authentic but malformed.
        failure: Option<FailureMessage>,
    },
    /// No hop's key fits: somebody on the way garbled it.
    Unreadable,
}

/// Opens a failure at the origin, given the secrets of all hops in order. Does the same work for
/// every route and failing hop (BOLT 4, origin node).
pub fn open(secrets: &[SharedSecret], reason: &[u8]) -> Opened {
    let mut packet = reason.to_vec();
    let mut opened = Opened::Unreadable;
    let layers = secrets.len().max(LAYERS);
    let dummies = std::iter::repeat(&SharedSecret([0; 32]));
    for (hop, secret) in secrets.iter().chain(dummies).take(layers).enumerate() {
        wrap(secret, &mut packet);
        let parsed = parse(&secret.key("um"), &packet);
        if let (Some(failure), true, Opened::Unreadable) = (parsed, hop < secrets.len(), &opened) {
            opened = Opened::From { hop, failure };
        }
    }
    opened
}

#[cfg(test)]
#[path = "failure_tests.rs"]
mod tests;
