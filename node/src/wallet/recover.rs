//! Recovery: a wallet made of old words looks for its coins in old blocks. Pure, as the wallet.
//!
//! ```text
//!   first ─── next ──────────────── tip ─── …
//!     read already │ still to be read │ the chain is followed from here, once the search is over
//! ```
//!
//! Each keychain knows `window` scripts beyond the last that was found; an address further away
//! than that from all others is not found. What pays to a script is known before what spends it,
//! since blocks are read in order.

use super::{rows, Wallet, WalletError};
use crate::chain::BlockRef;
use crate::store::{Store, Table, Unit};
use bitcoin::Block;
use fulmen_channel::amount::Height;

/// A search in old blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovery {
    /// How many scripts in a row may be unused.
    pub window: u32,
    /// Which blocks; none until bitcoind has told where to begin.
    pub span: Option<Span>,
    /// Everything was read.
    pub over: bool,
}

/// How far a search is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first block that is looked at.
    pub first: Height,
    /// The next one.
    pub next: Height,
}

/// Has the wallet, when it is loaded, look for its coins with `window` scripts; 0: not at all.
pub fn ask_recovery(window: u32, unit: &mut Unit) {
    match window {
        0 => rows::delete_recovery(unit),
        window => rows::put_recovery(unit, &Recovery { window, span: None, over: false }),
    }
}

/// The window of a search that was asked for and is not over; 0 if there is none.
pub fn asked_recovery(store: &Store) -> Result<u32, WalletError> {
    let row = store.get(Table::Wallet, rows::RECOVERY)?;
    let read = |row: Vec<u8>| {
        let damaged = || WalletError::Damaged(hex::encode(rows::RECOVERY));
        rows::read_recovery(&row).map(|recovery| recovery.window).ok_or_else(damaged)
    };
    row.map_or(Ok(0), read)
}

impl Wallet {
    /// The search that goes on, or was finished since the wallet was loaded.
    pub fn recovery(&self) -> Option<Recovery> {
        self.recovery
    }

    /// The search begins with the block `first`. A wallet that has seen no block takes `best` as
    /// the last to be looked at.
    pub fn begin_recovery(&mut self, first: Height, best: BlockRef, unit: &mut Unit) {
        if self.blocks.tip().is_none() {
            self.blocks.connect(best);
            rows::put_block(unit, best.height, best.hash);
        }
        if let Some(recovery) = &mut self.recovery {
            recovery.span = Some(Span { first, next: first });
            rows::put_recovery(unit, recovery);
        }
    }

    /// Takes in the next blocks of the search. It is over after the wallet's last block, or where
    /// these are no longer its chain: what comes instead will be connected in the usual way.
    pub fn recover(&mut self, blocks: &[(BlockRef, Block)], unit: &mut Unit) {
        let Some(mut recovery) = self.recovery.filter(|recovery| !recovery.over) else { return };
        let (Some(mut span), Some(tip)) = (recovery.span, self.blocks.tip()) else { return };
        for (at, block) in blocks {
            let known = self.blocks.at(at.height);
            recovery.over = at.height > tip.height || known.is_some_and(|hash| hash != at.hash);
            if recovery.over {
                break;
            }
            let changes = self.graph.apply_block_relevant(block, at.height.number());
            if !changes.tx_graph.anchors.is_empty() || self.blocks.is_latest(at.height) {
                self.blocks.connect(*at);
                rows::put_block(unit, at.height, at.hash);
            }
            rows::put_changes(unit, changes, &self.graph.index);
            span.next = at.height.plus(1);
        }
        recovery.over |= span.next > tip.height;
        recovery.span = Some(span);
        match recovery.over {
            true => rows::delete_recovery(unit),
            false => rows::put_recovery(unit, &recovery),
        }
        self.recovery = Some(recovery);
    }
}

impl Recovery {
    /// Which part of the blocks up to `last` was read, from 0 to 1.
    pub fn progress(&self, last: Height) -> f64 {
        let Some(Span { first, next }) = self.span.filter(|_| !self.over) else {
            return f64::from(u8::from(self.over));
        };
        let (read, all) = (next.minus(first.number()), last.plus(1).minus(first.number()));
        (f64::from(read.number()) / f64::from(all.number().max(1))).min(1.0)
    }
}
