//! The checks of one side: what an observer who forgets nothing says to each thing that leaves a
//! core, and to what it keeps.

use super::{wrong, Sound};
use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::Transaction;
use fulmen_channel::amount::{Height, Msat};
use fulmen_channel::changeset::{Row, Rows};
use fulmen_channel::contract::balance::View;
use fulmen_channel::contract::commitments::{Commitments, State};
use fulmen_channel::contract::htlc::{Htlc, PenaltyRecord, Removal, Stage};
use fulmen_channel::keys::Signer;
use fulmen_channel::message::Message;
use fulmen_channel::params::Side;
use fulmen_channel::payment::PaymentHash;
use fulmen_channel::protocol::open::Open;
use fulmen_channel::transactions::commitment::number_of;
use lightning::util::ser::Writeable;
use std::collections::{BTreeMap, BTreeSet};

/// An HTLC on a commitment, as a penalty must know it.
type Held = (Side, PaymentHash, Msat, Height);

/// What an observer of one side remembers across its crashes.
#[derive(Default)]
pub struct Witness {
    /// What it signed for each commitment of the other's.
    signed: BTreeMap<u64, (Signature, Vec<Signature>)>,
    /// The HTLCs on each commitment of the other's that it signed.
    held: BTreeMap<u64, Vec<Held>>,
    /// The last commitment of its own that it revoked.
    pub revoked: Option<u64>,
    /// Its commitment was published.
    pub published: bool,
    /// A failed channel is no fault any more: somebody closes by force.
    pub may_fail: bool,
    /// Do not compare memory and disk, so that later checks get their turn.
    pub blind_to_disk: bool,
    /// Offers the core took.
    pub offered: BTreeMap<PaymentHash, Msat>,
    /// HTLCs of the other's that the node was told of.
    pub received: BTreeSet<PaymentHash>,
    /// Payment hashes whose preimage the node was told.
    pub learned: BTreeSet<PaymentHash>,
    /// How this side ended HTLCs of the other's.
    pub ended: BTreeMap<PaymentHash, Removal>,
}

impl Witness {
    /// Whether a message may leave now: the disk must account for it.
    pub fn may_say(
        &mut self,
        message: &Message,
        durable: &Open,
        live: &Commitments,
        signer: &dyn Signer,
    ) -> Sound {
        const CHECK: &str = "durable before spoken";
        let life = &durable.life;
        let failed = life.failed.is_some();
        let fine = match message {
            Message::CommitmentSigned(said) => {
                self.goes_on()?;
                let signatures = (said.signature, said.htlc_signatures.clone());
                self.signs(&signatures, durable)?;
                // Equal numbers and contents make equal signatures.
                let (known, meant) = (&durable.contract, live);
                known.state.remote_number == meant.state.remote_number
                    && content(known, Side::Remote) == content(meant, Side::Remote)
            }
            Message::RevokeAndAck(said) => {
                self.goes_on()?;
                let next = durable.contract.state.local_number;
                let Some(revoked) = next.checked_sub(1) else { return wrong(CHECK, "number 0") };
                self.knows_preimages(live, durable)?;
                self.revoked = self.revoked.max(Some(revoked));
                said.per_commitment_secret == signer.per_commitment_secret(revoked)
            }
            Message::ChannelReestablish(said) => {
                let state = &durable.contract.state;
                let revoked = state.remote_number - u64::from(state.awaiting_revocation);
                said.next_local_commitment_number == state.local_number + 1
                    && said.next_remote_commitment_number == revoked
            }
            Message::Shutdown(said) => life.shutdown_sent.as_ref() == Some(&said.scriptpubkey),
            Message::ClosingComplete(said) => {
                let (script, closing) = (&said.closer_scriptpubkey, &durable.closing);
                life.shutdown_sent.as_ref() == Some(script)
                    && closing.scripts.contains(script)
                    && closing.fee.is_some_and(|fee| fee.sat() == said.fee_satoshis)
            }
            Message::ClosingSig(said) => {
                let script = &said.closer_scriptpubkey;
                life.shutdown_received.as_ref() == Some(script) && durable.closing.theirs.is_some()
            }
            Message::ClosingSigned(_) => {
                life.shutdown_sent.is_some() && life.shutdown_received.is_some()
            }
            Message::ChannelReady(_) => life.ready_sent,
            Message::Error(_) if self.may_fail => failed,
            Message::Error(error) => return wrong("honest sides never object", &error.data),
            Message::Warning(warning) => return wrong("honest sides never object", &warning.data),
            update => backs(&durable.contract, update),
        };
        if fine {
            return Ok(());
        }
        wrong(CHECK, "the disk does not know of it")
    }

    /// After our commitment went out nothing is signed or revoked.
    fn goes_on(&self) -> Sound {
        match self.published {
            true => wrong("silent after publishing", "a state moves on"),
            false => Ok(()),
        }
    }

    /// A number is signed for one content only: two would let the peer choose.
    fn signs(&mut self, signatures: &(Signature, Vec<Signature>), durable: &Open) -> Sound {
        let number = durable.contract.state.remote_number;
        match self.signed.insert(number, signatures.clone()) {
            Some(before) if before != *signatures => {
                return wrong("a number is signed once", format!("{number} again, and differs"));
            }
            _ => {}
        }
        let content = durable.contract.content(Side::Remote, View::Signed);
        let held = content.htlcs.into_iter();
        let mut held: Vec<_> = held
            .map(|(by, _, htlc)| (by, htlc.payment_hash, htlc.amount, htlc.cltv_expiry))
            .collect();
        held.sort();
        self.held.insert(number, held);
        Ok(())
    }

    /// Before a revocation lets an HTLC of ours go, its preimage is durable (rules 2.3).
    fn knows_preimages(&self, live: &Commitments, durable: &Open) -> Sound {
        for (key @ (by, id), htlc) in &live.htlcs {
            let going = *by == Side::Local && htlc.stage >= Stage::RemoveSigned;
            let Some(Removal::Fulfilled(_)) = htlc.removal.as_ref().filter(|_| going) else {
                continue;
            };
            let kept = durable.contract.htlcs.get(key).and_then(|htlc| htlc.removal.as_ref());
            if kept != htlc.removal.as_ref() {
                return wrong("preimages are durable", format!("not that of HTLC {id}"));
            }
        }
        Ok(())
    }

    /// Whether a transaction may go out: never a revoked state.
    pub fn may_publish(&mut self, tx: &Transaction, durable: &Open) -> Sound {
        let contract = &durable.contract;
        if durable.funding_tx.as_ref() == Some(tx) {
            return Ok(());
        }
        let Some(number) = number_of(tx, contract.obscuring_factor()) else {
            let es = durable.settlements().contains(&tx);
            return match es {
                true => Ok(()),
                false => wrong("durable before published", "an ES that the disk does not know"),
            };
        };
        if self.revoked.is_some_and(|revoked| number <= revoked) {
            return wrong("revoked states are never published", format!("{number}"));
        }
        if durable.life.failed.is_none() || contract.state.local_number != number {
            return wrong("durable before published", format!("commitment {number}"));
        }
        self.published = true;
        Ok(())
    }

    /// Whether what is in memory would be there after a crash, but for what nobody signed for.
    pub fn is_mirrored(&self, live: &Open, durable: &Open) -> Sound {
        if self.blind_to_disk {
            return Ok(());
        }
        let (memory, disk) = (&live.contract, &durable.contract);
        let same = [
            ("state", signed_state(memory) == signed_state(disk)),
            ("htlcs", signed_htlcs(memory) == signed_htlcs(disk)),
            ("onions", onions(memory) == onions(disk)),
            ("funding", memory.funding == disk.funding),
            ("secrets", memory.revocations == disk.revocations),
            ("life", live.life == durable.life),
            ("closing", live.closing == durable.closing),
        ];
        match same.iter().find(|(_, same)| !same) {
            None => Ok(()),
            Some((what, _)) => wrong("the disk mirrors the memory", *what),
        }
    }

    /// An offer that came back unheard must not be on any commitment.
    pub fn never_left(&mut self, hash: &PaymentHash) -> Sound {
        if self.held.values().flatten().any(|(by, held, ..)| *by == Side::Local && held == hash) {
            return wrong("each HTLC ends once and alike", "taken back after it was signed for");
        }
        self.offered.remove(hash);
        Ok(())
    }

    /// A penalty for every state ever signed can be built from the disk alone (rules 1.3).
    pub fn penalties_are_complete(&self, disk: &Rows) -> Sound {
        let name = |row| match row {
            Row::Penalty(by, id) => Some((by, id)),
            _ => None,
        };
        let records = disk.each::<(Side, u64), PenaltyRecord>(name).expect("rows can be read");
        for (number, held) in &self.held {
            let covers = |record: &PenaltyRecord| {
                record.first <= *number && record.last.is_none_or(|last| *number <= last)
            };
            let known = records.iter().filter(|(_, record)| covers(record));
            let mut known: Vec<Held> =
                known.map(|((by, _), r)| (*by, r.payment_hash, r.amount, r.cltv_expiry)).collect();
            known.sort();
            if known != *held {
                let what = format!("state {number}: {} of {} HTLCs", known.len(), held.len());
                return wrong("every penalty can be built", what);
            }
        }
        Ok(())
    }
}

/// What stands on the last commitment of `holder`, in terms that both sides share: the balances of
/// holder and other, the feerate, and each HTLC with whether the holder offered it.
pub fn content(contract: &Commitments, holder: Side) -> impl PartialEq {
    let content = contract.content(holder, View::Signed);
    let htlcs = content
        .htlcs
        .into_iter()
        .map(|(by, id, htlc)| (by == holder, id, htlc.amount, htlc.payment_hash, htlc.cltv_expiry));
    let mut htlcs: Vec<_> = htlcs.collect();
    htlcs.sort();
    let balances = (content.balances.of(holder), content.balances.of(holder.other()));
    (balances, content.feerate, htlcs)
}

/// Whether the disk would say this update again.
fn backs(contract: &Commitments, update: &Message) -> bool {
    let removed = |id: u64, how: &dyn Fn(&Removal) -> bool| {
        let htlc = contract.htlcs.get(&(Side::Remote, id));
        htlc.and_then(|htlc| htlc.removal.as_ref()).is_some_and(how)
    };
    match update {
        Message::UpdateAddHtlc(add) => {
            let signed = contract.htlcs.get(&(Side::Local, add.htlc_id));
            let signed = signed.is_some_and(|htlc| htlc.stage == Stage::AddSigned);
            let onion = contract.onions.get(&add.htlc_id);
            signed && onion == Some(&add.onion_routing_packet.encode())
        }
        Message::UpdateFulfillHtlc(said) => removed(
            said.htlc_id,
            &|removal| matches!(removal, Removal::Fulfilled(r) if r.0 == said.payment_preimage.0),
        ),
        Message::UpdateFailHtlc(said) => removed(
            said.htlc_id,
            &|removal| matches!(removal, Removal::Failed(reason) if *reason == said.reason),
        ),
        Message::UpdateFailMalformedHtlc(said) => removed(said.htlc_id, &|removal| match removal {
            Removal::Malformed { code, .. } => *code == said.failure_code,
            _ => false,
        }),
        Message::UpdateFee(said) => contract.state.fees.iter().any(|fee| {
            fee.stage == Stage::AddSigned && fee.feerate.per_kw() == said.feerate_per_kw
        }),
        _ => false,
    }
}

/// The state without what a crash may forget: updates that nobody signed for.
fn signed_state(contract: &Commitments) -> State {
    let mut state = contract.state.clone();
    state.fees.retain(|fee| fee.stage != Stage::Proposed);
    let unsigned = contract.htlcs.iter();
    let unsigned = unsigned
        .filter(|((by, _), htlc)| *by == Side::Local && htlc.stage == Stage::Proposed)
        .map(|((_, id), _)| *id);
    state.next_local_id = unsigned.min().unwrap_or(state.next_local_id);
    state
}

fn signed_htlcs(contract: &Commitments) -> BTreeMap<(Side, u64), Htlc> {
    let mut htlcs = contract.htlcs.clone();
    htlcs.retain(|_, htlc| htlc.stage != Stage::Proposed);
    for ((by, _), htlc) in &mut htlcs {
        if *by == Side::Local && htlc.stage == Stage::RemoveProposed {
            (htlc.stage, htlc.removal) = (Stage::Locked, None);
        }
    }
    htlcs
}

fn onions(contract: &Commitments) -> BTreeMap<u64, Vec<u8>> {
    let mut onions = contract.onions.clone();
    let signed = |id: &u64| {
        contract.htlcs.get(&(Side::Local, *id)).is_some_and(|h| h.stage != Stage::Proposed)
    };
    onions.retain(|id, _| signed(id));
    onions
}
