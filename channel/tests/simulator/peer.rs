//! One side: a core, the disk under it, the little node above it. What the core gives out is
//! checked as it leaves.

use super::faults::Fault;
use super::keys::Keys;
use super::witness::Witness;
use super::{wrong, Sound, Wrong};
use crate::support::name;
use bitcoin::Transaction;
use fulmen_channel::amount::{FeeratePerKw, Msat, Sat};
use fulmen_channel::changeset::Rows;
use fulmen_channel::channel::Channel;
use fulmen_channel::contract::htlc::Removal;
use fulmen_channel::error::Refused;
use fulmen_channel::input::{Handled, Input};
use fulmen_channel::message::Message;
use fulmen_channel::output::{Event, Output, Persist, Received, Resolved};
use fulmen_channel::payment::PaymentHash;
use fulmen_channel::protocol::open::{Link, Open};
use std::collections::{BTreeMap, VecDeque};

/// One side of the channel.
pub struct Peer {
    pub name: &'static str,
    pub channel: Channel,
    /// What is durable.
    pub disk: Rows,
    /// What the node wrote into the same transactions: how our HTLCs ended.
    pub ledger: BTreeMap<PaymentHash, Removal>,
    /// Written, not durable yet.
    pub unsynced: VecDeque<Persist>,
    /// Durable, and the core does not know it yet.
    pub unreported: VecDeque<u64>,
    /// Said, and not arrived.
    pub said: VecDeque<Message>,
    /// HTLCs of the other's that wait to be settled or failed. Lost in a crash.
    pub waiting: BTreeMap<u64, Received>,
    pub published: Vec<Transaction>,
    /// Our own balance, found on chain.
    pub delivery: Option<Sat>,
    /// What an observer remembers, whatever happens to this side.
    pub witness: Witness,
    pub fault: Option<Fault>,
    /// It may object to a feerate that puts too much into fees.
    pub is_careful: bool,
    /// It wants the wire cut.
    pub hung_up: bool,
    /// For faults: updates heard that the other has not signed for, and what the disk once was.
    pub unsigned: Vec<Message>,
    pub once: Vec<Rows>,
    pub keys: Keys,
    durable: Option<Open>,
    last_said: &'static str,
}

impl Peer {
    /// The side that these rows describe, not connected.
    pub fn new(name: &'static str, disk: Rows, keys: Keys) -> Self {
        let channel = Channel::restore(&disk, keys.signer(), keys.curve()).unwrap();
        Peer {
            name,
            channel,
            disk,
            ledger: BTreeMap::new(),
            unsynced: VecDeque::new(),
            unreported: VecDeque::new(),
            said: VecDeque::new(),
            waiting: BTreeMap::new(),
            published: Vec::new(),
            delivery: None,
            witness: Witness::default(),
            fault: None,
            is_careful: false,
            hung_up: false,
            unsigned: Vec::new(),
            once: Vec::new(),
            keys,
            durable: None,
            last_said: "",
        }
    }

    pub fn open(&self) -> &Open {
        self.channel.funded().expect("the channel is funded")
    }

    /// Hands in one input; what comes out waits for [`Peer::drain`].
    pub fn takes(&mut self, input: Input) -> Result<Handled, Refused> {
        self.channel.handle(input)
    }

    /// Hears what it may lose to fees; forgotten in a crash.
    pub fn is_told(&mut self, limit: Sat) {
        let limit = match self.fault {
            Some(Fault::NoExposureLimit) => Sat::MAX_MONEY,
            _ => limit,
        };
        let _ = self.takes(Input::MaxFeeExposure(limit));
    }

    /// Whether this update_fee asks for more than is paid so far.
    pub fn raises(&self, fee: &lightning::ln::msgs::UpdateFee) -> bool {
        let paid = self.open().contract.state.fees.iter().map(|fee| fee.feerate.per_kw()).max();
        self.open().link == Link::Up && paid.is_some_and(|paid| fee.feerate_per_kw > paid)
    }

    /// What it just took does not put more into fees than it may lose, unless it hung up for it.
    pub fn is_within(&self, limit: Option<Sat>) -> Sound {
        let exposure = self.open().contract.exposure();
        let limit = limit.map_or(Msat::MAX_MONEY, Sat::saturating_msat);
        match self.open().link == Link::Up && exposure > limit {
            true => wrong("what fees may take is bounded", format!("{}: {exposure}", self.name)),
            false => Ok(()),
        }
    }

    /// Hears a message; the node remembers an add by its hash.
    pub fn hears(&mut self, message: Message) {
        let input = match message {
            Message::UpdateAddHtlc(message) => {
                let memo = message.payment_hash.0.to_vec();
                Input::PeerAdd { message, memo }
            }
            message => Input::Message(message),
        };
        let _ = self.takes(input);
    }

    /// Does everything the core wants done.
    pub fn drain(&mut self) -> Sound {
        let already_said = self.said.len();
        let resumes = self.said.is_empty() && self.last_said == "reestablish";
        loop {
            match self.channel.poll() {
                Output::Persist(unit) => self.write(unit),
                Output::Send(message) => {
                    self.may_say(&message)?;
                    self.last_said = name(&message);
                    self.said.push_back(message);
                }
                Output::Broadcast(tx) => {
                    let durable = self.durable()?;
                    self.witness.may_publish(&tx, &durable)?;
                    self.durable = Some(durable);
                    self.published.push(*tx);
                }
                Output::Event(event) => self.learns(event)?,
                Output::Disconnect if self.is_careful => self.hung_up = true,
                Output::Disconnect => return wrong("honest sides never object", self.name),
                Output::Watch { .. } | Output::WatchOutputs(_) => {}
                Output::Idle { .. } => break,
            }
        }
        if let Some(fault) = self.fault {
            fault.speak(&mut self.said, already_said, resumes);
        }
        self.is_sound()
    }

    /// Nothing is under way.
    pub fn is_idle(&self) -> bool {
        let writes = self.unsynced.is_empty() && self.unreported.is_empty();
        writes && self.said.is_empty() && self.waiting.is_empty()
    }

    fn write(&mut self, mut unit: Persist) {
        if let Some(fault) = self.fault {
            fault.write(&mut unit, &self.disk);
            if fault == Fault::SpeakBeforePersist {
                let _ = self.takes(Input::Persisted(unit.id));
            }
        }
        self.unsynced.push_back(unit);
    }

    /// The disk gets one change set further. Whether there was one.
    pub fn sync(&mut self) -> Result<bool, Wrong> {
        let Some(unit) = self.unsynced.pop_front() else { return Ok(false) };
        if self.fault.is_some() {
            self.once.push(self.disk.clone());
        }
        unit.changes.apply_to(&mut self.disk);
        self.durable = None;
        for resolved in unit.resolved {
            self.book(resolved)?;
        }
        self.unreported.push_back(unit.id);
        Ok(true)
    }

    /// The core hears what is durable. Whether there was something.
    pub fn report(&mut self) -> bool {
        let Some(id) = self.unreported.pop_front() else { return false };
        let _ = self.takes(Input::Persisted(id));
        true
    }

    /// The node writes down how an HTLC of ours ended, once.
    fn book(&mut self, resolved: Resolved) -> Sound {
        let Resolved { payment_hash, removal, memo, .. } = resolved;
        if memo != payment_hash.0 {
            return wrong("each HTLC ends once and alike", "the memo is another's");
        }
        if removal == Removal::Failed(vec![]) {
            return self.witness.never_left(&payment_hash);
        }
        match self.ledger.insert(payment_hash, removal) {
            None => Ok(()),
            Some(_) => wrong("each HTLC ends once and alike", format!("{payment_hash} again")),
        }
    }

    fn learns(&mut self, event: Event) -> Sound {
        match event {
            Event::Received(htlc) => {
                if htlc.memo != htlc.payment_hash.0 {
                    return wrong("each HTLC ends once and alike", "the memo is another's");
                }
                self.witness.received.insert(htlc.payment_hash);
                self.waiting.insert(htlc.id, htlc);
            }
            Event::Fulfilled { preimage, memo, .. } => {
                if memo != preimage.hash().0 {
                    return wrong("each HTLC ends once and alike", "a preimage of another HTLC");
                }
                self.witness.learned.insert(preimage.hash());
            }
            Event::Claims => {
                let delivery = self.channel.funded().and_then(Open::delivery);
                self.delivery = delivery.map(|claim| claim.spend.value());
            }
            Event::Failed(why) if !self.witness.may_fail => {
                return wrong("honest sides never object", format!("{}: {why}", self.name));
            }
            _ => {}
        }
        Ok(())
    }

    fn may_say(&mut self, message: &Message) -> Sound {
        let durable = self.durable()?;
        let signer = self.keys.signer();
        let live = &self.channel.funded().expect("funded").contract;
        match message {
            Message::UpdateFee(fee) if fee.feerate_per_kw < FeeratePerKw::FLOOR.per_kw() => {
                return wrong("feerates stay above the floor", self.name);
            }
            Message::Warning(said) if self.is_careful && said.data.contains("into trimmed") => {
                self.durable = Some(durable);
                return Ok(());
            }
            _ => {}
        }
        let verdict = self.witness.may_say(message, &durable, live, signer.as_ref());
        self.durable = Some(durable);
        verdict.map_err(|Wrong { check, what }| {
            let what = format!("{} says {}: {what}", self.name, name(message));
            Wrong { check, what }
        })
    }

    /// What the disk says, read back as after a crash.
    fn durable(&mut self) -> Result<Open, Wrong> {
        match self.durable.take() {
            Some(open) => Ok(open),
            None => Open::restore(&self.disk)
                .or_else(|bad| wrong("the disk can be read", bad.to_string())),
        }
    }

    fn is_sound(&mut self) -> Sound {
        if !self.open().contract.conserves_capacity() {
            return wrong("capacity is conserved", self.name);
        }
        if self.unsynced.is_empty() && self.unreported.is_empty() {
            let durable = self.durable()?;
            let live = self.channel.funded().expect("funded");
            self.witness.is_mirrored(live, &durable)?;
            self.durable = Some(durable);
        }
        Ok(())
    }

    /// Falls and starts again: so many of the change sets under way reached the disk.
    pub fn crashes(&mut self, survive: usize) -> Sound {
        for _ in 0..survive {
            self.sync()?;
        }
        self.unsynced.clear();
        self.unreported.clear();
        self.said.clear();
        self.waiting.clear();
        if let Some(fault) = self.fault {
            fault.restart(&mut self.disk, &self.once);
            self.durable = None;
        }
        let restored = Channel::restore(&self.disk, self.keys.signer(), self.keys.curve());
        match restored {
            Ok(channel) => self.channel = channel,
            Err(bad) => return wrong("the disk can be read", bad.to_string()),
        }
        self.drain()
    }
}
