//! A chain and a mempool in memory that answer like bitcoind.

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn,
    TxMerkleNode, TxOut, Txid, Witness,
};
use fulmen_channel::amount::Height;
use fulmen_node::chain::broadcast::BroadcastError;
use fulmen_node::chain::follow::{BlockRef, BlockSource};
use fulmen_node::chain::rpc::{ChainInfo, RpcError};
use fulmen_node::chain::watcher::Node;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// Something that happens to a node.
pub type Change = Box<dyn FnOnce(&FakeNode)>;

/// See the module. Every field may be changed behind the watcher's back.
#[derive(Default)]
pub struct FakeNode {
    /// Blocks that exist, in the active chain or not.
    blocks: RefCell<BTreeMap<BlockHash, Block>>,
    /// The active chain by height.
    active: RefCell<Vec<BlockHash>>,
    /// What is in the mempool.
    pub mempool: RefCell<Vec<Transaction>>,
    /// What was sent, in order.
    pub sent: RefCell<Vec<Transaction>>,
    /// Every call fails.
    pub down: Cell<bool>,
    /// The number of its connection.
    pub connection: Cell<u64>,
    /// `initialblockdownload`.
    pub catching_up: Cell<bool>,
    /// Another network than regtest.
    pub stranger: Cell<bool>,
    /// Blocks below this height are gone.
    pub pruned_below: Cell<u32>,
    /// Blocks that were handed out.
    pub blocks_read: Cell<usize>,
    /// Done once, after the next answer of `hash_at`.
    pub soon: RefCell<Option<Change>>,
    salt: Cell<u32>,
}

impl FakeNode {
    /// A chain with blocks 0 to `height`.
    pub fn with_height(height: u32) -> FakeNode {
        let node = FakeNode::default();
        node.mine_empty(height + 1);
        node
    }

    /// Mines a block with `txs` behind a coinbase.
    pub fn mine(&self, txs: Vec<Transaction>) -> BlockRef {
        let height = self.active.borrow().len() as u32;
        self.salt.set(self.salt.get() + 1);
        let prev = self.active.borrow().last().copied().unwrap_or(BlockHash::all_zeros());
        let mut txdata = vec![coinbase(height, self.salt.get())];
        txdata.extend(txs);
        let block = block(prev, self.salt.get(), txdata);
        let hash = block.block_hash();
        self.blocks.borrow_mut().insert(hash, block);
        self.active.borrow_mut().push(hash);
        BlockRef { height: Height::new(height), hash }
    }

    /// Mines `count` blocks with nothing in them.
    pub fn mine_empty(&self, count: u32) {
        (0..count).for_each(|_| {
            self.mine(vec![]);
        });
    }

    /// Drops the newest `count` blocks from the active chain; they stay known.
    pub fn roll_back(&self, count: usize) {
        let mut active = self.active.borrow_mut();
        let keep = active.len() - count;
        active.truncate(keep);
    }

    /// Forgets a block that is not active, as after a crash.
    pub fn forget(&self, hash: BlockHash) {
        self.blocks.borrow_mut().remove(&hash);
    }

    /// The active block at `height`.
    pub fn at(&self, height: u32) -> BlockRef {
        BlockRef { height: Height::new(height), hash: self.active.borrow()[height as usize] }
    }

    fn answer(&self) -> Result<(), RpcError> {
        if self.down.get() {
            let host = "127.0.0.1:1".to_string();
            return Err(RpcError::Unreachable { host, why: "Connection refused".into() });
        }
        Ok(())
    }
}

impl BlockSource for FakeNode {
    type Error = RpcError;
    fn best(&self) -> Result<BlockRef, RpcError> {
        self.answer()?;
        Ok(self.at(self.active.borrow().len() as u32 - 1))
    }
    fn hash_at(&self, height: Height) -> Result<Option<BlockHash>, RpcError> {
        self.answer()?;
        let hash = self.active.borrow().get(height.number() as usize).copied();
        if let Some(change) = self.soon.take() {
            change(self);
        }
        Ok(hash)
    }
    fn parent(&self, hash: BlockHash) -> Result<Option<BlockHash>, RpcError> {
        self.answer()?;
        Ok(self.blocks.borrow().get(&hash).map(|block| block.header.prev_blockhash))
    }
    fn block(&self, hash: BlockHash) -> Result<Block, RpcError> {
        self.answer()?;
        self.blocks_read.set(self.blocks_read.get() + 1);
        let pruned = (0..self.pruned_below.get()).any(|height| self.at(height).hash == hash);
        let refuse = |code, message: &str| {
            Err(RpcError::Refused { method: "getblock", code, message: message.into() })
        };
        match self.blocks.borrow().get(&hash) {
            _ if pruned => refuse(-1, "Block not available (pruned data)"),
            Some(block) => Ok(block.clone()),
            None => refuse(-5, "Block not found"),
        }
    }
}

impl Node for FakeNode {
    fn connection(&self) -> u64 {
        self.connection.get()
    }
    fn info(&self) -> Result<ChainInfo, RpcError> {
        let best = self.best()?;
        Ok(ChainInfo {
            chain: if self.stranger.get() { "signet" } else { "regtest" }.into(),
            blocks: best.height.number(),
            headers: best.height.number(),
            bestblockhash: best.hash,
            time: 0,
            initialblockdownload: self.catching_up.get(),
        })
    }
    fn send(&self, tx: &Transaction) -> Result<(), BroadcastError> {
        self.sent.borrow_mut().push(tx.clone());
        Ok(())
    }
    fn is_unspent(&self, outpoint: OutPoint) -> Result<bool, RpcError> {
        self.answer()?;
        let active = self.active.borrow();
        let blocks = self.blocks.borrow();
        let txs: Vec<_> = active.iter().flat_map(|hash| &blocks[hash].txdata).collect();
        let exists = txs.iter().any(|tx| tx.compute_txid() == outpoint.txid);
        let spent = txs.iter().any(|tx| tx.input.iter().any(|i| i.previous_output == outpoint));
        Ok(exists && !spent)
    }
    fn mempool(&self) -> Result<Vec<Txid>, RpcError> {
        self.answer()?;
        Ok(self.mempool.borrow().iter().map(Transaction::compute_txid).collect())
    }
    fn spenders(&self, outpoints: &[OutPoint]) -> Result<Vec<Txid>, RpcError> {
        self.answer()?;
        let spends = |tx: &&Transaction| {
            tx.input.iter().any(|input| outpoints.contains(&input.previous_output))
        };
        Ok(self.mempool.borrow().iter().filter(spends).map(Transaction::compute_txid).collect())
    }
    fn transaction(&self, txid: Txid) -> Result<Option<Transaction>, RpcError> {
        self.answer()?;
        let mempool = self.mempool.borrow();
        Ok(mempool.iter().find(|tx| tx.compute_txid() == txid).cloned())
    }
}

/// A block that holds `txdata` (without proof of work, which nobody here checks).
pub fn block(prev_blockhash: BlockHash, salt: u32, txdata: Vec<Transaction>) -> Block {
    let header = Header {
        version: Version::TWO,
        prev_blockhash,
        merkle_root: TxMerkleNode::all_zeros(),
        time: 1_700_000_000 + salt,
        bits: CompactTarget::from_consensus(0x207f_ffff),
        nonce: salt,
    };
    let mut block = Block { header, txdata };
    block.header.merkle_root = block.compute_merkle_root().unwrap();
    block
}

/// The coinbase of a block; `salt` makes it unique.
pub fn coinbase(height: u32, salt: u32) -> Transaction {
    let mut tx = spend(&[OutPoint::null()], &[(50_0000_0000, ScriptBuf::new())]);
    tx.input[0].script_sig =
        bitcoin::script::Builder::new().push_int(height.into()).push_int(salt.into()).into_script();
    tx
}

/// A transaction without signatures.
pub fn spend(inputs: &[OutPoint], outputs: &[(u64, ScriptBuf)]) -> Transaction {
    let input = |outpoint: &OutPoint| TxIn {
        previous_output: *outpoint,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::new(),
    };
    let output = |(sat, script): &(u64, ScriptBuf)| TxOut {
        value: Amount::from_sat(*sat),
        script_pubkey: script.clone(),
    };
    Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: inputs.iter().map(input).collect(),
        output: outputs.iter().map(output).collect(),
    }
}

/// An outpoint that nobody made, by number.
pub fn foreign(number: u8) -> OutPoint {
    OutPoint { txid: Txid::from_byte_array([number; 32]), vout: 0 }
}

/// A transaction that spends [`foreign`] money to nobody we know.
pub fn stray(number: u8) -> Transaction {
    spend(&[foreign(number)], &[(10_000, ScriptBuf::from_bytes(vec![0x51]))])
}
