//! Keys, scripts and transactions against the world: BOLT 3's vectors, LDK's builders, and
//! Bitcoin's own script interpreter.

mod breach;
mod channel;
mod closing;
mod keys;
mod ldk;
mod scripts;
mod vectors;
mod weights;

use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::{sha256, Hash};
use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::sighash::EcdsaSighashType;
use bitcoin::{Transaction, TxOut};
use fulmen_channel::transactions::spend::Spend;

/// The JSON of a vector file.
fn vector(file: &str) -> serde_json::Value {
    let path = format!("{}/tests/vectors/{file}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn bytes(hex: &serde_json::Value) -> Vec<u8> {
    hex::decode(hex.as_str().unwrap()).unwrap()
}

fn bytes32(hex: &serde_json::Value) -> [u8; 32] {
    bytes(hex).try_into().unwrap()
}

/// Bitcoin's verdict on one input of `tx`; `spent` is what its inputs spend, in their order.
fn verdict(tx: &Transaction, input: usize, spent: &[TxOut]) -> Result<(), bitcoinconsensus::Error> {
    let (script, value) = (&spent[input].script_pubkey, spent[input].value.to_sat());
    bitcoinconsensus::verify(script.as_bytes(), value, &serialize(tx), None, input)
}

/// Bitcoin accepts all inputs of `tx`, and they pay for its outputs.
#[track_caller]
fn assert_valid(tx: &Transaction, spent: &[TxOut]) {
    assert_eq!(tx.input.len(), spent.len());
    for input in 0..spent.len() {
        verdict(tx, input, spent).unwrap_or_else(|error| panic!("input {input}: {error:?}"));
    }
    let sum = |outputs: &[TxOut]| outputs.iter().map(|output| output.value.to_sat()).sum::<u64>();
    assert!(sum(&tx.output) <= sum(spent), "spends more than there is");
}

/// Signs input `input` of `tx`, which is `spend`.
fn sign(
    tx: &mut Transaction,
    input: usize,
    spend: &Spend,
    signer: impl FnOnce([u8; 32]) -> Signature,
) {
    let kind = EcdsaSighashType::All;
    let signature = signer(spend.sighash(tx, input, kind).unwrap());
    tx.input[input].witness = spend.witness(&signature, kind);
}

/// How many bytes the signatures of this transaction, DER with hash type, are shorter than the 72
/// that weights reckon with.
fn missing_signature_bytes(tx: &Transaction) -> u64 {
    let elements = tx.input.iter().flat_map(|input| input.witness.iter());
    let signatures = elements.filter(|e| (60..=72).contains(&e.len()) && e[0] == 0x30);
    signatures.map(|signature| 72 - signature.len() as u64).sum()
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn bytes(&mut self) -> [u8; 32] {
        self.0 += 1;
        sha256::Hash::hash(&self.0.to_be_bytes()).to_byte_array()
    }
    fn below(&mut self, bound: u64) -> u64 {
        u64::from_be_bytes(self.bytes()[..8].try_into().unwrap()) % bound
    }
    fn coin(&mut self) -> bool {
        self.below(2) == 1
    }
}
