//! What Bitcoin Core 29.1 relays, by default: which transactions are standard, and fees.
//!
//! That version's rules are those of the bitcoind that the tests compare with: 100 sat per 1,000
//! vbytes as relay minimum and increment, one OP_RETURN output of up to 83 bytes, dust at 3,000.

use bitcoin::script::Instruction;
use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::{opcodes, FeeRate, Script, Transaction, TxOut, Witness};
use fulmen_channel::amount::Sat;

use super::reject::Reject;

/// A feerate in satoshi per 1,000 vbytes, as bitcoind counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PerKvb(u64);

/// What entering a mempool, or replacing something in it, costs at least.
pub const RELAY_MINIMUM: PerKvb = PerKvb(100);
/// The feerate below which an output is not worth spending.
const DUST_RATE: FeeRate = FeeRate::from_sat_per_vb_u32(3);

const MAX_WEIGHT: u64 = 400_000;
const MAX_SIGOPS: usize = 16_000;
const BYTES_PER_SIGOP: u64 = 20;
/// Without its witness: no transaction may look like two hashes of a merkle tree.
const MIN_SIZE: usize = 65;
const MAX_SCRIPT_SIG: usize = 1_650;
const MAX_OP_RETURN: usize = 83;
const MAX_P2SH_SIGOPS: usize = 15;
const MAX_WITNESS_SCRIPT: usize = 3_600;
const MAX_WITNESS_ITEMS: usize = 100;
const MAX_WITNESS_ITEM: usize = 80;

impl PerKvb {
    /// This many satoshi per 1,000 vbytes.
    pub const fn new(sat_per_kvb: u64) -> Self {
        PerKvb(sat_per_kvb)
    }

    /// The satoshi per 1,000 vbytes.
    pub const fn sat_per_kvb(self) -> u64 {
        self.0
    }

    /// The fee for so many vbytes, rounded up.
    pub fn fee(self, vbytes: u64) -> Sat {
        Sat::new(self.0.saturating_mul(vbytes).div_ceil(1_000))
    }

    /// The rate of a fee for so many vbytes, rounded down.
    pub fn of(fee: Sat, vbytes: u64) -> Self {
        PerKvb(fee.sat().saturating_mul(1_000).checked_div(vbytes).unwrap_or(0))
    }
}

/// The size that fees are counted by: weight, or signature operations where those are many.
pub fn vsize(tx: &Transaction, sigops: usize) -> u64 {
    let sigops = u64::try_from(sigops).unwrap_or(u64::MAX).saturating_mul(BYTES_PER_SIGOP);
    tx.weight().to_wu().max(sigops).div_ceil(4)
}

/// The form of a transaction.
///
/// # Errors
/// Core's reasons of IsStandardTx.
pub fn check_form(tx: &Transaction) -> Result<(), Reject> {
    if !(1..=3).contains(&tx.version.0) {
        return Err(Reject::new("version"));
    }
    if tx.weight().to_wu() > MAX_WEIGHT {
        return Err(Reject::new("tx-size"));
    }
    for input in &tx.input {
        if input.script_sig.len() > MAX_SCRIPT_SIG {
            return Err(Reject::new("scriptsig-size"));
        }
        if !input.script_sig.is_push_only() {
            return Err(Reject::new("scriptsig-not-pushonly"));
        }
    }
    if !tx.output.iter().all(|output| is_standard_output(&output.script_pubkey)) {
        return Err(Reject::new("scriptpubkey"));
    }
    if tx.output.iter().filter(|output| is_dust(output)).count() > 1 {
        return Err(Reject::new("dust"));
    }
    if tx.output.iter().filter(|output| output.script_pubkey.is_op_return()).count() > 1 {
        return Err(Reject::new("multi-op-return"));
    }
    if tx.base_size() < MIN_SIZE {
        return Err(Reject::new("tx-size-small"));
    }
    Ok(())
}

/// One output of dust is for a transaction that pays nothing and a child that takes it at once;
/// such pairs are not built into the box.
///
/// # Errors
/// `dust`.
pub fn check_dust(tx: &Transaction, fee: Sat) -> Result<(), Reject> {
    match tx.output.iter().any(is_dust) {
        true if fee > Sat::ZERO => {
            Err(Reject::detailed("dust", "tx with dust output must be 0-fee"))
        }
        true => Err(Reject::detailed("dust", "the chain in a box knows no ephemeral dust")),
        false => Ok(()),
    }
}

/// An output that costs more to spend than it holds.
pub fn is_dust(output: &TxOut) -> bool {
    output.value < output.script_pubkey.minimal_non_dust_custom(DUST_RATE)
}

fn is_standard_output(script: &Script) -> bool {
    if script.is_op_return() {
        let data = script.as_bytes().get(1..).unwrap_or_default();
        return script.len() <= MAX_OP_RETURN && Script::from_bytes(data).is_push_only();
    }
    is_spendable_kind(script) || script.is_witness_program()
}

/// A kind of output that a standard transaction may spend.
fn is_spendable_kind(script: &Script) -> bool {
    script.is_p2pk()
        || script.is_p2pkh()
        || script.is_p2sh()
        || is_small_multisig(script)
        || script.is_p2wpkh()
        || script.is_p2wsh()
        || script.is_p2tr()
        || is_anchor(script)
}

/// Bare multisig of up to three keys.
fn is_small_multisig(script: &Script) -> bool {
    let keys = script.instructions().filter(|part| matches!(part, Ok(Instruction::PushBytes(_))));
    script.is_multisig() && keys.count() <= 3
}

/// Core's pay-to-anchor, which anybody may spend with an empty witness.
fn is_anchor(script: &Script) -> bool {
    script.as_bytes() == [0x51, 0x02, 0x4e, 0x73]
}

/// The outputs that a transaction spends, and how.
///
/// # Errors
/// Core's reasons of AreInputsStandard and IsWitnessStandard, too many signature operations, and
/// those rules of its script checks that can be seen without running a script.
pub fn check_inputs(tx: &Transaction, spent: &[TxOut], sigops: usize) -> Result<(), Reject> {
    for (input, output) in tx.input.iter().zip(spent) {
        let redeem = output.script_pubkey.is_p2sh().then(|| last_push(&input.script_sig));
        let deep = redeem.flatten().map_or(0, |script| Script::from_bytes(script).count_sigops());
        if !is_spendable_kind(&output.script_pubkey) || deep > MAX_P2SH_SIGOPS {
            return Err(Reject::new("bad-txns-nonstandard-inputs"));
        }
    }
    for (input, output) in tx.input.iter().zip(spent) {
        let script = match last_push(&input.script_sig) {
            Some(redeem) if output.script_pubkey.is_p2sh() => Script::from_bytes(redeem),
            _ => &output.script_pubkey,
        };
        if !input.witness.is_empty() && !is_standard_witness(script, &input.witness) {
            return Err(Reject::new("bad-witness-nonstandard"));
        }
    }
    if sigops > MAX_SIGOPS {
        return Err(Reject::new("bad-txns-too-many-sigops"));
    }
    Ok(())
}

/// The rules of relay about scripts that can be seen without running them: signatures with a low
/// S, compressed keys behind p2wpkh.
///
/// # Errors
/// Core's reason, with what was wrong.
pub fn check_signatures(tx: &Transaction, spent: &[TxOut]) -> Result<(), Reject> {
    let refuse = |what| {
        let reason = format!("non-mandatory-script-verify-flag ({what})");
        Err(Reject::new(&reason))
    };
    for (input, output) in tx.input.iter().zip(spent) {
        let pushed = input.script_sig.instructions().filter_map(|part| match part {
            Ok(Instruction::PushBytes(bytes)) => Some(bytes.as_bytes()),
            _ => None,
        });
        let witness = input.witness.iter().filter(|_| !output.script_pubkey.is_p2tr());
        if pushed.chain(witness).any(has_high_s) {
            return refuse("Non-canonical signature: S value is unnecessarily high");
        }
        let key = input.witness.nth(1).filter(|_| output.script_pubkey.is_p2wpkh());
        if key.is_some_and(|key| key.len() != 33) {
            return refuse("Using non-compressed keys in segwit");
        }
    }
    Ok(())
}

/// Whether these bytes are a signature with its sighash byte, S in the upper half.
fn has_high_s(bytes: &[u8]) -> bool {
    let Some((_, der)) = bytes.split_last() else { return false };
    let Ok(signature) = Signature::from_der(der) else { return false };
    let mut low = signature;
    low.normalize_s();
    low != signature
}

fn is_standard_witness(script: &Script, witness: &Witness) -> bool {
    let (last, second) = (witness.last().unwrap_or_default(), witness.second_to_last());
    if is_anchor(script) || !script.is_witness_program() {
        return false;
    }
    if script.is_p2wsh() {
        let items = witness.len().saturating_sub(1);
        let small = witness.iter().take(items).all(|item| item.len() <= MAX_WITNESS_ITEM);
        return last.len() <= MAX_WITNESS_SCRIPT && items <= MAX_WITNESS_ITEMS && small;
    }
    if script.is_p2tr() {
        const ANNEX: u8 = 0x50;
        const TAPSCRIPT: u8 = 0xc0;
        if witness.len() >= 2 && last.first() == Some(&ANNEX) {
            return false;
        }
        let by_script =
            second.is_some() && last.first().is_some_and(|leaf| leaf & 0xfe == TAPSCRIPT);
        let items = if by_script { witness.len().saturating_sub(2) } else { 0 };
        return witness.iter().take(items).all(|item| item.len() <= MAX_WITNESS_ITEM);
    }
    true
}

/// What a scriptSig pushes last: the redeem script of p2sh.
fn last_push(script: &Script) -> Option<&[u8]> {
    match script.instructions().last()?.ok()? {
        Instruction::PushBytes(bytes) => Some(bytes.as_bytes()),
        Instruction::Op(op) if op == opcodes::all::OP_PUSHBYTES_0 => Some(&[]),
        Instruction::Op(_) => None,
    }
}
