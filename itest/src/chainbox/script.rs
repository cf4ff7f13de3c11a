//! The scripts of a transaction's inputs, run by Bitcoin's own interpreter.

use bitcoin::consensus::serialize;
use bitcoin::{Transaction, TxOut};
use bitcoinconsensus::{Utxo, VERIFY_ALL_PRE_TAPROOT, VERIFY_TAPROOT};

use super::reject::Reject;

/// Runs every input's scripts with all rules on, taproot's too. `spent` are the outputs that the
/// inputs take, in their order.
///
/// # Errors
/// `mandatory-script-verify-flag-failed`; which operation failed the interpreter does not tell.
pub fn verify(tx: &Transaction, spent: &[TxOut]) -> Result<(), Reject> {
    let raw = serialize(tx);
    let failed = |number| {
        let what = "mandatory-script-verify-flag-failed (the script does not hold)";
        Reject::detailed(what, format!("input {number} of {}", tx.compute_txid()))
    };
    let mut outputs = Vec::new();
    for output in spent {
        let script = output.script_pubkey.as_bytes();
        outputs.push(Utxo {
            script_pubkey: script.as_ptr(),
            script_pubkey_len: u32::try_from(script.len()).map_err(|_| failed(0))?,
            value: i64::try_from(output.value.to_sat()).map_err(|_| failed(0))?,
        });
    }
    let flags = VERIFY_ALL_PRE_TAPROOT | VERIFY_TAPROOT;
    for (number, output) in spent.iter().enumerate() {
        let (script, value) = (output.script_pubkey.as_bytes(), output.value.to_sat());
        let held =
            bitcoinconsensus::verify_with_flags(script, value, &raw, Some(&outputs), number, flags);
        held.map_err(|_| failed(number))?;
    }
    Ok(())
}
