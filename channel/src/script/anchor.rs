//! The anchor: an output worth little, by which its owner may raise the commitment's fee.

use bitcoin::opcodes::all as op;
use bitcoin::script::Builder;
use bitcoin::secp256k1::PublicKey;
use bitcoin::ScriptBuf;

/// The script of an anchor:
///
/// ```text
/// <funding key> OP_CHECKSIG OP_IFDUP              its owner: at once
/// OP_NOTIF
///     OP_16 OP_CSV                                anyone: after 16 blocks
/// OP_ENDIF
/// ```
///
/// Its witnesses: `<signature>` and `<>`.
pub fn witness_script(funding: &PublicKey) -> ScriptBuf {
    Builder::new()
        .push_slice(funding.serialize())
        .push_opcode(op::OP_CHECKSIG)
        .push_opcode(op::OP_IFDUP)
        .push_opcode(op::OP_NOTIF)
        .push_int(16)
        .push_opcode(op::OP_CSV)
        .push_opcode(op::OP_ENDIF)
        .into_script()
}
