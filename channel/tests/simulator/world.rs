//! Both sides and the wire between them, and what may happen to them. After each thing the checks
//! that need both sides.

use super::dice::Dice;
use super::keys::Keys;
use super::peer::Peer;
use super::witness::content;
use super::{wrong, Sound, Wrong};
use crate::support::{offer, preimage, wallet_script, Pair, LEGACY, SIMPLE};
use fulmen_channel::amount::{FeeratePerKw, Msat, Sat};
use fulmen_channel::changeset::Rows;
use fulmen_channel::contract::htlc::Removal;
use fulmen_channel::input::{Command, Feerates, Handled, Input};
use fulmen_channel::message::Message;
use fulmen_channel::params::{CommitmentFormat, Negotiated, Side};
use fulmen_channel::payment::PaymentHash;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// What Alice and Bob begin with, on disk.
type Start = [Rows; 2];

/// The kinds of channels that runs are made of, opened once.
fn start(kind: u64) -> &'static Start {
    static STARTS: OnceLock<Vec<Start>> = OnceLock::new();
    let starts = STARTS.get_or_init(|| {
        let formats = [CommitmentFormat::Anchors, CommitmentFormat::StaticRemoteKey];
        let kinds = formats.into_iter().flat_map(|format| [0, 1, 2].map(|terms| (format, terms)));
        let unready = Pair::funded(|_, _| {});
        let ready = kinds.map(|(format, terms)| open(format, terms));
        let at_once = Pair::funded(|open, policy| {
            (open.channel_type.zero_conf, policy.zero_conf) = (true, true);
            (open.alias, policy.alias) = (Some(1), Some(2));
            open.push = Msat::new(300_000_000);
        });
        let early = [unready, at_once].map(|pair| [pair.alice.disk, pair.bob.disk]);
        ready.chain(early).collect()
    });
    &starts[kind as usize % starts.len()]
}

fn open(format: CommitmentFormat, terms: u64) -> Start {
    let pair = Pair::open_with(|open, policy| {
        open.channel_type.format = format;
        open.push = Msat::new([0, 500_000_000, 20_000_000][terms as usize]);
        open.capacity = Sat::new([1_000_000, 1_000_000, 60_000][terms as usize]);
        open.local.dust_limit = Sat::new([354, 1_000, 500][terms as usize]);
        policy.local.max_accepted_htlcs = [30, 5, 12][terms as usize];
        if terms == 2 {
            open.local.channel_reserve = Sat::new(1_000);
            policy.local.channel_reserve = Sat::new(1_000);
        }
    });
    [pair.alice.disk, pair.bob.disk]
}

/// Two sides that talk, fall and lose.
pub struct World {
    pub peers: [Peer; 2],
    pub dice: Dice,
    /// What happened, for whoever must understand a failure.
    pub log: Vec<String>,
    pub up: bool,
    /// What each side may lose to fees, if not the default.
    pub limit: Option<Sat>,
    /// An offer passed it.
    over: Option<Wrong>,
    /// What both offer in init.
    pub negotiated: Negotiated,
    /// Messages go through their encoding.
    pub encodes: bool,
    /// The number that each payment hash is made of.
    numbers: BTreeMap<PaymentHash, u64>,
    began: [Msat; 2],
    compared: [(u64, u64); 2],
}

impl World {
    /// A channel of some kind, both sides restored from disk and connected.
    pub fn new(seed: u64, kind: u64, keys: fn(u8) -> Keys) -> Result<Self, Wrong> {
        let [alice, bob] = start(kind);
        let peers =
            [Peer::new("alice", alice.clone(), keys(1)), Peer::new("bob", bob.clone(), keys(2))];
        let began = [0, 1].map(|side: usize| peers[side].open().contract.state.base.local);
        let mut world = World {
            peers,
            dice: Dice::new(seed),
            log: Vec::new(),
            up: false,
            limit: None,
            over: None,
            negotiated: if seed % 4 < 2 { LEGACY } else { SIMPLE },
            encodes: false,
            numbers: BTreeMap::new(),
            began,
            compared: [(u64::MAX, u64::MAX); 2],
        };
        world.connects()?;
        Ok(world)
    }

    fn notes(&mut self, what: impl Into<String>) {
        self.log.push(what.into());
    }

    /// What a side said while the wire was cut is lost; then both views are compared.
    pub fn look(&mut self) -> Sound {
        if let Some(over) = self.over.take() {
            return Err(over);
        }
        if !self.up {
            self.peers.iter_mut().for_each(|peer| peer.said.clear());
        }
        for side in [0, 1] {
            let (holder, other) = (&self.peers[side], &self.peers[1 - side]);
            let number = holder.open().contract.state.local_number;
            let signed = other.open().contract.state.remote_number;
            if number != signed || self.compared[side] == (number, signed) {
                continue;
            }
            let (local, remote) = (&holder.open().contract, &other.open().contract);
            if content(local, Side::Local) != content(remote, Side::Remote) {
                return wrong("both views are equal", format!("{}'s {number}", holder.name));
            }
            self.compared[side] = (number, signed);
        }
        Ok(())
    }

    /// The next message of `from` arrives. Whether there was one.
    pub fn delivers(&mut self, from: usize) -> Result<bool, Wrong> {
        let Some(message) = self.peers[from].said.pop_front() else { return Ok(false) };
        self.notes(format!("{} → {}", self.peers[from].name, crate::support::name(&message)));
        let heard = match self.encodes {
            true => through_the_codec(&message),
            false => message,
        };
        let to = &mut self.peers[1 - from];
        let heard = match to.fault {
            Some(fault) => fault.hear(heard, &mut to.unsigned),
            None => vec![heard],
        };
        for message in heard {
            let raises = matches!(&message, Message::UpdateFee(fee) if to.raises(fee));
            to.hears(message);
            if raises {
                to.is_within(self.limit)?;
            }
        }
        Ok(true)
    }

    /// A side does what its core wants; what it says goes on the wire, if there is one.
    pub fn drains(&mut self, side: usize) -> Sound {
        self.peers[side].drain()?;
        if std::mem::take(&mut self.peers[side].hung_up) {
            self.notes(format!("{} hangs up", self.peers[side].name));
            self.cuts([true, true])?;
        }
        self.look()
    }

    /// The wire is cut. Each side hears of it, or finds out when the other comes back.
    pub fn cuts(&mut self, tells: [bool; 2]) -> Sound {
        self.notes("cut");
        self.up = false;
        for side in [0, 1] {
            self.peers[side].said.clear();
            if tells[side] {
                let _ = self.peers[side].takes(Input::Disconnected);
            }
        }
        Ok(())
    }

    pub fn connects(&mut self) -> Sound {
        self.notes("connect");
        self.up = true;
        for side in [0, 1] {
            let _ = self.peers[side].takes(Input::Connected(self.negotiated));
            self.drains(side)?;
        }
        Ok(())
    }

    /// A side falls, and with it the wire; so many of its writes under way survive.
    pub fn crashes(&mut self, side: usize, survive: usize) -> Sound {
        self.notes(format!("{} falls, {survive} writes survive", self.peers[side].name));
        self.cuts([side != 0, side != 1])?;
        self.peers[side].crashes(survive)?;
        if let Some(limit) = self.limit {
            self.peers[side].is_told(limit);
        }
        self.look()
    }

    /// A side offers an HTLC that nobody offered before. Whether its core took it.
    pub fn offers(&mut self, side: usize, amount: Msat) -> bool {
        let number = self.numbers.len() as u64;
        let hash = preimage(number).hash();
        self.numbers.insert(hash, number);
        let command = Command::Offer(offer(amount, hash));
        let (peer, limit) = (&mut self.peers[side], self.limit);
        let before = peer.open().contract.exposure();
        let taken = matches!(peer.takes(Input::Command(command)), Ok(Handled::Offered(_)));
        if taken {
            let raised = peer.open().contract.exposure() > before;
            self.over = peer.is_within(limit.filter(|_| raised)).err();
            peer.witness.offered.insert(hash, amount);
            self.notes(format!("{} offers {amount}", self.peers[side].name));
        }
        taken
    }

    /// A side ends the waiting HTLC `id` as its number says: the first offered is fulfilled, the
    /// second fails, the third is malformed, and so on.
    pub fn ends_by_number(&mut self, side: usize, id: u64) -> Sound {
        let hash = self.peers[side].waiting.get(&id).map(|htlc| htlc.payment_hash);
        let number = hash.map_or(0, |hash| self.numbers[&hash]);
        self.ends(side, id, [2, 0, 1][number as usize % 3])
    }

    /// A side ends the waiting HTLC `id`: 0 fails it, 1 finds it malformed, else it is fulfilled.
    pub fn ends(&mut self, side: usize, id: u64, how: u64) -> Sound {
        let peer = &mut self.peers[side];
        let Some(htlc) = peer.waiting.remove(&id) else { return Ok(()) };
        let number = self.numbers[&htlc.payment_hash];
        let removal = match how {
            0 => Removal::Failed(number.to_be_bytes().to_vec()),
            1 => Removal::Malformed { sha256_of_onion: [1; 32], code: 0xc005 },
            _ => Removal::Fulfilled(preimage(number)),
        };
        let command = Command::Remove { id, removal: removal.clone() };
        if let Err(refused) = peer.takes(Input::Command(command)) {
            let what = format!("{}: {refused}", peer.name);
            return if peer.witness.may_fail {
                Ok(())
            } else {
                wrong("an HTLC can be ended", what)
            };
        }
        peer.witness.ended.insert(htlc.payment_hash, removal);
        self.notes(format!("{} ends {id}", self.peers[side].name));
        Ok(())
    }

    /// A side sees F in a block, deep enough.
    pub fn confirms(&mut self, side: usize) {
        let depth = Input::FundingDepth { confirmations: 3, short_channel_id: 7 };
        let _ = self.peers[side].takes(depth);
    }

    pub fn feerate(&mut self, rate: u32) {
        let commitment = FeeratePerKw::new(rate);
        for peer in &mut self.peers {
            let _ = peer.takes(Input::Feerates(Feerates {
                anchors: commitment,
                urgent: commitment,
                close: FeeratePerKw::new(1_000),
            }));
        }
        self.notes(format!("feerate {rate}"));
    }

    /// A side wants to close together, if it does not yet.
    pub fn closes(&mut self, side: usize) {
        let script = wallet_script(side as u8 + 1);
        let taken = self.peers[side].takes(Input::Command(Command::Close {
            script,
            feerate: None,
            max_feerate: None,
        }));
        if taken.is_ok() {
            self.notes(format!("{} closes", self.peers[side].name));
        }
    }

    /// A side that closes by closing_complete wants to pay twice as much.
    pub fn bumps(&mut self, side: usize) {
        let Some(fee) = self.peers[side].open().closing.fee else { return };
        let script = wallet_script(side as u8 + 1);
        let feerate = Some(FeeratePerKw::new(fee.sat() as u32 * 3));
        let command = Command::Close { script, feerate, max_feerate: None };
        if self.peers[side].takes(Input::Command(command)).is_ok() {
            self.notes(format!("{} bumps", self.peers[side].name));
        }
    }

    pub fn closes_by_force(&mut self, side: usize) {
        self.peers.iter_mut().for_each(|peer| peer.witness.may_fail = true);
        self.notes(format!("{} closes by force", self.peers[side].name));
        let _ = self.peers[side].takes(Input::Command(Command::ForceClose("so".into())));
    }

    /// Everything under way comes to its end: disks sync, messages arrive, HTLCs are settled.
    pub fn comes_to_rest(&mut self) -> Sound {
        for _ in 0..400 {
            if !self.up {
                self.connects()?;
            }
            for side in [0, 1] {
                self.confirms(side);
                while self.peers[side].sync()? {}
                while self.peers[side].report() {}
                self.drains(side)?;
                while self.delivers(side)? {}
                let waiting: Vec<u64> = self.peers[side].waiting.keys().copied().collect();
                for id in waiting {
                    self.ends_by_number(side, id)?;
                }
                if self.peers[side].open().owes_shutdown_script() {
                    self.closes(side);
                }
                self.drains(side)?;
                self.drains(1 - side)?;
            }
            if self.peers.iter().all(Peer::is_idle) {
                return Ok(());
            }
        }
        wrong("it comes to rest", "still busy after 400 rounds")
    }

    /// At rest: every HTLC has ended once and on both sides alike, and the balances say so.
    pub fn adds_up(&self) -> Sound {
        for side in [0, 1] {
            let (payer, payee) = (&self.peers[side], &self.peers[1 - side]);
            if !payer.open().contract.htlcs.is_empty() {
                return wrong("it comes to rest", format!("{} has HTLCs left", payer.name));
            }
            let sum = |of: &Peer| Msat::checked_sum(fulfilled(of).into_values()).expect("a sum");
            let expected = self.began[side].saturating_add(sum(payee)).checked_sub(sum(payer));
            let Some(expected) = expected else {
                return wrong("balances add up", format!("{} is overdrawn", payer.name));
            };
            let balance = payer.open().contract.state.base.local;
            if balance != expected {
                let what = format!("{} has {balance}, not {expected}", payer.name);
                return wrong("balances add up", what);
            }
            self.htlcs_ended(side)?;
            self.commitments_are_equal(side)?;
            payer.witness.penalties_are_complete(&payer.disk)?;
            self.secrets_are_kept(side)?;
        }
        Ok(())
    }

    /// At rest: the commitment that one side could publish is, byte for byte, the one that the
    /// other signed, and pays no more than there is.
    fn commitments_are_equal(&self, side: usize) -> Sound {
        let (holder, other) = (&self.peers[side], &self.peers[1 - side]);
        let local = holder.open().contract.local_draft(holder.keys.signer().as_ref()).tx;
        if local.txid != other.open().contract.remote_draft().tx.txid {
            return wrong("both views are equal", format!("{}'s last", holder.name));
        }
        let capacity = holder.open().contract.funding.capacity.sat();
        let outputs: u64 = local.tx.output.iter().map(|out| out.value.to_sat()).sum();
        if outputs + local.fee.sat() != capacity {
            return wrong("capacity is conserved", format!("{outputs} and {}", local.fee));
        }
        Ok(())
    }

    fn htlcs_ended(&self, side: usize) -> Sound {
        const CHECK: &str = "each HTLC ends once and alike";
        let (payer, payee) = (&self.peers[side], &self.peers[1 - side]);
        for hash in payer.witness.offered.keys() {
            let (told, ended) = (payee.witness.received.contains(hash), payer.ledger.get(hash));
            if told && ended != payee.witness.ended.get(hash) {
                return wrong(CHECK, format!("{hash} ended as {ended:?}"));
            }
            if !told && ended.is_some() {
                return wrong(CHECK, format!("{hash} ended and never arrived"));
            }
            let settled = matches!(ended, Some(Removal::Fulfilled(_)));
            if payer.witness.learned.contains(hash) && !settled {
                return wrong(CHECK, format!("{hash}: its preimage was shown"));
            }
        }
        Ok(())
    }

    /// All secrets the other revealed can be told from the disk.
    fn secrets_are_kept(&self, side: usize) -> Sound {
        let (keeper, other) = (&self.peers[side], &self.peers[1 - side]);
        let signer = other.keys.signer();
        let secrets = &keeper.open().contract.revocations;
        for number in 0..other.witness.revoked.map_or(0, |last| last + 1) {
            if secrets.get(number) != Some(signer.per_commitment_secret(number)) {
                return wrong("every penalty can be built", format!("no secret {number}"));
            }
        }
        Ok(())
    }
}

/// Our offers that ended fulfilled.
fn fulfilled(payer: &Peer) -> BTreeMap<PaymentHash, Msat> {
    let fulfilled = payer.ledger.iter().filter(|(_, end)| matches!(end, Removal::Fulfilled(_)));
    let amount = |hash: &PaymentHash| payer.witness.offered.get(hash).copied().unwrap_or_default();
    fulfilled.map(|(hash, _)| (*hash, amount(hash))).collect()
}

fn through_the_codec(message: &Message) -> Message {
    let bytes = message.encode();
    let type_id = u16::from_be_bytes([bytes[0], bytes[1]]);
    Message::decode(type_id, &bytes[2..]).unwrap().unwrap()
}
