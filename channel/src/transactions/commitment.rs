//! C: one side's view of the state, and with it the whole family below it (BOLT 3, commitment
//! transaction construction).
//!
//! ```text
//! F ── C ─┬─ to_local          the broadcaster's balance
//!         ├─ to_remote         the countersigner's
//!         ├─ HTLCs             the larger of them; the others are trimmed: they go to the fee
//!         └─ two anchors
//! ```
//!
//! Both sides build both commitments from the same numbers, so every choice here is fixed: what is
//! trimmed, who pays what, the order of outputs.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::{sha256, Hash, HashEngine};
use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::secp256k1::PublicKey;
use bitcoin::sighash::EcdsaSighashType;
use bitcoin::transaction::Version;
use bitcoin::{OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use serde::{Deserialize, Serialize};

use super::{funding, htlc_success, htlc_timeout, sighash, weight};
use crate::amount::{FeeratePerKw, Height, Msat, Sat};
use crate::params::{CommitmentFormat, Side};
use crate::payment::PaymentHash;
use crate::script;

pub use super::weight::{anchors_cost, commitment_fee, htlc_fee, is_trimmed};
pub use crate::keys::CommitmentKeys;

/// Which HTLC: who offered it and its id. Handed back as it was given.
pub type HtlcRef = (Side, u64);

/// An HTLC as a commitment sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Htlc {
    /// Offered by the broadcaster of this commitment; else received by it.
    pub offered: bool,
    /// What it is worth.
    pub amount: Msat,
    /// What locks it.
    pub payment_hash: PaymentHash,
    /// The block from which its offerer may take it back.
    pub cltv_expiry: Height,
}

/// What one commitment is to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitmentSpec {
    /// Its number, counting up from 0.
    pub number: u64,
    /// The channel's feerate at this state.
    pub feerate: FeeratePerKw,
    /// The broadcaster's balance, before fee and anchors.
    pub to_broadcaster: Msat,
    /// The countersigner's balance, before fee and anchors.
    pub to_countersigner: Msat,
    /// All HTLCs on it, large or small.
    pub htlcs: Vec<(HtlcRef, Htlc)>,
}

/// What does not change from one commitment of a side to its next, but the keys.
#[derive(Clone, Copy, Debug)]
pub struct CommitmentContext<'a> {
    /// The shape of the transactions.
    pub format: CommitmentFormat,
    /// The output of F.
    pub funding: OutPoint,
    /// What it holds.
    pub capacity: Sat,
    /// See [`obscuring_factor`].
    pub obscuring_factor: u64,
    /// The broadcaster's.
    pub dust_limit: Sat,
    /// What the broadcaster must wait, in blocks.
    pub to_self_delay: u16,
    /// The broadcaster funded the channel.
    pub broadcaster_pays_fee: bool,
    /// The keys of this commitment.
    pub keys: &'a CommitmentKeys,
}

/// A commitment, unsigned, and where things are on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitmentTx {
    /// The transaction.
    pub tx: Transaction,
    /// Its id: a witness does not change it.
    pub txid: Txid,
    /// Its number, counting up from 0.
    pub number: u64,
    /// The feerate that it and its HT and HE were built with.
    pub feerate: FeeratePerKw,
    /// What the funder pays by the feerate, or all it has if that is less.
    pub base_fee: Sat,
    /// What miners get: capacity minus outputs, so the base fee, trimmed HTLCs and balances, an
    /// anchor not made, and what is left below a satoshi.
    pub fee: Sat,
    /// HTLCs with an output, in the order of outputs and of `htlc_signatures`.
    pub htlcs: Vec<CommittedHtlc>,
    /// HTLCs too small for an output.
    pub trimmed: Vec<HtlcRef>,
    /// The output to_local.
    pub to_local: Option<u32>,
    /// The output to_remote.
    pub to_remote: Option<u32>,
    /// The broadcaster's anchor.
    pub broadcaster_anchor: Option<u32>,
    /// The countersigner's anchor.
    pub countersigner_anchor: Option<u32>,
    /// What HT and HE pay to: the P2WSH of to_local's script.
    pub revocable: ScriptBuf,
}

/// An HTLC with an output on a commitment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedHtlc {
    /// Which one.
    pub tag: HtlcRef,
    /// What it says.
    pub htlc: Htlc,
    /// Its output on the commitment.
    pub output: u32,
    /// The witness script of that output.
    pub script: ScriptBuf,
}

/// Builds a commitment. If the funder cannot pay fee and anchors it pays what it has, and outputs
/// may then exceed the capacity by up to [`anchors_cost`]: it is for the contract's limits to keep
/// anyone from getting there.
pub fn build(context: &CommitmentContext, spec: &CommitmentSpec) -> CommitmentTx {
    let is_trimmed = |htlc: &Htlc| {
        let (format, dust_limit) = (context.format, context.dust_limit);
        is_trimmed(format, spec.feerate, dust_limit, htlc.offered, htlc.amount)
    };
    let (trimmed, kept): (Vec<_>, Vec<_>) =
        spec.htlcs.iter().copied().partition(|(_, htlc)| is_trimmed(htlc));
    let balances = balances(context, spec, kept.len());
    let revocable = context.to_local_script().to_p2wsh();
    let mut outputs = own_outputs(context, &balances, &revocable, !kept.is_empty());
    outputs.extend(kept.into_iter().map(|(tag, htlc)| htlc_output(context, tag, htlc)));
    outputs.sort_by(|one, other| one.order().cmp(&other.order()));

    let mut commitment = CommitmentTx {
        tx: frame(context, spec.number),
        txid: Txid::all_zeros(),
        number: spec.number,
        feerate: spec.feerate,
        base_fee: balances.base_fee,
        fee: Sat::ZERO,
        htlcs: Vec::with_capacity(spec.htlcs.len()),
        trimmed: trimmed.into_iter().map(|(tag, _)| tag).collect(),
        to_local: None,
        to_remote: None,
        broadcaster_anchor: None,
        countersigner_anchor: None,
        revocable,
    };
    let total = outputs.iter().fold(Sat::ZERO, |sum, output| sum.saturating_add(output.value));
    commitment.fee = context.capacity.saturating_sub(total);
    commitment.tx.output.reserve(outputs.len());
    for (place, output) in (0..).zip(outputs) {
        commitment.place(place, output);
    }
    commitment.txid = commitment.tx.compute_txid();
    commitment
}

/// The lower 48 bits of SHA256(opener's payment basepoint || accepter's): what hides the number in
/// a commitment from strangers. The same for both sides' commitments.
pub fn obscuring_factor(
    opener_payment_basepoint: &PublicKey,
    accepter_payment_basepoint: &PublicKey,
) -> u64 {
    let mut engine = sha256::Hash::engine();
    engine.input(&opener_payment_basepoint.serialize());
    engine.input(&accepter_payment_basepoint.serialize());
    let hash = sha256::Hash::from_engine(engine).to_byte_array();
    hash.iter().skip(26).fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

/// The number that a commitment carries, if `tx` looks like one: it spends one output, and its
/// sequence and lock time are marked as BOLT 3 says.
pub fn number_of(tx: &Transaction, obscuring_factor: u64) -> Option<u64> {
    let [input] = tx.input.as_slice() else { return None };
    let (upper, lower) = (input.sequence.0, tx.lock_time.to_consensus_u32());
    if upper >> 24 != 0x80 || lower >> 24 != 0x20 {
        return None;
    }
    let obscured = (u64::from(upper & LOWER_24) << 24) | u64::from(lower & LOWER_24);
    Some(obscured ^ obscuring_factor)
}

const LOWER_24: u32 = 0x00ff_ffff;

impl CommitmentContext<'_> {
    /// The witness script of F.
    pub fn funding_script(&self) -> ScriptBuf {
        let keys = self.keys;
        script::funding::witness_script(&keys.broadcaster_funding, &keys.countersigner_funding)
    }

    /// The witness script of to_local, and of the outputs of HT and HE.
    pub fn to_local_script(&self) -> ScriptBuf {
        let keys = self.keys;
        script::to_local::witness_script(&keys.revocation, self.to_self_delay, &keys.delayed)
    }

    /// The witness script of an HTLC's output.
    pub fn htlc_script(&self, htlc: &Htlc) -> ScriptBuf {
        let CommitmentKeys { revocation, broadcaster_htlc, countersigner_htlc, .. } = self.keys;
        if htlc.offered {
            script::offered_htlc::witness_script(
                self.format,
                revocation,
                broadcaster_htlc,
                countersigner_htlc,
                htlc.payment_hash,
            )
        } else {
            script::received_htlc::witness_script(
                self.format,
                revocation,
                broadcaster_htlc,
                countersigner_htlc,
                htlc.payment_hash,
                htlc.cltv_expiry,
            )
        }
    }
}

impl CommitmentTx {
    /// What both sign to spend F.
    pub fn sighash(&self, context: &CommitmentContext) -> [u8; 32] {
        let script = context.funding_script();
        sighash::first_input(&self.tx, &script, context.capacity, EcdsaSighashType::All)
    }

    /// HT or HE of this HTLC, unsigned.
    pub fn htlc_tx(&self, context: &CommitmentContext, committed: &CommittedHtlc) -> Transaction {
        let (format, feerate) = (context.format, self.feerate);
        let Htlc { offered, amount, cltv_expiry, .. } = committed.htlc;
        let output = OutPoint::new(self.txid, committed.output);
        if offered {
            htlc_timeout::build(format, feerate, output, amount, cltv_expiry, &self.revocable)
        } else {
            htlc_success::build(format, feerate, output, amount, &self.revocable)
        }
    }

    /// What the countersigner, or else the broadcaster, signs for HT or HE of this HTLC.
    pub fn htlc_sighash(
        &self,
        context: &CommitmentContext,
        committed: &CommittedHtlc,
        for_countersigner: bool,
    ) -> [u8; 32] {
        let kind = match for_countersigner {
            true => sighash::countersigner_htlc_type(context.format),
            false => EcdsaSighashType::All,
        };
        let tx = self.htlc_tx(context, committed);
        sighash::first_input(&tx, &committed.script, committed.htlc.amount.floor(), kind)
    }

    /// [`Self::htlc_sighash`] of all, in the order of `htlc_signatures`.
    pub fn htlc_sighashes(
        &self,
        context: &CommitmentContext,
        for_countersigner: bool,
    ) -> Vec<[u8; 32]> {
        let sighash = |committed| self.htlc_sighash(context, committed, for_countersigner);
        self.htlcs.iter().map(sighash).collect()
    }

    /// The commitment with its witness, ready to publish.
    pub fn signed(
        &self,
        context: &CommitmentContext,
        broadcaster: &Signature,
        countersigner: &Signature,
    ) -> Transaction {
        let mut tx = self.tx.clone();
        if let Some(input) = tx.input.first_mut() {
            input.witness = funding::witness(
                (&context.keys.broadcaster_funding, broadcaster),
                (&context.keys.countersigner_funding, countersigner),
            );
        }
        tx
    }

    /// The weight it has once signed, with the longest signatures.
    pub fn weight(&self) -> u64 {
        let witness = weight::SEGWIT_HEADER.saturating_add(weight::funding_witness());
        self.tx.weight().to_wu().saturating_add(witness)
    }

    fn place(&mut self, place: u32, output: Output) {
        match output.owner {
            Owner::ToLocal => self.to_local = Some(place),
            Owner::ToRemote => self.to_remote = Some(place),
            Owner::BroadcasterAnchor => self.broadcaster_anchor = Some(place),
            Owner::CountersignerAnchor => self.countersigner_anchor = Some(place),
            Owner::Htlc { tag, htlc, script } => {
                self.htlcs.push(CommittedHtlc { tag, htlc, output: place, script });
            }
        }
        let value = output.value.to_amount();
        self.tx.output.push(TxOut { value, script_pubkey: output.script_pubkey });
    }
}

/// An output before it has its place.
struct Output {
    value: Sat,
    script_pubkey: ScriptBuf,
    owner: Owner,
}

enum Owner {
    ToLocal,
    ToRemote,
    BroadcasterAnchor,
    CountersignerAnchor,
    Htlc { tag: HtlcRef, htlc: Htlc, script: ScriptBuf },
}

impl Output {
    /// BIP 69, then cltv_expiry; equal in that too, they are equal in all that is signed.
    fn order(&self) -> (Sat, &[u8], Option<Height>, Option<HtlcRef>) {
        let (expiry, tag) = match &self.owner {
            Owner::Htlc { tag, htlc, .. } => (Some(htlc.cltv_expiry), Some(*tag)),
            _ => (None, None),
        };
        (self.value, self.script_pubkey.as_bytes(), expiry, tag)
    }
}

/// Both balances as outputs, if they are worth one, and what the funder paid for the fee.
struct Balances {
    to_local: Option<Sat>,
    to_remote: Option<Sat>,
    base_fee: Sat,
}

fn balances(context: &CommitmentContext, spec: &CommitmentSpec, htlcs: usize) -> Balances {
    let mut to_local = spec.to_broadcaster.floor();
    let mut to_remote = spec.to_countersigner.floor();
    let funder = if context.broadcaster_pays_fee { &mut to_local } else { &mut to_remote };
    let after_anchors = funder.saturating_sub(anchors_cost(context.format));
    let fee = commitment_fee(context.format, spec.feerate, htlcs);
    *funder = after_anchors.saturating_sub(fee);
    let is_worth_it = |balance: &Sat| *balance >= context.dust_limit;
    Balances {
        base_fee: after_anchors.saturating_sub(*funder),
        to_local: Some(to_local).filter(is_worth_it),
        to_remote: Some(to_remote).filter(is_worth_it),
    }
}

/// All outputs but the HTLCs'.
fn own_outputs(
    context: &CommitmentContext,
    balances: &Balances,
    revocable: &ScriptBuf,
    has_htlcs: bool,
) -> Vec<Output> {
    let keys = context.keys;
    let mut outputs = Vec::new();
    if let Some(value) = balances.to_local {
        let script_pubkey = revocable.clone();
        outputs.push(Output { value, script_pubkey, owner: Owner::ToLocal });
    }
    if let Some(value) = balances.to_remote {
        let key = &keys.countersigner_payment;
        let script_pubkey = script::to_remote::script_pubkey(context.format, key);
        outputs.push(Output { value, script_pubkey, owner: Owner::ToRemote });
    }
    let mut anchor = |has_balance: bool, key: &PublicKey, owner| {
        if context.format == CommitmentFormat::Anchors && (has_balance || has_htlcs) {
            let script_pubkey = script::anchor::witness_script(key).to_p2wsh();
            outputs.push(Output { value: weight::ANCHOR, script_pubkey, owner });
        }
    };
    let (to_local, to_remote) = (balances.to_local.is_some(), balances.to_remote.is_some());
    anchor(to_local, &keys.broadcaster_funding, Owner::BroadcasterAnchor);
    anchor(to_remote, &keys.countersigner_funding, Owner::CountersignerAnchor);
    outputs
}

fn htlc_output(context: &CommitmentContext, tag: HtlcRef, htlc: Htlc) -> Output {
    let script = context.htlc_script(&htlc);
    Output {
        value: htlc.amount.floor(),
        script_pubkey: script.to_p2wsh(),
        owner: Owner::Htlc { tag, htlc, script },
    }
}

/// The commitment without outputs: its input, and its number hidden in sequence and lock time.
fn frame(context: &CommitmentContext, number: u64) -> Transaction {
    let obscured = (number ^ context.obscuring_factor) & crate::keys::derive::FIRST_INDEX;
    let [_, _, a, b, c, x, y, z] = obscured.to_be_bytes();
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::from_consensus(u32::from_be_bytes([0x20, x, y, z])),
        input: vec![TxIn {
            previous_output: context.funding,
            script_sig: ScriptBuf::new(),
            sequence: Sequence(u32::from_be_bytes([0x80, a, b, c])),
            witness: Witness::new(),
        }],
        output: Vec::new(),
    }
}
