//! What its owner takes with one signature: an input, and all that is needed to add it to any
//! transaction. The files of D, RD, BR and the like each make one of these.

use bitcoin::absolute::LockTime;
use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::sighash::EcdsaSighashType;
use bitcoin::transaction::Version;
use bitcoin::{OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, VarInt, Witness};

use super::{sighash, weight};
use crate::amount::{FeeratePerKw, Height, Sat};

/// Which of the owner's keys signs (see [`crate::keys::Signer`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The key in F.
    Funding,
    /// The payment basepoint.
    Payment,
    /// The delayed key of the commitment.
    Delayed,
    /// The HTLC key for the other side's commitment.
    Htlc,
    /// The HTLC key for one's own commitment: HT and HE.
    OwnHtlc,
    /// The revocation key of the commitment.
    Revocation,
}

/// One input that its owner can sign alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spend {
    /// What is spent.
    pub outpoint: OutPoint,
    /// What stands there.
    pub output: TxOut,
    /// The script that the signature commits to.
    pub script: ScriptBuf,
    /// The input's sequence: a delay, or none with replacement allowed.
    pub sequence: Sequence,
    /// The spending transaction's lock time must be at least this.
    pub lock_time: Height,
    /// Which key signs.
    pub key: Key,
    /// The witness before the signature: the other side's, for HT and HE.
    front: Vec<Vec<u8>>,
    /// The witness after the signature.
    rest: Vec<Vec<u8>>,
}

/// No delay, lock time in force, replaceable (BIP 125).
const NO_DELAY: Sequence = Sequence::ENABLE_RBF_NO_LOCKTIME;

impl Spend {
    /// A P2WSH output whose script takes one signature and then `unlock`.
    pub(super) fn p2wsh(
        key: Key,
        outpoint: OutPoint,
        value: Sat,
        script: ScriptBuf,
        unlock: Option<&[u8]>,
    ) -> Self {
        let output = TxOut { value: value.to_amount(), script_pubkey: script.to_p2wsh() };
        let rest = unlock.into_iter().chain([script.as_bytes()]).map(<[u8]>::to_vec).collect();
        let (sequence, lock_time) = (NO_DELAY, Height::default());
        Spend { outpoint, output, script, sequence, lock_time, key, front: Vec::new(), rest }
    }

    /// A P2WPKH output.
    pub(super) fn p2wpkh(
        key: Key,
        outpoint: OutPoint,
        value: Sat,
        public_key: &bitcoin::CompressedPublicKey,
    ) -> Self {
        Spend {
            outpoint,
            output: TxOut {
                value: value.to_amount(),
                script_pubkey: ScriptBuf::new_p2wpkh(&public_key.wpubkey_hash()),
            },
            script: ScriptBuf::new_p2pkh(&public_key.pubkey_hash()),
            sequence: NO_DELAY,
            lock_time: Height::default(),
            key,
            front: Vec::new(),
            rest: vec![public_key.to_bytes().to_vec()],
        }
    }

    /// The same, with elements that stand before the signature.
    pub(super) fn behind(self, front: Vec<Vec<u8>>) -> Self {
        Spend { front, ..self }
    }

    /// The same, with so many blocks to wait after the output confirmed.
    pub(super) fn after(self, blocks: u16) -> Self {
        Spend { sequence: Sequence::from_height(blocks), ..self }
    }

    /// The same, not before this height.
    pub(super) fn not_before(self, lock_time: Height) -> Self {
        Spend { lock_time, ..self }
    }

    /// What it brings in.
    pub fn value(&self) -> Sat {
        self.output.value.into()
    }

    /// The input, without its witness.
    pub fn input(&self) -> TxIn {
        TxIn {
            previous_output: self.outpoint,
            script_sig: ScriptBuf::new(),
            sequence: self.sequence,
            witness: Witness::new(),
        }
    }

    /// The weight of the input and its witness, with the longest signature.
    pub fn weight(&self) -> u64 {
        let lengths =
            |part: &[Vec<u8>]| -> Vec<u64> { part.iter().map(|e| e.len() as u64).collect() };
        let around = lengths(&self.front).into_iter().chain(lengths(&self.rest));
        let witness = weight::witness(around.chain([weight::SIGNATURE]));
        witness.saturating_add(weight::INPUT)
    }

    /// What to sign when this is input `input` of `tx`. Nothing if `tx` has no such input.
    pub fn sighash(
        &self,
        tx: &Transaction,
        input: usize,
        kind: EcdsaSighashType,
    ) -> Option<[u8; 32]> {
        sighash::sighash(tx, input, &self.script, self.value(), kind)
    }

    /// The witness with this signature.
    pub fn witness(&self, signature: &Signature, kind: EcdsaSighashType) -> Witness {
        let mut witness = Witness::new();
        self.front.iter().for_each(|element| witness.push(element));
        witness.push(sighash::witness_element(signature, kind));
        self.rest.iter().for_each(|element| witness.push(element));
        witness
    }
}

/// The weight of a transaction of these inputs and one output, with the longest signatures.
pub fn sweep_weight(spends: &[Spend], destination: &Script) -> u64 {
    let inputs = spends.iter().fold(0u64, |sum, spend| sum.saturating_add(spend.weight()));
    let output = TxOut { value: bitcoin::Amount::ZERO, script_pubkey: destination.to_owned() };
    let count = VarInt(spends.len() as u64).size() as u64;
    let version_lock_time_and_output_count: u64 = 9;
    version_lock_time_and_output_count
        .saturating_add(count)
        .saturating_mul(4)
        .saturating_add(output.weight().to_wu())
        .saturating_add(weight::SEGWIT_HEADER)
        .saturating_add(inputs)
}

/// A transaction of these inputs, unsigned, that pays all but the fee to `destination`. Nothing
/// if what is left would be dust, or if there are no inputs.
pub fn sweep(spends: &[Spend], destination: &Script, feerate: FeeratePerKw) -> Option<Transaction> {
    let total = spends.iter().try_fold(Sat::ZERO, |sum, spend| sum.checked_add(spend.value()))?;
    let value = total.checked_sub(feerate.fee(sweep_weight(spends, destination)))?;
    if spends.is_empty() || value < weight::dust_threshold(destination) {
        return None;
    }
    let lock_time = spends.iter().map(|spend| spend.lock_time).max().unwrap_or_default();
    Some(Transaction {
        version: Version::TWO,
        lock_time: LockTime::from_consensus(lock_time.number()),
        input: spends.iter().map(Spend::input).collect(),
        output: vec![TxOut { value: value.to_amount(), script_pubkey: destination.to_owned() }],
    })
}
