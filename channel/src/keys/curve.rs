//! The batches of curve work that a commitment round needs, behind a trait, so that 483
//! signatures may be made or checked on threads while the contract stays pure.

use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::secp256k1::{All, Message, PublicKey, Secp256k1, SecretKey};
use std::sync::LazyLock;

/// One signature to make.
#[derive(Clone, Debug)]
pub struct SignJob {
    /// The key to sign with.
    pub secret: SecretKey,
    /// What to sign: a BIP 143 hash.
    pub sighash: [u8; 32],
}

/// One signature to check.
#[derive(Clone, Debug)]
pub struct VerifyJob {
    /// The key that is said to have signed.
    pub key: PublicKey,
    /// What is said to be signed: a BIP 143 hash.
    pub sighash: [u8; 32],
    /// The signature.
    pub signature: Signature,
}

/// Who does the curve work of a round: a batch in, a batch out.
pub trait Curve: Send + Sync {
    /// A signature for each job, in their order: deterministic (RFC 6979), low-S.
    fn sign(&self, jobs: &[SignJob]) -> Vec<Signature>;

    /// Checks all jobs. A high-S signature is wrong, as BOLT 2 asks.
    ///
    /// # Errors
    /// The index of the first job whose signature is wrong.
    fn verify(&self, jobs: &[VerifyJob]) -> Result<(), usize>;
}

/// One job after another on the calling thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inline;

impl Curve for Inline {
    fn sign(&self, jobs: &[SignJob]) -> Vec<Signature> {
        jobs.iter().map(|job| sign(&job.secret, job.sighash)).collect()
    }

    fn verify(&self, jobs: &[VerifyJob]) -> Result<(), usize> {
        match jobs.iter().position(|job| !verify(&job.key, job.sighash, &job.signature)) {
            Some(wrong) => Err(wrong),
            None => Ok(()),
        }
    }
}

/// Signs one hash: RFC 6979, low-S. No search for a low R: that doubles the work for a byte.
pub fn sign(secret: &SecretKey, sighash: [u8; 32]) -> Signature {
    secp().sign_ecdsa(&Message::from_digest(sighash), secret)
}

/// Whether `key` signed `sighash`; a high-S signature counts as wrong.
pub fn verify(key: &PublicKey, sighash: [u8; 32], signature: &Signature) -> bool {
    secp().verify_ecdsa(&Message::from_digest(sighash), signature, key).is_ok()
}

/// The process's one context.
pub(crate) fn secp() -> &'static Secp256k1<All> {
    static SECP: LazyLock<Secp256k1<All>> = LazyLock::new(Secp256k1::new);
    &SECP
}
