//! A box and a bitcoind on the same chain, asked the same things.

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{
    absolute, transaction, Amount, Block, BlockHash, OutPoint, Script, ScriptBuf, Sequence,
    Transaction, TxIn, TxOut, Txid, Witness,
};
use bitcoincore_rpc::{jsonrpc, RpcApi};
use fulmen_channel::amount::Sat;
use fulmen_itest::bitcoind::Bitcoind;
use fulmen_itest::chainbox::{rpc, ChainBox};
use fulmen_itest::failure::Result;
use serde_json::{json, Value};
use std::collections::BTreeSet;
use std::time::UNIX_EPOCH;

/// Coinbases that anybody may spend.
const COINS: u32 = 48;

/// A value, or code and words of an error.
type Answer = std::result::Result<Value, String>;

/// An output, and what it holds in satoshi.
pub type Coin = (OutPoint, u64);

pub struct Beside {
    pub bitcoind: Bitcoind,
    pub chain_box: ChainBox,
    coins: Vec<Coin>,
    apart: Vec<String>,
    rows: usize,
}

/// The script that is satisfied by being shown.
pub fn anybody() -> ScriptBuf {
    ScriptBuf::from(vec![0x51])
}

pub fn to_anybody() -> ScriptBuf {
    anybody().to_p2wsh()
}

/// Pays all of `coins` but `fee` to anybody.
pub fn spend(coins: &[Coin], fee: u64) -> Transaction {
    let input = coins.iter().map(|(previous_output, _)| TxIn {
        previous_output: *previous_output,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::from_slice(&[anybody().to_bytes()]),
    });
    let sum: u64 = coins.iter().map(|(_, value)| value).sum();
    let output =
        TxOut { value: Amount::from_sat(sum.wrapping_sub(fee)), script_pubkey: to_anybody() };
    Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: input.collect(),
        output: vec![output],
    }
}

/// [`spend`] of one coin, with a change to it.
pub fn changed(coin: Coin, fee: u64, change: impl FnOnce(&mut Transaction)) -> Transaction {
    let mut tx = spend(&[coin], fee);
    change(&mut tx);
    tx
}

/// An output of a transaction as a coin.
pub fn output(tx: &Transaction, vout: u32) -> Coin {
    let value = tx.output[vout as usize].value.to_sat();
    (OutPoint { txid: tx.compute_txid(), vout }, value)
}

impl Beside {
    /// Both on a chain with coins for anybody, past the first halving.
    pub fn start() -> Result<Self> {
        let mut chain_box = ChainBox::new();
        chain_box.set_time(UNIX_EPOCH.elapsed()?.as_secs());
        let bitcoind = Bitcoind::start()?;
        let mut beside =
            Beside { bitcoind, chain_box, coins: Vec::new(), apart: Vec::new(), rows: 0 };
        for _ in 0..COINS {
            let hash = beside.chain_box.mine_to(to_anybody())?;
            let block = beside.block(hash);
            beside.coins.push(output(&block.txdata[0], 0));
            beside.to_bitcoind(&block)?;
        }
        beside.mine(110)?;
        Ok(beside)
    }

    /// A confirmed coin of 50 bitcoin for anybody, not used before.
    pub fn coin(&mut self) -> Coin {
        self.coins.pop().expect("more coins")
    }

    /// A confirmed coin of one bitcoin for this script.
    pub fn coin_for(&mut self, script: &Script) -> Result<Coin> {
        let tx = changed(self.coin(), 1_000, |tx| {
            tx.output[0].value -= Amount::ONE_BTC;
            tx.output.push(TxOut { value: Amount::ONE_BTC, script_pubkey: script.into() });
        });
        self.mine_these(vec![tx.clone()])?;
        Ok(output(&tx, 1))
    }

    pub fn block(&self, hash: BlockHash) -> Block {
        (**self.chain_box.chain().block(&hash).unwrap().1).clone()
    }

    /// The box mines what waits, and bitcoind must find those blocks valid.
    pub fn mine(&mut self, blocks: u32) -> Result<()> {
        for hash in self.chain_box.mine(blocks) {
            self.to_bitcoind(&self.block(hash))?;
        }
        Ok(())
    }

    /// A block of transactions that need not be standard.
    pub fn mine_these(&mut self, transactions: Vec<Transaction>) -> Result<()> {
        let hash = self.chain_box.mine_block(transactions, Sat::ZERO, to_anybody())?;
        self.to_bitcoind(&self.block(hash))
    }

    fn to_bitcoind(&self, block: &Block) -> Result<()> {
        let said: Value =
            self.bitcoind.rpc().call("submitblock", &[serialize_hex(block).into()])?;
        assert_eq!(said, Value::Null, "bitcoind says the box's block is invalid");
        Ok(())
    }

    /// What both answer to a call: a value, or code and words. The first is bitcoind's.
    pub fn ask(&mut self, method: &str, arguments: &[Value]) -> [Answer; 2] {
        let bitcoind = match self.bitcoind.rpc().call::<Value>(method, arguments) {
            Ok(value) => Ok(value),
            Err(bitcoincore_rpc::Error::JsonRpc(jsonrpc::Error::Rpc(error))) => {
                Err(format!("{} {}", error.code, error.message))
            }
            Err(other) => panic!("{method}: {other}"),
        };
        let chain_box = rpc::answer(&mut self.chain_box, method, arguments);
        [bitcoind, chain_box.map_err(|error| format!("{} {}", error.code, error.message))]
    }

    /// A row of the table: both are handed `tx`, and say `says`: nothing where they take it, or
    /// a part of their error.
    pub fn row(&mut self, what: &str, tx: &Transaction, says: &str) {
        self.call_row(what, "sendrawtransaction", &[json!(serialize_hex(tx)), json!(0)], says);
    }

    /// A row where both are asked anything.
    pub fn call_row(&mut self, what: &str, method: &str, arguments: &[Value], says: &str) {
        let answers = self.ask(method, arguments);
        let words = |answer: Answer| answer.err().unwrap_or_default();
        self.compare(what, answers.map(words), says);
    }

    /// A row where both are handed a block.
    pub fn block_row(&mut self, what: &str, block: &Block, says: &str) {
        let answers = self.ask("submitblock", &[json!(serialize_hex(block))]);
        let word = |answer: Answer| answer.unwrap().as_str().unwrap_or_default().to_owned();
        self.compare(what, answers.map(word), says);
    }

    fn compare(&mut self, what: &str, [theirs, ours]: [String; 2], says: &str) {
        self.rows += 1;
        let same = comparable(&theirs) == comparable(&ours);
        let as_expected = match says {
            "" => theirs.is_empty(),
            _ => comparable(&theirs).contains(says),
        };
        if !(same && as_expected) {
            let words = format!("  bitcoind  {theirs:?}\n  box       {ours:?}");
            self.apart.push(format!("{what}\n  expected  {says:?}\n{words}"));
        }
    }

    /// Both have the same tip and mempool.
    pub fn same_state(&mut self, when: &str) -> Result<()> {
        let mempool = |answer: Answer| {
            let txids: Vec<Txid> = serde_json::from_value(answer.unwrap()).unwrap();
            txids.into_iter().collect::<BTreeSet<Txid>>()
        };
        let [theirs, ours] = self.ask("getrawmempool", &[]);
        assert_eq!(mempool(theirs), mempool(ours), "{when}");
        let [theirs, ours] = self.ask("getbestblockhash", &[]);
        assert_eq!(theirs, ours, "{when}");
        Ok(())
    }

    /// Fails with all rows that were answered differently.
    pub fn agree(&mut self, rows: usize) -> Result<()> {
        assert!(self.apart.is_empty(), "\n{}\n", self.apart.join("\n"));
        assert_eq!(self.rows, rows, "rows");
        self.same_state("at the end")
    }
}

/// Where the tests' bitcoind, a Knots build, has finer words than Core.
const FINER: [(&str, &str); 8] = [
    ("truc-spent-by-nontruc", "TRUC-violation"),
    ("truc-spends-nontruc", "TRUC-violation"),
    ("truc-child-toobig", "TRUC-violation"),
    ("truc-vsize-toobig", "TRUC-violation"),
    ("truc-ancestors-toomany", "TRUC-violation"),
    ("truc-descendants-toomany", "TRUC-violation"),
    ("bad-witness-stackitem-size", "bad-witness-nonstandard"),
    ("bad-txns-input-script-unknown", "bad-txns-nonstandard-inputs"),
];

/// An error in Core's words, without what only a running script can tell (which operation of it
/// failed) and without whether that was a rule of relay: Core says that by version.
fn comparable(words: &str) -> String {
    let code = words.split(' ').next().unwrap_or_default();
    if words.contains("script-verify-flag") {
        return format!("{code} script-verify-flag");
    }
    FINER.iter().fold(words.to_owned(), |words, (finer, core)| words.replace(finer, core))
}
