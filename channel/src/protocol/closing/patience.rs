//! A peer that leaves us waiting while the channel closes is told so, and the connection is
//! closed: with the next one the talk begins anew (BOLT 2, closing_complete and closing_signed).
//! Time comes in as minutes that have passed.

use crate::error::Violation;
use crate::params::Side;
use crate::protocol::open::{Link, Open};

/// Minutes that an answer may take.
pub const PATIENCE: u32 = 3;

impl Open {
    /// The message that the peer owes us now, so that the channel can close.
    pub fn awaits_closing(&self) -> Option<&'static str> {
        let life = &self.life;
        let over = life.failed.is_some() || life.spent_by.is_some();
        if self.link != Link::Up || over || life.shutdown_sent.is_none() {
            return None;
        }
        if !self.talk.shutdown_heard {
            return Some("shutdown");
        }
        if self.talk.offered.is_some() {
            return Some("closing_sig");
        }
        let haggles = !self.negotiated.simple_close && !self.is_settled();
        let begins = self.contract.params.funder == Side::Remote || self.talk.negotiation.is_some();
        (haggles && begins && self.contract.is_quiet()).then_some("closing_signed")
    }

    /// A minute has passed.
    pub(in crate::protocol) fn minute(&mut self) -> Result<(), Violation> {
        let Some(message) = self.awaits_closing() else {
            self.talk.waited = 0;
            return Ok(());
        };
        self.talk.waited = self.talk.waited.saturating_add(1);
        if self.talk.waited < PATIENCE {
            return Ok(());
        }
        self.talk.waited = 0;
        let what = format!("no {message} for {PATIENCE} minutes");
        Err(Violation::warn("BOLT 2 channel close", what))
    }
}
