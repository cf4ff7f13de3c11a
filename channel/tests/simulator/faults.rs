//! What the checks must catch: faults planted from outside, between a core and its world.

use super::runs::Run;
use fulmen_channel::amount::{FeeratePerKw, Msat, Sat};
use fulmen_channel::changeset::{encode, Row, Rows};
use fulmen_channel::contract::commitments::State;
use fulmen_channel::contract::htlc::{FeeUpdate, Htlc, Removal, Stage};
use fulmen_channel::message::Message;
use fulmen_channel::output::Persist;
use fulmen_channel::params::{ChannelParams, Side};
use fulmen_channel::protocol::open::Life;
use serde::de::DeserializeOwned;
use std::collections::VecDeque;

/// A way to get it wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The core is told that its change set is durable when it is only written.
    SpeakBeforePersist,
    /// The state that a revocation belongs to is not stored.
    RevokeBeforeStoring,
    /// After channel_reestablish the two messages are repeated in the other order.
    RepeatInOtherOrder,
    /// Updates that the peer had not signed for live on after a reconnection.
    KeepUnsignedUpdates,
    /// An add is heard twice.
    AcceptTwice,
    /// After a crash an HTLC id is used again.
    ReuseId,
    /// After a crash an HTLC id is left out.
    SkipId,
    /// What a penalty for an old state needs is not written.
    NoPenaltyRecord,
    /// The peer's revealed secret is not written.
    ForgetSecret,
    /// A failed HTLC is folded into the balances as if it had been fulfilled.
    FoldFailedAsFulfilled,
    /// A crash forgets the feerate.
    ForgetFee,
    /// A commitment_signed that was lost is repeated for another content.
    RepeatAnother,
    /// A preimage is not written with the removal it belongs to.
    ForgetPreimage,
    /// An onion is dropped before the peer has acknowledged it.
    DropOnion,
    /// The mark that a channel failed is not written before its commitment goes out.
    PublishBeforeDurable,
    /// A crash forgets that the commitment went out, and the state moves on.
    GoOnAfterPublishing,
    /// The disk loses what it called durable: an old state comes back.
    OldState,
    /// The node is told twice how an HTLC ended.
    ResolveTwice,
    /// The node is never told.
    ResolveNever,
    /// What the node wants to find again with an HTLC is not written.
    ForgetMemo,
    /// As funder it spends what it should keep for a feerate twice as high.
    NoFeeBuffer,
    /// Trimmed HTLCs and fee beyond need are not counted.
    NoExposureLimit,
    /// As funder it asks for less than a mempool takes.
    BelowFloor,
    /// What closing together has come to is not written.
    ForgetClosing,
}

fn tamper<T: DeserializeOwned + serde::Serialize>(
    rows: &mut Rows,
    row: Row,
    change: impl FnOnce(&mut T),
) {
    if let Some(mut value) = rows.read::<T>(row).unwrap() {
        change(&mut value);
        rows.0.insert(row, encode(&value));
    }
}

impl Fault {
    /// On the way to the disk.
    pub fn write(self, unit: &mut Persist, disk: &Rows) {
        let changes = &mut unit.changes.0;
        let drops = |row: &Row, value: &Option<Vec<u8>>| match (self, row) {
            (Fault::RevokeBeforeStoring, Row::State | Row::Funding(_)) => true,
            (Fault::NoPenaltyRecord, Row::Penalty(..)) => true,
            (Fault::ForgetSecret, Row::Revocation(_)) => true,
            (Fault::DropOnion, Row::Onion(_)) => true,
            (Fault::ForgetMemo, Row::Memo(..)) => true,
            (Fault::ForgetClosing, Row::Closing) => true,
            (Fault::PublishBeforeDurable, Row::Life) => true,
            (Fault::ForgetPreimage, Row::Htlc(Side::Local, _)) => {
                let mut rows = Rows::default();
                rows.0.extend(value.clone().map(|value| (*row, value)));
                let htlc = rows.read::<Htlc>(*row).unwrap();
                htlc.is_some_and(|htlc| matches!(htlc.removal, Some(Removal::Fulfilled(_))))
            }
            _ => false,
        };
        let signed = changes.contains_key(&Row::Funding(0));
        changes.retain(|row, value| {
            let only_with_a_signature = self != Fault::RevokeBeforeStoring || signed;
            !(drops(row, value) && only_with_a_signature)
        });
        match self {
            Fault::ResolveTwice => unit.resolved.extend(unit.resolved.clone()),
            Fault::ResolveNever => unit.resolved.clear(),
            Fault::FoldFailedAsFulfilled => {
                let failed = unit.resolved.iter().filter(|r| r.removal != Removal::Failed(vec![]));
                let failed = failed.filter(|r| !matches!(r.removal, Removal::Fulfilled(_)));
                let amount: u64 = failed.map(|resolved| resolved.amount.msat()).sum();
                let mut rows = disk.clone();
                unit.changes.apply_to(&mut rows);
                tamper(&mut rows, Row::State, |state: &mut State| {
                    let amount = Msat::new(amount);
                    state.base.local = state.base.local.saturating_sub(amount);
                    state.base.remote = state.base.remote.saturating_add(amount);
                });
                if let Some(value) = unit.changes.0.get_mut(&Row::State) {
                    *value = rows.0.remove(&Row::State);
                }
            }
            _ => {}
        }
    }

    /// On the way to the wire: what was said since `from`.
    pub fn speak(self, said: &mut VecDeque<Message>, from: usize, resumes: bool) {
        let place = |wanted: fn(&Message) -> bool| {
            said.iter()
                .enumerate()
                .skip(from)
                .find(|(_, message)| wanted(message))
                .map(|(at, _)| at)
        };
        let revocation = place(|message| matches!(message, Message::RevokeAndAck(_)));
        let signature = place(|message| matches!(message, Message::CommitmentSigned(_)));
        if let (Fault::RepeatInOtherOrder, true, Some(one), Some(other)) =
            (self, resumes, revocation, signature)
        {
            let moved = said.remove(one.max(other)).unwrap();
            said.insert(from, moved);
        }
        let fees = said.iter_mut().skip(from).filter(|_| self == Fault::BelowFloor);
        for message in fees {
            if let Message::UpdateFee(fee) = message {
                fee.feerate_per_kw = 252;
            }
        }
    }

    /// On the way in.
    pub fn hear(self, message: Message, unsigned: &mut Vec<Message>) -> Vec<Message> {
        match (self, message) {
            (Fault::AcceptTwice, Message::UpdateAddHtlc(add)) => {
                let mut again = add.clone();
                again.htlc_id += 1;
                vec![Message::UpdateAddHtlc(add), Message::UpdateAddHtlc(again)]
            }
            (Fault::KeepUnsignedUpdates, message) => {
                let mut heard = vec![message];
                match &heard[0] {
                    Message::CommitmentSigned(_) => unsigned.clear(),
                    Message::ChannelReestablish(_) => heard.append(unsigned),
                    Message::UpdateAddHtlc(_) => unsigned.push(heard[0].clone()),
                    _ => {}
                }
                heard
            }
            (_, message) => vec![message],
        }
    }

    /// On the way back from the disk.
    pub fn restart(self, disk: &mut Rows, once: &[Rows]) {
        match self {
            Fault::ReuseId => tamper(disk, Row::State, |state: &mut State| {
                state.next_local_id = state.next_local_id.saturating_sub(1);
            }),
            Fault::SkipId => {
                tamper(disk, Row::State, |state: &mut State| state.next_local_id += 1);
            }
            Fault::ForgetFee => tamper(disk, Row::State, |state: &mut State| {
                let feerate = FeeratePerKw::FLOOR;
                state.fees = vec![FeeUpdate { feerate, stage: Stage::Locked }];
            }),
            Fault::RepeatAnother => {
                let rows: Vec<Row> = disk.0.keys().copied().collect();
                for row in rows.into_iter().filter(|row| matches!(row, Row::Htlc(..))) {
                    tamper(disk, row, |htlc: &mut Htlc| {
                        if htlc.stage == Stage::AddSigned
                            && matches!(row, Row::Htlc(Side::Local, _))
                        {
                            htlc.cltv_expiry = htlc.cltv_expiry.plus(1);
                        }
                    });
                }
            }
            Fault::NoFeeBuffer => tamper(disk, Row::Params, |params: &mut ChannelParams| {
                let kept = params.remote.channel_reserve;
                params.remote.channel_reserve = kept.saturating_sub(Sat::new(900));
            }),
            Fault::GoOnAfterPublishing => {
                tamper(disk, Row::Life, |life: &mut Life| life.failed = None);
            }
            Fault::OldState => {
                if let Some(old) = once.iter().rev().nth(2) {
                    *disk = old.clone();
                }
            }
            _ => {}
        }
    }
}

/// Each fault, the check that sees it first, and the one that sees it if nobody compares the memory
/// with the disk.
const PLANTED: [(Fault, &str, &str); 21] = [
    (Fault::SpeakBeforePersist, DURABLE, DURABLE),
    (Fault::RevokeBeforeStoring, DURABLE, DURABLE),
    (Fault::RepeatInOtherOrder, OBJECT, OBJECT),
    (Fault::KeepUnsignedUpdates, OBJECT, OBJECT),
    (Fault::AcceptTwice, OBJECT, OBJECT),
    (Fault::ReuseId, DURABLE, DURABLE),
    (Fault::SkipId, OBJECT, OBJECT),
    (Fault::NoPenaltyRecord, PENALTY, PENALTY),
    (Fault::ForgetSecret, MIRROR, OBJECT),
    (Fault::FoldFailedAsFulfilled, MIRROR, DURABLE),
    (Fault::ForgetFee, OBJECT, OBJECT),
    (Fault::RepeatAnother, OBJECT, OBJECT),
    (Fault::ForgetPreimage, "preimages are durable", "preimages are durable"),
    (Fault::DropOnion, DURABLE, DURABLE),
    (Fault::PublishBeforeDurable, MIRROR, DURABLE),
    (Fault::GoOnAfterPublishing, SILENT, SILENT),
    (Fault::OldState, OBJECT, OBJECT),
    (Fault::ResolveTwice, ENDS, ENDS),
    (Fault::ResolveNever, "balances add up", "balances add up"),
    (Fault::ForgetMemo, MIRROR, ENDS),
    (Fault::ForgetClosing, MIRROR, DURABLE),
];

const DURABLE: &str = "durable before spoken";
const OBJECT: &str = "honest sides never object";
const PENALTY: &str = "every penalty can be built";
const MIRROR: &str = "the disk mirrors the memory";
const SILENT: &str = "silent after publishing";
const ENDS: &str = "each HTLC ends once and alike";

/// Each fault must be caught within so many seeds.
const SEEDS: u64 = 120;

fn caught(fault: Fault, blind_to_disk: bool) -> String {
    let caught = (0..SEEDS).find_map(|seed| Run::new(seed).with(fault, blind_to_disk).go().err());
    caught.map_or("nothing".to_owned(), |wrong| wrong.check.to_owned())
}

/// The faults that another check caught than the table says.
fn surprises(blind_to_disk: bool) -> Vec<(Fault, String)> {
    let expected = |row: &(Fault, &'static str, &'static str)| match blind_to_disk {
        false => row.1,
        true => row.2,
    };
    let seen = PLANTED.iter().map(|row| (row, caught(row.0, blind_to_disk)));
    seen.filter(|(row, check)| expected(row) != check).map(|(row, check)| (row.0, check)).collect()
}

#[test]
fn every_planted_fault_is_caught() {
    assert_eq!(surprises(false), []);
}

#[test]
fn every_planted_fault_is_caught_by_what_it_does_too() {
    assert_eq!(surprises(true), []);
}
