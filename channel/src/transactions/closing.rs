//! ES, the exercise settlement: both sides agree to end the channel (BOLT 3, closing).
//!
//! ```text
//! F ── ES ─┬─ our script
//!          └─ theirs
//! ```

use bitcoin::absolute::LockTime;
use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::secp256k1::PublicKey;
use bitcoin::sighash::EcdsaSighashType;
use bitcoin::transaction::Version;
use bitcoin::{OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};

use super::weight::dust_threshold;
use super::{funding, sighash, weight};
use crate::amount::{Msat, Sat};
use crate::params::Side;

/// How the sides came to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// closing_signed: one transaction for both, the funder pays.
    Legacy,
    /// closing_complete: the closer's own transaction, the closer pays; an OP_RETURN output gets
    /// nothing.
    Simple {
        /// As in closing_complete.
        lock_time: u32,
    },
}

/// One side's share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Its balance.
    pub balance: Msat,
    /// Where it is paid, from its last `shutdown` or `closing_complete`.
    pub script: ScriptBuf,
    /// Leave the output out, whatever it is worth.
    pub omitted: bool,
}

/// What a closing transaction is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosingSpec {
    /// Which kind.
    pub method: Method,
    /// The output of F.
    pub funding: OutPoint,
    /// What it holds.
    pub capacity: Sat,
    /// Our share.
    pub local: Share,
    /// The peer's share.
    pub remote: Share,
    /// What it costs.
    pub fee: Sat,
    /// Who pays the fee: the funder, or the closer.
    pub payer: Side,
    /// Legacy only: outputs below this, the signer's dust limit, or below Bitcoin Core's are left
    /// out. A simple close says itself which outputs there are.
    pub dust_limit: Sat,
}

/// Why there is no such closing transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClosingError {
    /// The payer's balance does not cover the fee.
    #[error("the closing fee of {fee} is more than the {balance} of who pays it; lower the fee")]
    FeeTooHigh {
        /// What was asked.
        fee: Sat,
        /// What there is.
        balance: Sat,
    },
    /// No output would be large enough to relay.
    #[error("at a closing fee of {0} both outputs are dust; lower the fee")]
    NothingLeft(Sat),
}

/// A closing transaction, unsigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosingTx {
    /// The transaction.
    pub tx: Transaction,
    /// Our output, if there is one.
    pub local: Option<u32>,
    /// The peer's.
    pub remote: Option<u32>,
    /// What F holds.
    pub capacity: Sat,
}

/// Builds a closing transaction.
///
/// # Errors
/// [`ClosingError`] if the fee is more than the payer has or leaves no output.
pub fn build_closing(spec: &ClosingSpec) -> Result<ClosingTx, ClosingError> {
    let mut outputs = Vec::with_capacity(2);
    for (side, share) in [(Side::Local, &spec.local), (Side::Remote, &spec.remote)] {
        let value = value_of(spec, side, share)?;
        let least = match spec.method {
            Method::Legacy => dust_threshold(&share.script).max(spec.dust_limit),
            Method::Simple { .. } => Sat::ZERO,
        };
        if !share.omitted && value >= least {
            let output = TxOut { value: value.to_amount(), script_pubkey: share.script.clone() };
            outputs.push((side, output));
        }
    }
    if outputs.is_empty() {
        return Err(ClosingError::NothingLeft(spec.fee));
    }
    outputs.sort_by(|(_, one), (_, other)| {
        let order = |output: &TxOut| (output.value, output.script_pubkey.clone());
        order(one).cmp(&order(other))
    });
    let place = |wanted| (0u32..).zip(&outputs).find(|(_, (side, _))| *side == wanted);
    let (local, remote) = (place(Side::Local), place(Side::Remote));
    let (local, remote) = (local.map(|(place, _)| place), remote.map(|(place, _)| place));
    let tx = frame(spec, outputs.into_iter().map(|(_, output)| output).collect());
    Ok(ClosingTx { tx, local, remote, capacity: spec.capacity })
}

impl ClosingTx {
    /// What both sign; the two keys of F in either order.
    pub fn sighash(&self, one: &PublicKey, other: &PublicKey) -> [u8; 32] {
        let script = funding::funding_script(one, other);
        sighash::first_input(&self.tx, &script, self.capacity, EcdsaSighashType::All)
    }

    /// The transaction with its witness, ready to publish: each key of F with its signature.
    pub fn signed(
        &self,
        one: (&PublicKey, &Signature),
        other: (&PublicKey, &Signature),
    ) -> Transaction {
        let mut tx = self.tx.clone();
        if let Some(input) = tx.input.first_mut() {
            input.witness = funding::witness(one, other);
        }
        tx
    }
}

/// Whether a transaction has the form of ES by either method: all that can be told of one whose
/// terms are lost.
pub fn is_closing(tx: &Transaction) -> bool {
    let [input] = tx.input.as_slice() else { return false };
    let form = match input.sequence {
        Sequence::MAX => tx.lock_time == LockTime::ZERO,
        sequence => sequence == Sequence::ENABLE_RBF_NO_LOCKTIME,
    };
    form && tx.version == Version::TWO && matches!(tx.output.len(), 1 | 2)
}

/// The weight of a closing transaction with these output scripts, with the longest signatures.
pub fn closing_weight(scripts: impl IntoIterator<Item = impl AsRef<Script>>) -> u64 {
    const WITHOUT_OUTPUTS: u64 = 4 * (4 + 1 + 1 + 4) + weight::INPUT + weight::SEGWIT_HEADER;
    scripts.into_iter().fold(
        WITHOUT_OUTPUTS.saturating_add(weight::funding_witness()),
        |sum, script| {
            let output =
                TxOut { value: bitcoin::Amount::ZERO, script_pubkey: script.as_ref().into() };
            sum.saturating_add(output.weight().to_wu())
        },
    )
}

fn value_of(spec: &ClosingSpec, side: Side, share: &Share) -> Result<Sat, ClosingError> {
    let balance = share.balance.floor();
    let value = if side == spec.payer {
        let too_high = ClosingError::FeeTooHigh { fee: spec.fee, balance };
        balance.checked_sub(spec.fee).ok_or(too_high)?
    } else {
        balance
    };
    let is_message = share.script.is_op_return() && spec.method != Method::Legacy;
    Ok(if is_message { Sat::ZERO } else { value })
}

fn frame(spec: &ClosingSpec, output: Vec<TxOut>) -> Transaction {
    let (lock_time, sequence) = match spec.method {
        Method::Legacy => (0, Sequence::MAX),
        Method::Simple { lock_time } => (lock_time, Sequence::ENABLE_RBF_NO_LOCKTIME),
    };
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::from_consensus(lock_time),
        input: vec![TxIn {
            previous_output: spec.funding,
            script_sig: ScriptBuf::new(),
            sequence,
            witness: Witness::new(),
        }],
        output,
    }
}
