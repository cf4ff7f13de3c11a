//! F: the 2-of-2 that holds the channel.

use bitcoin::opcodes::all::OP_CHECKMULTISIG;
use bitcoin::script::Builder;
use bitcoin::secp256k1::PublicKey;
use bitcoin::ScriptBuf;

/// The script of F, the same whichever side is named first:
///
/// ```text
/// 2 <lesser funding key> <greater funding key> 2 OP_CHECKMULTISIG
/// ```
///
/// Its witness: `<> <signature of the lesser> <signature of the greater>`.
pub fn witness_script(one: &PublicKey, other: &PublicKey) -> ScriptBuf {
    let (lesser, greater) = sorted(one, other);
    Builder::new()
        .push_int(2)
        .push_slice(lesser)
        .push_slice(greater)
        .push_int(2)
        .push_opcode(OP_CHECKMULTISIG)
        .into_script()
}

/// Both keys, compressed, the lesser first.
pub(crate) fn sorted(one: &PublicKey, other: &PublicKey) -> ([u8; 33], [u8; 33]) {
    let (one, other) = (one.serialize(), other.serialize());
    (one.min(other), one.max(other))
}
