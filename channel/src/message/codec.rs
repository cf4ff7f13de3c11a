//! Messages to bytes and back (BOLT 1 and 2). One table names each message's type and where its
//! channel id stands; lightning's codec does the fields, ours what it keeps private or refuses.

use lightning::io;
use lightning::ln::msgs::{self, DecodeError};
use lightning::ln::types::ChannelId;
use lightning::util::ser::{
    BigSize, LengthLimitedRead, LengthReadable, Readable, Writeable, Writer,
};

use super::{Message, UpdateFailHtlc, UpdateFailMalformedHtlc};

/// The longest message that a BOLT 8 frame can carry, its 2-byte type included.
pub const MAX_MESSAGE_LEN: usize = 65_535;
/// What is left for the text of an `error` or `warning`: type, channel id and length come first.
const MAX_TEXT_LEN: usize = 65_499;

/// A peer sent a message of a type we know that does not follow its format. BOLT 1: close the
/// connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message of type {type_id} {why}")]
pub struct BadMessage {
    /// The BOLT message type.
    pub type_id: u16,
    /// What is wrong with it.
    pub why: &'static str,
}

/// What a variant of [`Message`] holds, boxed or not.
trait Body: Sized {
    fn read(body: &[u8]) -> Result<Self, DecodeError>;
    fn bytes(&self) -> Vec<u8>;
}

impl<T: LengthReadable + Writeable> Body for Box<T> {
    fn read(mut body: &[u8]) -> Result<Self, DecodeError> {
        T::read_from_fixed_length_buffer(&mut body).map(Box::new)
    }
    fn bytes(&self) -> Vec<u8> {
        Writeable::encode(&**self)
    }
}

impl Body for msgs::UpdateFee {
    fn read(mut body: &[u8]) -> Result<Self, DecodeError> {
        Self::read_from_fixed_length_buffer(&mut body)
    }
    fn bytes(&self) -> Vec<u8> {
        Writeable::encode(self)
    }
}

impl Body for msgs::ErrorMessage {
    fn read(body: &[u8]) -> Result<Self, DecodeError> {
        read_text(body).map(|(channel_id, data)| Self { channel_id, data })
    }
    fn bytes(&self) -> Vec<u8> {
        text_bytes(&self.channel_id, &self.data)
    }
}

impl Body for msgs::WarningMessage {
    fn read(body: &[u8]) -> Result<Self, DecodeError> {
        read_text(body).map(|(channel_id, data)| Self { channel_id, data })
    }
    fn bytes(&self) -> Vec<u8> {
        text_bytes(&self.channel_id, &self.data)
    }
}

macro_rules! messages {
    ($($number:literal $name:ident $($channel_id:ident).+;)*) => {
        impl Message {
            /// The BOLT message type.
            pub fn type_id(&self) -> u16 {
                match self { $(Message::$name(_) => $number,)* }
            }

            /// The channel it is about; in `open_channel`, `accept_channel` and `funding_created`
            /// the temporary id, in `error` and `warning` all zeros when it is about all channels.
            pub fn channel_id(&self) -> ChannelId {
                match self { $(Message::$name(m) => m.$($channel_id).+,)* }
            }

            /// The message as it is sent: 2-byte type, then the body.
            pub fn encode(&self) -> Vec<u8> {
                let body = match self { $(Message::$name(m) => m.bytes(),)* };
                let mut out = self.type_id().to_be_bytes().to_vec();
                out.extend(body);
                out
            }

            /// Reads a message's body (what follows the 2-byte type). `None` if the type is not a
            /// channel message of ours. Unknown odd fields at the end are dropped (BOLT 1).
            ///
            /// # Errors
            /// [`BadMessage`] if the body is too short, too long, or not in its type's format.
            pub fn decode(type_id: u16, body: &[u8]) -> Result<Option<Message>, BadMessage> {
                if body.len() > MAX_MESSAGE_LEN - 2 {
                    return Err(BadMessage { type_id, why: "is longer than 65535 bytes" });
                }
                let message = match type_id {
                    $($number => Body::read(body).map(Message::$name),)*
                    _ => return Ok(None),
                };
                message.map(Some).map_err(|e| BadMessage { type_id, why: reason(&e) })
            }
        }
    };
}

messages! {
    1 Warning channel_id;
    17 Error channel_id;
    32 OpenChannel common_fields.temporary_channel_id;
    33 AcceptChannel common_fields.temporary_channel_id;
    34 FundingCreated temporary_channel_id;
    35 FundingSigned channel_id;
    36 ChannelReady channel_id;
    38 Shutdown channel_id;
    39 ClosingSigned channel_id;
    40 ClosingComplete channel_id;
    41 ClosingSig channel_id;
    128 UpdateAddHtlc channel_id;
    130 UpdateFulfillHtlc channel_id;
    131 UpdateFailHtlc channel_id;
    132 CommitmentSigned channel_id;
    133 RevokeAndAck channel_id;
    134 UpdateFee channel_id;
    135 UpdateFailMalformedHtlc channel_id;
    136 ChannelReestablish channel_id;
    259 AnnouncementSignatures channel_id;
}

/// A decoder's complaint in plain words.
fn reason(error: &DecodeError) -> &'static str {
    match error {
        DecodeError::ShortRead => "ends too early",
        DecodeError::UnknownRequiredFeature => "has a required field that we do not know",
        DecodeError::BadLengthDescriptor => "has a field of the wrong length",
        _ => "has a field with an impossible value",
    }
}

impl Writeable for UpdateFailHtlc {
    fn write<W: Writer>(&self, w: &mut W) -> Result<(), io::Error> {
        self.channel_id.write(w)?;
        self.htlc_id.write(w)?;
        write_bytes(&self.reason, w)
    }
}

impl LengthReadable for UpdateFailHtlc {
    fn read_from_fixed_length_buffer<R: LengthLimitedRead>(r: &mut R) -> Result<Self, DecodeError> {
        let message = Self {
            channel_id: Readable::read(r)?,
            htlc_id: Readable::read(r)?,
            reason: read_bytes(r)?,
        };
        skip_extension(r)?;
        Ok(message)
    }
}

impl Writeable for UpdateFailMalformedHtlc {
    fn write<W: Writer>(&self, w: &mut W) -> Result<(), io::Error> {
        self.channel_id.write(w)?;
        self.htlc_id.write(w)?;
        self.sha256_of_onion.write(w)?;
        self.failure_code.write(w)
    }
}

impl LengthReadable for UpdateFailMalformedHtlc {
    fn read_from_fixed_length_buffer<R: LengthLimitedRead>(r: &mut R) -> Result<Self, DecodeError> {
        let message = Self {
            channel_id: Readable::read(r)?,
            htlc_id: Readable::read(r)?,
            sha256_of_onion: Readable::read(r)?,
            failure_code: Readable::read(r)?,
        };
        skip_extension(r)?;
        Ok(message)
    }
}

/// `error` and `warning` share their format. The text may be any bytes: those that are not UTF-8
/// are replaced, because an unreadable error is still an error.
fn read_text(mut body: &[u8]) -> Result<(ChannelId, String), DecodeError> {
    let r = &mut body;
    let channel_id = Readable::read(r)?;
    let data = String::from_utf8_lossy(&read_bytes(r)?).into_owned();
    skip_extension(r)?;
    Ok((channel_id, data))
}

fn text_bytes(channel_id: &ChannelId, text: &str) -> Vec<u8> {
    let text = text.as_bytes();
    let text = text.get(..MAX_TEXT_LEN).unwrap_or(text);
    let mut out = channel_id.0.to_vec();
    // Cannot fail: a Vec takes all that is written.
    let _ = write_bytes(text, &mut out);
    out
}

/// A u16 length and so many bytes; what a u16 cannot count is cut off.
fn write_bytes<W: Writer>(bytes: &[u8], w: &mut W) -> Result<(), io::Error> {
    let bytes = bytes.get(..usize::from(u16::MAX)).unwrap_or(bytes);
    u16::try_from(bytes.len()).unwrap_or(u16::MAX).write(w)?;
    w.write_all(bytes)
}

fn read_bytes<R: io::Read>(r: &mut R) -> Result<Vec<u8>, DecodeError> {
    let mut bytes = vec![0; usize::from(<u16 as Readable>::read(r)?)];
    r.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Reads the TLV stream after a message's fields: types rise strictly, odd ones are dropped, even
/// ones refused (BOLT 1, Type-Length-Value Format).
fn skip_extension<R: LengthLimitedRead>(r: &mut R) -> Result<(), DecodeError> {
    let mut last = None;
    while r.remaining_bytes() > 0 {
        let BigSize(kind) = Readable::read(r)?;
        if last.is_some_and(|last| kind <= last) {
            return Err(DecodeError::InvalidValue);
        }
        if kind % 2 == 0 {
            return Err(DecodeError::UnknownRequiredFeature);
        }
        let BigSize(len) = Readable::read(r)?;
        if len > r.remaining_bytes() {
            return Err(DecodeError::ShortRead);
        }
        let mut value = vec![0; usize::try_from(len).map_err(|_| DecodeError::ShortRead)?];
        r.read_exact(&mut value)?;
        last = Some(kind);
    }
    Ok(())
}
