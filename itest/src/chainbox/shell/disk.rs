//! The box's folder: a file of blocks that only grows, and the mempool of an orderly stop.
//!
//! `blocks` is records of a kind (one byte), a length (four, little endian) and that many bytes:
//! a block, or the hash of one that was called invalid or valid again. A record that a kill cut
//! off at the end is dropped.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Transaction};

use crate::chainbox::mempool::Mempool;
use crate::chainbox::{ChainBox, Event};
use crate::failure::{Context, Failure, Result};

const BLOCK: u8 = b'B';
const BAD: u8 = b'-';
const GOOD: u8 = b'+';
const HEAD: usize = 5;

/// See the module.
pub(super) struct Disk {
    blocks: File,
    mempool: PathBuf,
}

impl Disk {
    /// Brings an empty box to where the folder's was.
    pub fn open(folder: &Path, chain_box: &mut ChainBox) -> Result<Self> {
        let (path, mempool) = (folder.join("blocks"), folder.join("mempool"));
        let bytes = read_if_there(&path)?;
        let mut rest = bytes.as_slice();
        while let Some((kind, body, behind)) = record(rest) {
            replay(chain_box, kind, body).context(path.display())?;
            rest = behind;
        }
        let blocks = File::options().create(true).append(true).open(&path);
        let blocks = blocks.context(path.display())?;
        let whole = bytes.len().saturating_sub(rest.len());
        blocks.set_len(u64::try_from(whole)?).context(path.display())?;
        let waited = read_if_there(&mempool)?;
        if !waited.is_empty() {
            let waited: Vec<Transaction> = deserialize(&waited).context(mempool.display())?;
            // What is not valid any more is not wanted any more.
            waited.iter().for_each(|tx| drop(chain_box.submit(tx)));
            fs::remove_file(&mempool).context(mempool.display())?;
        }
        chain_box.events();
        Ok(Disk { blocks, mempool })
    }

    /// Keeps what must outlive the process.
    pub fn keep(&mut self, events: &[Event]) -> Result<()> {
        for event in events {
            let (kind, body) = match event {
                Event::Stored(block) => (BLOCK, serialize(&**block)),
                Event::Marked(hash, true) => (BAD, serialize(hash)),
                Event::Marked(hash, false) => (GOOD, serialize(hash)),
                _ => continue,
            };
            let mut bytes = vec![kind];
            bytes.extend(u32::try_from(body.len())?.to_le_bytes());
            bytes.extend(body);
            self.blocks.write_all(&bytes).context("write a block")?;
        }
        Ok(())
    }

    /// Keeps what waits, in order.
    pub fn keep_mempool(&self, pool: &Mempool) -> Result<()> {
        let waiting: Vec<Transaction> =
            pool.entries().into_iter().map(|entry| (*entry.tx).clone()).collect();
        fs::write(&self.mempool, serialize(&waiting)).context("write the mempool")
    }
}

fn read_if_there(path: &Path) -> Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read.context(path.display()),
    }
}

/// The first record and what comes behind it; nothing at the end or where it is cut off.
fn record(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let (kind, length) = head.split_first()?;
    let length = u32::from_le_bytes(length.try_into().ok()?);
    let (body, behind) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some((*kind, body, behind))
}

fn replay(chain_box: &mut ChainBox, kind: u8, body: &[u8]) -> Result<()> {
    let hash = || BlockHash::from_slice(body).context("a hash");
    match kind {
        BLOCK => chain_box.accept_block(deserialize(body)?).context("a block")?,
        BAD => drop(chain_box.invalidate(hash()?)),
        GOOD => drop(chain_box.reconsider(hash()?)),
        other => return Err(Failure::new(format!("no record begins with {other}"))),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::places;

    #[test]
    fn a_chain_comes_back_with_its_branches_and_without_a_torn_end() -> Result<()> {
        let dir = places::temporary("disk")?;
        let mut first = ChainBox::new();
        let mut disk = Disk::open(dir.path(), &mut first)?;
        first.mine(103);
        let stale = first.chain().tip();
        first.reorg(2);
        first.pay(bitcoin::ScriptBuf::new_op_return([]), fulmen_channel::amount::Sat::ZERO);
        disk.keep(&first.events())?;
        disk.keep_mempool(first.mempool())?;
        drop(disk);
        let path = dir.path().join("blocks");
        let mut torn = fs::read(&path)?;
        let whole = torn.len();
        torn.extend([BLOCK, 80, 0, 0, 0, 1, 2, 3]);
        fs::write(&path, torn)?;

        let mut second = ChainBox::new();
        drop(Disk::open(dir.path(), &mut second)?);
        assert_eq!(fs::read(&path)?.len(), whole);
        assert_eq!(second.chain().tip(), first.chain().tip());
        assert!(second.chain().block(&stale).is_some(), "the branch that lost");
        assert_eq!(second.mempool().entries().len(), 1);
        let mut third = ChainBox::new();
        drop(Disk::open(dir.path(), &mut third)?);
        assert!(third.mempool().entries().is_empty(), "it was not stopped in order");
        Ok(())
    }
}
