//! BIP 143: what a signature signs.

use bitcoin::hashes::Hash;
use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{Script, Transaction};

use crate::amount::Sat;
use crate::params::CommitmentFormat;

/// How the countersigner signs HT and HE: with anchors the broadcaster may add inputs and outputs,
/// for the fee (BOLT 5, generation of HTLC transactions).
pub fn countersigner_htlc_type(format: CommitmentFormat) -> EcdsaSighashType {
    match format {
        CommitmentFormat::StaticRemoteKey => EcdsaSighashType::All,
        CommitmentFormat::Anchors => EcdsaSighashType::SinglePlusAnyoneCanPay,
    }
}

/// The hash to sign for input `input` of `tx`, which spends `value` locked by `script`, a witness
/// script. Nothing if there is no such input.
pub fn sighash(
    tx: &Transaction,
    input: usize,
    script: &Script,
    value: Sat,
    kind: EcdsaSighashType,
) -> Option<[u8; 32]> {
    SighashCache::new(tx)
        .p2wsh_signature_hash(input, script, value.to_amount(), kind)
        .ok()
        .map(|hash| hash.to_byte_array())
}

/// [`sighash`] of the first input of a transaction built here, which has one.
pub(super) fn first_input(
    tx: &Transaction,
    script: &Script,
    value: Sat,
    kind: EcdsaSighashType,
) -> [u8; 32] {
    #[allow(clippy::expect_used)]
    sighash(tx, 0, script, value, kind).expect("the transaction was built with one input")
}

/// A signature as a witness holds it: DER and the hash type.
pub fn witness_element(signature: &Signature, kind: EcdsaSighashType) -> Vec<u8> {
    bitcoin::ecdsa::Signature { signature: *signature, sighash_type: kind }.to_vec()
}
