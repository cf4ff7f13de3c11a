//! What HT and HE have in common: one input, one output, the broadcaster's delay once more.

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};

use crate::amount::Sat;
use crate::params::CommitmentFormat;
use crate::transactions::sighash::{countersigner_htlc_type, witness_element};
use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::sighash::EcdsaSighashType;

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
