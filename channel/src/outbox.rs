//! Persist, then speak: what relies on a change stays here until the change is durable, and
//! leaves in the order it was made. A message that needs no flush never overtakes one that does.

use crate::changeset::ChangeSet;
use crate::output::{Output, Persist, Resolved};
use bitcoin::Txid;
use std::collections::VecDeque;

/// Outputs on their way out of the core.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Leaves at once: change sets, and news that hold whatever is on disk.
    at_once: VecDeque<Output>,
    /// Made since the last change set was taken.
    staged: Vec<Output>,
    /// Waits for a change set to be durable.
    held: VecDeque<(u64, Output)>,
    resolved: Vec<Resolved>,
    issued: u64,
    durable: u64,
}

impl Outbox {
    /// Leaves once everything changed so far is durable.
    pub fn stage(&mut self, output: Output) {
        self.staged.push(output);
    }
    /// Leaves at once.
    pub fn at_once(&mut self, output: Output) {
        self.at_once.push_back(output);
    }
    /// Travels with the next change set.
    pub fn resolve(&mut self, resolved: Resolved) {
        self.resolved.push(resolved);
    }
    /// Closes a step: `changes` go out to be written, and what was staged waits for them.
    pub fn seal(&mut self, changes: ChangeSet) {
        if !changes.is_empty() || !self.resolved.is_empty() {
            self.issued = self.issued.saturating_add(1);
            let resolved = std::mem::take(&mut self.resolved);
            let persist = Persist { id: self.issued, changes, resolved };
            self.at_once.push_back(Output::Persist(persist));
        }
        let barrier = self.issued;
        self.held.extend(self.staged.drain(..).map(|output| (barrier, output)));
    }
    /// Change sets up to `id` are durable.
    pub fn persisted(&mut self, id: u64) {
        self.durable = self.durable.max(id.min(self.issued));
    }
    /// The connection is gone: messages not sent yet are forgotten, reestablish tells what to
    /// repeat.
    pub fn drop_messages(&mut self) {
        let talks = |output: &Output| matches!(output, Output::Send(_) | Output::Disconnect);
        self.at_once.retain(|output| !talks(output));
        self.staged.retain(|output| !talks(output));
        self.held.retain(|(_, output)| !talks(output));
    }
    /// What was to be published, and has not left yet, is not any more.
    pub fn drop_broadcast(&mut self, txid: Txid) {
        let is_it =
            |output: &Output| matches!(output, Output::Broadcast(tx) if tx.compute_txid() == txid);
        self.at_once.retain(|output| !is_it(output));
        self.staged.retain(|output| !is_it(output));
        self.held.retain(|(_, output)| !is_it(output));
    }
    /// The next output that may leave.
    pub fn next(&mut self) -> Option<Output> {
        if let Some(output) = self.at_once.pop_front() {
            return Some(output);
        }
        match self.held.front() {
            Some((barrier, _)) if *barrier <= self.durable => {
                self.held.pop_front().map(|(_, output)| output)
            }
            _ => None,
        }
    }
}
