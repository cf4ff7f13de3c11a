//! What an onion tells one hop: the TLV stream `payload` of BOLT 4, for payments outside blinded
//! paths.

use super::failure::FailureMessage;
use fulmen_channel::amount::{Height, Msat};
use lightning::util::ser::{BigSize, Readable, Writeable};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const AMT_TO_FORWARD: u64 = 2;
const OUTGOING_CLTV: u64 = 4;
const SHORT_CHANNEL_ID: u64 = 6;
const PAYMENT_DATA: u64 = 8;
const ENCRYPTED_RECIPIENT_DATA: u64 = 10;
const CURRENT_PATH_KEY: u64 = 12;
const PAYMENT_METADATA: u64 = 16;

/// What one hop is told (BOLT 4, payload format).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// To the next hop, or to the payee: what this HTLC brings.
    pub amt_to_forward: Msat,
    /// The expiry that the outgoing HTLC, or the payee's, is to have at least.
    pub outgoing_cltv: Height,
    /// The channel to forward over; absent at the payee.
    pub short_channel_id: Option<u64>,
    /// For the payee: the invoice's secret and the total.
    pub payment_data: Option<PaymentData>,
    /// For the payee: the invoice's metadata, verbatim.
    pub payment_metadata: Option<Vec<u8>>,
    /// All other records. Read, these are odd types only.
    pub records: BTreeMap<u64, Vec<u8>>,
}

/// `payment_data` (BOLT 4, type 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentData {
    /// From the invoice: proves that the sender has seen it.
    pub payment_secret: [u8; 32],
    /// What all HTLCs of this payment bring together.
    pub total: Msat,
}

/// `value` without its leading zero bytes: BOLT 1's tu64 and tu32.
fn truncated(value: u64) -> Vec<u8> {
    value.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect()
}

/// Reads a truncated integer of at most `max` bytes, in its shortest form only.
fn read_truncated(bytes: &[u8], max: usize) -> Option<u64> {
    if bytes.len() > max || bytes.first() == Some(&0) {
        return None;
    }
    Some(bytes.iter().fold(0, |value, byte| (value << 8) | u64::from(*byte)))
}

impl PaymentData {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = self.payment_secret.to_vec();
        bytes.extend(truncated(self.total.msat()));
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<PaymentData> {
        let (payment_secret, total) = bytes.split_first_chunk::<32>()?;
        let total = Msat::new(read_truncated(total, 8)?);
        Some(PaymentData { payment_secret: *payment_secret, total })
    }
}

impl Payload {
    /// The TLV stream, without the length before it.
    pub fn encode(&self) -> Vec<u8> {
        let mut records = self.records.clone();
        records.insert(AMT_TO_FORWARD, truncated(self.amt_to_forward.msat()));
        records.insert(OUTGOING_CLTV, truncated(u64::from(self.outgoing_cltv.number())));
        if let Some(scid) = self.short_channel_id {
            records.insert(SHORT_CHANNEL_ID, scid.to_be_bytes().to_vec());
        }
        if let Some(data) = &self.payment_data {
            records.insert(PAYMENT_DATA, data.encode());
        }
        if let Some(metadata) = &self.payment_metadata {
            records.insert(PAYMENT_METADATA, metadata.clone());
        }
        let mut stream = Vec::new();
        for (kind, value) in records {
            stream.extend(BigSize(kind).encode());
            stream.extend(BigSize(value.len() as u64).encode());
            stream.extend(value);
        }
        stream
    }

    /// Reads a TLV stream (BOLT 1, type-length-value format). `base` is where it starts in the
    /// decrypted stream, `onion_hash` the hash of the onion that it was in.
    ///
    /// # Errors
    /// The failure to send back: `invalid_onion_payload` naming the first wrong type and where it
    /// stands; `invalid_onion_blinding` for a blinded payment, which we do not take yet.
    pub fn decode(
        stream: &[u8],
        base: u16,
        onion_hash: &[u8; 32],
    ) -> Result<Payload, FailureMessage> {
        let mut reader = Reader { stream, rest: stream, base };
        let mut payload = Payload::default();
        let (mut amount, mut cltv, mut blinded) = (None, None, None);
        let mut last = None;
        while !reader.rest.is_empty() {
            let offset = reader.offset();
            let invalid = |kind| FailureMessage::InvalidOnionPayload { kind, offset };
            let kind = reader.bigsize().ok_or(invalid(0))?;
            let value = reader.value().ok_or(invalid(kind))?;
            if last.is_some_and(|last| kind <= last) {
                return Err(invalid(kind));
            }
            last = Some(kind);
            let fine = match kind {
                AMT_TO_FORWARD => put(&mut amount, read_truncated(value, 8)),
                OUTGOING_CLTV => put(&mut cltv, read_truncated(value, 4)),
                SHORT_CHANNEL_ID => put(&mut payload.short_channel_id, scid(value)),
                PAYMENT_DATA => put(&mut payload.payment_data, PaymentData::decode(value)),
                PAYMENT_METADATA => put(&mut payload.payment_metadata, Some(value.to_vec())),
                ENCRYPTED_RECIPIENT_DATA => put(&mut blinded, Some(offset)),
                CURRENT_PATH_KEY => return Err(FailureMessage::InvalidOnionBlinding(*onion_hash)),
                unknown => {
                    payload.records.insert(unknown, value.to_vec());
                    unknown % 2 == 1
                }
            };
            if !fine {
                return Err(invalid(kind));
            }
        }
        if let Some(offset) = blinded {
            let kind = ENCRYPTED_RECIPIENT_DATA;
            return Err(FailureMessage::InvalidOnionPayload { kind, offset });
        }
        let missing = |kind| FailureMessage::InvalidOnionPayload { kind, offset: 0 };
        payload.amt_to_forward = Msat::new(amount.ok_or(missing(AMT_TO_FORWARD))?);
        let cltv = cltv.and_then(|cltv| u32::try_from(cltv).ok());
        payload.outgoing_cltv = Height::new(cltv.ok_or(missing(OUTGOING_CLTV))?);
        Ok(payload)
    }

    /// The same, asked of a hop that is to forward.
    ///
    /// # Errors
    /// `invalid_onion_payload` if no channel is named.
    pub fn next_channel(&self) -> Result<u64, FailureMessage> {
        self.short_channel_id
            .ok_or(FailureMessage::InvalidOnionPayload { kind: SHORT_CHANNEL_ID, offset: 0 })
    }
}

/// Stores what was read; false if nothing could be.
fn put<T>(slot: &mut Option<T>, value: Option<T>) -> bool {
    *slot = value;
    slot.is_some()
}

fn scid(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_be_bytes)
}

struct Reader<'a> {
    stream: &'a [u8],
    rest: &'a [u8],
    base: u16,
}

impl<'a> Reader<'a> {
    fn offset(&self) -> u16 {
        let read = self.stream.len().saturating_sub(self.rest.len());
        self.base.saturating_add(u16::try_from(read).unwrap_or(u16::MAX))
    }

    fn bigsize(&mut self) -> Option<u64> {
        BigSize::read(&mut self.rest).ok().map(|size| size.0)
    }

    fn value(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.bigsize()?).ok()?;
        let (value, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(value)
    }
}
