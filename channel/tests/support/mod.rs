//! Two channels that talk over a wire we hold: `pair.alice.pays(..)` in verbs, below stories.

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize;
use bitcoin::constants::ChainHash;
use bitcoin::transaction::Version;
use bitcoin::{OutPoint, ScriptBuf, Transaction, TxIn, TxOut};
use fulmen_channel::amount::{FeeratePerKw, Height, Msat, Sat};
use fulmen_channel::changeset::{encode, Row, Rows};
use fulmen_channel::channel::Channel;
use fulmen_channel::contract::commitments::{Offer, State};
use fulmen_channel::contract::htlc::{Removal, Stage};
use fulmen_channel::error::Refused;
use fulmen_channel::input::{Command, FundingRequest, Handled, Input};
use fulmen_channel::keys::{InMemorySigner, Inline, Signer};
use fulmen_channel::message::Message;
use fulmen_channel::output::{Event, Output, Resolved};
use fulmen_channel::params::{CommitmentFormat, Negotiated, Side, SideParams};
use fulmen_channel::payment::{PaymentHash, Preimage};
use fulmen_channel::protocol::open::Open;
use fulmen_channel::protocol::opening::{AcceptPolicy, OpenRequest};
use fulmen_channel::transactions::commitment::CommitmentTx;
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

/// What a side makes of a message of the peer's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Taken, or ignored: no objection.
    Fine,
    /// A warning, and the connection is closed.
    Warned(String),
    /// An error, and the channel is failed.
    Failed(String),
}

/// Two sides and the wire between them.
pub struct Pair {
    pub alice: Party,
    pub bob: Party,
    /// What both offer in init.
    pub negotiated: Negotiated,
}

/// Both know closing_signed only.
pub const LEGACY: Negotiated = Negotiated { simple_close: false, any_segwit: true };
/// Both know closing_complete.
pub const SIMPLE: Negotiated = Negotiated { simple_close: true, any_segwit: true };

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
                Output::Watch { .. } | Output::WatchOutputs(_) => {}
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
        match self.handle(Input::Command(Command::Offer(offer(amount, hash))))? {
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

    /// Hands in several inputs before anything is done about them.
    pub fn handles_at_once(&mut self, inputs: impl IntoIterator<Item = Input>) {
        for input in inputs {
            self.channel.handle(input).unwrap();
        }
        self.drain();
    }

    /// Hears one message that need not come from an honest peer, and judges it.
    pub fn hears(&mut self, message: Message) -> Verdict {
        let before = self.sent.len();
        self.handle(Input::Message(message)).unwrap();
        let answers = self.sent.iter().skip(before);
        let mut verdicts = answers.filter_map(|answer| match answer {
            Message::Warning(warning) => Some(Verdict::Warned(warning.data.clone())),
            Message::Error(error) => Some(Verdict::Failed(error.data.clone())),
            _ => None,
        });
        let verdict = verdicts.next_back().unwrap_or(Verdict::Fine);
        assert_eq!(matches!(verdict, Verdict::Warned(_)), self.wants_disconnect);
        verdict
    }

    /// Names of the messages on their way out.
    pub fn is_saying(&self) -> Vec<&'static str> {
        self.sent.iter().map(name).collect()
    }

    /// Settles the HTLC with the preimage of number `n`.
    pub fn fulfills(&mut self, n: u64) {
        let removal = Removal::Fulfilled(preimage(n));
        self.removes(self.received(n), removal).unwrap();
    }

    /// The id of the HTLC that arrived with the hash of number `n`.
    pub fn received(&self, n: u64) -> u64 {
        self.received_as(n).expect("the HTLC arrived")
    }

    /// The same, if it arrived.
    pub fn received_as(&self, n: u64) -> Option<u64> {
        let hash = preimage(n).hash();
        self.events.iter().rev().find_map(|event| match event {
            Event::Received(htlc) if htlc.payment_hash == hash => Some(htlc.id),
            _ => None,
        })
    }

    pub fn open(&self) -> &Open {
        self.channel.funded().expect("the channel is funded")
    }

    pub fn offer(n: u64, msat: u64) -> Input {
        let hash = preimage(n).hash();
        Input::Command(Command::Offer(offer(Msat::new(msat), hash)))
    }

    /// The same channel, had its own side this balance: as if it had been paid so far.
    pub fn with_balance(&mut self, local: Msat) -> Channel {
        let mut state: State = self.disk.require(Row::State).unwrap();
        let all = self.open().contract.funding.capacity.to_msat().unwrap();
        state.base.local = local;
        state.base.remote = all.checked_sub(local).unwrap();
        self.disk.0.insert(Row::State, encode(&state));
        let signer = Box::new(InMemorySigner::from_seed(self.seed));
        Channel::restore(&self.disk, signer, Arc::new(Inline)).unwrap()
    }

    /// Ids of the peer's HTLCs that wait to be settled or failed.
    pub fn pending_received(&self) -> Vec<u64> {
        let htlcs = self.open().contract.htlcs.iter();
        let waits = htlcs.filter(|((by, _), htlc)| {
            *by == Side::Remote && htlc.stage == Stage::Locked && htlc.removal.is_none()
        });
        waits.map(|((_, id), _)| *id).collect()
    }

    /// A second self from the same disk, to ask what it would do.
    pub fn restored(party: &Party) -> Party {
        let signer = Box::new(InMemorySigner::from_seed(party.seed));
        let channel = Channel::restore(&party.disk, signer, Arc::new(Inline)).unwrap();
        let mut twin = Party::new(party.name, channel, party.seed);
        twin.disk = party.disk.clone();
        twin.drain();
        twin
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
    pub fn proposing(
        terms: impl FnOnce(&mut OpenRequest, &mut AcceptPolicy),
    ) -> (Party, AcceptPolicy) {
        let chain = ChainHash::REGTEST;
        let (a, b) = (InMemorySigner::from_seed([1; 32]), InMemorySigner::from_seed([2; 32]));
        let mut open = OpenRequest {
            chain,
            temporary_channel_id: ChannelId([3; 32]),
            capacity: Sat::new(1_000_000),
            push: Msat::ZERO,
            feerate: FeeratePerKw::new(1_000),
            local: limits(&a),
            channel_type: CommitmentFormat::Anchors.into(),
            announce: false,
            alias: None,
            negotiated: LEGACY,
        };
        let mut policy = AcceptPolicy {
            chain,
            local: limits(&b),
            minimum_depth: 3,
            min_capacity: Sat::new(20_000),
            max_capacity: Sat::new(16_000_000),
            anchors: true,
            urgent: None,
            zero_conf: false,
            alias: None,
            negotiated: LEGACY,
        };
        terms(&mut open, &mut policy);
        let channel = Channel::open(open, Box::new(a), Arc::new(Inline)).unwrap();
        let mut alice = Party::new("alice", channel, [1; 32]);
        alice.drain();
        (alice, policy)
    }

    /// Both have signed; F is not in a block yet.
    pub fn funded(terms: impl FnOnce(&mut OpenRequest, &mut AcceptPolicy)) -> Pair {
        let (mut alice, policy) = Self::proposing(terms);
        let Some(Message::OpenChannel(open)) = alice.sent.pop_front() else { panic!("no open") };
        let signer = Box::new(InMemorySigner::from_seed([2; 32]));
        let negotiated = policy.negotiated;
        let bob = Channel::accept(&open, policy, signer, Arc::new(Inline)).unwrap();
        let mut bob = Party::new("bob", bob, [2; 32]);
        bob.drain();
        let mut pair = Pair { alice, bob, negotiated };
        pair.talk();
        let funding = pair.alice.events.iter().find_map(|event| match event {
            Event::FundingNeeded(request) => Some(request.clone()),
            _ => None,
        });
        let funding = funding.expect("bob accepted");
        let tx = Box::new(funding_tx(&funding));
        pair.alice.handle(Input::Command(Command::Fund(tx))).unwrap();
        pair.talk();
        pair
    }

    /// Ready on both sides, all the money at Alice's.
    pub fn open() -> Pair {
        Self::open_with(|_, _| {})
    }

    /// The same, and both know closing_complete.
    pub fn open_simple() -> Pair {
        Self::open_with(|open, policy| {
            (open.negotiated, policy.negotiated) = (SIMPLE, SIMPLE);
        })
    }

    pub fn open_with(terms: impl FnOnce(&mut OpenRequest, &mut AcceptPolicy)) -> Pair {
        let mut pair = Self::funded(terms);
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

    /// The connection breaks; what was on its way is lost.
    pub fn disconnects(&mut self) {
        for party in [&mut self.alice, &mut self.bob] {
            party.sent.clear();
            party.handle(Input::Disconnected).unwrap();
            party.sent.clear();
            party.wants_disconnect = false;
        }
    }

    /// The connection breaks, losing what was on its way, and comes back.
    pub fn reconnects(&mut self) {
        self.disconnects();
        self.connects();
    }

    pub fn connects(&mut self) {
        for party in [&mut self.alice, &mut self.bob] {
            party.handle(Input::Connected(self.negotiated)).unwrap();
        }
        self.talk();
    }

    /// Alice pays Bob, and it arrives.
    pub fn alice_pays(&mut self, msat: u64, n: u64) {
        self.alice.offers(Msat::new(msat), preimage(n).hash()).unwrap();
        self.talk();
        self.bob.fulfills(n);
        self.talk();
    }

    /// Bob pays Alice, and it arrives.
    pub fn bob_pays(&mut self, msat: u64, n: u64) {
        self.bob.offers(Msat::new(msat), preimage(n).hash()).unwrap();
        self.talk();
        self.alice.fulfills(n);
        self.talk();
    }

    /// Nothing is pending, and both sides see the same balances and the same two commitments.
    #[track_caller]
    pub fn agree(&self) {
        let (a, b) = (&self.alice.open().contract, &self.bob.open().contract);
        assert_eq!(a.state.base.local, b.state.base.remote);
        assert_eq!(a.state.base.remote, b.state.base.local);
        assert_eq!(a.state.local_number, b.state.remote_number);
        assert_eq!(a.state.remote_number, b.state.local_number);
        let txid = |tx: Option<CommitmentTx>| tx.unwrap().txid;
        let (a_local, a_remote) = self.alice.channel.commitments();
        let (b_local, b_remote) = self.bob.channel.commitments();
        assert_eq!(txid(a_local), txid(b_remote), "alice's commitment");
        assert_eq!(txid(b_local), txid(a_remote), "bob's commitment");
    }

    /// What spends F must satisfy: its output.
    pub fn funding_output(&self) -> TxOut {
        self.alice.open().funding_tx.as_ref().expect("alice funded").output[0].clone()
    }
}

/// F is spent by `tx` in block 100, and nobody cheated.
pub fn spent_by(tx: Transaction) -> Input {
    let (height, records) = (Height::new(100), Vec::new());
    Input::FundingSpent { tx: Box::new(tx), height, records }
}

/// An offer that expires at block 500, remembered by its hash.
pub fn offer(amount: Msat, payment_hash: PaymentHash) -> Offer {
    let (cltv_expiry, memo) = (Height::new(500), payment_hash.0.to_vec());
    Offer { amount, payment_hash, cltv_expiry, onion: onion(), memo }
}

/// A funding transaction that pays what was asked, from nowhere.
pub fn funding_tx(request: &FundingRequest) -> Transaction {
    let output = TxOut { value: request.amount.to_amount(), script_pubkey: request.script.clone() };
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn { previous_output: OutPoint::null(), ..Default::default() }],
        output: vec![output],
    }
}

/// Bitcoin's own verdict: `tx` may spend `output` with its first input.
#[track_caller]
pub fn assert_spends(tx: &Transaction, output: &TxOut) {
    let (script, value) = (output.script_pubkey.as_bytes(), output.value.to_sat());
    bitcoinconsensus::verify(script, value, &serialize(tx), None, 0).expect("a valid spend");
    let paid: u64 = tx.output.iter().map(|out| out.value.to_sat()).sum();
    assert!(paid <= value, "it pays {paid} from {value}");
}

/// A message's name.
pub fn name(message: &Message) -> &'static str {
    match message {
        Message::OpenChannel(_) => "open_channel",
        Message::AcceptChannel(_) => "accept_channel",
        Message::FundingCreated(_) => "funding_created",
        Message::FundingSigned(_) => "funding_signed",
        Message::ChannelReady(_) => "channel_ready",
        Message::Shutdown(_) => "shutdown",
        Message::ClosingSigned(_) => "closing_signed",
        Message::ClosingComplete(_) => "closing_complete",
        Message::ClosingSig(_) => "closing_sig",
        Message::UpdateAddHtlc(_) => "add",
        Message::UpdateFulfillHtlc(_) => "fulfill",
        Message::UpdateFailHtlc(_) => "fail",
        Message::UpdateFailMalformedHtlc(_) => "malformed",
        Message::CommitmentSigned(_) => "commitment_signed",
        Message::RevokeAndAck(_) => "revoke_and_ack",
        Message::UpdateFee(_) => "fee",
        Message::ChannelReestablish(_) => "reestablish",
        Message::AnnouncementSignatures(_) => "announcement_signatures",
        Message::Error(_) => "error",
        Message::Warning(_) => "warning",
    }
}
