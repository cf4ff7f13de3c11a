//! Recovery, the shell: reads old blocks of bitcoind for the wallet, before the chain is followed.

use crate::chain::{BlockRef, Chain, RpcError};
use crate::money::Money;
use crate::store::{Store, Unit};
use bitcoin::Network;
use fulmen_channel::amount::Height;
use std::time::{Duration, Instant};

/// Blocks read, and written down as read, at once.
const BATCH: u32 = 20;
/// How often the log tells of it.
const TELL: Duration = Duration::from_secs(10);
/// How soon bitcoind is asked again when it is away.
const RETRY: Duration = Duration::from_secs(1);
/// Miners' clocks may be wrong by hours, and the clock on which a wallet was made too.
const MARGIN: u64 = 86_400;

/// Lets the wallet look for its coins, if that was asked for and is not done yet. It was made at
/// `birthday` (unix seconds, 0 if that is not known); `best` is bitcoind's best block.
///
/// # Errors
/// When bitcoind has pruned a block that is needed, or the store fails.
pub async fn run(
    chain: &Chain,
    money: &Money,
    store: &Store,
    (network, birthday): (Network, u64),
    best: BlockRef,
) -> Result<(), String> {
    let Some(asked) = money.recovery() else { return Ok(()) };
    if asked.span.is_none() {
        let first = match birthday {
            0 => before_any_coin(network),
            time => {
                let time = time.saturating_sub(MARGIN);
                patiently(async || chain.height_at(time, best.height).await).await?
            }
        };
        let mut unit = Unit::new();
        money.begin_recovery(first, best, &mut unit);
        store.commit(unit).await.map_err(|error| error.to_string())?;
    }
    let mut told: Option<Instant> = None;
    loop {
        let Some(recovery) = money.recovery() else { return Ok(()) };
        let last = money.recent_blocks().last().map_or(best.height, |tip| tip.height);
        let next = recovery.span.map_or(last, |span| span.next);
        if recovery.over {
            let balance = money.balance().total();
            tracing::info!("recovery: all blocks up to {last} are read; the wallet has {balance}");
            return Ok(());
        }
        if told.is_none_or(|told| told.elapsed() >= TELL) {
            let percent = recovery.progress(last) * 100.0;
            tracing::info!("recovery: at block {next} of {last}, {percent:.1} % are read");
            told = Some(Instant::now());
        }
        read_some(chain, money, store, next, last).await?;
    }
}

async fn read_some(
    chain: &Chain,
    money: &Money,
    store: &Store,
    next: Height,
    last: Height,
) -> Result<(), String> {
    let end = next.plus(BATCH).minus(1).min(last);
    let blocks = patiently(async || chain.blocks(next, end).await).await?;
    if blocks.is_empty() && next <= last {
        // bitcoind reads its own blocks anew.
        tokio::time::sleep(RETRY).await;
        return Ok(());
    }
    let mut unit = Unit::new();
    money.recover(&blocks, &mut unit);
    store.commit(unit).await.map_err(|error| error.to_string())
}

/// Asks until bitcoind answers.
async fn patiently<T>(ask: impl AsyncFn() -> Result<T, RpcError>) -> Result<T, String> {
    loop {
        match ask().await {
            Err(error) if error.is_down() => {
                tracing::warn!("recovery: waiting for bitcoind: {error}");
                tokio::time::sleep(RETRY).await;
            }
            Err(RpcError::Pruned(height)) => {
                return Err(format!(
                    "bitcoind has pruned block {height}, which the search for the wallet's coins \
                     needs: let it fetch its blocks again (-reindex without -prune), then start \
                     fulmend again; the search goes on at that block"
                ))
            }
            answer => return answer.map_err(|error| error.to_string()),
        }
    }
}

/// The block with which segregated witness began: every address of ours is a witness program, so
/// no coin can be older.
fn before_any_coin(network: Network) -> Height {
    Height::new(match network {
        Network::Bitcoin => 481_824,
        Network::Testnet => 834_624,
        Network::Testnet4 | Network::Signet | Network::Regtest => 0,
    })
}
