//! What HT and HE have in common: one input, one output, the broadcaster's delay once more.

use bitcoin::absolute::LockTime;
use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::sighash::EcdsaSighashType;
use bitcoin::transaction::Version;
use bitcoin::{OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};

use super::sighash::{countersigner_htlc_type, witness_element};
use super::weight::{self, SIGNATURE};
use crate::amount::Sat;
use crate::params::CommitmentFormat;

/// Spends the HTLC output into `value` for `revocable`, the P2WSH of to_local's script.
pub(super) fn build(
    format: CommitmentFormat,
    htlc_output: OutPoint,
    value: Sat,
    revocable: &Script,
    lock_time: LockTime,
) -> Transaction {
    Transaction {
        version: Version::TWO,
        lock_time,
        input: vec![TxIn {
            previous_output: htlc_output,
            script_sig: ScriptBuf::new(),
            sequence: htlc_sequence(format),
            witness: Witness::new(),
        }],
        output: vec![TxOut { value: value.to_amount(), script_pubkey: revocable.to_owned() }],
    }
}

/// The sequence with which HT and HE spend an HTLC output: with anchors its one block of delay.
fn htlc_sequence(format: CommitmentFormat) -> Sequence {
    match format {
        CommitmentFormat::StaticRemoteKey => Sequence::ZERO,
        CommitmentFormat::Anchors => Sequence::from_height(1),
    }
}

/// `<> <countersigner's> <broadcaster's> <preimage or nothing> <script>`.
pub(super) fn witness(
    format: CommitmentFormat,
    countersigner: &Signature,
    broadcaster: &Signature,
    preimage: &[u8],
    script: &Script,
) -> Witness {
    let mut witness = Witness::new();
    witness.push([]);
    witness.push(witness_element(countersigner, countersigner_htlc_type(format)));
    witness.push(witness_element(broadcaster, EcdsaSighashType::All));
    witness.push(preimage);
    witness.push(script);
    witness
}

/// Weight of the input with its witness, with the longest signatures.
pub(super) fn input_weight(preimage: u64, script: &Script) -> u64 {
    let witness = weight::witness([0, SIGNATURE, SIGNATURE, preimage, script.len() as u64]);
    witness.saturating_add(weight::INPUT)
}
