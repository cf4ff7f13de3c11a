//! How closing begins (BOLT 2, shutdown): both say where their share goes, once each.
//!
//! ```text
//!   A                                        B
//!   ── shutdown (script) ──────────────▶
//!   ◀────────────── shutdown (script) ──
//!      (HTLCs are settled or failed; no update is pending)
//! ```

use crate::amount::FeeratePerKw;
use crate::error::{Refused, Violation};
use crate::message::Message;
use crate::output::Output;
use crate::params::{Negotiated, Side};
use crate::protocol::open::{Link, Open, Tools};
use bitcoin::opcodes::all::OP_RETURN;
use bitcoin::{Script, ScriptBuf};
use lightning::ln::msgs;

const RULE: &str = "BOLT 2 shutdown";

/// The forms of a script that a share may go to (BOLT 2, shutdown): version 0 witness programs,
/// later ones with `option_shutdown_anysegwit`, and with `option_simple_close` a message.
pub fn is_shutdown_script(script: &Script, negotiated: Negotiated) -> bool {
    let version = script.witness_version().map(|version| version.to_num());
    script.is_p2wpkh()
        || script.is_p2wsh()
        || (negotiated.any_segwit && version.is_some_and(|version| version >= 1))
        || (negotiated.simple_close && is_message(script))
}

/// OP_RETURN and exactly one push of 6 to 80 bytes, as short as it can be written.
fn is_message(script: &Script) -> bool {
    const OP_RETURN_BYTE: u8 = OP_RETURN.to_u8();
    match script.as_bytes() {
        [OP_RETURN_BYTE, length @ 6..=75, data @ ..] => data.len() == usize::from(*length),
        [OP_RETURN_BYTE, 76, length @ 76..=80, data @ ..] => data.len() == usize::from(*length),
        _ => false,
    }
}

impl Open {
    pub(in crate::protocol) fn want_close(
        &mut self,
        script: ScriptBuf,
        feerate: Option<FeeratePerKw>,
        max_feerate: Option<FeeratePerKw>,
    ) -> Result<(), Refused> {
        if self.life.failed.is_some() {
            return Err(Refused::NotUsable("failed"));
        }
        let fixed = &self.contract.params.local.upfront_shutdown_script;
        let unfit = self.link == Link::Up && !is_shutdown_script(&script, self.negotiated);
        if fixed.as_ref().is_some_and(|fixed| *fixed != script) || unfit {
            return Err(Refused::WrongShutdownScript);
        }
        self.life.close_feerate = match &self.life {
            life if life.close_wanted.is_none() && life.shutdown_sent.is_none() => feerate,
            _ => Some(self.bumped(&script, feerate, max_feerate)?),
        };
        self.life.close_wanted = Some(script);
        self.closing.begun_by.get_or_insert(Side::Local);
        self.closing.max_feerate = max_feerate;
        (self.dirty_life, self.dirty_closing) = (true, true);
        Ok(())
    }

    pub(in crate::protocol) fn receive_shutdown(
        &mut self,
        said: &msgs::Shutdown,
    ) -> Result<(), Violation> {
        let script = &said.scriptpubkey;
        self.check_peers_script(RULE, script)?;
        let heard = std::mem::replace(&mut self.talk.shutdown_heard, true);
        if heard && self.life.shutdown_received.as_ref() != Some(script) {
            return Err(Violation::warn(RULE, "a second shutdown, with another script"));
        }
        if self.contract.has_unsigned_updates_of(Side::Remote) {
            return Err(Violation::warn(RULE, "updates are pending on our commitment"));
        }
        self.talk.waited = 0;
        if self.closing.begun_by.is_none() {
            (self.closing.begun_by, self.dirty_closing) = (Some(Side::Remote), true);
        }
        self.pay_peer_to(script);
        Ok(())
    }

    /// Where the peer's share goes must be of a known form, and the script fixed at opening if
    /// there is one.
    pub(super) fn check_peers_script(
        &self,
        rule: &'static str,
        script: &Script,
    ) -> Result<(), Violation> {
        let fixed = &self.contract.params.remote.upfront_shutdown_script;
        if fixed.as_ref().is_some_and(|fixed| **fixed != *script) {
            return Err(Violation::warn(rule, "the script is not the one fixed at opening"));
        }
        if !is_shutdown_script(script, self.negotiated) {
            return Err(Violation::warn(rule, "the script is of no known form"));
        }
        Ok(())
    }

    pub(super) fn pay_peer_to(&mut self, script: &Script) {
        if self.life.shutdown_received.as_deref() != Some(script) {
            self.life.shutdown_received = Some(script.to_owned());
            self.dirty_life = true;
        }
    }

    /// Our share goes to `script` from now on.
    pub(super) fn pay_us_to(&mut self, script: ScriptBuf) {
        if !self.closing.scripts.contains(&script) {
            self.closing.scripts.push(script.clone());
            self.dirty_closing = true;
        }
        if self.life.shutdown_sent.as_ref() != Some(&script) {
            self.life.shutdown_sent = Some(script);
            self.dirty_life = true;
        }
    }

    /// Says shutdown once it is wanted, or owed, and none of our updates is pending.
    pub(in crate::protocol) fn shutdown_if_due(&mut self, tools: &mut Tools<'_>) {
        let wanted = self.life.close_wanted.is_some() || self.life.shutdown_received.is_some();
        let pending = self.contract.has_unsigned_updates_of(Side::Local);
        let due = wanted && self.life.shutdown_sent.is_none() && !pending;
        if !due || self.link != Link::Up {
            return;
        }
        let fixed = self.contract.params.local.upfront_shutdown_script.clone();
        let script = self.life.close_wanted.clone().or(fixed);
        // The node hands in a script when the peer asks first: until then the answer waits.
        let Some(script) = script else { return };
        self.pay_us_to(script);
        self.repeat_shutdown(tools);
    }

    /// Whether the peer wants to close and waits for our script.
    pub fn owes_shutdown_script(&self) -> bool {
        self.life.shutdown_received.is_some()
            && self.life.shutdown_sent.is_none()
            && self.life.close_wanted.is_none()
            && self.contract.params.local.upfront_shutdown_script.is_none()
    }

    pub(in crate::protocol) fn repeat_shutdown(&self, tools: &mut Tools<'_>) {
        if let Some(script) = &self.life.shutdown_sent {
            let (channel_id, scriptpubkey) = (self.channel_id, script.clone());
            let message = msgs::Shutdown { channel_id, scriptpubkey };
            tools.out.stage(Output::Send(Message::Shutdown(Box::new(message))));
        }
    }
}
