//! A block by itself: how one is made, and the rules that need nothing but the header before it.

use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::script::Builder;
use bitcoin::{
    absolute, transaction, Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence,
    Target, Transaction, TxIn, TxMerkleNode, TxOut, Weight, Witness,
};
use fulmen_channel::amount::{Height, Sat};

use super::consensus::{check_form, is_final, MAX_BLOCK_SIGOPS};
use super::reject::Reject;

/// Regtest's one difficulty: every second hash will do.
pub const BITS: u32 = 0x207f_ffff;
/// How far a block's time may be ahead of the clock, in seconds.
const AHEAD: u64 = 2 * 60 * 60;
/// How the output begins that holds a block's witness commitment (BIP 141).
const COMMITMENT: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];

/// What a new block is built on, and for whom.
#[derive(Clone, Debug)]
pub struct Template {
    /// The block before.
    pub parent: BlockHash,
    /// The height of the new one.
    pub height: Height,
    /// Its time.
    pub time: u32,
    /// Whom the coinbase pays.
    pub to: ScriptBuf,
    /// What the coinbase pays: subsidy and fees.
    pub reward: Sat,
    /// Makes coinbases differ that are otherwise the same.
    pub extra: u32,
}

impl Template {
    /// The block with these transactions, mined.
    pub fn mine(&self, transactions: Vec<Transaction>) -> Block {
        let mut txdata = vec![self.coinbase()];
        txdata.extend(transactions);
        let header = Header {
            version: Version::from_consensus(0x2000_0000),
            prev_blockhash: self.parent,
            merkle_root: TxMerkleNode::all_zeros(),
            time: self.time,
            bits: CompactTarget::from_consensus(BITS),
            nonce: 0,
        };
        let mut block = Block { header, txdata };
        let nonce = [0; 32];
        if let Some(root) = block.witness_root() {
            let hash = Block::compute_witness_commitment(&root, &nonce);
            let bytes: Vec<u8> = COMMITMENT.into_iter().chain(hash.to_byte_array()).collect();
            if let Some(coinbase) = block.txdata.first_mut() {
                coinbase.output.push(TxOut { value: Amount::ZERO, script_pubkey: bytes.into() });
                for input in &mut coinbase.input {
                    input.witness = Witness::from_slice(&[nonce]);
                }
            }
        }
        grind(&mut block);
        block
    }

    fn coinbase(&self) -> Transaction {
        let height = Builder::new().push_int(self.height.number().into());
        let script_sig = height.push_slice(self.extra.to_le_bytes()).into_script();
        let input = TxIn {
            previous_output: OutPoint::null(),
            script_sig,
            sequence: Sequence::MAX,
            witness: Witness::new(),
        };
        let output = TxOut { value: self.reward.to_amount(), script_pubkey: self.to.clone() };
        Transaction {
            version: transaction::Version::TWO,
            lock_time: absolute::LockTime::ZERO,
            input: vec![input],
            output: vec![output],
        }
    }
}

/// Sets the merkle root and tries nonces until the proof of work holds.
pub fn grind(block: &mut Block) {
    if let Some(root) = block.compute_merkle_root() {
        block.header.merkle_root = root;
    }
    while !has_work(&block.header) {
        block.header.nonce = block.header.nonce.wrapping_add(1);
    }
}

fn has_work(header: &Header) -> bool {
    Target::from_compact(CompactTarget::from_consensus(BITS)).is_met_by(header.block_hash())
}

/// A header on a parent whose median time past is `median`, by a clock that shows `now`.
///
/// # Errors
/// Core's reasons.
pub fn check_header(header: &Header, median: u32, now: u64) -> Result<(), Reject> {
    if !has_work(header) {
        return Err(Reject::detailed("high-hash", "proof of work failed"));
    }
    if header.bits.to_consensus() != BITS {
        return Err(Reject::detailed("bad-diffbits", "incorrect proof of work"));
    }
    if header.time <= median {
        return Err(Reject::detailed("time-too-old", "block's timestamp is too early"));
    }
    if u64::from(header.time) > now.saturating_add(AHEAD) {
        return Err(Reject::detailed("time-too-new", "block timestamp too far in the future"));
    }
    Ok(())
}

/// A whole block at `height` on a parent whose median time past is `median`.
///
/// # Errors
/// Core's reasons of CheckBlock and ContextualCheckBlock.
pub fn check(block: &Block, height: Height, median: u32) -> Result<(), Reject> {
    if !block.check_merkle_root() {
        return Err(Reject::detailed("bad-txnmrklroot", "hashMerkleRoot mismatch"));
    }
    let Some((coinbase, others)) = block.txdata.split_first() else {
        return Err(Reject::detailed("bad-blk-length", "size limits failed"));
    };
    if !coinbase.is_coinbase() {
        return Err(Reject::detailed("bad-cb-missing", "first tx is not coinbase"));
    }
    if others.iter().any(Transaction::is_coinbase) {
        return Err(Reject::detailed("bad-cb-multiple", "more than one coinbase"));
    }
    block.txdata.iter().try_for_each(check_form)?;
    // Without what is spent, only the legacy operations can be counted.
    let sigops: usize = block.txdata.iter().map(|tx| tx.total_sigop_cost(|_| None)).sum();
    if sigops > MAX_BLOCK_SIGOPS {
        return Err(Reject::detailed("bad-blk-sigops", "out-of-bounds SigOpCount"));
    }
    if !block.txdata.iter().all(|tx| is_final(tx, height, median)) {
        return Err(Reject::detailed("bad-txns-nonfinal", "non-final transaction"));
    }
    let begins = Builder::new().push_int(height.number().into()).into_script();
    let script = coinbase.input.first().map(|input| input.script_sig.as_bytes());
    if !script.is_some_and(|script| script.starts_with(begins.as_bytes())) {
        return Err(Reject::detailed("bad-cb-height", "block height mismatch in coinbase"));
    }
    check_witnesses(block, coinbase)?;
    if block.weight() > Weight::MAX_BLOCK {
        return Err(Reject::detailed("bad-blk-weight", "weight limit failed"));
    }
    Ok(())
}

/// The commitment to all witnesses, which a block without any may leave out.
fn check_witnesses(block: &Block, coinbase: &Transaction) -> Result<(), Reject> {
    let commits = |output: &TxOut| output.script_pubkey.as_bytes().starts_with(&COMMITMENT);
    if coinbase.output.iter().any(commits) {
        let nonce = coinbase.input.first().and_then(|input| input.witness.nth(0));
        if nonce.map(<[u8]>::len) != Some(32) {
            return Err(Reject::new("bad-witness-nonce-size"));
        }
        if !block.check_witness_commitment() {
            let details = "witness merkle commitment mismatch";
            return Err(Reject::detailed("bad-witness-merkle-match", details));
        }
        return Ok(());
    }
    let bears_witness = |tx: &Transaction| tx.input.iter().any(|input| !input.witness.is_empty());
    if block.txdata.iter().any(bears_witness) {
        return Err(Reject::detailed("unexpected-witness", "unexpected witness data found"));
    }
    Ok(())
}
