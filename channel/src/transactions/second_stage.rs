//! What HT and HE have in common: one input, one output, the broadcaster's delay once more.

use bitcoin::absolute::LockTime;
use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::transaction::Version;
use bitcoin::{OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};

use super::commitment::Htlc;
use super::sighash::{countersigner_htlc_type, witness_element};
use super::spend::{Key, Spend};
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

/// The input of HT or HE; its witness is
/// `<> <countersigner's> <broadcaster's> <preimage or nothing> <script>`.
pub(super) fn spend(
    format: CommitmentFormat,
    htlc: &Htlc,
    script: ScriptBuf,
    htlc_output: OutPoint,
    countersigner: &Signature,
    unlock: &[u8],
) -> Spend {
    let theirs = witness_element(countersigner, countersigner_htlc_type(format));
    let value = htlc.amount.floor();
    let spend = Spend::p2wsh(Key::OwnHtlc, htlc_output, value, script, Some(unlock));
    let mut spend = spend.behind(vec![Vec::new(), theirs]);
    spend.sequence = htlc_sequence(format);
    spend
}
