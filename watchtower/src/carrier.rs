//! Gets remedies mined: follows bitcoind block by block, through its restarts and through
//! reorganisations, and hands it what must be in the mempool after each.
//!
//! ```text
//!   our last block ── still in the chain? ── no ──▶ taken back, block by block
//!         │ yes
//!         └─▶ each block after it ─▶ Tower::connect ─▶ at the tip: remedies ─▶ sendrawtransaction
//! ```

use crate::rpc::{Rpc, RpcError};
use crate::store::StoreError;
use crate::tower::Tower;
use bitcoin::BlockHash;
use fulmen_channel::amount::{FeeratePerKw, Height};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How often bitcoind is asked for news.
const EVERY: Duration = Duration::from_secs(1);
/// How often what must be in the mempool is handed over again while there is a breach: bitcoind may
/// have restarted, or dropped it, between two questions.
const AGAIN: Duration = Duration::from_secs(5);
/// Remedies are to be in one of so many next blocks.
const TARGET: u16 = 2;

/// Why the tower cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum CarrierError {
    /// bitcoind's trouble.
    #[error("{0}")]
    Rpc(#[from] RpcError),
    /// The disk's.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// bitcoind reads its blocks anew (-reindex). It passes by itself.
    #[error("bitcoind is still catching up with its network")]
    Behind,
    /// None of the blocks that we remember is in the chain.
    #[error("the chain was reorganised deeper than the tower remembers")]
    TooDeep,
}

impl CarrierError {
    fn passes(&self) -> bool {
        match self {
            CarrierError::Rpc(error) => !matches!(error, RpcError::Pruned(_)),
            CarrierError::Behind => true,
            CarrierError::Store(_) | CarrierError::TooDeep => false,
        }
    }
}

/// Follows the chain until `stop`.
///
/// # Errors
/// [`CarrierError`] that waiting cannot help.
pub async fn follow(
    tower: Arc<Tower>,
    rpc: Rpc,
    mut stop: watch::Receiver<bool>,
) -> Result<(), CarrierError> {
    let (mut down, mut fresh) = (false, true);
    let mut published = Instant::now();
    loop {
        if tower.has_breaches() && published.elapsed() >= AGAIN {
            fresh = true;
        }
        if fresh {
            published = Instant::now();
        }
        let (each, rpc) = (tower.clone(), rpc.clone());
        let turn = tokio::task::spawn_blocking(move || turn(&each, &rpc, fresh)).await;
        match turn {
            Ok(Ok(())) => {
                if std::mem::take(&mut down) {
                    tracing::info!("bitcoind is back");
                }
                fresh = false;
            }
            Ok(Err(error)) if error.passes() => {
                if !std::mem::replace(&mut down, true) {
                    tracing::warn!("{error}");
                }
                // It may have forgotten its mempool.
                fresh = true;
            }
            Ok(Err(error)) => return Err(error),
            Err(died) => tracing::error!("following the chain: {died}"),
        }
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// Comes up with the chain, and publishes what has to be: after a block, and when `fresh`.
///
/// # Errors
/// [`CarrierError`]; what was done until then is kept.
pub fn turn(tower: &Tower, rpc: &Rpc, fresh: bool) -> Result<(), CarrierError> {
    let info = rpc.chain_info()?;
    let best = Height::new(info.blocks);
    let known = tower.tip()?;
    let Some((mut height, mut hash)) = known else {
        tower.begin(best, info.bestblockhash)?;
        tracing::info!("watching from block {best} on");
        return Ok(());
    };
    if hash == info.bestblockhash && !fresh {
        return Ok(());
    }
    if info.initialblockdownload && best < height {
        // Rolling back with it would help nobody, and goes deeper than we remember.
        return Err(CarrierError::Behind);
    }
    while rpc.block_hash(height)? != Some(hash) {
        tracing::info!("block {height} is no longer in the chain");
        tower.disconnect(height)?;
        (height, hash) = tower.tip()?.ok_or(CarrierError::TooDeep)?;
    }
    while let Some((next, block)) = after(rpc, height, hash)? {
        tower.connect(next, &block)?;
        (height, hash) = (next, block.block_hash());
    }
    publish(tower, rpc, height)
}

/// The block after this one; none at the tip, or if the chain changes under us.
fn after(
    rpc: &Rpc,
    height: Height,
    hash: BlockHash,
) -> Result<Option<(Height, bitcoin::Block)>, RpcError> {
    let next = height.plus(1);
    let Some(found) = rpc.block_hash(next)? else { return Ok(None) };
    let block = rpc.block(found).map_err(|error| error.of_block(next))?;
    Ok((block.header.prev_blockhash == hash).then_some((next, block)))
}

/// Hands bitcoind every remedy of the tip; also those that it had before, as it may have dropped
/// them. Called at each block and after a start.
///
/// # Errors
/// [`CarrierError`], but not for what bitcoind refuses: the next block may change its mind.
pub fn publish(tower: &Tower, rpc: &Rpc, tip: Height) -> Result<(), CarrierError> {
    let least = rpc.mempool_info()?.min.per_kw();
    // A hundredth more, since bitcoind rounds weights up to whole vbytes.
    let least = FeeratePerKw::new(least.saturating_add(least.div_ceil(100)));
    let floor = least.max(FeeratePerKw::FLOOR);
    let estimate = rpc.estimate(TARGET)?.unwrap_or(floor).max(floor);
    for tx in tower.remedies(tip, estimate)? {
        match rpc.send(&tx) {
            Ok(txid) => tracing::info!("remedy {txid} is published"),
            Err(error) if error.code().is_some() => {
                tracing::info!("remedy {}: {error}", tx.compute_txid());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
