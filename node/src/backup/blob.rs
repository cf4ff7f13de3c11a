//! What lies with peers (BOLT 1, peer storage): backups, and how far each channel is, sealed. The
//! second half is what shows an old copy of the database for what it is (rules 4.4).

use super::single::{Packed, Single};
use super::vault::{readable, BackupError, Kind, Vault, OVERHEAD};
use crate::desk::encode;
use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most that a peer may be asked to keep.
pub const LARGE: usize = 65_531;
/// What LDK keeps.
pub const SMALL: usize = 1_024;

/// Numbers of our commitments, by the channels' numbers.
pub type Numbers = BTreeMap<u64, u64>;

/// What is told to peers, all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// The backup of every channel.
    pub backups: Vec<Single>,
    /// Of the channels that run.
    pub numbers: Numbers,
}

/// What came back from a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Witness {
    /// Backups, maybe not of all channels.
    pub backups: Vec<Single>,
    /// How far channels were.
    pub numbers: Numbers,
}

#[derive(Serialize, Deserialize)]
struct Plain {
    numbers: Numbers,
    backups: Packed,
    /// So that its length tells nothing.
    padding: Vec<u8>,
}

impl Content {
    /// Sealed for `peer`: of [`SMALL`] bytes if everything fits, or if `small`; else of [`LARGE`].
    /// Of backups that do not all fit, those of channels with that peer come first, then the
    /// largest channels.
    ///
    /// # Errors
    /// [`BackupError`] when it cannot be sealed.
    pub fn seal(
        &self,
        vault: &Vault,
        peer: &PublicKey,
        small: bool,
    ) -> Result<Vec<u8>, BackupError> {
        let mut order: Vec<&Single> = self.backups.iter().collect();
        order.sort_by_key(|single| (single.peer != *peer, std::cmp::Reverse(single.capacity)));
        let backups: Packed = order.into_iter().map(encode).collect();
        let mut plain = Plain { numbers: self.numbers.clone(), backups, padding: Vec::new() };
        let room = |plain: &Plain, size: usize| {
            size.checked_sub(OVERHEAD)?.checked_sub(encode(plain).len())
        };
        let size = if small || room(&plain, SMALL).is_some() { SMALL } else { LARGE };
        if room(&plain, size).is_none() {
            let all = std::mem::take(&mut plain.backups);
            // Numbers take little room; a node with more channels than fit is a large one.
            while room(&plain, size).is_none() && plain.numbers.pop_last().is_some() {}
            let mut left = room(&plain, size).unwrap_or_default();
            plain.backups.extend(all.into_iter().map_while(|backup| {
                // With its length, and their count's.
                left = left.checked_sub(backup.len().saturating_add(3))?;
                Some(backup)
            }));
        }
        pad(&mut plain, size);
        vault.seal(Kind::Storage, &encode(&plain))
    }
}

/// Fills up to `size` bytes once sealed. The padding's length is written with it, in up to three
/// bytes.
fn pad(plain: &mut Plain, size: usize) {
    let room = |plain: &Plain| size.saturating_sub(OVERHEAD).saturating_sub(encode(plain).len());
    plain.padding = vec![0; room(plain).saturating_sub(2)];
    let rest = room(plain);
    plain.padding.resize(plain.padding.len().saturating_add(rest), 0);
    while encode(plain).len().saturating_add(OVERHEAD) > size && plain.padding.pop().is_some() {}
}

/// What [`Content::seal`] sealed.
///
/// # Errors
/// [`BackupError`] for anything else.
pub fn open(vault: &Vault, sealed: &[u8]) -> Result<Witness, BackupError> {
    let plain = vault.open(Kind::Storage, sealed)?;
    let Plain { numbers, backups, .. } = readable("what a peer kept", &plain)?;
    Ok(Witness { backups: vault.all_checked(&backups)?, numbers })
}
