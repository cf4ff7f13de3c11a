//! bitcoind's blocks as the accounts need them: each transaction, what spends each output, and the
//! paper's name of a spend, read from its witness.

use std::collections::BTreeMap;
use std::fmt;

use bitcoin::{BlockHash, OutPoint, Transaction, Txid};
use bitcoincore_rpc::RpcApi;
use fulmen_itest::bitcoind::Bitcoind;
use fulmen_itest::failure::Result;
use serde_json::{json, Value};

/// The paper's transactions that may be on chain after F, without ES; and an anchor's spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(clippy::upper_case_acronyms)]
pub enum Paper {
    C,
    D,
    RD,
    HT,
    HE,
    HTRD,
    HERD,
    HED,
    HTD,
    BR,
    HBR,
    HTBR,
    HEBR,
    Anchor,
}

impl Paper {
    pub const ALL: [Paper; 13] = [
        Paper::C,
        Paper::D,
        Paper::RD,
        Paper::HT,
        Paper::HE,
        Paper::HTRD,
        Paper::HERD,
        Paper::HED,
        Paper::HTD,
        Paper::BR,
        Paper::HBR,
        Paper::HTBR,
        Paper::HEBR,
    ];

    /// Who makes it: the one who published the commitment, or the other.
    pub fn is_publishers(self) -> bool {
        use Paper::{Anchor, C, HE, HERD, HT, HTRD, RD};
        matches!(self, C | RD | HT | HE | HTRD | HERD | Anchor)
    }

    pub fn is_second_stage(self) -> bool {
        matches!(self, Paper::HT | Paper::HE)
    }
}

impl fmt::Display for Paper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// The best chain, read block by block.
pub struct Ledger {
    /// From height 1 on.
    blocks: Vec<(BlockHash, Vec<Txid>)>,
    txs: BTreeMap<Txid, (u64, Transaction)>,
    spends: BTreeMap<OutPoint, (Txid, usize)>,
}

impl Ledger {
    pub fn new() -> Self {
        Ledger { blocks: Vec::new(), txs: BTreeMap::new(), spends: BTreeMap::new() }
    }

    /// Forgets what is gone from the best chain, and reads what is new.
    pub fn catches_up(&mut self, bitcoind: &Bitcoind) -> Result<()> {
        let rpc = bitcoind.rpc();
        let best = bitcoind.height()?;
        while let Some((hash, txids)) = self.blocks.last() {
            let height = self.blocks.len() as u64;
            if height <= best && rpc.get_block_hash(height)? == *hash {
                break;
            }
            for txid in txids {
                let (_, tx) = self.txs.remove(txid).expect("a transaction that was read");
                for input in &tx.input {
                    self.spends.remove(&input.previous_output);
                }
            }
            self.blocks.pop();
        }
        for height in self.blocks.len() as u64 + 1..=best {
            let hash = rpc.get_block_hash(height)?;
            let block = rpc.get_block(&hash)?;
            let mut txids = Vec::new();
            for tx in block.txdata {
                let txid = tx.compute_txid();
                for (place, input) in tx.input.iter().enumerate() {
                    self.spends.insert(input.previous_output, (txid, place));
                }
                self.txs.insert(txid, (height, tx));
                txids.push(txid);
            }
            self.blocks.push((hash, txids));
        }
        Ok(())
    }

    /// The height of the best block that was read.
    pub fn tip(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// A transaction in a block, and the block's height.
    pub fn tx(&self, txid: &Txid) -> &(u64, Transaction) {
        &self.txs[txid]
    }

    /// What spends an output in a block, and by which input.
    pub fn spend(&self, outpoint: &OutPoint) -> Option<(Txid, usize)> {
        self.spends.get(outpoint).copied()
    }

    /// What a transaction's inputs hold, less what its outputs do.
    pub fn fee(&self, txid: &Txid) -> u64 {
        let (_, tx) = self.tx(txid);
        let value = |outpoint: &OutPoint| {
            let (_, tx) = self.tx(&outpoint.txid);
            tx.output[outpoint.vout as usize].value.to_sat()
        };
        let inputs: u64 = tx.input.iter().map(|input| value(&input.previous_output)).sum();
        inputs - tx.output.iter().map(|output| output.value.to_sat()).sum::<u64>()
    }
}

/// What spends an output in the mempool.
pub fn waiting_spend(bitcoind: &Bitcoind, outpoint: &OutPoint) -> Result<Option<Txid>> {
    let asked = json!([{ "txid": outpoint.txid, "vout": outpoint.vout }]);
    let answer: Value = bitcoind.rpc().call("gettxspendingprevout", &[asked])?;
    let spender = answer[0]["spendingtxid"].as_str();
    Ok(spender.map(str::parse).transpose()?)
}

/// An output of a commitment, or of HT or HE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    ToLocal,
    ToRemote,
    Anchor,
    /// That of the row with this place.
    Htlc(usize),
    /// What HT or HE of that HTLC pays to.
    Second(usize, Paper),
}

/// The name of what spends an output (BOLT 3 and 5), by the witness' items.
pub fn name(what: What, tx: &Transaction, input: usize) -> Paper {
    let witness: Vec<&[u8]> = tx.input[input].witness.iter().collect();
    // Whoever has no revocation key says so by an empty item.
    let by_revocation = witness.get(1).is_some_and(|item| !item.is_empty());
    match (what, witness.as_slice()) {
        (What::ToLocal, _) => match by_revocation {
            true => Paper::BR,
            false => Paper::RD,
        },
        (What::ToRemote, _) => Paper::D,
        (What::Anchor, _) => Paper::Anchor,
        (What::Htlc(_), [_, _, _, preimage, _]) => match preimage.len() {
            0 => Paper::HT,
            _ => Paper::HE,
        },
        (What::Htlc(_), [_, told, _]) => match told.len() {
            0 => Paper::HTD,
            32 => Paper::HED,
            33 => Paper::HBR,
            length => panic!("an HTLC is spent with {length} bytes"),
        },
        (What::Second(_, first), _) => match (first, by_revocation) {
            (Paper::HT, false) => Paper::HTRD,
            (Paper::HT, true) => Paper::HTBR,
            (_, false) => Paper::HERD,
            (_, true) => Paper::HEBR,
        },
        (What::Htlc(_), other) => panic!("an HTLC is spent with {} items", other.len()),
    }
}
