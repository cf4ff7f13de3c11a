//! The real curve, or one that costs nothing: signatures are hashes of what is signed, so what is
//! signed is checked as strictly, and who signed is not.

use bitcoin::hashes::{sha256, Hash};
use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::secp256k1::{PublicKey, SecretKey};
use fulmen_channel::keys::curve::{SignJob, VerifyJob};
use fulmen_channel::keys::{Curve, InMemorySigner, Inline, Signer};
use fulmen_channel::params::Basepoints;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// A side's secrets, and where its curve work is done.
#[derive(Clone)]
pub struct Keys {
    signer: InMemorySigner,
    /// For the fake: the per-commitment points worked out so far.
    points: Option<Arc<Mutex<BTreeMap<u64, PublicKey>>>>,
}

impl Keys {
    pub fn real(seed: u8) -> Self {
        Keys { signer: InMemorySigner::from_seed([seed; 32]), points: None }
    }

    pub fn fake(seed: u8) -> Self {
        Keys { points: Some(Arc::default()), ..Self::real(seed) }
    }

    pub fn signer(&self) -> Box<dyn Signer> {
        let real = self.signer.clone();
        match &self.points {
            None => Box::new(real),
            Some(points) => Box::new(FakeSigner { real, points: points.clone() }),
        }
    }

    pub fn curve(&self) -> Arc<dyn Curve> {
        match self.points {
            None => Arc::new(Inline),
            Some(_) => Arc::new(FakeCurve),
        }
    }
}

fn fake(sighash: [u8; 32]) -> Signature {
    let hash = sha256::Hash::hash(&sighash).to_byte_array();
    let mut bytes = [[1; 32], hash].concat();
    bytes[32] = 1; // Below half the order: a low S.
    Signature::from_compact(&bytes).unwrap()
}

struct FakeCurve;

impl Curve for FakeCurve {
    fn sign(&self, jobs: &[SignJob]) -> Vec<Signature> {
        jobs.iter().map(|job| fake(job.sighash)).collect()
    }

    fn verify(&self, jobs: &[VerifyJob]) -> Result<(), usize> {
        let bad = jobs.iter().position(|job| job.signature != fake(job.sighash));
        bad.map_or(Ok(()), Err)
    }
}

struct FakeSigner {
    real: InMemorySigner,
    points: Arc<Mutex<BTreeMap<u64, PublicKey>>>,
}

impl Signer for FakeSigner {
    fn basepoints(&self) -> Basepoints {
        self.real.basepoints()
    }
    fn per_commitment_point(&self, number: u64) -> PublicKey {
        let mut points = self.points.lock().unwrap();
        *points.entry(number).or_insert_with(|| self.real.per_commitment_point(number))
    }
    fn per_commitment_secret(&self, number: u64) -> [u8; 32] {
        self.real.per_commitment_secret(number)
    }
    fn sign_funding(&self, sighash: [u8; 32]) -> Signature {
        fake(sighash)
    }
    fn sign_remote_htlcs(
        &self,
        _: &PublicKey,
        sighashes: &[[u8; 32]],
        _: &dyn Curve,
    ) -> Vec<Signature> {
        sighashes.iter().map(|sighash| fake(*sighash)).collect()
    }
    fn sign_local_htlc(&self, _: u64, sighash: [u8; 32]) -> Signature {
        fake(sighash)
    }
    fn sign_delayed(&self, _: u64, sighash: [u8; 32]) -> Signature {
        fake(sighash)
    }
    fn sign_payment(&self, sighash: [u8; 32]) -> Signature {
        fake(sighash)
    }
    fn sign_revocation(&self, _: &SecretKey, sighash: [u8; 32]) -> Signature {
        fake(sighash)
    }
}
