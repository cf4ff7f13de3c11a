//! Two channels that talk over a wire we hold: `pair.alice.pays(..)` in verbs, below stories.

use bitcoin::absolute::LockTime;
use bitcoin::constants::ChainHash;
use bitcoin::transaction::Version;
use bitcoin::{OutPoint, ScriptBuf, Transaction, TxIn, TxOut};
use fulmen_channel::amount::{FeeratePerKw, Height, Msat, Sat};
use fulmen_channel::changeset::Rows;
use fulmen_channel::channel::Channel;
use fulmen_channel::contract::commitments::Offer;
use fulmen_channel::contract::htlc::Removal;
use fulmen_channel::error::Refused;
use fulmen_channel::input::{Command, Handled, Input};
use fulmen_channel::keys::{InMemorySigner, Inline, Signer};
use fulmen_channel::message::Message;
use fulmen_channel::output::{Event, Output, Resolved};
use fulmen_channel::params::{CommitmentFormat, SideParams};
use fulmen_channel::payment::{PaymentHash, Preimage};
use fulmen_channel::protocol::opening::{AcceptPolicy, OpenRequest};
use fulmen_channel::transactions::funding::funding_script;
use lightning::ln::types::ChannelId;
use std::collections::VecDeque;
use std::sync::Arc;

/// One side: its channel, its disk, what it said and what it learned.
pub struct Party {
    pub name: &'static str,
    pub channel: Channel,
    pub disk: Rows,
    pub sent: VecDeque<Message>,
    pub events: Vec<Event>,
    pub resolved: Vec<Resolved>,
    pub published: Vec<Transaction>,
    pub wants_disconnect: bool,
    seed: [u8; 32],
}

/// Two sides and the wire between them.
pub struct Pair {
    pub alice: Party,
    pub bob: Party,
}

/// The limits each side announces in these stories.
pub fn limits(signer: &dyn Signer) -> SideParams {
    SideParams {
        basepoints: signer.basepoints(),
        dust_limit: Sat::new(354),
        max_htlc_value_in_flight: Msat::new(900_000_000),
        htlc_minimum: Msat::new(1),
        max_accepted_htlcs: 30,
        to_self_delay: 144,
        channel_reserve: Sat::new(10_000),
        upfront_shutdown_script: None,
    }
}

pub fn preimage(n: u64) -> Preimage {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    Preimage(bytes)
}

pub fn wallet_script(n: u8) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_raw_hash(
        bitcoin::hashes::Hash::from_byte_array([n; 20]),
    ))
}

/// An onion that nobody peels: a valid point and noise.
pub fn onion() -> Vec<u8> {
    let mut onion = vec![0];
    onion.extend(InMemorySigner::from_seed([9; 32]).basepoints().funding.serialize());
    onion.extend([5; 1300 + 32]);
    onion
}

impl Party {
    pub fn new(name: &'static str, channel: Channel, seed: [u8; 32]) -> Self {
        Party {
            name,
            channel,
            disk: Rows::default(),
            sent: VecDeque::new(),
            events: Vec::new(),
            resolved: Vec::new(),
            published: Vec::new(),
            wants_disconnect: false,
            seed,
        }
    }

    /// Hands in one input and does everything that comes out of it.
    pub fn handle(&mut self, input: Input) -> Result<Handled, Refused> {
        let handled = self.channel.handle(input);
        self.drain();
        handled
    }

    /// Polls until there is nothing to do; the disk is quick and reliable here.
    pub fn drain(&mut self) {
        loop {
            match self.channel.poll() {
                Output::Persist(unit) => {
                    unit.changes.apply_to(&mut self.disk);
                    self.resolved.extend(unit.resolved);
                    self.channel.handle(Input::Persisted(unit.id)).unwrap();
                }
                Output::Send(message) => self.sent.push_back(message),
                Output::Broadcast(tx) => self.published.push(*tx),
                Output::Watch { .. } => {}
                Output::Disconnect => self.wants_disconnect = true,
                Output::Event(event) => self.events.push(event),
                Output::Idle { .. } => break,
            }
        }
        if let Some(open) = self.channel.funded() {
            assert!(open.contract.conserves_capacity(), "{}: capacity is not conserved", self.name);
        }
    }

    pub fn offers(&mut self, amount: Msat, hash: PaymentHash) -> Result<u64, Refused> {
        let offer = Offer {
            amount,
            payment_hash: hash,
            cltv_expiry: Height::new(500),
            onion: onion(),
            memo: hash.0.to_vec(),
        };
        match self.handle(Input::Command(Command::Offer(offer)))? {
            Handled::Offered(id) => Ok(id),
            Handled::Done => panic!("an offer has an id"),
        }
    }

    pub fn removes(&mut self, id: u64, removal: Removal) -> Result<(), Refused> {
        self.handle(Input::Command(Command::Remove { id, removal })).map(drop)
    }

    /// Forgets everything that is not on disk, and starts again.
    pub fn crashes(&mut self) {
        let signer = Box::new(InMemorySigner::from_seed(self.seed));
        self.channel = Channel::restore(&self.disk, signer, Arc::new(Inline)).unwrap();
        self.sent.clear();
        self.drain();
    }

    pub fn balance(&self) -> Msat {
        self.channel.funded().unwrap().contract.state.base.local
    }

    pub fn is_usable(&self) -> bool {
        self.channel.funded().is_some_and(|open| open.is_usable())
    }
}

impl Pair {
    /// Alice has proposed a channel, Bob has not heard of it.
    pub fn proposing(request: impl FnOnce(&mut OpenRequest)) -> (Party, AcceptPolicy) {
        let chain = ChainHash::REGTEST;
        let (a, b) = (InMemorySigner::from_seed([1; 32]), InMemorySigner::from_seed([2; 32]));
        let mut open = OpenRequest {
            chain,
            temporary_channel_id: ChannelId([3; 32]),
            capacity: Sat::new(1_000_000),
            push: Msat::ZERO,
            feerate: FeeratePerKw::new(1_000),
            local: limits(&a),
            format: CommitmentFormat::Anchors,
            announce: false,
        };
        request(&mut open);
        let policy = AcceptPolicy {
            chain,
            local: limits(&b),
            minimum_depth: 3,
            min_capacity: Sat::new(20_000),
            max_capacity: Sat::new(16_000_000),
        };
        let channel = Channel::open(open, Box::new(a), Arc::new(Inline)).unwrap();
        let mut alice = Party::new("alice", channel, [1; 32]);
        alice.drain();
        (alice, policy)
    }

    /// Both have signed; F is not in a block yet.
    pub fn funded(request: impl FnOnce(&mut OpenRequest)) -> Pair {
        let (mut alice, policy) = Self::proposing(request);
        let Some(Message::OpenChannel(open)) = alice.sent.pop_front() else { panic!("no open") };
        let signer = Box::new(InMemorySigner::from_seed([2; 32]));
        let bob = Channel::accept(&open, policy, signer, Arc::new(Inline)).unwrap();
        let mut bob = Party::new("bob", bob, [2; 32]);
        bob.drain();
        let mut pair = Pair { alice, bob };
        pair.talk();
        let funding = pair.alice.events.iter().find_map(|event| match event {
            Event::FundingNeeded(request) => Some(request.clone()),
            _ => None,
        });
        let funding = funding.expect("bob accepted");
        let tx = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn { previous_output: OutPoint::null(), ..Default::default() }],
            output: vec![TxOut {
                value: funding.amount.to_amount(),
                script_pubkey: funding.script,
            }],
        };
        pair.alice.handle(Input::Command(Command::Fund(Box::new(tx)))).unwrap();
        pair.talk();
        pair
    }

    /// Ready on both sides, all the money at Alice's.
    pub fn open() -> Pair {
        Self::open_with(|_| {})
    }

    pub fn open_with(request: impl FnOnce(&mut OpenRequest)) -> Pair {
        let mut pair = Self::funded(request);
        pair.confirms(3);
        pair
    }

    pub fn confirms(&mut self, confirmations: u32) {
        for party in [&mut self.alice, &mut self.bob] {
            let depth = Input::FundingDepth { confirmations, short_channel_id: 7 };
            party.handle(depth).unwrap();
        }
        self.talk();
    }

    /// Delivers one message from a side, through its encoding. Whether there was one.
    pub fn deliver(from: &mut Party, to: &mut Party) -> bool {
        let Some(message) = from.sent.pop_front() else { return false };
        let bytes = message.encode();
        let type_id = u16::from_be_bytes([bytes[0], bytes[1]]);
        let message = Message::decode(type_id, &bytes[2..]).unwrap().unwrap();
        to.handle(Input::Message(message)).unwrap();
        true
    }

    /// Delivers until both are silent.
    pub fn talk(&mut self) {
        while Self::deliver(&mut self.alice, &mut self.bob)
            | Self::deliver(&mut self.bob, &mut self.alice)
        {}
    }

    /// The connection breaks, losing what was on its way, and comes back.
    pub fn reconnects(&mut self) {
        for party in [&mut self.alice, &mut self.bob] {
            party.sent.clear();
            party.handle(Input::Disconnected).unwrap();
            party.wants_disconnect = false;
        }
        for party in [&mut self.alice, &mut self.bob] {
            party.handle(Input::Connected).unwrap();
        }
        self.talk();
    }

    /// Alice pays Bob, and it arrives.
    pub fn alice_pays(&mut self, msat: u64, n: u64) {
        self.alice.offers(Msat::new(msat), preimage(n).hash()).unwrap();
        self.talk();
        Self::settle(&mut self.bob, n);
        self.talk();
    }

    /// Bob pays Alice, and it arrives.
    pub fn bob_pays(&mut self, msat: u64, n: u64) {
        self.bob.offers(Msat::new(msat), preimage(n).hash()).unwrap();
        self.talk();
        Self::settle(&mut self.alice, n);
        self.talk();
    }

    fn settle(receiver: &mut Party, n: u64) {
        let hash = preimage(n).hash();
        let id = receiver.events.iter().rev().find_map(|event| match event {
            Event::Received(htlc) if htlc.payment_hash == hash => Some(htlc.id),
            _ => None,
        });
        let removal = Removal::Fulfilled(preimage(n));
        receiver.removes(id.expect("the HTLC arrived"), removal).unwrap();
    }

    /// What each side's view says of the other must be what the other says of itself.
    pub fn agree(&self) {
        let view = |party: &Party| party.channel.funded().unwrap().contract.state.clone();
        let (a, b) = (view(&self.alice), view(&self.bob));
        assert_eq!(a.base.local, b.base.remote);
        assert_eq!(a.base.remote, b.base.local);
        assert_eq!(a.local_number, b.remote_number);
        assert_eq!(a.remote_number, b.local_number);
    }

    pub fn funding_script(&self) -> ScriptBuf {
        let params = &self.alice.channel.funded().unwrap().contract.params;
        funding_script(&params.local.basepoints.funding, &params.remote.basepoints.funding)
    }
}
