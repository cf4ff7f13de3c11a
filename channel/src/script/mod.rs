//! The scripts of BOLT 3, one a file. A function here gives the *witness script*; the output pays
//! to its P2WSH, and the script itself is the last element of the spending witness.
//!
//! The broadcaster is the side whose commitment the output is on (BOLT 3's local node), the
//! countersigner the other one.

pub mod anchor;
pub mod funding;
pub mod offered_htlc;
pub mod received_htlc;
pub mod to_local;
pub mod to_remote;

use bitcoin::hashes::{hash160, ripemd160, Hash};
use bitcoin::opcodes::all as op;
use bitcoin::script::Builder;
use bitcoin::secp256k1::PublicKey;

use crate::params::CommitmentFormat;
use crate::payment::PaymentHash;

/// How both HTLC scripts begin: whoever shows the revocation key and signs with it takes all; else
/// the countersigner's key and what is on the stack (32 bytes, a preimage, or nothing) decide.
fn htlc_start(revocation: &PublicKey, countersigner_htlc: &PublicKey) -> Builder {
    let revocation_hash = hash160::Hash::hash(&revocation.serialize()).to_byte_array();
    Builder::new()
        .push_opcode(op::OP_DUP)
        .push_opcode(op::OP_HASH160)
        .push_slice(revocation_hash)
        .push_opcode(op::OP_EQUAL)
        .push_opcode(op::OP_IF)
        .push_opcode(op::OP_CHECKSIG)
        .push_opcode(op::OP_ELSE)
        .push_slice(countersigner_htlc.serialize())
        .push_opcode(op::OP_SWAP)
        .push_opcode(op::OP_SIZE)
        .push_int(32)
        .push_opcode(op::OP_EQUAL)
}

/// How both end: with anchors, every path but the revocation waits one block, so that only
/// anchors can carry the commitment into a block.
fn htlc_end(script: Builder, format: CommitmentFormat) -> Builder {
    let script = script.push_opcode(op::OP_ENDIF);
    match format {
        CommitmentFormat::StaticRemoteKey => script,
        CommitmentFormat::Anchors => {
            script.push_int(1).push_opcode(op::OP_CSV).push_opcode(op::OP_DROP)
        }
    }
    .push_opcode(op::OP_ENDIF)
}

/// RIPEMD160 of the payment hash: OP_HASH160 of the preimage.
fn lock(payment_hash: PaymentHash) -> [u8; 20] {
    ripemd160::Hash::hash(&payment_hash.0).to_byte_array()
}
