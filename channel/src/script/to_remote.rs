//! What the broadcaster's commitment pays the countersigner: its whole balance, without delay.

use bitcoin::opcodes::all as op;
use bitcoin::script::Builder;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{CompressedPublicKey, ScriptBuf};

use crate::params::CommitmentFormat;

/// The script of to_remote with anchors, which waits one block:
///
/// ```text
/// <payment basepoint> OP_CHECKSIGVERIFY 1 OP_CSV
/// ```
///
/// Its witness: `<signature>`.
pub fn witness_script(payment: &PublicKey) -> ScriptBuf {
    Builder::new()
        .push_slice(payment.serialize())
        .push_opcode(op::OP_CHECKSIGVERIFY)
        .push_int(1)
        .push_opcode(op::OP_CSV)
        .into_script()
}

/// What the output pays to: P2WSH of [`witness_script`] with anchors, else P2WPKH of the key.
pub fn script_pubkey(format: CommitmentFormat, payment: &PublicKey) -> ScriptBuf {
    match format {
        CommitmentFormat::StaticRemoteKey => {
            ScriptBuf::new_p2wpkh(&CompressedPublicKey(*payment).wpubkey_hash())
        }
        CommitmentFormat::Anchors => witness_script(payment).to_p2wsh(),
    }
}
