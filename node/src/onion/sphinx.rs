//! The Sphinx construction of BOLT 4: shared secrets, the keys made of them, and the 1366-byte
//! packet that is wound for every hop and peeled by each. What a payload says is not its business.

use super::OnionError;
use bitcoin::hashes::{sha256, Hash, HashEngine, Hmac, HmacEngine};
use bitcoin::secp256k1::{ecdh, PublicKey, Scalar, Secp256k1, SecretKey};
use chacha20::cipher::{KeyIvInit, StreamCipher};
use chacha20::ChaCha20;
use lightning::ln::msgs::OnionPacket;
use lightning::util::ser::{BigSize, Readable, Writeable};
use serde::{Deserialize, Serialize};

/// Bytes of `hop_payloads` in a payment onion (BOLT 4, packet structure).
pub const HOP_PAYLOADS: usize = 1300;
const HMAC_LEN: usize = 32;

/// What one hop and the origin share (BOLT 4, shared secret): all keys of that hop come from it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedSecret(pub [u8; 32]);

impl std::fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedSecret(..)")
    }
}

impl SharedSecret {
    fn new(point: &PublicKey, secret: &SecretKey) -> SharedSecret {
        SharedSecret(ecdh::SharedSecret::new(point, secret).secret_bytes())
    }

    /// The key of the given type: "rho", "mu", "um", "ammag" (BOLT 4, key generation).
    pub(super) fn key(&self, kind: &str) -> [u8; 32] {
        hmac(kind.as_bytes(), &[&self.0])
    }
}

/// HMAC-SHA256 over the concatenated `parts`.
pub(super) fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut engine = HmacEngine::<sha256::Hash>::new(key);
    parts.iter().for_each(|part| engine.input(part));
    Hmac::from_engine(engine).to_byte_array()
}

/// Are the two equal? In constant time.
pub(super) fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

/// XOR `data` with the ChaCha20 stream of `key` from byte `skip` on, the nonce all zero (BOLT 4,
/// pseudo random byte stream).
fn apply_stream_at(key: &[u8; 32], skip: usize, data: &mut [u8]) {
    let mut cipher = ChaCha20::new(key.into(), &[0; 12].into());
    cipher.apply_keystream(&mut vec![0; skip]);
    cipher.apply_keystream(data);
}

/// XOR `data` with the ChaCha20 stream of `key`.
pub(super) fn apply_stream(key: &[u8; 32], data: &mut [u8]) {
    apply_stream_at(key, 0, data);
}

/// The factor that turns one hop's ephemeral key into the next one's.
fn blinding_factor(point: &PublicKey, secret: &SharedSecret) -> Scalar {
    let mut engine = sha256::Hash::engine();
    engine.input(&point.serialize());
    engine.input(&secret.0);
    // A hash not below the group order has a chance of 2^-128; a factor of one is then as good as
    // any, for the next hop would only see the same key again.
    Scalar::from_be_bytes(sha256::Hash::from_engine(engine).to_byte_array()).unwrap_or(Scalar::ONE)
}

/// The secrets shared with each of `hops`, in order (BOLT 4, packet construction).
///
/// # Errors
/// Never for keys that are not made up to fail.
pub fn shared_secrets<'a>(
    session_key: &SecretKey,
    hops: impl IntoIterator<Item = &'a PublicKey>,
) -> Result<Vec<SharedSecret>, OnionError> {
    let secp = Secp256k1::signing_only();
    let mut ephemeral = *session_key;
    hops.into_iter()
        .map(|hop| {
            let secret = SharedSecret::new(hop, &ephemeral);
            let factor = blinding_factor(&ephemeral.public_key(&secp), &secret);
            ephemeral = ephemeral.mul_tweak(&factor).map_err(|_| OnionError::Key)?;
            Ok(secret)
        })
        .collect()
}

/// `payload` with its length before it and `hmac` behind it: one hop's share of the packet.
fn frame(payload: &[u8], hmac: &[u8; 32]) -> Vec<u8> {
    let mut framed = BigSize(payload.len() as u64).encode();
    framed.extend_from_slice(payload);
    framed.extend_from_slice(hmac);
    framed
}

/// What all hops but the last will have appended, obfuscated, when the last one gets the packet
/// (BOLT 4, filler generation). `sizes` are the lengths of their frames.
fn filler(secrets: &[SharedSecret], sizes: &[usize]) -> Vec<u8> {
    let mut filler = Vec::new();
    for (secret, size) in secrets.iter().zip(sizes) {
        let start = HOP_PAYLOADS.saturating_sub(filler.len());
        filler.resize(filler.len().saturating_add(*size), 0);
        apply_stream_at(&secret.key("rho"), start, &mut filler);
    }
    filler
}

/// Winds the packet for `hops`, each a node and its encoded payload without length.
///
/// # Errors
/// `NoHops`, or `TooLong` when the payloads do not fit into 1300 bytes.
pub fn wind(
    session_key: &SecretKey,
    hops: &[(PublicKey, Vec<u8>)],
    associated_data: &[u8],
) -> Result<(OnionPacket, Vec<SharedSecret>), OnionError> {
    let secrets = shared_secrets(session_key, hops.iter().map(|(node, _)| node))?;
    let sizes: Vec<usize> = hops.iter().map(|(_, p)| frame(p, &[0; 32]).len()).collect();
    let (_, relayed) = sizes.split_last().ok_or(OnionError::NoHops)?;
    if sizes.iter().sum::<usize>() > HOP_PAYLOADS {
        return Err(OnionError::TooLong);
    }
    let filler = filler(&secrets, relayed);
    let mut packet = vec![0; HOP_PAYLOADS];
    apply_stream(&hmac(b"pad", &[&session_key.secret_bytes()]), &mut packet);
    let mut next_hmac = [0; HMAC_LEN];
    for (i, ((_, payload), secret)) in hops.iter().zip(&secrets).enumerate().rev() {
        let mut shifted = frame(payload, &next_hmac);
        shifted.append(&mut packet);
        shifted.truncate(HOP_PAYLOADS);
        packet = shifted;
        apply_stream(&secret.key("rho"), &mut packet);
        if i == relayed.len() {
            packet.truncate(HOP_PAYLOADS.saturating_sub(filler.len()));
            packet.extend_from_slice(&filler);
        }
        next_hmac = hmac(&secret.key("mu"), &[&packet, associated_data]);
    }
    let public_key = Ok(session_key.public_key(&Secp256k1::signing_only()));
    let hop_data = packet.try_into().map_err(|_| OnionError::TooLong)?;
    Ok((OnionPacket { version: 0, public_key, hop_data, hmac: next_hmac }, secrets))
}

/// One layer taken off a packet.
pub struct Unwound {
    /// Shared with the origin.
    pub secret: SharedSecret,
    /// What was inside; nothing if the frame does not hold together, although it is authentic.
    pub content: Option<Content>,
}

/// The inside of one layer.
pub struct Content {
    /// The payload without its length.
    pub payload: Vec<u8>,
    /// Bytes that the length took: a payload's offsets count from the start of the stream.
    pub length_size: u16,
    /// The packet for the next hop; nothing at the last.
    pub next: Option<OnionPacket>,
}

/// Why a packet cannot be unwound (BOLT 4, onion decryption).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPacket {
    /// A version other than 0.
    Version,
    /// The HMAC is not the one expected: not for us, tampered with, or for another HTLC.
    Hmac,
    /// The ephemeral key is no point.
    Key,
}

/// Takes our layer off `packet` (BOLT 4, onion decryption).
///
/// # Errors
/// `BadPacket`: then not even a failure can be sealed for the origin.
pub fn unwind(
    node_secret: &SecretKey,
    packet: &OnionPacket,
    associated_data: &[u8],
) -> Result<Unwound, BadPacket> {
    if packet.version != 0 {
        return Err(BadPacket::Version);
    }
    let point = packet.public_key.map_err(|_| BadPacket::Key)?;
    let secret = SharedSecret::new(&point, node_secret);
    let expected = hmac(&secret.key("mu"), &[&packet.hop_data, associated_data]);
    if !same(&expected, &packet.hmac) {
        return Err(BadPacket::Hmac);
    }
    let mut stream = packet.hop_data.to_vec();
    stream.resize(HOP_PAYLOADS.saturating_mul(2), 0);
    apply_stream(&secret.key("rho"), &mut stream);
    Ok(Unwound { secret, content: unframe(&stream, &point, &secret) })
}

fn unframe(stream: &[u8], point: &PublicKey, secret: &SharedSecret) -> Option<Content> {
    let mut rest = stream;
    let length = usize::try_from(BigSize::read(&mut rest).ok()?.0).ok()?;
    let length_size = u16::try_from(stream.len().checked_sub(rest.len())?).ok()?;
    if length < 2 {
        return None;
    }
    let (payload, rest) = rest.split_at_checked(length)?;
    let (next_hmac, rest) = rest.split_first_chunk::<HMAC_LEN>()?;
    // Shorter than a packet: the frame reached into the zeros that we appended ourselves.
    let hop_data = *rest.first_chunk::<HOP_PAYLOADS>()?;
    let next = (*next_hmac != [0; HMAC_LEN]).then(|| OnionPacket {
        version: 0,
        public_key: point
            .mul_tweak(&Secp256k1::verification_only(), &blinding_factor(point, secret)),
        hop_data,
        hmac: *next_hmac,
    });
    Some(Content { payload: payload.to_vec(), length_size, next })
}
