//! The node's chain and wallet on a real bitcoind.

mod follow;
mod wallet;

use bitcoin::Network;
use bitcoincore_rpc::RpcApi;
use fulmen_itest::bitcoind::{Bitcoind, RPC_LOGIN};
use fulmen_itest::failure::{Context, Result};
use fulmen_itest::wait::PATIENCE;
use fulmen_node::chain::{BlockRef, Chain, ChainConfig, ChainEvent, RpcAuth};
use std::time::Duration;
use tokio::sync::mpsc;

/// How a chain learns of news.
#[derive(Clone, Copy)]
enum News {
    /// Only by ZMQ: it looks for itself once an hour.
    Zmq,
    /// Only by looking.
    Polling,
}

fn config(bitcoind: &Bitcoind, news: News) -> ChainConfig {
    let (user, password) = (RPC_LOGIN.to_string(), RPC_LOGIN.to_string());
    let auth = RpcAuth::UserPass { user, password };
    let config = ChainConfig::new(Network::Regtest, &bitcoind.rpc_address(), auth);
    match news {
        News::Zmq => ChainConfig {
            zmq_block: Some(bitcoind.zmq_block()),
            zmq_tx: Some(bitcoind.zmq_tx()),
            poll: Duration::from_secs(3_600),
            ..config
        },
        News::Polling => ChainConfig { poll: Duration::from_millis(50), ..config },
    }
}

/// Mines to a new address: after an invalidated block the usual one would make the same again.
fn mine_afresh(bitcoind: &Bitcoind, blocks: u64) -> Result<()> {
    let address = bitcoind.rpc().get_new_address(None, None)?.require_network(Network::Regtest)?;
    bitcoind.rpc().generate_to_address(blocks, &address)?;
    Ok(())
}

/// A chain that is being followed.
struct Followed {
    chain: Chain,
    events: mpsc::Receiver<ChainEvent>,
}

impl Followed {
    async fn start(bitcoind: &Bitcoind, news: News, recent: Vec<BlockRef>) -> Result<Followed> {
        let chain = Chain::connect(config(bitcoind, news)).await?;
        let (to_us, events) = mpsc::channel(10);
        chain.follow(recent, vec![], to_us)?;
        Ok(Followed { chain, events })
    }

    /// The next event.
    async fn next(&mut self) -> Result<ChainEvent> {
        let next = tokio::time::timeout(PATIENCE, self.events.recv());
        next.await.context("no event")?.context("the events have ended")
    }

    /// What `pick` makes of the first event that it wants; the others are passed over.
    async fn until<T>(&mut self, mut pick: impl FnMut(&ChainEvent) -> Option<T>) -> Result<T> {
        loop {
            if let Some(wanted) = pick(&self.next().await?) {
                return Ok(wanted);
            }
        }
    }

    /// The next `count` blocks that come (`+height`) or go (`-height`).
    async fn blocks(&mut self, count: usize) -> Result<Vec<String>> {
        let mut blocks = Vec::new();
        while blocks.len() < count {
            match self.next().await? {
                ChainEvent::Connected { at, .. } => blocks.push(format!("+{}", at.height)),
                ChainEvent::Disconnected { at } => blocks.push(format!("-{}", at.height)),
                _ => {}
            }
        }
        Ok(blocks)
    }
}
