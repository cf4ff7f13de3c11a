//! Weights and the fees and dust limits that follow from them (BOLT 3, fees, dust limits).
//!
//! The *expected* weights are those both sides must compute alike, with 73 bytes for a signature.
//! What is really signed is lighter: a low-S signature with its hash type is at most
//! [`SIGNATURE`] bytes, and that is what the exact weights of [`super::spend`] count.

use bitcoin::opcodes::all::OP_RETURN;
use bitcoin::{Script, VarInt};

use crate::amount::{FeeratePerKw, Msat, Sat};
use crate::params::CommitmentFormat::{self, Anchors, StaticRemoteKey};

/// The longest low-S DER signature, with the byte that names its hash type.
pub const SIGNATURE: u64 = 72;

/// The value of an anchor: the dust threshold of P2WSH.
pub const ANCHOR: Sat = Sat::new(330);

/// What one more HTLC output adds to a commitment.
pub const HTLC_OUTPUT: u64 = 172;

/// An input without its witness: outpoint, length of an empty script, sequence.
pub(crate) const INPUT: u64 = 4 * (36 + 1 + 4);

/// Marker and flag of a transaction with witnesses.
pub(crate) const SEGWIT_HEADER: u64 = 2;

/// Expected weight of a commitment with so many HTLC outputs.
pub fn commitment(format: CommitmentFormat, htlcs: usize) -> u64 {
    let base: u64 = match format {
        StaticRemoteKey => 724,
        Anchors => 1124,
    };
    let htlcs = u64::try_from(htlcs).unwrap_or(u64::MAX);
    base.saturating_add(HTLC_OUTPUT.saturating_mul(htlcs))
}

/// Expected weight of HT.
pub fn htlc_timeout(format: CommitmentFormat) -> u64 {
    match format {
        StaticRemoteKey => 663,
        Anchors => 666,
    }
}

/// Expected weight of HE.
pub fn htlc_success(format: CommitmentFormat) -> u64 {
    match format {
        StaticRemoteKey => 703,
        Anchors => 706,
    }
}

/// The base fee of a commitment, which the funder pays.
pub fn commitment_fee(
    format: CommitmentFormat,
    feerate: FeeratePerKw,
    untrimmed_htlcs: usize,
) -> Sat {
    feerate.fee(commitment(format, untrimmed_htlcs))
}

/// The fee of HT (`offered`) or HE: none with anchors.
pub fn htlc_fee(format: CommitmentFormat, feerate: FeeratePerKw, offered: bool) -> Sat {
    match (format, offered) {
        (Anchors, _) => Sat::ZERO,
        (StaticRemoteKey, true) => feerate.fee(htlc_timeout(format)),
        (StaticRemoteKey, false) => feerate.fee(htlc_success(format)),
    }
}

/// Whether an HTLC, offered by the broadcaster or received by it, is too small for an output on
/// its commitment; `dust_limit` is the broadcaster's.
pub fn is_trimmed(
    format: CommitmentFormat,
    feerate: FeeratePerKw,
    dust_limit: Sat,
    offered: bool,
    amount: Msat,
) -> bool {
    amount.floor() < dust_limit.saturating_add(htlc_fee(format, feerate, offered))
}

/// What the funder sets aside for both anchors, whether both are made or not.
pub fn anchors_cost(format: CommitmentFormat) -> Sat {
    match format {
        StaticRemoteKey => Sat::ZERO,
        Anchors => ANCHOR.saturating_add(ANCHOR),
    }
}

/// Below this an output that pays to `script` is dust to Bitcoin Core and not relayed.
pub fn dust_threshold(script: &Script) -> Sat {
    let pays_to_anchor = script.as_bytes() == [0x51, 0x02, 0x4e, 0x73];
    Sat::new(match script {
        script if script.as_bytes().first() == Some(&OP_RETURN.to_u8()) => 0,
        script if script.is_p2wpkh() => 294,
        script if script.is_p2wsh() => 330,
        _ if pays_to_anchor => 240,
        script if script.is_witness_program() => 354,
        script if script.is_p2sh() => 540,
        _ => 546,
    })
}

/// Weight of the witness that spends F, with the longest signatures.
pub(crate) fn funding_witness() -> u64 {
    const SCRIPT: u64 = 71;
    witness([0, SIGNATURE, SIGNATURE, SCRIPT])
}

/// Weight of a witness of elements so long.
pub(crate) fn witness(elements: impl IntoIterator<Item = u64>) -> u64 {
    let mut count: u64 = 0;
    let mut bytes: u64 = 0;
    for length in elements {
        count = count.saturating_add(1);
        bytes = bytes.saturating_add(compact_size(length)).saturating_add(length);
    }
    bytes.saturating_add(compact_size(count))
}

fn compact_size(number: u64) -> u64 {
    u64::try_from(VarInt(number).size()).unwrap_or(9)
}
