//! BOLT 8: the three acts of the handshake and the encrypted frames after it. Pure: what goes in
//! and out are bytes, the ephemeral key is handed in. `snow` walks the Noise pattern, the
//! primitives below give it secp256k1.
//!
//! ```text
//!     initiator                                  responder
//!     act one    -> e, es   (50 bytes) ->
//!                <- e, ee   (50 bytes) <-   act two
//!     act three  -> s, se   (66 bytes) ->
//!     frames     <-> 18 bytes: length + MAC, then the message + MAC <->
//! ```

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use bitcoin::hashes::{sha256, Hash as _, HashEngine, Hmac, HmacEngine};
use bitcoin::secp256k1::{ecdh, PublicKey, Secp256k1, SecretKey, SignOnly};
use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce, Tag};
use snow::params::{
    BaseChoice, CipherChoice, DHChoice, HandshakeChoice, HandshakeModifierList, HandshakePattern,
    HashChoice, NoiseParams,
};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};

/// Length of the first act, initiator to responder, in bytes.
pub const ACT_ONE: usize = 50;
/// Length of the second act, responder to initiator, in bytes.
pub const ACT_TWO: usize = 50;
/// Length of the third act, initiator to responder, in bytes.
pub const ACT_THREE: usize = 66;
/// Length of a frame's encrypted length prefix with its MAC, in bytes.
pub const HEADER: usize = 18;
/// Length of a MAC, in bytes.
pub const MAC: usize = 16;

const PROTOCOL: &str = "Noise_XK_secp256k1_ChaChaPoly_SHA256";
const PROLOGUE: &[u8] = b"lightning";
/// The only handshake version there is.
const VERSION: u8 = 0;
/// A key is used this often, then replaced (BOLT 8, Key Rotation): twice for each message.
const ROTATE_AT: u64 = 1000;

/// Why a handshake failed. BOLT 8: close the connection and send nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The act does not begin with version 0.
    #[error("act {act} of the handshake has the unknown version {version}")]
    Version {
        /// Which of the three acts.
        act: u8,
        /// The version byte found.
        version: u8,
    },
    /// A public key in the act is not a point of the curve.
    #[error("act {act} of the handshake carries an invalid public key")]
    BadKey {
        /// Which of the three acts.
        act: u8,
    },
    /// A MAC is wrong: the other side has another key than thought, or the bytes were changed.
    #[error("act {act} of the handshake fails its check: is the node's public key right?")]
    BadMac {
        /// Which of the three acts.
        act: u8,
    },
}

/// A frame cannot be sealed or opened. The connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A message of ours is longer than 65535 bytes.
    #[error("a message of {0} bytes is too long to send: the limit is 65535")]
    TooLong(usize),
    /// The MAC of a received frame is wrong.
    #[error("a received frame fails its check")]
    BadMac,
}

/// The side that connects, after sending act one.
pub struct Initiator(State);

/// The side that was connected to, after sending act two.
pub struct Responder(State);

/// An established session: one half to send with, one to receive with.
pub struct Transport {
    /// Encrypts what we send.
    pub sealer: Sealer,
    /// Decrypts what we receive.
    pub opener: Opener,
}

impl Initiator {
    /// Starts a handshake with `peer`; `ephemeral` must be fresh and random. Gives act one.
    ///
    /// # Errors
    /// [`HandshakeError::BadKey`] cannot happen with valid keys.
    pub fn start(
        node_secret: &SecretKey,
        peer: &PublicKey,
        ephemeral: SecretKey,
    ) -> Result<(Self, [u8; ACT_ONE]), HandshakeError> {
        let mut state = State::new(node_secret, Some(peer), ephemeral, 1)?;
        let act_one = state.write(1)?;
        Ok((Self(state), act_one))
    }

    /// Takes act two, gives act three and the session.
    ///
    /// # Errors
    /// [`HandshakeError`] if act two is not the answer of the peer we wanted.
    pub fn finish(
        mut self,
        act_two: &[u8; ACT_TWO],
    ) -> Result<(Transport, [u8; ACT_THREE]), HandshakeError> {
        self.0.read(2, act_two)?;
        let act_three = self.0.write(3)?;
        let (ours, theirs, chaining) = self.0.split();
        Ok((Transport::new(ours, theirs, chaining), act_three))
    }
}

impl Responder {
    /// Takes act one of whoever connected, gives act two; `ephemeral` must be fresh and random.
    ///
    /// # Errors
    /// [`HandshakeError`] if act one is not meant for our node's key.
    pub fn start(
        node_secret: &SecretKey,
        ephemeral: SecretKey,
        act_one: &[u8; ACT_ONE],
    ) -> Result<(Self, [u8; ACT_TWO]), HandshakeError> {
        let mut state = State::new(node_secret, None, ephemeral, 1)?;
        state.read(1, act_one)?;
        let act_two = state.write(2)?;
        Ok((Self(state), act_two))
    }

    /// Takes act three, gives the session and who the initiator is.
    ///
    /// # Errors
    /// [`HandshakeError`] if act three does not prove the initiator's identity.
    pub fn finish(
        mut self,
        act_three: &[u8; ACT_THREE],
    ) -> Result<(Transport, PublicKey), HandshakeError> {
        self.0.read(3, act_three)?;
        let peer = self.0.noise.get_remote_static().unwrap_or_default();
        let peer = PublicKey::from_slice(peer).map_err(|_| HandshakeError::BadKey { act: 3 })?;
        let (theirs, ours, chaining) = self.0.split();
        Ok((Transport::new(ours, theirs, chaining), peer))
    }
}

impl Transport {
    fn new(ours: [u8; 32], theirs: [u8; 32], chaining: [u8; 32]) -> Self {
        let sealer = Sealer(RotatingKey::new(ours, chaining));
        Self { sealer, opener: Opener(RotatingKey::new(theirs, chaining)) }
    }
}

/// Encrypts messages into frames, in order.
pub struct Sealer(RotatingKey);

impl Sealer {
    /// Appends `message`'s frame to `out`.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] over 65535 bytes; nothing is appended then.
    pub fn seal(&mut self, message: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
        let len = u16::try_from(message.len()).map_err(|_| FrameError::TooLong(message.len()))?;
        self.0.seal(&len.to_be_bytes(), out);
        self.0.seal(message, out);
        Ok(())
    }
}

/// Decrypts frames into messages, in order: each header with [`Opener::length`], then its body.
pub struct Opener(RotatingKey);

impl Opener {
    /// Opens a frame's header: how long the message after it is, in bytes, without its MAC.
    ///
    /// # Errors
    /// [`FrameError::BadMac`] if the header was not made by the peer for this place.
    pub fn length(&mut self, header: &[u8; HEADER]) -> Result<usize, FrameError> {
        let len = self.0.open(header)?;
        let len = <[u8; 2]>::try_from(&*len).map_err(|_| FrameError::BadMac)?;
        Ok(usize::from(u16::from_be_bytes(len)))
    }

    /// Opens a frame's body, its MAC included: the message.
    ///
    /// # Errors
    /// [`FrameError::BadMac`] if the body was not made by the peer for this place.
    pub fn message(&mut self, body: &[u8]) -> Result<Vec<u8>, FrameError> {
        self.0.open(body)
    }
}

/// One direction's key. It counts its uses and replaces itself by the chaining key's hash.
struct RotatingKey {
    key: [u8; 32],
    cipher: ChaCha20Poly1305,
    chaining: [u8; 32],
    used: u64,
}

impl RotatingKey {
    fn new(key: [u8; 32], chaining: [u8; 32]) -> Self {
        Self { key, cipher: ChaCha20Poly1305::new(&key.into()), chaining, used: 0 }
    }

    /// The number of this use, after a rotation if the key was used up.
    fn next_nonce(&mut self) -> u64 {
        if self.used == ROTATE_AT {
            let (chaining, key) = hkdf(&self.chaining, &self.key);
            *self = Self::new(key, chaining);
        }
        let nonce = self.used;
        self.used = nonce.saturating_add(1);
        nonce
    }

    fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        let nonce = self.next_nonce();
        let start = out.len();
        out.extend_from_slice(plain);
        let sealed = out.get_mut(start..).unwrap_or_default();
        let mac = encrypt(&self.cipher, nonce, &[], sealed);
        out.extend_from_slice(&mac);
    }

    fn open(&mut self, sealed: &[u8]) -> Result<Vec<u8>, FrameError> {
        let nonce = self.next_nonce();
        let (plain, mac) = split_mac(sealed).ok_or(FrameError::BadMac)?;
        let mut plain = plain.to_vec();
        decrypt(&self.cipher, nonce, &[], &mut plain, mac).ok_or(FrameError::BadMac)?;
        Ok(plain)
    }
}

/// A handshake between two acts: snow's state, and where our hash leaves the chaining key.
struct State {
    noise: HandshakeState,
    chaining: Arc<Mutex<[u8; 32]>>,
}

impl State {
    fn new(
        node_secret: &SecretKey,
        peer: Option<&PublicKey>,
        ephemeral: SecretKey,
        act: u8,
    ) -> Result<Self, HandshakeError> {
        let chaining = Arc::new(Mutex::new([0; 32]));
        let resolver = Primitives { ephemeral, chaining: chaining.clone() };
        let pattern = HandshakePattern::XK;
        let params = NoiseParams::new(
            PROTOCOL.to_owned(),
            BaseChoice::Noise,
            HandshakeChoice { pattern, modifiers: HandshakeModifierList { list: vec![] } },
            // Never looked at: the resolver has one curve, and the name above is what is hashed.
            DHChoice::Curve25519,
            CipherChoice::ChaChaPoly,
            HashChoice::SHA256,
        );
        let (secret, peer_key) = (node_secret.secret_bytes(), peer.map(PublicKey::serialize));
        let build = || {
            let builder = Builder::with_resolver(params, Box::new(resolver))
                .prologue(PROLOGUE)?
                .local_private_key(&secret)?;
            match &peer_key {
                Some(key) => builder.remote_public_key(key)?.build_initiator(),
                None => builder.build_responder(),
            }
        };
        let noise = build().map_err(|_| HandshakeError::BadKey { act })?;
        Ok(Self { noise, chaining })
    }

    fn write<const N: usize>(&mut self, act: u8) -> Result<[u8; N], HandshakeError> {
        let mut out = [VERSION; N];
        let written = out.get_mut(1..).map(|out| self.noise.write_message(&[], out));
        written.transpose().map_err(|_| HandshakeError::BadKey { act })?;
        Ok(out)
    }

    fn read<const N: usize>(&mut self, act: u8, bytes: &[u8; N]) -> Result<(), HandshakeError> {
        let (version, rest) = bytes.split_first().unwrap_or((&VERSION, &[]));
        if *version != VERSION {
            return Err(HandshakeError::Version { act, version: *version });
        }
        match self.noise.read_message(rest, &mut []) {
            Ok(_) => Ok(()),
            Err(snow::Error::Dh) => Err(HandshakeError::BadKey { act }),
            Err(_) => Err(HandshakeError::BadMac { act }),
        }
    }

    /// The initiator's sending key, the responder's, and the chaining key both start from.
    fn split(mut self) -> ([u8; 32], [u8; 32], [u8; 32]) {
        let (initiator, responder) = self.noise.dangerously_get_raw_split();
        let chaining = *self.chaining.lock().unwrap_or_else(PoisonError::into_inner);
        (initiator, responder, chaining)
    }
}

/// Two outputs of HKDF-SHA256 with no info (RFC 5869).
fn hkdf(salt: &[u8], material: &[u8]) -> ([u8; 32], [u8; 32]) {
    let hmac = |key: &[u8], parts: &[&[u8]]| {
        let mut engine = HmacEngine::<sha256::Hash>::new(key);
        parts.iter().for_each(|part| engine.input(part));
        Hmac::from_engine(engine).to_byte_array()
    };
    let secret = hmac(salt, &[material]);
    let first = hmac(&secret, &[&[1]]);
    (first, hmac(&secret, &[&first, &[2]]))
}

/// Encrypts in place and gives the MAC.
fn encrypt(cipher: &ChaCha20Poly1305, nonce: u64, ad: &[u8], text: &mut [u8]) -> [u8; MAC] {
    // It fails only beyond 256 GiB; an all-zero MAC would merely be refused by the peer.
    let mac = cipher.encrypt_in_place_detached(&nonce_bytes(nonce), ad, text);
    mac.map(Into::into).unwrap_or_default()
}

/// Decrypts in place; `None` if the MAC is wrong.
fn decrypt(
    cipher: &ChaCha20Poly1305,
    nonce: u64,
    ad: &[u8],
    text: &mut [u8],
    mac: &[u8; MAC],
) -> Option<()> {
    cipher.decrypt_in_place_detached(&nonce_bytes(nonce), ad, text, Tag::from_slice(mac)).ok()
}

/// 32 zero bits, then the counter in little-endian.
fn nonce_bytes(nonce: u64) -> Nonce {
    let mut bytes = Nonce::default();
    bytes.iter_mut().skip(4).zip(nonce.to_le_bytes()).for_each(|(to, from)| *to = from);
    bytes
}

fn split_mac(sealed: &[u8]) -> Option<(&[u8], &[u8; MAC])> {
    sealed.split_last_chunk::<MAC>()
}

/// Copies to the beginning of `out`, whose size is snow's to choose and never too small.
fn put(bytes: &[u8], out: &mut [u8]) {
    out.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
}

/// What snow asks for its primitives, once for each handshake.
struct Primitives {
    ephemeral: SecretKey,
    chaining: Arc<Mutex<[u8; 32]>>,
}

impl CryptoResolver for Primitives {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Given(self.ephemeral)))
    }
    fn resolve_dh(&self, _: &DHChoice) -> Option<Box<dyn Dh>> {
        Some(Box::new(Secp::default()))
    }
    fn resolve_hash(&self, _: &HashChoice) -> Option<Box<dyn Hash>> {
        Some(Box::new(Sha { engine: sha256::Hash::engine(), chaining: self.chaining.clone() }))
    }
    fn resolve_cipher(&self, _: &CipherChoice) -> Option<Box<dyn Cipher>> {
        Some(Box::new(ChaCha(ChaCha20Poly1305::new(&[0; 32].into()))))
    }
}

/// The one "random" draw of a handshake: the ephemeral key that the caller drew.
struct Given(SecretKey);

impl Random for Given {
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), snow::Error> {
        put(&self.0.secret_bytes(), out);
        Ok(())
    }
}

/// A key pair on secp256k1. ECDH gives SHA256 of the compressed point, 32 bytes.
#[derive(Default)]
struct Secp {
    secret: [u8; 32],
    public: Vec<u8>,
}

impl Dh for Secp {
    fn name(&self) -> &'static str {
        "secp256k1"
    }
    fn pub_len(&self) -> usize {
        33
    }
    fn priv_len(&self) -> usize {
        32
    }
    fn set(&mut self, secret: &[u8]) {
        static SECP: LazyLock<Secp256k1<SignOnly>> = LazyLock::new(Secp256k1::signing_only);
        put(secret, &mut self.secret);
        // Only ever set from a SecretKey; no public key means that the next act fails.
        self.public = SecretKey::from_slice(&self.secret)
            .map(|secret| secret.public_key(&SECP).serialize().to_vec())
            .unwrap_or_default();
    }
    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        let mut secret = [0; 32];
        rng.try_fill_bytes(&mut secret)?;
        self.set(&secret);
        Ok(())
    }
    fn pubkey(&self) -> &[u8] {
        &self.public
    }
    fn privkey(&self) -> &[u8] {
        &self.secret
    }
    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        // snow hands over its whole buffer, longer than any key.
        let public = public.get(..self.pub_len()).unwrap_or_default();
        let public = PublicKey::from_slice(public).map_err(|_| snow::Error::Dh)?;
        let secret = SecretKey::from_slice(&self.secret).map_err(|_| snow::Error::Dh)?;
        put(&ecdh::SharedSecret::new(&public, &secret).secret_bytes(), out);
        Ok(())
    }
    fn dh_len(&self) -> usize {
        32
    }
}

struct ChaCha(ChaCha20Poly1305);

impl Cipher for ChaCha {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }
    fn set(&mut self, key: &[u8; 32]) {
        self.0 = ChaCha20Poly1305::new(&(*key).into());
    }
    fn encrypt(&self, nonce: u64, ad: &[u8], plain: &[u8], out: &mut [u8]) -> usize {
        let mut sealed = plain.to_vec();
        let mac = encrypt(&self.0, nonce, ad, &mut sealed);
        sealed.extend_from_slice(&mac);
        put(&sealed, out);
        sealed.len()
    }
    fn decrypt(
        &self,
        nonce: u64,
        ad: &[u8],
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<usize, snow::Error> {
        let (plain, mac) = split_mac(sealed).ok_or(snow::Error::Decrypt)?;
        let mut plain = plain.to_vec();
        decrypt(&self.0, nonce, ad, &mut plain, mac).ok_or(snow::Error::Decrypt)?;
        put(&plain, out);
        Ok(plain.len())
    }
}

/// SHA256. At the split, which is HKDF of nothing, it notes the final chaining key: BOLT 8's key
/// rotation goes on from it, and snow does not tell it.
struct Sha {
    engine: sha256::HashEngine,
    chaining: Arc<Mutex<[u8; 32]>>,
}

impl Hash for Sha {
    fn name(&self) -> &'static str {
        "SHA256"
    }
    fn block_len(&self) -> usize {
        64
    }
    fn hash_len(&self) -> usize {
        32
    }
    fn reset(&mut self) {
        self.engine = sha256::Hash::engine();
    }
    fn input(&mut self, data: &[u8]) {
        self.engine.input(data);
    }
    fn result(&mut self, out: &mut [u8]) {
        put(sha256::Hash::from_engine(self.engine.clone()).as_byte_array(), out);
    }
    fn hkdf(
        &mut self,
        chaining_key: &[u8],
        material: &[u8],
        _outputs: usize, // XK asks for two, always
        first: &mut [u8],
        second: &mut [u8],
        _third: &mut [u8],
    ) {
        if material.is_empty() {
            let mut chaining = self.chaining.lock().unwrap_or_else(PoisonError::into_inner);
            put(chaining_key, &mut *chaining);
        }
        let outputs = hkdf(chaining_key, material);
        put(&outputs.0, first);
        put(&outputs.1, second);
    }
}
