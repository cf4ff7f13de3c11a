//! The other side's revealed per-commitment secrets in 49 slots (BOLT 3, efficient per-commitment
//! secret storage): about 2 kB for all states a channel ever had.
//!
//! The secret of an index that ends in b zeros gives those of the 2^b - 1 indexes after it, so
//! each slot b holds the newest secret whose index ends in exactly b zeros, and the rest follows.

use serde::{Deserialize, Serialize};

use super::derive::{derive_secret, secret_index, FIRST_INDEX};

/// Why a revealed secret was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongSecret {
    /// Secrets come one by one, counting up.
    #[error("expected the secret of commitment {expected}, not of {got}")]
    OutOfOrder {
        /// The next one in turn.
        expected: u64,
        /// The one given.
        got: u64,
    },
    /// An older secret does not follow from it: they have no seed in common.
    #[error("the secret of commitment {later} does not lead to that of commitment {earlier}")]
    NotFromOneSeed {
        /// The one given.
        later: u64,
        /// The one on record that it should lead to.
        earlier: u64,
    },
    /// A stored row is not what this store writes.
    #[error("the stored secret of commitment {0} does not belong in any slot, or not in this one")]
    BadSlot(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Slot {
    index: u64,
    secret: [u8; 32],
}

/// Their secrets, by commitment number counting up from 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationStore {
    slots: Vec<Option<Slot>>,
}

impl RevocationStore {
    /// Nothing revealed yet.
    pub fn new() -> Self {
        RevocationStore::default()
    }

    /// The store whose slots hold these (number, secret) pairs, in any order.
    ///
    /// # Errors
    /// [`WrongSecret::BadSlot`] for a number past the last, or two that want the same slot.
    pub fn from_slots(
        slots: impl IntoIterator<Item = (u64, [u8; 32])>,
    ) -> Result<Self, WrongSecret> {
        let mut store = RevocationStore::new();
        for (number, secret) in slots {
            let bad = WrongSecret::BadSlot(number);
            let index = FIRST_INDEX.checked_sub(number).ok_or(bad)?;
            let place = store.place_mut(bits(index));
            if place.is_some_and(|slot| slot.index != index) {
                return Err(bad);
            }
            *place = Some(Slot { index, secret });
        }
        Ok(store)
    }

    /// The number of the commitment whose secret comes next.
    pub fn next(&self) -> u64 {
        let lowest = self.slots.iter().flatten().map(|slot| slot.index).min();
        lowest.map_or(0, |index| secret_index(index).saturating_add(1))
    }

    /// Takes the secret of commitment `number` and says which slot it went to.
    ///
    /// # Errors
    /// [`WrongSecret`] if it is not the next one, or if the older ones do not follow from it;
    /// the store is then unchanged.
    pub fn insert(&mut self, number: u64, secret: [u8; 32]) -> Result<usize, WrongSecret> {
        let expected = self.next();
        if number != expected || number > FIRST_INDEX {
            return Err(WrongSecret::OutOfOrder { expected, got: number });
        }
        let index = secret_index(number);
        let bits = bits(index);
        for older in self.slots.iter().take(usize::from(bits)).flatten() {
            if derive_secret(&secret, bits, older.index) != older.secret {
                let earlier = secret_index(older.index);
                return Err(WrongSecret::NotFromOneSeed { later: number, earlier });
            }
        }
        *self.place_mut(bits) = Some(Slot { index, secret });
        Ok(usize::from(bits))
    }

    /// The secret of commitment `number`, if it was revealed.
    pub fn get(&self, number: u64) -> Option<[u8; 32]> {
        let wanted = FIRST_INDEX.checked_sub(number)?;
        (0u8..).zip(&self.slots).find_map(|(bits, slot)| {
            let slot = slot.as_ref()?;
            let prefix_is_equal = (wanted >> bits) == (slot.index >> bits);
            prefix_is_equal.then(|| derive_secret(&slot.secret, bits, wanted))
        })
    }

    /// What slot `slot` (0 to 48) holds: commitment number and secret.
    pub fn slot(&self, slot: usize) -> Option<(u64, [u8; 32])> {
        let held = self.slots.get(slot)?.as_ref()?;
        Some((secret_index(held.index), held.secret))
    }

    fn place_mut(&mut self, bits: u8) -> &mut Option<Slot> {
        let place = usize::from(bits);
        if self.slots.len() <= place {
            self.slots.resize(place.saturating_add(1), None);
        }
        #[allow(clippy::indexing_slicing)] // Made long enough just above.
        &mut self.slots[place]
    }
}

/// How many zeros `index` ends in: its slot, 48 for the seed itself.
fn bits(index: u64) -> u8 {
    u8::try_from(index.trailing_zeros()).unwrap_or(48).min(48)
}
