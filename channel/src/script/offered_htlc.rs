//! An HTLC that the broadcaster offered: to the countersigner with the preimage, or back.

use bitcoin::opcodes::all as op;
use bitcoin::secp256k1::PublicKey;
use bitcoin::ScriptBuf;

use super::{htlc_end, htlc_start, lock};
use crate::params::CommitmentFormat;
use crate::payment::PaymentHash;

/// The script of an offered HTLC:
///
/// ```text
/// OP_DUP OP_HASH160 <hash of the revocation key> OP_EQUAL
/// OP_IF
///     OP_CHECKSIG                                 HBR: the countersigner, if revoked
/// OP_ELSE
///     <countersigner's HTLC key> OP_SWAP OP_SIZE 32 OP_EQUAL
///     OP_NOTIF                                    HT: the broadcaster, by a transaction that both
///         OP_DROP 2 OP_SWAP                           signed and that waits for cltv_expiry
///         <broadcaster's HTLC key> 2 OP_CHECKMULTISIG
///     OP_ELSE                                     HED: the countersigner with the preimage
///         OP_HASH160 <RIPEMD160(payment hash)> OP_EQUALVERIFY
///         OP_CHECKSIG
///     OP_ENDIF
///     1 OP_CSV OP_DROP                            with anchors only
/// OP_ENDIF
/// ```
///
/// Its witnesses: `<signature> <revocation key>`, `<> <countersigner's> <broadcaster's> <>`,
/// `<signature> <preimage>`.
pub fn witness_script(
    format: CommitmentFormat,
    revocation: &PublicKey,
    broadcaster_htlc: &PublicKey,
    countersigner_htlc: &PublicKey,
    payment_hash: PaymentHash,
) -> ScriptBuf {
    let script = htlc_start(revocation, countersigner_htlc)
        .push_opcode(op::OP_NOTIF)
        .push_opcode(op::OP_DROP)
        .push_int(2)
        .push_opcode(op::OP_SWAP)
        .push_slice(broadcaster_htlc.serialize())
        .push_int(2)
        .push_opcode(op::OP_CHECKMULTISIG)
        .push_opcode(op::OP_ELSE)
        .push_opcode(op::OP_HASH160)
        .push_slice(lock(payment_hash))
        .push_opcode(op::OP_EQUALVERIFY)
        .push_opcode(op::OP_CHECKSIG);
    htlc_end(script, format).into_script()
}
