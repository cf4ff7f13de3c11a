//! After a reconnection (BOLT 2, message retransmission): each side says how far it got, and
//! repeats what the other missed, in the order it was first said.
//!
//! ```text
//!   A                                        B
//!   ── channel_reestablish ────────────▶
//!   ◀──────────── channel_reestablish ──
//!      (channel_ready, if nothing was ever committed)
//!      (revoke_and_ack and updates + commitment_signed, what was missed, in their order)
//!      (shutdown, if it was said)
//! ```

use super::open::{Link, Open, Tools};
use super::restored;
use crate::contract::commitments::LastSent;
use crate::contract::htlc::Stage;
use crate::error::Violation;
use crate::message::Message;
use crate::onchain::deadline::Doubt;
use crate::output::Output;
use crate::params::{Negotiated, Side};
use lightning::ln::msgs;

const RULE: &str = "BOLT 2 message retransmission";

/// What the peer missed of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Missed {
    commitment: bool,
    revocation: bool,
}

impl Open {
    /// The connection is up: say how far we got. A failed channel repeats its error instead.
    pub(super) fn connected(&mut self, negotiated: Negotiated, tools: &mut Tools<'_>) {
        // Whatever an older connection left behind is stale, even if nobody told of its end.
        self.disconnected(tools);
        self.link = Link::Reestablishing;
        self.negotiated = negotiated;
        if let Some(reason) = self.life.failed.clone() {
            if self.life.behind && self.life.spent_by.is_none() {
                // An error alone makes not every peer publish.
                tools.out.stage(Output::Send(restored::lost(self.channel_id, tools.signer)));
            }
            self.send_error(&reason, tools);
            return;
        }
        let state = &self.contract.state;
        let revoked = self.revoked_by_peer();
        let last_secret = revoked.checked_sub(1).and_then(|n| self.contract.revocations.get(n));
        self.said_next = state.local_number.saturating_add(1);
        let message = msgs::ChannelReestablish {
            channel_id: self.channel_id,
            next_local_commitment_number: self.said_next,
            next_remote_commitment_number: revoked,
            your_last_per_commitment_secret: last_secret.unwrap_or([0; 32]),
            my_current_per_commitment_point: tools.signer.per_commitment_point(state.local_number),
            next_funding: None,
            my_current_funding_locked: None,
        };
        tools.out.stage(Output::Send(Message::ChannelReestablish(Box::new(message))));
    }

    /// How many commitments the peer has revoked: the number of the next one it will revoke.
    fn revoked_by_peer(&self) -> u64 {
        let state = &self.contract.state;
        state.remote_number.saturating_sub(u64::from(state.awaiting_revocation))
    }

    /// The peer says how far it got.
    pub(super) fn reestablish(
        &mut self,
        said: &msgs::ChannelReestablish,
        tools: &mut Tools<'_>,
    ) -> Result<(), Violation> {
        if self.link != Link::Reestablishing {
            return Err(Violation::warn(RULE, "channel_reestablish in the middle of a connection"));
        }
        // First: whatever else it says, who knows a later secret of ours must not see us publish.
        if self.proves_us_behind(said, tools) {
            self.fall_behind(tools);
            return Ok(());
        }
        if said.next_local_commitment_number == 0 {
            return Err(Violation::fail(RULE, "the peer has lost its state"));
        }
        let missed = self.missed_by(said, tools)?;
        (self.link, self.doubt) = (Link::Up, Doubt::None);
        if self.said_next == 1 && said.next_local_commitment_number == 1 && self.life.ready_sent {
            self.send_ready(tools);
        }
        match self.contract.state.last_sent {
            LastSent::Commitment => {
                self.repeat_revocation(missed, tools);
                self.repeat_commitment(missed, tools);
            }
            LastSent::Revocation => {
                self.repeat_commitment(missed, tools);
                self.repeat_revocation(missed, tools);
            }
        }
        self.repeat_shutdown(tools);
        self.ready_if_due(tools);
        self.announce_usable(false, tools);
        Ok(())
    }

    fn repeat_revocation(&self, missed: Missed, tools: &mut Tools<'_>) {
        if missed.revocation {
            self.send_revocation(tools);
        }
    }

    fn repeat_commitment(&self, missed: Missed, tools: &mut Tools<'_>) {
        if missed.commitment {
            self.send_updates(tools, |by, stage| match by {
                Side::Local => stage == Stage::AddSigned,
                Side::Remote => stage == Stage::RemoveSigned,
            });
            let signatures = self.contract.sign_remote(tools.signer, tools.curve);
            self.send_commitment_signed(signatures, tools);
        }
    }

    pub(super) fn missed_by(
        &self,
        said: &msgs::ChannelReestablish,
        tools: &mut Tools<'_>,
    ) -> Result<Missed, Violation> {
        let state = &self.contract.state;
        let next = state.remote_number.saturating_add(1);
        let commitment = match said.next_local_commitment_number {
            n if n == next => false,
            n if n == state.remote_number && state.awaiting_revocation => true,
            n => {
                let what = format!("the peer waits for commitment {n}, next is {next}");
                return Err(Violation::fail(RULE, what));
            }
        };
        let revocation = match said.next_remote_commitment_number {
            n if n == state.local_number => false,
            n if n.checked_add(1) == Some(state.local_number) => true,
            n => {
                let what = format!("the peer waits for revocation {n}, not {}", state.local_number);
                return Err(Violation::fail(RULE, what));
            }
        };
        let secret = match said.next_remote_commitment_number.checked_sub(1) {
            Some(last) => tools.signer.per_commitment_secret(last),
            None => [0; 32],
        };
        if said.your_last_per_commitment_secret != secret {
            return Err(Violation::fail(RULE, "the secret it says we revealed is not ours"));
        }
        Ok(Missed { commitment, revocation })
    }

    /// Whether the peer knows a secret that we have not revealed as far as we remember: our state
    /// is old. A garbage secret proves nothing (rules 4.2).
    pub(super) fn proves_us_behind(
        &self,
        said: &msgs::ChannelReestablish,
        tools: &mut Tools<'_>,
    ) -> bool {
        let revealed = said.next_remote_commitment_number;
        let Some(last) = revealed.checked_sub(1).filter(|n| *n < 1 << 48) else { return false };
        revealed > self.contract.state.local_number
            && tools.signer.per_commitment_secret(last) == said.your_last_per_commitment_secret
    }
}
