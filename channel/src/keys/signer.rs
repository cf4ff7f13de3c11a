//! Who holds the secrets of our side: a trait, so that they may live in another process, and the
//! one that keeps them in memory.

use bitcoin::hashes::{sha256, Hash, HashEngine, Hmac, HmacEngine};
use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::secp256k1::{PublicKey, SecretKey};
use std::fmt;

use super::curve::{secp, sign, Curve, SignJob};
use super::derive;
use crate::params::Basepoints;

/// Signs for one side of one channel. Every hash is a BIP 143 hash made by
/// [`crate::transactions`]; commitment numbers count up from 0.
pub trait Signer: Send {
    /// The channel-wide public keys.
    fn basepoints(&self) -> Basepoints;

    /// The point of our commitment `number`.
    fn per_commitment_point(&self, number: u64) -> PublicKey;

    /// The secret behind [`Self::per_commitment_point`]: to reveal it is to revoke.
    fn per_commitment_secret(&self, number: u64) -> [u8; 32];

    /// With the key in F: commitments of either side, closing transactions, our anchor.
    fn sign_funding(&self, sighash: [u8; 32]) -> Signature;

    /// With our HTLC key for the other side's commitment of this point: their HT and HE, and our
    /// HED and HTD. One derivation for the batch, signed by `curve`.
    fn sign_remote_htlcs(
        &self,
        per_commitment_point: &PublicKey,
        sighashes: &[[u8; 32]],
        curve: &dyn Curve,
    ) -> Vec<Signature>;

    /// With our HTLC key for our own commitment `number`: our HT and HE.
    fn sign_local_htlc(&self, number: u64, sighash: [u8; 32]) -> Signature;

    /// With our delayed key for our own commitment `number`: RD, HTRD, HERD.
    fn sign_delayed(&self, number: u64, sighash: [u8; 32]) -> Signature;

    /// With our payment key: D.
    fn sign_payment(&self, sighash: [u8; 32]) -> Signature;

    /// With the revocation key of the commitment that this revealed secret revoked: BR, HBR,
    /// HTBR, HEBR.
    fn sign_revocation(&self, per_commitment_secret: &SecretKey, sighash: [u8; 32]) -> Signature;
}

/// The six secrets of one side of a channel.
#[derive(Clone)]
pub struct Secrets {
    /// Of the key in F.
    pub funding: SecretKey,
    /// Of the revocation basepoint.
    pub revocation: SecretKey,
    /// Of the payment basepoint.
    pub payment: SecretKey,
    /// Of the delayed payment basepoint.
    pub delayed_payment: SecretKey,
    /// Of the HTLC basepoint.
    pub htlc: SecretKey,
    /// From which all per-commitment secrets come.
    pub per_commitment_seed: [u8; 32],
}

/// A signer that keeps its secrets in memory.
#[derive(Clone)]
pub struct InMemorySigner {
    secrets: Secrets,
    basepoints: Basepoints,
}

impl InMemorySigner {
    /// All secrets from one: HMAC-SHA256 with the seed as key over a name for each.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self::from_secrets(Secrets {
            funding: secret_key(&seed, "funding"),
            revocation: secret_key(&seed, "revocation"),
            payment: secret_key(&seed, "payment"),
            delayed_payment: secret_key(&seed, "delayed payment"),
            htlc: secret_key(&seed, "htlc"),
            per_commitment_seed: named(&seed, "per commitment", 0),
        })
    }

    /// With secrets made elsewhere.
    pub fn from_secrets(secrets: Secrets) -> Self {
        let point = |secret: &SecretKey| secret.public_key(secp());
        let basepoints = Basepoints {
            funding: point(&secrets.funding),
            revocation: point(&secrets.revocation),
            payment: point(&secrets.payment),
            delayed_payment: point(&secrets.delayed_payment),
            htlc: point(&secrets.htlc),
        };
        InMemorySigner { secrets, basepoints }
    }

    /// The secret of the revocation basepoint: for a private tower, which is one's own.
    pub fn revocation_secret(&self) -> SecretKey {
        self.secrets.revocation
    }

    fn htlc_key(&self, per_commitment_point: &PublicKey) -> SecretKey {
        derive::private_key_of(&self.secrets.htlc, &self.basepoints.htlc, per_commitment_point)
    }
}

impl Signer for InMemorySigner {
    fn basepoints(&self) -> Basepoints {
        self.basepoints.clone()
    }

    fn per_commitment_point(&self, number: u64) -> PublicKey {
        let secret = SecretKey::from_slice(&self.per_commitment_secret(number));
        // The order of the curve is so near 2^256 that no seed ever leads to an invalid one.
        #[allow(clippy::expect_used)]
        secret.expect("a hash is a secret key").public_key(secp())
    }

    fn per_commitment_secret(&self, number: u64) -> [u8; 32] {
        let index = derive::secret_index(number);
        derive::per_commitment_secret(&self.secrets.per_commitment_seed, index)
    }

    fn sign_funding(&self, sighash: [u8; 32]) -> Signature {
        sign(&self.secrets.funding, sighash)
    }

    fn sign_remote_htlcs(
        &self,
        per_commitment_point: &PublicKey,
        sighashes: &[[u8; 32]],
        curve: &dyn Curve,
    ) -> Vec<Signature> {
        if sighashes.is_empty() {
            return Vec::new();
        }
        let secret = self.htlc_key(per_commitment_point);
        let job = |sighash: &[u8; 32]| SignJob { secret, sighash: *sighash };
        curve.sign(&sighashes.iter().map(job).collect::<Vec<_>>())
    }

    fn sign_local_htlc(&self, number: u64, sighash: [u8; 32]) -> Signature {
        sign(&self.htlc_key(&self.per_commitment_point(number)), sighash)
    }

    fn sign_delayed(&self, number: u64, sighash: [u8; 32]) -> Signature {
        let key = derive::private_key_of(
            &self.secrets.delayed_payment,
            &self.basepoints.delayed_payment,
            &self.per_commitment_point(number),
        );
        sign(&key, sighash)
    }

    fn sign_payment(&self, sighash: [u8; 32]) -> Signature {
        sign(&self.secrets.payment, sighash)
    }

    fn sign_revocation(&self, per_commitment_secret: &SecretKey, sighash: [u8; 32]) -> Signature {
        sign(
            &derive::revocation_private_key(&self.secrets.revocation, per_commitment_secret),
            sighash,
        )
    }
}

impl fmt::Debug for InMemorySigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InMemorySigner").field("basepoints", &self.basepoints).finish()
    }
}

/// The first of the numbered secrets of this name that is a valid key: in practice number 0.
fn secret_key(seed: &[u8; 32], name: &str) -> SecretKey {
    #[allow(clippy::expect_used)] // One in 2^128 is invalid, and there are 256 to choose from.
    (0..=u8::MAX)
        .find_map(|number| SecretKey::from_slice(&named(seed, name, number)).ok())
        .expect("one of 256 hashes is a secret key")
}

fn named(seed: &[u8; 32], name: &str, number: u8) -> [u8; 32] {
    let mut engine = HmacEngine::<sha256::Hash>::new(seed);
    engine.input(b"fulmen channel key/");
    engine.input(name.as_bytes());
    engine.input(&[number]);
    Hmac::from_engine(engine).to_byte_array()
}
