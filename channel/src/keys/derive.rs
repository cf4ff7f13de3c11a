//! BOLT 3, key derivation: from a basepoint and a per-commitment point to the keys of one
//! commitment, and the tree of per-commitment secrets.

use bitcoin::hashes::{sha256, Hash, HashEngine};
use bitcoin::secp256k1::{PublicKey, Scalar, SecretKey};

use super::curve::secp;

/// The index of the first per-commitment secret; from there it counts down.
pub const FIRST_INDEX: u64 = (1 << 48) - 1;

/// `basepoint + SHA256(per_commitment_point || basepoint) * G`: the HTLC and delayed keys.
pub fn public_key(basepoint: &PublicKey, per_commitment_point: &PublicKey) -> PublicKey {
    let tweak = hash(per_commitment_point, basepoint);
    // Fails only if the basepoint is minus a hash of itself times G.
    #[allow(clippy::expect_used)]
    basepoint.add_exp_tweak(secp(), &tweak).expect("no point is minus its own hash")
}

/// The private key of [`public_key`], from the secret of the basepoint.
pub fn private_key(basepoint_secret: &SecretKey, per_commitment_point: &PublicKey) -> SecretKey {
    let basepoint = basepoint_secret.public_key(secp());
    private_key_of(basepoint_secret, &basepoint, per_commitment_point)
}

/// [`private_key`] where the basepoint is at hand, which saves one multiplication.
pub(super) fn private_key_of(
    basepoint_secret: &SecretKey,
    basepoint: &PublicKey,
    per_commitment_point: &PublicKey,
) -> SecretKey {
    let tweak = hash(per_commitment_point, basepoint);
    // Fails only if the secret is minus a hash of its own public key.
    #[allow(clippy::expect_used)]
    basepoint_secret.add_tweak(&tweak).expect("no secret is minus its own hash")
}

/// The key that takes everything from a revoked commitment. Its private half needs both the
/// secret of the wronged side's `basepoint` and the broadcaster's per-commitment secret.
pub fn revocation_public_key(basepoint: &PublicKey, per_commitment_point: &PublicKey) -> PublicKey {
    let (for_base, for_point) = revocation_factors(basepoint, per_commitment_point);
    // A hash as factor is not zero, and the two terms cancel only if a hash was inverted.
    #[allow(clippy::expect_used)]
    let base = basepoint.mul_tweak(secp(), &for_base).expect("a hash is not zero");
    #[allow(clippy::expect_used)]
    let point = per_commitment_point.mul_tweak(secp(), &for_point).expect("a hash is not zero");
    #[allow(clippy::expect_used)]
    base.combine(&point).expect("the terms do not cancel")
}

/// The private key of [`revocation_public_key`].
pub fn revocation_private_key(
    basepoint_secret: &SecretKey,
    per_commitment_secret: &SecretKey,
) -> SecretKey {
    let basepoint = basepoint_secret.public_key(secp());
    let per_commitment_point = per_commitment_secret.public_key(secp());
    let (for_base, for_point) = revocation_factors(&basepoint, &per_commitment_point);
    #[allow(clippy::expect_used)] // As in revocation_public_key.
    let base = basepoint_secret.mul_tweak(&for_base).expect("a hash is not zero");
    #[allow(clippy::expect_used)]
    let point = per_commitment_secret.mul_tweak(&for_point).expect("a hash is not zero");
    #[allow(clippy::expect_used)]
    base.add_tweak(&point.into()).expect("the terms do not cancel")
}

/// The index of the secret of commitment `number`, which counts up from 0. Numbers past the last
/// secret share the last one; a channel ends long before.
pub fn secret_index(number: u64) -> u64 {
    FIRST_INDEX.saturating_sub(number)
}

/// `generate_from_seed` of BOLT 3: the secret at `index`, which counts down from
/// [`FIRST_INDEX`].
pub fn per_commitment_secret(seed: &[u8; 32], index: u64) -> [u8; 32] {
    derive_secret(seed, 48, index)
}

/// `derive_secret` of BOLT 3: from the secret of an index that ends in `bits` zeros to that of
/// `index`, which differs from it in those bits only.
pub(super) fn derive_secret(base: &[u8; 32], bits: u8, index: u64) -> [u8; 32] {
    (0..bits.min(48)).rev().filter(|bit| (index >> bit) & 1 == 1).fold(*base, |mut secret, bit| {
        if let Some(byte) = secret.get_mut(usize::from(bit / 8)) {
            *byte ^= 1 << (bit % 8);
        }
        sha256::Hash::hash(&secret).to_byte_array()
    })
}

fn revocation_factors(basepoint: &PublicKey, point: &PublicKey) -> (Scalar, Scalar) {
    (hash(basepoint, point), hash(point, basepoint))
}

/// `SHA256(first || second)` as a number.
fn hash(first: &PublicKey, second: &PublicKey) -> Scalar {
    let mut engine = sha256::Hash::engine();
    engine.input(&first.serialize());
    engine.input(&second.serialize());
    let hash = sha256::Hash::from_engine(engine).to_byte_array();
    // One hash in 2^128 is past the order of the curve.
    #[allow(clippy::expect_used)]
    Scalar::from_be_bytes(hash).expect("a hash is below the order of the curve")
}
