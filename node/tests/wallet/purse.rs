//! A wallet with its rows and a chain, and verbs for stories.

use crate::chain::fake::{foreign, spend, FakeNode};
use bitcoin::bip32::Xpriv;
use bitcoin::consensus::encode::serialize;
use bitcoin::{Network, OutPoint, ScriptBuf, Transaction, TxOut};
use fulmen_channel::amount::{FeeratePerKw, Height, Sat};
use fulmen_node::chain::follow::BlockSource;
use fulmen_node::chain::BlockRef;
use fulmen_node::keys::{KeyRing, Purpose};
use fulmen_node::store::{Row, Table, Unit, Write};
use fulmen_node::wallet::{ask_recovery, Balance, FundError, FundRequest, Reservation, Wallet};
use std::collections::BTreeMap;

pub struct Purse {
    pub wallet: Wallet,
    pub chain: FakeNode,
    ring: KeyRing,
    rows: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    payers: u8,
}

/// The time of everything that needs one.
pub const NOW: u64 = 1_800_000_000;

impl Purse {
    /// An empty wallet that has seen one block, number 200.
    pub fn new() -> Purse {
        let master = Xpriv::new_master(Network::Regtest, &[7; 32]).unwrap();
        let ring = KeyRing::from_master(master, Network::Regtest).unwrap();
        let wallet = Wallet::from_rows(&ring, Network::Regtest, vec![], vec![]).unwrap();
        let chain = FakeNode::with_height(200);
        let mut purse = Purse { wallet, chain, ring, rows: BTreeMap::new(), payers: 0 };
        purse.connect(purse.chain.at(200));
        purse
    }

    /// Does something with the wallet and writes its unit of work.
    pub fn act<T>(&mut self, deed: impl FnOnce(&mut Wallet, &mut Unit) -> T) -> T {
        let mut unit = Unit::new();
        let result = deed(&mut self.wallet, &mut unit);
        for write in unit.writes() {
            match write {
                Write::Put { table, key, value } => {
                    self.rows.insert((*table, key.clone()), value.clone());
                }
                Write::Delete { table, key } => drop(self.rows.remove(&(*table, key.clone()))),
                Write::DeletePrefix { .. } => panic!("the wallet names its rows"),
            }
        }
        result
    }

    /// Reads the wallet again from its rows; it must be as it was.
    pub fn restart(&mut self) {
        let again = Wallet::from_rows(
            &self.ring,
            Network::Regtest,
            self.rows_of(Table::Wallet),
            self.rows_of(Table::Reservation),
        );
        let before = std::mem::replace(&mut self.wallet, again.unwrap());
        assert_eq!(before.coins(), self.wallet.coins());
        assert_eq!(before.transactions(), self.wallet.transactions());
        assert_eq!(before.recent_blocks(), self.wallet.recent_blocks());
        assert!(before.reservations().eq(self.wallet.reservations()));
    }

    /// A wallet of the same keys on the same chain that has seen no block.
    pub fn blind(&self) -> Purse {
        let wallet = Wallet::from_rows(&self.ring, Network::Regtest, vec![], vec![]).unwrap();
        let chain = FakeNode::with_height(200);
        Purse { wallet, chain, ring: self.ring.clone(), rows: BTreeMap::new(), payers: 100 }
    }

    /// Nothing is left but the keys, and the wallet is to look for its coins.
    pub fn lose_rows(&mut self, window: u32) {
        self.rows.clear();
        self.asks(window);
    }

    /// The wallet, read again, is to look for its coins.
    pub fn asks(&mut self, window: u32) {
        self.act(|_, unit| ask_recovery(window, unit));
        let (wallet, reserved) = (self.rows_of(Table::Wallet), self.rows_of(Table::Reservation));
        let again = Wallet::from_rows(&self.ring, Network::Regtest, wallet, reserved);
        self.wallet = again.unwrap();
    }

    /// Hands the wallet the blocks of its search that the chain has now.
    pub fn reads(&mut self, first: Height, last: Height) {
        let blocks = (first.number()..=last.number()).map(|height| {
            let at = self.chain.at(height);
            (at, self.chain.block(at.hash).unwrap())
        });
        let blocks: Vec<_> = blocks.collect();
        self.act(|wallet, unit| wallet.recover(&blocks, unit));
    }

    /// The last block of the wallet's chain, or of the chain if it has none.
    pub fn tip(&self) -> BlockRef {
        self.wallet.tip().unwrap_or_else(|| self.chain.best().unwrap())
    }

    /// Connects the chain's block at `height`.
    pub fn connects(&mut self, height: u32) {
        self.connect(self.chain.at(height));
    }

    pub fn rows_of(&self, table: Table) -> Vec<Row> {
        let rows = self.rows.iter().filter(|((of, _), _)| *of == table);
        rows.map(|((_, key), value)| (key.clone(), value.clone())).collect()
    }

    fn connect(&mut self, at: BlockRef) {
        let block = self.chain.block(at.hash).unwrap();
        self.act(|wallet, unit| wallet.connect(at, &block, unit)).unwrap();
    }

    /// Mines a block with `txs`.
    pub fn mine(&mut self, txs: &[&Transaction]) -> BlockRef {
        let at = self.chain.mine(txs.iter().map(|tx| (*tx).clone()).collect());
        self.connect(at);
        self.restart();
        at
    }

    /// Undoes the last block.
    pub fn undo(&mut self) {
        let tip = self.wallet.tip().unwrap();
        self.chain.roll_back(1);
        let below = self.chain.best().unwrap();
        self.act(|wallet, unit| wallet.disconnect(tip, Some(below), unit)).unwrap();
        self.restart();
    }

    /// Shows the wallet a transaction of the mempool.
    pub fn hear(&mut self, tx: &Transaction) {
        self.act(|wallet, unit| wallet.mempool(tx, NOW, unit));
        self.restart();
    }

    /// A stranger's transaction that pays `sat` to us.
    pub fn payment(&mut self, purpose: Purpose, sat: u64) -> Transaction {
        self.payers += 1;
        let address = self.act(|wallet, unit| wallet.new_address(purpose, unit)).unwrap();
        spend(&[foreign(self.payers)], &[(sat, address.script_pubkey())])
    }

    /// Is paid confirmed coins.
    pub fn earn(&mut self, amounts: &[u64]) -> Vec<OutPoint> {
        self.earn_as(Purpose::WitnessKeyHash, amounts)
    }

    /// Is paid confirmed coins of one kind.
    pub fn earn_as(&mut self, purpose: Purpose, amounts: &[u64]) -> Vec<OutPoint> {
        let txs: Vec<_> = amounts.iter().map(|sat| self.payment(purpose, *sat)).collect();
        self.mine(&txs.iter().collect::<Vec<_>>());
        txs.iter().map(output_of).collect()
    }

    pub fn balance(&self) -> Balance {
        self.wallet.balance(0)
    }

    /// Confirmed, unconfirmed and locked satoshi.
    pub fn sums(&self) -> (u64, u64, u64) {
        let balance = self.balance();
        (balance.confirmed.sat(), balance.unconfirmed.sat(), balance.locked.sat())
    }

    pub fn try_fund(&mut self, request: &FundRequest) -> Result<Reservation, FundError> {
        let reserved = self.act(|wallet, unit| wallet.fund(request, unit));
        self.restart();
        reserved
    }

    pub fn fund(&mut self, sat: u64) -> Reservation {
        self.try_fund(&pays(sat)).unwrap()
    }

    /// Signs a reserved transaction and checks every script, as a node would.
    pub fn sign(&self, reservation: &Reservation) -> Transaction {
        let mut tx = reservation.tx.clone();
        let signed = self.wallet.sign(&mut tx, &BTreeMap::new()).unwrap();
        assert_eq!(signed, tx.input.len());
        assert_eq!(tx.compute_txid(), reservation.txid, "signing must not change the id");
        let known = self.wallet.transactions();
        let spent = tx.input.iter().map(|input| {
            let from = known.iter().find(|tx| tx.txid == input.previous_output.txid).unwrap();
            from.tx.output[input.previous_output.vout as usize].clone()
        });
        verify(&tx, &spent.collect::<Vec<_>>());
        tx
    }
}

/// Checks all scripts of `tx` with Bitcoin Core's interpreter.
pub fn verify(tx: &Transaction, spent: &[TxOut]) {
    let raw = serialize(tx);
    let utxos = spent.iter().map(|output| bitcoinconsensus::Utxo {
        script_pubkey: output.script_pubkey.as_bytes().as_ptr(),
        script_pubkey_len: output.script_pubkey.len() as u32,
        value: output.value.to_sat() as i64,
    });
    let utxos: Vec<_> = utxos.collect();
    for (number, output) in spent.iter().enumerate() {
        let script = output.script_pubkey.as_bytes();
        let value = output.value.to_sat();
        bitcoinconsensus::verify(script, value, &raw, Some(&utxos), number).unwrap();
    }
}

/// A request for one output of `sat` at 1,000 sat/kw.
pub fn pays(sat: u64) -> FundRequest {
    FundRequest::new(vec![funding_output(sat)], FeeratePerKw::new(1_000))
}

/// An output as a channel's funding has it.
pub fn funding_output(sat: u64) -> TxOut {
    let script_pubkey = ScriptBuf::new_p2wsh(&ScriptBuf::from_bytes(vec![0x51]).wscript_hash());
    TxOut { value: Sat::new(sat).to_amount(), script_pubkey }
}

pub fn output_of(tx: &Transaction) -> OutPoint {
    OutPoint { txid: tx.compute_txid(), vout: 0 }
}
