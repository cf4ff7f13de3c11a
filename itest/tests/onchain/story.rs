//! One row of the table, played: a channel gets into a state, a commitment is published, and both
//! sides, or only Alice, take what they may until nothing is left.

use crate::chain_box::beside::Coin;
use crate::chain_box::claims::support::{onion, preimage, wallet_script, Pair, Party};
use crate::chain_box::claims::{take, World};
use bitcoin::{OutPoint, Transaction};
use fulmen_channel::amount::{Height, Msat};
use fulmen_channel::changeset::Row as Stored;
use fulmen_channel::contract::commitments::Offer;
use fulmen_channel::input::{Command, Input};
use fulmen_channel::onchain::claim::Pays;
use fulmen_channel::params::CommitmentFormat;
use fulmen_channel::protocol::settling::DEPTH;
use fulmen_itest::chainbox::{ChainBox, Event};
use std::collections::{BTreeMap, BTreeSet};

/// Whose commitment gets into a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Local,
    Remote,
    /// Bob's newest, which Alice has signed and whose forerunner he has not revoked.
    Next,
    /// That forerunner.
    Previous,
    /// One that Bob had revoked.
    Revoked,
    /// The same, when its HTLCs have expired: Alice was away, and the cheater's HT is ready too.
    Late,
}

impl Who {
    pub fn is_breach(self) -> bool {
        matches!(self, Who::Revoked | Who::Late)
    }
}

/// What is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFlight {
    Nothing,
    Offered,
    Received,
    Dust,
    Both,
    Twenty,
}

/// A row of the table, from Alice's point of view.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub format: CommitmentFormat,
    pub who: Who,
    pub in_flight: InFlight,
    /// The receivers know the preimages.
    pub known: bool,
    /// Bob claims too, and his transactions are mined first.
    pub racing: bool,
    /// Each block in which something is spent is gone again, with the five before it.
    pub reorgs: bool,
}

/// An HTLC: its number, who offered it, what it is worth in satoshi, when it expires.
#[derive(Clone, Copy, Debug)]
pub struct InFlightHtlc {
    pub n: u64,
    pub by_alice: bool,
    pub sat: u64,
    pub expiry: u32,
}

/// When HTLCs expire: not long after F is in a block, so that worlds are short.
const EXPIRY: u32 = 200;
/// Too small for an output in either format.
pub const DUST: u64 = 300;
/// The one that only Bob's newest commitment holds.
const LATE: InFlightHtlc = InFlightHtlc { n: 77, by_alice: true, sat: 30_000, expiry: EXPIRY };

impl Row {
    pub fn htlcs(&self) -> Vec<InFlightHtlc> {
        let htlc = |n, by_alice, sat| InFlightHtlc { n, by_alice, sat, expiry: EXPIRY };
        let mut all = match self.in_flight {
            InFlight::Nothing => vec![],
            InFlight::Offered => vec![htlc(1, true, 50_000)],
            InFlight::Received => vec![htlc(1, false, 50_000)],
            InFlight::Dust => vec![htlc(1, true, DUST), htlc(2, false, DUST)],
            InFlight::Both => vec![htlc(1, true, 50_000), htlc(2, false, 60_000)],
            InFlight::Twenty => (1..=20)
                .map(|n| {
                    let sat = if n % 7 == 0 { DUST } else { 3_900 * (n % 5 + 1) };
                    InFlightHtlc { n, by_alice: n % 2 == 0, sat, expiry: EXPIRY - n as u32 % 4 }
                })
                .collect(),
        };
        all.extend((self.who == Who::Next).then_some(LATE));
        all
    }
}

impl Row {
    /// Whether its receiver knows the preimage. Nobody tells that of an HTLC which is not on both
    /// commitments for good.
    pub fn is_known(&self, htlc: &InFlightHtlc) -> bool {
        self.known && htlc.n != LATE.n
    }
}

/// A row while it is played.
pub struct Story {
    pub row: Row,
    pub chain_box: ChainBox,
    pub alice: Party,
    pub bob: Party,
    /// What the commitment left to miners.
    pub left: u64,
    coins: Vec<Coin>,
    /// Who sent each transaction that is or was in the mempool: Alice, or not.
    senders: BTreeMap<bitcoin::Txid, bool>,
    funding: OutPoint,
    /// What was spent in blocks that are gone again.
    shaken: BTreeSet<OutPoint>,
}

const ALICE: ([u8; 32], u8) = ([1; 32], 9);
const BOB: ([u8; 32], u8) = ([2; 32], 8);

impl Story {
    /// Alice has 600,000 sat and Bob 400,000; then their HTLCs are offered, and a commitment is
    /// published.
    pub fn begins(row: Row) -> Story {
        let mut world = World::open(row.format, 24);
        let pair = &mut world.pair;
        pair.alice_pays(400_000_000, 0);
        for htlc in row.htlcs().iter().filter(|htlc| htlc.n != LATE.n) {
            offers(pair, htlc);
        }
        pair.talk();
        let mut cheat = None;
        match row.who {
            Who::Local | Who::Remote => {}
            Who::Next => {
                offers(pair, &LATE);
                while Pair::deliver(&mut pair.alice, &mut pair.bob) {}
                pair.bob.sent.clear();
            }
            Who::Previous => {
                offers(pair, &LATE);
                pair.alice.sent.clear();
            }
            Who::Revoked | Who::Late => {
                cheat = Some(Party::restored(&pair.bob));
                pair.alice_pays(20_000_000, 99);
            }
        }
        let Pair { alice, bob, .. } = world.pair;
        let mut story = Story::of(row, world.chain_box, world.coins, (alice, cheat.unwrap_or(bob)));
        if row.who == Who::Late {
            story.mines(EXPIRY);
        }
        story.publishes();
        story.learns();
        story
    }

    /// A channel whose F is in the box.
    pub fn of(row: Row, chain_box: ChainBox, coins: Vec<Coin>, sides: (Party, Party)) -> Story {
        let (alice, bob) = sides;
        let funding = alice.open().contract.funding.outpoint;
        let mut story = Story {
            row,
            chain_box,
            alice,
            bob,
            left: 0,
            coins,
            senders: BTreeMap::new(),
            funding,
            shaken: BTreeSet::new(),
        };
        // F is deep.
        story.chain_box.mine(6);
        story.chain_box.events();
        story
    }

    /// The commitment that the row is about gets into a block.
    pub fn publishes(&mut self) {
        let is_local = self.row.who == Who::Local;
        let publisher = if is_local { &mut self.alice } else { &mut self.bob };
        // When an HTLC has expired the channel has failed by itself.
        let _ = publisher.handle(Input::Command(Command::ForceClose("gone".into())));
        let commitment = publisher.published.last().unwrap().clone();
        let outputs = commitment.output.iter().map(|output| output.value.to_sat());
        self.left = 1_000_000 - outputs.sum::<u64>();
        self.sends(is_local, &commitment);
        self.mines(1);
    }

    /// Those who are to know preimages learn them now, when nothing is said any more.
    fn learns(&mut self) {
        let known = self.row.htlcs().into_iter().filter(|htlc| self.row.is_known(htlc));
        for htlc in known {
            let receiver = if htlc.by_alice { &mut self.bob } else { &mut self.alice };
            receiver.fulfills(htlc.n);
        }
    }

    fn sends(&mut self, is_alice: bool, tx: &Transaction) {
        let context = format!("{:?}", self.row);
        let txid = self.chain_box.submit(tx).unwrap_or_else(|why| panic!("{why}: {context}"));
        self.senders.insert(txid, is_alice);
    }

    /// Blocks, and both are told what is in them.
    pub fn mines(&mut self, blocks: u32) {
        self.chain_box.mine(blocks);
        self.catches_up();
    }

    /// A block with what waits. It does not stay, nor do the five before it, when something is
    /// spent in it for the first time.
    fn mines_what_waits(&mut self) {
        let waiting = self.chain_box.mempool().entries();
        let spent = waiting.iter().filter_map(|entry| entry.tx.input.first());
        let known = self.shaken.len();
        self.shaken.extend(spent.map(|input| input.previous_output));
        let is_new = self.shaken.len() > known;
        self.mines(1);
        if self.row.reorgs && is_new {
            self.chain_box.reorg(6);
            self.catches_up();
        }
    }

    /// Both are told of blocks that came and went.
    fn catches_up(&mut self) {
        for event in self.chain_box.events() {
            for party in [&mut self.alice, &mut self.bob] {
                match &event {
                    Event::Connected(height, block) => {
                        party.handle(Input::Block(*height)).unwrap();
                        for tx in &block.txdata {
                            tells(party, tx, *height, self.funding);
                        }
                    }
                    Event::Disconnected(height, _) => {
                        party.handle(Input::Unblock(*height)).unwrap();
                    }
                    _ => {}
                }
            }
        }
    }

    /// Until nothing is left to claim; what each took is counted by [`Story::earned`].
    pub fn ends(&mut self) {
        loop {
            let next = self.chain_box.chain().height().plus(1);
            let left = || self.alice.open().claims().map(|(_, claims)| claims);
            assert!(next < Height::new(1_200), "{:?} goes on and on: {:?}", self.row, left());
            let sides: &[bool] = if self.row.racing { &[false, true] } else { &[true] };
            let mut wait: Option<Height> = None;
            for is_alice in sides {
                if let Some(first) = self.claims(*is_alice, next) {
                    wait = Some(wait.map_or(first, |wait| wait.min(first)));
                }
            }
            match wait {
                _ if !self.chain_box.mempool().entries().is_empty() => self.mines_what_waits(),
                Some(first) => self.mines(first.number() - next.number()),
                None => break,
            }
        }
        // What the peer may still take back is not waited for longer than it can.
        self.mines(1 + EXPIRY.saturating_sub(self.chain_box.chain().height().number()) + DEPTH);
    }

    /// Sends what one side may claim in block `next`; when the first of the rest may be.
    fn claims(&mut self, is_alice: bool, next: Height) -> Option<Height> {
        let (party, who) = if is_alice { (&self.alice, ALICE) } else { (&self.bob, BOB) };
        let (published, claims) = party.open().claims()?;
        let (ready, later): (Vec<_>, Vec<_>) = claims.iter().partition(|c| c.from <= next);
        let (mut txs, mut given_back) = (Vec::new(), Vec::new());
        for claim in ready {
            if self.chain_box.mempool().spender(&claim.spend.outpoint).is_some() {
                continue; // Whoever was quicker in this block.
            }
            let needs_coin = matches!(claim.pays, Pays::Beside(_));
            let is_free = |coin: &Coin| self.chain_box.unspent(&coin.0, true).is_some();
            let place = self.coins.iter().position(is_free).filter(|_| needs_coin);
            let coin = place.map(|place| self.coins.swap_remove(place));
            given_back.extend(coin);
            txs.push(take(claim, published, who, coin));
        }
        // One whose transaction a reorganisation took out is free again.
        self.coins.extend(given_back);
        let first = later.iter().map(|claim| claim.from).min();
        for tx in txs {
            self.sends(is_alice, &tx);
        }
        first
    }

    /// What Alice, or Bob, has in the wallet by now, and with how many transactions that paid their
    /// fee out of what they took.
    pub fn earned(&self, is_alice: bool) -> (u64, u64) {
        let script = wallet_script(if is_alice { ALICE.1 } else { BOB.1 });
        let mut sum = (0, 0);
        for txid in self.senders.keys() {
            // One that a reorganisation took out may have been made anew.
            let Some((_, tx)) = self.chain_box.chain().find(txid) else { continue };
            for output in tx.output.iter().filter(|output| output.script_pubkey == script) {
                sum = (sum.0 + output.value.to_sat(), sum.1 + 1);
            }
        }
        sum
    }
}

/// Offers an HTLC with its own expiry.
fn offers(pair: &mut Pair, htlc: &InFlightHtlc) {
    let (payment_hash, amount) = (preimage(htlc.n).hash(), Msat::new(htlc.sat * 1_000));
    let memo = payment_hash.0.to_vec();
    let cltv_expiry = Height::new(htlc.expiry);
    let offer = Offer { amount, payment_hash, cltv_expiry, onion: onion(), memo };
    let party = if htlc.by_alice { &mut pair.alice } else { &mut pair.bob };
    party.handle(Input::Command(Command::Offer(offer))).unwrap();
}

/// Tells a side of a transaction in a block.
fn tells(party: &mut Party, tx: &Transaction, height: Height, funding: OutPoint) {
    let spends_funding = tx.input.iter().any(|input| input.previous_output == funding);
    let pick = |row| match row {
        Stored::Penalty(by, id) => Some((by, id)),
        _ => None,
    };
    let tx = Box::new(tx.clone());
    let input = match spends_funding {
        true => Input::FundingSpent { tx, height, records: party.disk.each(pick).unwrap() },
        false => Input::OutputSpent { tx, height },
    };
    party.handle(input).unwrap();
}
