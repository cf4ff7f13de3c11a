//! The RSMC: what the broadcaster owns, it gets late, and loses if the state was revoked. Also
//! the output of HT and HE, the second stage of an HTLC.

use bitcoin::opcodes::all as op;
use bitcoin::script::Builder;
use bitcoin::secp256k1::PublicKey;
use bitcoin::ScriptBuf;

/// The script of to_local, and of the output of HT and HE:
///
/// ```text
/// OP_IF
///     <revocation key>                            BR, HTBR, HEBR: at once, if revoked
/// OP_ELSE
///     <to_self_delay> OP_CSV OP_DROP
///     <delayed key>                               RD, HTRD, HERD: after to_self_delay blocks
/// OP_ENDIF
/// OP_CHECKSIG
/// ```
///
/// Its witnesses: `<signature> 1` and `<signature> <>`.
pub fn witness_script(
    revocation: &PublicKey,
    to_self_delay: u16,
    delayed: &PublicKey,
) -> ScriptBuf {
    Builder::new()
        .push_opcode(op::OP_IF)
        .push_slice(revocation.serialize())
        .push_opcode(op::OP_ELSE)
        .push_int(i64::from(to_self_delay))
        .push_opcode(op::OP_CSV)
        .push_opcode(op::OP_DROP)
        .push_slice(delayed.serialize())
        .push_opcode(op::OP_ENDIF)
        .push_opcode(op::OP_CHECKSIG)
        .into_script()
}
