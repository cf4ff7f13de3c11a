//! The miner's wallet: keys from one fixed seed, p2wpkh, enough to mine to and to pay from.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::hashes::{sha256, Hash};
use bitcoin::key::CompressedPublicKey;
use bitcoin::secp256k1::{All, Message, Secp256k1, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{
    absolute, transaction, Address, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn,
    TxOut, Txid, Witness,
};
use fulmen_channel::amount::Sat;

use super::chain::Chain;
use super::consensus::{Coin, MATURITY};
use super::mempool::Mempool;

/// 10 sat/vB, what the tests' bitcoind pays as well.
const SAT_PER_VBYTE: u64 = 10;
/// vbytes of a transaction without inputs and with two outputs, and of each p2wpkh input.
const BASE_VSIZE: u64 = 90;
const INPUT_VSIZE: u64 = 69;
/// Change below this is left to the miner.
const LEAST_CHANGE: Sat = Sat::new(1_000);
/// Keys made beyond the last that was used, so that a chain read again finds its coins.
const AHEAD: u32 = 20;

/// See the module.
#[derive(Clone, Debug)]
pub struct Wallet {
    curve: Secp256k1<All>,
    /// The number of each script's key, and the key.
    keys: BTreeMap<ScriptBuf, (u32, SecretKey)>,
    next: u32,
    made: u32,
    /// Its own transactions: their change may be spent at once.
    sent: BTreeSet<Txid>,
}

impl Default for Wallet {
    fn default() -> Self {
        let (keys, sent) = Default::default();
        let mut wallet = Wallet { curve: Secp256k1::new(), keys, next: 0, made: 0, sent };
        wallet.look_ahead();
        wallet
    }
}

impl Wallet {
    /// An address that was not given out before.
    pub fn new_address(&mut self) -> Address {
        let address = self.address(self.next);
        self.next = self.next.saturating_add(1);
        self.look_ahead();
        address
    }

    /// Whether it can spend from this script.
    pub fn owns(&self, script: &ScriptBuf) -> bool {
        self.keys.contains_key(script)
    }

    /// Looks at a block's or the mempool's transaction, so that no address is given out twice.
    pub fn saw(&mut self, tx: &Transaction) {
        for output in &tx.output {
            let number = self.keys.get(&output.script_pubkey).map(|(number, _)| *number);
            if let Some(number) = number.filter(|number| *number >= self.next) {
                self.next = number.saturating_add(1);
                self.look_ahead();
            }
        }
    }

    /// What it may spend now: confirmed coins first, the largest first.
    pub fn coins(&self, chain: &Chain, pool: &Mempool) -> Vec<(OutPoint, TxOut)> {
        let next = chain.height().plus(1);
        let is_ripe = |coin: &Coin| !coin.coinbase || coin.height.plus(MATURITY) <= next;
        let free = |outpoint: &OutPoint| pool.spender(outpoint).is_none();
        let confirmed = chain.coins().filter(|(outpoint, coin)| {
            self.owns(&coin.output.script_pubkey) && is_ripe(coin) && free(outpoint)
        });
        let mut found: Vec<(OutPoint, TxOut)> =
            confirmed.map(|(outpoint, coin)| (*outpoint, coin.output.clone())).collect();
        found.sort_by_key(|(outpoint, output)| (std::cmp::Reverse(output.value), *outpoint));
        for txid in &self.sent {
            let Some(entry) = pool.get(txid) else { continue };
            for (vout, output) in (0_u32..).zip(&entry.tx.output) {
                let outpoint = OutPoint { txid: *txid, vout };
                if self.owns(&output.script_pubkey) && free(&outpoint) {
                    found.push((outpoint, output.clone()));
                }
            }
        }
        found
    }

    /// A transaction that pays, from these coins; nothing if they are not enough.
    pub fn pay(&mut self, coins: Vec<(OutPoint, TxOut)>, to: TxOut) -> Option<Transaction> {
        let (mut chosen, mut sum, mut vsize) = (Vec::new(), Sat::ZERO, BASE_VSIZE);
        let mut coins = coins.into_iter();
        let change = loop {
            let (outpoint, output) = coins.next()?;
            sum = sum.saturating_add(output.value.into());
            vsize = vsize.saturating_add(INPUT_VSIZE);
            chosen.push((outpoint, output));
            let fee = Sat::new(vsize.saturating_mul(SAT_PER_VBYTE));
            if let Some(change) = sum.checked_sub(fee.saturating_add(to.value.into())) {
                break change;
            }
        };
        let mut output = vec![to];
        if change >= LEAST_CHANGE {
            let script_pubkey = self.new_address().script_pubkey();
            output.push(TxOut { value: change.to_amount(), script_pubkey });
        }
        let input = chosen.iter().map(|(previous_output, _)| TxIn {
            previous_output: *previous_output,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::new(),
        });
        let tx = Transaction {
            version: transaction::Version::TWO,
            lock_time: absolute::LockTime::ZERO,
            input: input.collect(),
            output,
        };
        let tx = self.sign(tx, &chosen)?;
        self.sent.insert(tx.compute_txid());
        Some(tx)
    }

    fn sign(&self, mut tx: Transaction, spent: &[(OutPoint, TxOut)]) -> Option<Transaction> {
        let mut witnesses = Vec::new();
        let mut sighashes = SighashCache::new(&tx);
        for (number, (_, output)) in spent.iter().enumerate() {
            let (_, key) = self.keys.get(&output.script_pubkey)?;
            let all = EcdsaSighashType::All;
            let script = &output.script_pubkey;
            let hash = sighashes.p2wpkh_signature_hash(number, script, output.value, all).ok()?;
            let signature = self.curve.sign_ecdsa(&Message::from(hash), key);
            let signature = bitcoin::ecdsa::Signature { signature, sighash_type: all };
            witnesses.push(Witness::p2wpkh(&signature, &key.public_key(&self.curve)));
        }
        for (input, witness) in tx.input.iter_mut().zip(witnesses) {
            input.witness = witness;
        }
        Some(tx)
    }

    fn look_ahead(&mut self) {
        while self.made < self.next.saturating_add(AHEAD) {
            let key = (self.made, key(self.made));
            self.keys.insert(self.address(self.made).script_pubkey(), key);
            self.made = self.made.saturating_add(1);
        }
    }

    fn address(&self, number: u32) -> Address {
        let public = CompressedPublicKey(key(number).public_key(&self.curve));
        Address::p2wpkh(&public, Network::Regtest)
    }
}

/// The key of a number. Regtest coins are worth nothing: there is no secret here.
fn key(number: u32) -> SecretKey {
    let mut seed = b"a regtest chain in a box".to_vec();
    seed.extend(number.to_be_bytes());
    loop {
        let hash = sha256::Hash::hash(&seed);
        // All but one in 2^127 hashes are keys.
        match SecretKey::from_slice(hash.as_byte_array()) {
            Ok(key) => return key,
            Err(_) => seed = hash.as_byte_array().to_vec(),
        }
    }
}
