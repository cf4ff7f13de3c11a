//! What an altruist tower keeps of a revoked state: signatures only, sealed under a key that the
//! breach itself reveals. Nobody who holds the record learns a thing before that.
//!
//! ```text
//!   txid of the revoked commitment = hint (16 bytes, the tower's index) ‖ 16 bytes nobody knows
//!   sealed = ChaCha20-Poly1305 under SHA256("…" ‖ txid): keys of the scripts, places, signatures
//!            (the cheater knows its txid before us, and can seal: only signatures prove a record)
//!
//!   revoked C ─┬─ to_local ── BR          each remedy is a transaction of its own: one input, one
//!              ├─ to_remote ─ D           output, signed SINGLE|ANYONECANPAY and with its fee, so
//!              └─ HTLC ────── HBR         that none holds up another and a fee may be added
//!                  └─ HT, HE ─ HTBR, HEBR (static_remotekey: with anchors their txid is open)
//! ```
//!
//! A private key for each state would be shorter, but with one the *peer* could work out our
//! channel-wide secret: a stranger must never hold it.

use bitcoin::hashes::{sha256, Hash, HashEngine};
use bitcoin::secp256k1::{ecdsa::Signature, Message, PublicKey, Secp256k1, SecretKey};
use bitcoin::sighash::EcdsaSighashType;
use bitcoin::{OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use chacha20poly1305::aead::{Aead, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use fulmen_channel::amount::{FeeratePerKw, Height, Sat};
use fulmen_channel::contract::sign::Draft;
use fulmen_channel::contract::Commitments;
use fulmen_channel::keys::Signer;
use fulmen_channel::params::{CommitmentFormat, Side};
use fulmen_channel::payment::PaymentHash;
use fulmen_channel::script;
use fulmen_channel::transactions::spend::{sweep, Key, Spend};
use fulmen_channel::transactions::{breach_remedy, delivery, htlc_breach_remedy};
use serde::{Deserialize, Serialize};

/// The first half of a revoked commitment's txid, as it is hashed: what a tower looks for.
pub type Hint = [u8; 16];

/// How each remedy is signed: its input and the output beside it, and nothing else.
pub const SIGHASH: EcdsaSighashType = EcdsaSighashType::SinglePlusAnyoneCanPay;

/// The longest sealed record that is taken, in bytes: a commitment of 483 HTLCs and their second
/// stages, with room.
pub const MAX_SEALED: usize = 60_000;

const VERSION: u8 = 1;
const NONCE: usize = 12;

/// What the wronged side wants done with what is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// What every remedy pays.
    pub feerate: FeeratePerKw,
    /// Where to.
    pub destination: ScriptBuf,
}

/// The remedies of one revoked state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    version: u8,
    format: CommitmentFormat,
    to_self_delay: u16,
    revocation: PublicKey,
    delayed: PublicKey,
    terms: Terms,
    /// The broadcaster's and the countersigner's, if there are HTLCs.
    htlc_keys: Option<(PublicKey, PublicKey)>,
    parts: Vec<Part>,
}

/// One output that is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    output: Output,
    /// Its place on the commitment.
    place: u16,
    signature: Compact,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Output {
    ToLocal,
    /// With our payment basepoint.
    ToRemote(PublicKey),
    Htlc {
        offered: bool,
        payment_hash: PaymentHash,
        cltv_expiry: Height,
    },
    /// The only output of HT or HE of the HTLC in this place.
    SecondStage,
}

/// The 64 bytes of a signature.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Compact([u8; 32], [u8; 32]);

/// A state that the peer may still publish, kept from when we sign it until it revokes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unrevoked {
    /// The id of the commitment.
    pub txid: Txid,
    /// Its number.
    pub number: u64,
    record: Record,
    /// What each part spends and holds.
    spent: Vec<(OutPoint, Sat)>,
}

/// A record as the tower gets it, and what it does not cover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// What the tower finds it by.
    pub hint: Hint,
    /// What it cannot read before the breach.
    pub bytes: Vec<u8>,
}

/// A remedy that the tower may publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remedy {
    /// The output that it takes.
    pub outpoint: OutPoint,
    /// What that holds.
    pub value: Sat,
    /// The transaction, signed.
    pub tx: Transaction,
}

/// Why a sealed record is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// It was not sealed for this transaction, or was changed since.
    #[error("the record does not open with this transaction's id")]
    NotForThis,
    /// It opens, and its content makes no sense.
    #[error("the record opens and makes no sense")]
    Garbled,
}

impl Unrevoked {
    /// The peer's latest commitment, which we signed: `draft` is that.
    pub fn of(contract: &Commitments, draft: &Draft, terms: Terms) -> Unrevoked {
        let (keys, tx) = (&draft.keys, &draft.tx);
        let params = &contract.params;
        let mut record = Record {
            version: VERSION,
            format: params.format,
            to_self_delay: params.side(Side::Local).to_self_delay,
            revocation: keys.revocation,
            delayed: keys.delayed,
            terms,
            htlc_keys: None,
            parts: Vec::new(),
        };
        let mut spent = Vec::new();
        let mut add = |output, place: u32, outpoint, value| {
            // A commitment has at most 970 outputs (BOLT 2, max_accepted_htlcs).
            let place = u16::try_from(place).unwrap_or(u16::MAX);
            record.parts.push(Part { output, place, signature: Compact::default() });
            spent.push((outpoint, value));
        };
        let value = |tx: &Transaction, place: u32| {
            let output = usize::try_from(place).ok().and_then(|place| tx.output.get(place));
            output.map_or(Sat::ZERO, |output| output.value.into())
        };
        let at = |vout| OutPoint { txid: tx.txid, vout };
        if let Some(place) = tx.to_local {
            add(Output::ToLocal, place, at(place), value(&tx.tx, place));
        }
        if let Some(place) = tx.to_remote {
            let output = Output::ToRemote(keys.countersigner_payment);
            add(output, place, at(place), value(&tx.tx, place));
        }
        let context = contract.context(Side::Remote, keys);
        for committed in &tx.htlcs {
            let (htlc, place) = (&committed.htlc, committed.output);
            let output = Output::Htlc {
                offered: htlc.offered,
                payment_hash: htlc.payment_hash,
                cltv_expiry: htlc.cltv_expiry,
            };
            add(output, place, at(place), value(&tx.tx, place));
            if params.format == CommitmentFormat::StaticRemoteKey {
                let stage = tx.htlc_tx(&context, committed);
                let outpoint = OutPoint { txid: stage.compute_txid(), vout: 0 };
                add(Output::SecondStage, place, outpoint, value(&stage, 0));
            }
        }
        if !tx.htlcs.is_empty() {
            record.htlc_keys = Some((keys.broadcaster_htlc, keys.countersigner_htlc));
        }
        Unrevoked { txid: tx.txid, number: tx.number, record, spent }
    }

    /// What is done with what is taken.
    pub fn terms(&self) -> &Terms {
        &self.record.terms
    }

    /// The same at other terms.
    pub fn set_terms(&mut self, terms: Terms) {
        self.record.terms = terms;
    }

    /// The peer revoked it with this secret: signs each remedy and seals them. With the number of
    /// outputs that are not worth a remedy of their own at these terms.
    pub fn seal(mut self, secret: &SecretKey, signer: &dyn Signer) -> (Sealed, usize) {
        let parts = std::mem::take(&mut self.record.parts);
        let all = parts.len();
        for (mut part, (outpoint, value)) in parts.into_iter().zip(&self.spent) {
            let Some((spend, tx)) = self.record.unsigned(&part, *outpoint, *value) else {
                continue;
            };
            let Some(sighash) = spend.sighash(&tx, 0, SIGHASH) else { continue };
            let signature = match spend.key {
                Key::Payment => signer.sign_payment(sighash),
                _ => signer.sign_revocation(secret, sighash),
            };
            part.signature = Compact::from(&signature);
            self.record.parts.push(part);
        }
        let left_out = all.saturating_sub(self.record.parts.len());
        (self.record.seal(&self.txid), left_out)
    }
}

impl Record {
    /// What `sealed` holds, now that the transaction is known.
    ///
    /// # Errors
    /// [`BadRecord`]: a client may have sealed anything, or for another transaction.
    pub fn open(sealed: &[u8], txid: &Txid) -> Result<Record, BadRecord> {
        let (nonce, text) = sealed.split_first_chunk::<NONCE>().ok_or(BadRecord::NotForThis)?;
        let plain = cipher(txid).decrypt(Nonce::from_slice(nonce), text);
        let plain = plain.map_err(|_| BadRecord::NotForThis)?;
        let record: Record = postcard::from_bytes(&plain).map_err(|_| BadRecord::Garbled)?;
        (record.version == VERSION).then_some(record).ok_or(BadRecord::Garbled)
    }

    fn seal(&self, txid: &Txid) -> Sealed {
        // Cannot fail: the sink is a Vec and every part has a known length.
        let plain = postcard::to_stdvec(self).unwrap_or_default();
        let nonce = nonce(txid, &plain);
        let sealed = cipher(txid).encrypt(Nonce::from_slice(&nonce), plain.as_slice());
        // It fails only beyond 256 GiB.
        let bytes = [nonce.as_slice(), &sealed.unwrap_or_default()].concat();
        Sealed { hint: hint(txid), bytes }
    }

    /// The remedies of what `tx`, the revoked commitment, holds; no more from the first on that the
    /// script on chain would refuse: who made that one does not have the keys, and there may be
    /// hundreds like it.
    pub fn remedies(&self, tx: &Transaction) -> Vec<Remedy> {
        let txid = tx.compute_txid();
        let first = self.parts.iter().filter(|part| part.output != Output::SecondStage);
        let remedy = |part: &Part| {
            let output = tx.output.get(usize::from(part.place))?;
            self.remedy(part, OutPoint { txid, vout: part.place.into() }, output)
        };
        first.map_while(remedy).collect()
    }

    /// The remedy of what `stage` pays, which spends the output at `place` of the commitment.
    pub fn second_stage(&self, place: u32, stage: &Transaction) -> Option<Remedy> {
        let of_place =
            |part: &&Part| part.output == Output::SecondStage && u32::from(part.place) == place;
        let part = self.parts.iter().find(of_place)?;
        let output = stage.output.first()?;
        let outpoint = OutPoint { txid: stage.compute_txid(), vout: 0 };
        self.remedy(part, outpoint, output)
    }

    /// What takes `output`, which is on chain, if that is what the part is for and is signed by
    /// whose it is: its script names the key.
    fn remedy(&self, part: &Part, outpoint: OutPoint, output: &TxOut) -> Option<Remedy> {
        let value = output.value.into();
        let (spend, mut tx) = self.unsigned(part, outpoint, value)?;
        if spend.output != *output {
            return None;
        }
        let signature = part.signature.read()?;
        let sighash = Message::from_digest(spend.sighash(&tx, 0, SIGHASH)?);
        let key = match &part.output {
            Output::ToRemote(payment) => payment,
            Output::ToLocal | Output::Htlc { .. } | Output::SecondStage => &self.revocation,
        };
        Secp256k1::verification_only().verify_ecdsa(&sighash, &signature, key).ok()?;
        tx.input.first_mut()?.witness = spend.witness(&signature, SIGHASH);
        Some(Remedy { outpoint, value, tx })
    }

    /// The transaction that takes this output alone. Nothing if it is not worth its fee.
    fn unsigned(
        &self,
        part: &Part,
        outpoint: OutPoint,
        value: Sat,
    ) -> Option<(Spend, Transaction)> {
        let spend = match &part.output {
            Output::ToLocal | Output::SecondStage => {
                breach_remedy::by_script(self.to_local(), outpoint, value)
            }
            Output::ToRemote(payment) => delivery::spend(self.format, payment, outpoint, value),
            Output::Htlc { offered, payment_hash, cltv_expiry } => {
                let script = self.htlc(*offered, *payment_hash, *cltv_expiry)?;
                htlc_breach_remedy::by_script(script, &self.revocation, outpoint, value)
            }
        };
        let Terms { feerate, destination } = &self.terms;
        let tx = sweep(std::slice::from_ref(&spend), destination, *feerate)?;
        Some((spend, tx))
    }

    fn to_local(&self) -> ScriptBuf {
        script::to_local::witness_script(&self.revocation, self.to_self_delay, &self.delayed)
    }

    fn htlc(&self, offered: bool, hash: PaymentHash, expiry: Height) -> Option<ScriptBuf> {
        use script::{offered_htlc, received_htlc};
        let (broadcaster, countersigner) = self.htlc_keys.as_ref()?;
        let (format, revocation) = (self.format, &self.revocation);
        Some(match offered {
            true => {
                offered_htlc::witness_script(format, revocation, broadcaster, countersigner, hash)
            }
            false => received_htlc::witness_script(
                format,
                revocation,
                broadcaster,
                countersigner,
                hash,
                expiry,
            ),
        })
    }
}

impl From<&Signature> for Compact {
    fn from(signature: &Signature) -> Self {
        let bytes = signature.serialize_compact();
        let mut halves = Compact::default();
        halves.0.copy_from_slice(bytes.first_chunk::<32>().unwrap_or(&[0; 32]));
        halves.1.copy_from_slice(bytes.last_chunk::<32>().unwrap_or(&[0; 32]));
        halves
    }
}

impl Compact {
    fn read(&self) -> Option<Signature> {
        Signature::from_compact(&[self.0, self.1].concat()).ok()
    }
}

/// What a tower finds the record of this transaction by.
pub fn hint(txid: &Txid) -> Hint {
    let bytes = txid.to_byte_array();
    bytes.first_chunk::<16>().copied().unwrap_or_default()
}

fn cipher(txid: &Txid) -> ChaCha20Poly1305 {
    let key = tagged(b"fulmen tower record", &[txid.as_byte_array()]);
    ChaCha20Poly1305::new(&key.into())
}

/// It follows from what is sealed: the same record twice is the same bytes, and another one under
/// the same key has another nonce.
fn nonce(txid: &Txid, plain: &[u8]) -> [u8; NONCE] {
    let hash = tagged(b"fulmen tower nonce", &[txid.as_byte_array(), plain]);
    hash.first_chunk::<NONCE>().copied().unwrap_or_default()
}

/// SHA256 of a name and these parts.
pub(crate) fn tagged(name: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut engine = sha256::Hash::engine();
    engine.input(&sha256::Hash::hash(name).to_byte_array());
    parts.iter().for_each(|part| engine.input(part));
    sha256::Hash::from_engine(engine).to_byte_array()
}
