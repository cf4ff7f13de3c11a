//! The contract as named rows, and back. What changed is only *named* on the way; its value is
//! read when the change set is taken, so ten steps in one batch write each row once.

use super::commitments::{Commitments, State};
use super::htlc::{Htlc, Stage};
use crate::changeset::{bad, encode, ChangeSet, Row, Rows};
use crate::error::BadRow;
use crate::keys::revocation_store::RevocationStore;
use crate::params::Side;

impl Commitments {
    /// Whether anything is not on disk yet.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// What changed since the last call.
    pub fn take_changes(&mut self) -> ChangeSet {
        let dirty = std::mem::take(&mut self.dirty);
        let changes = dirty.into_iter().map(|row| (row, self.value_of(row))).collect();
        self.penalties.clear();
        ChangeSet(changes)
    }

    fn value_of(&self, row: Row) -> Option<Vec<u8>> {
        match row {
            Row::Params => Some(encode(&self.params)),
            Row::State => Some(encode(&self.durable_state())),
            Row::Funding(_) => Some(encode(&self.funding)),
            Row::Htlc(by, id) => self.htlcs.get(&(by, id)).map(encode),
            Row::Memo(by, id) => self.htlcs.get(&(by, id)).map(|htlc| encode(&htlc.memo)),
            Row::Onion(id) => self.onions.get(&id).map(encode),
            Row::Revocation(slot) => self.revocations.slot(usize::from(slot)).map(|s| encode(&s)),
            Row::Penalty(by, id) => self.penalties.get(&(by, id)).map(encode),
            // The protocol's own rows.
            Row::FundingTx | Row::Life | Row::Aliases | Row::Closing | Row::OnChain => None,
        }
    }

    /// The state without the ids of HTLCs that we have not signed for: after a restart they are
    /// gone, and their ids must be used again (BOLT 2: ids increase by one).
    fn durable_state(&self) -> State {
        let mut state = self.state.clone();
        let unsigned = self
            .htlcs
            .iter()
            .filter(|((by, _), htlc)| *by == Side::Local && htlc.stage == Stage::Proposed);
        if let Some(first) = unsigned.map(|((_, id), _)| *id).min() {
            state.next_local_id = first;
        }
        state
    }

    /// The contract as it was when `rows` were written.
    pub fn restore(rows: &Rows) -> Result<Self, BadRow> {
        let mut contract = Commitments::new(
            rows.require(Row::Params)?,
            rows.require(Row::State)?,
            rows.require(Row::Funding(0))?,
        );
        contract.dirty.clear();
        let htlc = |row| match row {
            Row::Htlc(by, id) => Some((by, id)),
            _ => None,
        };
        for ((by, id), mut htlc) in rows.each::<(Side, u64), Htlc>(htlc)? {
            htlc.memo = rows.read(Row::Memo(by, id))?.unwrap_or_default();
            contract.htlcs.insert((by, id), htlc);
        }
        let onion = |row| match row {
            Row::Onion(id) => Some(id),
            _ => None,
        };
        contract.onions = rows.each(onion)?.into_iter().collect();
        let slot = |row| match row {
            Row::Revocation(slot) => Some(slot),
            _ => None,
        };
        let slots = rows.each::<u8, (u64, [u8; 32])>(slot)?;
        let store = RevocationStore::from_slots(slots.into_iter().map(|(_, secret)| secret));
        contract.revocations = store.map_err(|error| bad(Row::Revocation(0), error.to_string()))?;
        contract.forget_unsigned_of_peer();
        Ok(contract)
    }
}
