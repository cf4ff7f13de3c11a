//! The wallet on a real bitcoind: it is paid, pays with every kind of coin, and survives reorgs.

use super::{mine_afresh, Followed, News};
use bitcoin::bip32::Xpriv;
use bitcoin::{Network, ScriptBuf, Transaction, TxOut};
use bitcoincore_rpc::RpcApi;
use fulmen_channel::amount::{FeeratePerKw, Sat};
use fulmen_itest::bitcoind::Bitcoind;
use fulmen_itest::failure::Result;
use fulmen_node::chain::ChainEvent;
use fulmen_node::keys::{KeyRing, Purpose};
use fulmen_node::store::{Store, Unit};
use fulmen_node::wallet::{FundRequest, Wallet};
use std::collections::BTreeMap;
use std::path::Path;

/// A wallet in a store, fed by a followed chain.
struct Node {
    ring: KeyRing,
    store: Store,
    wallet: Wallet,
    followed: Followed,
}

const NOW: u64 = 1_800_000_000;

impl Node {
    async fn start(bitcoind: &Bitcoind, dir: &Path) -> Result<Node> {
        let master = Xpriv::new_master(Network::Regtest, &[3; 32])?;
        let ring = KeyRing::from_master(master, Network::Regtest)?;
        let store = Store::open(&dir.join("fulmen.db"))?;
        let wallet = Wallet::load(&ring, Network::Regtest, &store)?;
        let followed = Followed::start(bitcoind, News::Zmq, wallet.recent_blocks()).await?;
        Ok(Node { ring, store, wallet, followed })
    }

    fn act<T>(&mut self, deed: impl FnOnce(&mut Wallet, &mut Unit) -> T) -> Result<T> {
        let mut unit = Unit::new();
        let done = deed(&mut self.wallet, &mut unit);
        self.store.commit_blocking(unit)?;
        Ok(done)
    }

    /// Takes in events until the wallet stands at bitcoind's best block.
    async fn catch_up(&mut self, bitcoind: &Bitcoind) -> Result<()> {
        let best = bitcoind.rpc().get_best_block_hash()?;
        while self.wallet.tip().map(|tip| tip.hash) != Some(best) {
            self.take().await?;
        }
        Ok(())
    }

    async fn take(&mut self) -> Result<()> {
        match self.followed.next().await? {
            ChainEvent::Connected { at, block, .. } => {
                self.act(|wallet, unit| wallet.connect(at, &block, unit))??;
            }
            ChainEvent::Disconnected { at } => {
                self.act(|wallet, unit| wallet.disconnect(at, unit))??;
            }
            ChainEvent::Mempool(tx) => self.act(|wallet, unit| wallet.mempool(&tx, NOW, unit))?,
            _ => {}
        }
        Ok(())
    }

    /// Takes in events until `sum` satoshi are confirmed and unconfirmed.
    async fn until_sums(&mut self, confirmed: u64, unconfirmed: u64) -> Result<()> {
        loop {
            let balance = self.wallet.balance(0);
            if (balance.confirmed.sat(), balance.unconfirmed.sat()) == (confirmed, unconfirmed) {
                return Ok(());
            }
            self.take().await?;
        }
    }

    fn pay(&mut self, sat: u64) -> Result<Transaction> {
        let script_pubkey = ScriptBuf::new_p2wsh(&ScriptBuf::from_bytes(vec![0x51]).wscript_hash());
        let request = FundRequest {
            outputs: vec![TxOut { value: Sat::new(sat).to_amount(), script_pubkey }],
            feerate: FeeratePerKw::FLOOR,
            min_confs: 1,
            anchor_channels: 1,
        };
        let mut tx = self.act(|wallet, unit| wallet.fund(&request, unit))??.tx;
        self.wallet.sign(&mut tx, &BTreeMap::new())?;
        Ok(tx)
    }

    async fn stop(self) {
        self.followed.chain.stop().await;
        self.store.close();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_coin_is_received_and_spent() -> Result<()> {
    let bitcoind = Bitcoind::start()?;
    bitcoind.mine(101)?;
    let dir = tempfile::tempdir()?;
    let mut node = Node::start(&bitcoind, dir.path()).await?;
    node.catch_up(&bitcoind).await?;
    for purpose in [Purpose::NestedWitnessKeyHash, Purpose::WitnessKeyHash, Purpose::Taproot] {
        let address = node.act(|wallet, unit| wallet.new_address(purpose, unit))??;
        bitcoind.send_to(&address, Sat::new(100_000))?;
    }
    node.until_sums(0, 300_000).await?;
    bitcoind.mine(1)?;
    node.catch_up(&bitcoind).await?;
    node.until_sums(300_000, 0).await?;

    // The lowest feerate that is relayed must do, so the weight is right for each kind.
    let tx = node.pay(250_000)?;
    assert_eq!(tx.input.len(), 3);
    let verdict = node.followed.chain.test_accept(tx.clone()).await?;
    assert!(verdict.allowed, "{verdict:?}");
    node.followed.chain.broadcast(tx.clone()).await?;
    let change = 300_000 - 250_000 - fee(&tx, 300_000);
    node.until_sums(0, change).await?;

    // Own change may be spent at once.
    let chained = node.pay(20_000)?;
    node.followed.chain.broadcast(chained).await?;
    bitcoind.mine(1)?;
    node.catch_up(&bitcoind).await?;
    assert_eq!(bitcoind.mempool()?, []);
    assert_eq!(node.wallet.reservations().count(), 0);
    Ok(())
}

fn fee(tx: &Transaction, inputs: u64) -> u64 {
    inputs - tx.output.iter().map(|output| output.value.to_sat()).sum::<u64>()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_catches_up_across_a_reorg_that_it_slept_through() -> Result<()> {
    let bitcoind = Bitcoind::start()?;
    bitcoind.mine(101)?;
    let dir = tempfile::tempdir()?;
    let mut node = Node::start(&bitcoind, dir.path()).await?;
    node.catch_up(&bitcoind).await?;
    let address = node.act(|wallet, unit| wallet.new_address(Purpose::WitnessKeyHash, unit))??;
    bitcoind.send_to(&address, Sat::new(100_000))?;
    let doomed = bitcoind.mine(2)?;
    node.catch_up(&bitcoind).await?;
    assert_eq!(node.wallet.balance(0).confirmed.sat(), 100_000);
    assert_eq!(node.wallet.coins()[0].confirmations, 2);
    node.pay(50_000)?;
    let ring = node.ring.node_id();
    node.stop().await;

    bitcoind.rpc().invalidate_block(&doomed[0])?;
    mine_afresh(&bitcoind, 5)?;
    let mut node = Node::start(&bitcoind, dir.path()).await?;
    assert_eq!(node.ring.node_id(), ring);
    node.catch_up(&bitcoind).await?;
    let balance = node.wallet.balance(0);
    assert_eq!((balance.locked.sat(), balance.confirmed.sat()), (100_000, 0), "still reserved");
    assert_eq!(node.wallet.coins()[0].confirmations, 5, "mined again in the first new block");
    Ok(())
}
