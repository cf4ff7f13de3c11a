//! One row of the table, played: a channel gets into a state, a commitment is published, and both
//! sides, or only Alice, take what they may until nothing is left. Alice has a sweeper; Bob knows
//! a miner.

use super::shell::{estimates, Shell};
use super::towers::keeps;
use crate::chain_box::beside::{to_anybody, Coin};
use crate::chain_box::claims::support::{onion, preimage, wallet_script, Pair, Party};
use crate::chain_box::claims::{take, World};
use bitcoin::{OutPoint, Transaction};
use fulmen_channel::amount::{FeeratePerKw, Height, Msat, Sat};
use fulmen_channel::changeset::Row as Stored;
use fulmen_channel::contract::commitments::Offer;
use fulmen_channel::input::{Command, Input};
use fulmen_channel::onchain::claim::Pays;
use fulmen_channel::params::CommitmentFormat;
use fulmen_channel::protocol::settling::DEPTH;
use fulmen_itest::chainbox::policy::PerKvb;
use fulmen_itest::chainbox::{ChainBox, Event};
use fulmen_watchtower::record::Unrevoked;
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
    /// The same, and worth a fee at any feerate.
    Large,
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
    pub trouble: Trouble,
}

/// What the chain does beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    Nothing,
    /// Each block in which something is spent for the first time is gone again, with the five
    /// before it; sometimes Alice's daemon then restarts.
    SixGone,
    /// Most of these blocks are gone with the 99 before them, and Alice's daemon then restarts.
    HundredGone,
    /// Most blocks take no transaction that pays less than this, though estimates say nothing of
    /// it: so many satoshi per 1,000 vbytes.
    Crowd(u64),
    /// Neither the mempool nor a block takes less than this.
    Minimum(u64),
    /// When the commitment is in a block, feerates go from 1 to 300 sat/vB, until [`SPIKE_ENDS`].
    Spike,
}

/// The height at which a fee spike is over, long after HTLCs have expired.
const SPIKE_ENDS: u32 = EXPIRY + 40;

/// Feerates in sat per 1,000 weight units, for 2, 6, 12 and 144 blocks.
const CALM: [u32; 4] = [2_500, 1_250, 1_000, 500];
const SPIKE: [u32; 4] = [78_000, 75_000, 70_000, 2_000];

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
/// So many blocks are between F and what happens then, where 100 are to go.
const DEEP: u32 = 110;
/// Too small for an output in either format.
pub const DUST: u64 = 300;
/// The number of the one that only Bob's newest commitment holds.
const LATE: u64 = 77;

impl Row {
    /// When its HTLCs expire.
    pub fn expiry(&self) -> u32 {
        if self.trouble == Trouble::HundredGone {
            EXPIRY + DEEP
        } else {
            EXPIRY
        }
    }

    pub fn late(&self) -> InFlightHtlc {
        InFlightHtlc { n: LATE, by_alice: true, sat: 30_000, expiry: self.expiry() }
    }

    pub fn htlcs(&self) -> Vec<InFlightHtlc> {
        let expiry = self.expiry();
        let htlc = |n, by_alice, sat| InFlightHtlc { n, by_alice, sat, expiry };
        let mut all = match self.in_flight {
            InFlight::Nothing => vec![],
            InFlight::Offered => vec![htlc(1, true, 50_000)],
            InFlight::Received => vec![htlc(1, false, 50_000)],
            InFlight::Dust => vec![htlc(1, true, DUST), htlc(2, false, DUST)],
            InFlight::Both => vec![htlc(1, true, 50_000), htlc(2, false, 60_000)],
            InFlight::Large => vec![htlc(1, true, 250_000), htlc(2, false, 260_000)],
            InFlight::Twenty => (1..=20)
                .map(|n| {
                    let sat = if n % 7 == 0 { DUST } else { 3_900 * (n % 5 + 1) };
                    InFlightHtlc { n, by_alice: n % 2 == 0, sat, expiry: expiry - n as u32 % 4 }
                })
                .collect(),
        };
        all.extend((self.who == Who::Next).then(|| self.late()));
        all
    }
}

impl Row {
    /// Whether its receiver knows the preimage. Nobody tells that of an HTLC which is not on both
    /// commitments for good.
    pub fn is_known(&self, htlc: &InFlightHtlc) -> bool {
        self.known && htlc.n != LATE
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
    pub shell: Shell,
    coins: Vec<Coin>,
    /// What Bob sent.
    bobs: BTreeMap<bitcoin::Txid, Transaction>,
    pub funding: OutPoint,
    /// What was spent in blocks that are gone again.
    shaken: BTreeSet<OutPoint>,
    /// What Alice kept for towers of the state that is revoked.
    pub unrevoked: Option<Unrevoked>,
    /// While her node is off: the blocks that she has not seen.
    missed: Option<Vec<Event>>,
}

pub const ALICE: [u8; 32] = [1; 32];
pub const BOB: ([u8; 32], u8) = ([2; 32], 8);

impl Story {
    /// Alice has 600,000 sat and Bob 400,000; then their HTLCs are offered, and a commitment is
    /// published.
    pub fn begins(row: Row) -> Story {
        let mut story = Story::is_ready(row);
        story.publishes();
        story.learns();
        story
    }

    /// The same, and nothing is published yet.
    pub fn is_ready(row: Row) -> Story {
        let mut world = World::open(row.format, 24);
        if row.trouble == Trouble::HundredGone {
            world.chain_box.mine(DEEP);
        }
        let pair = &mut world.pair;
        pair.alice_pays(400_000_000, 0);
        for htlc in row.htlcs().iter().filter(|htlc| htlc.n != LATE) {
            offers(pair, htlc);
        }
        pair.talk();
        let (mut cheat, mut unrevoked) = (None, None);
        match row.who {
            Who::Local | Who::Remote => {}
            Who::Next => {
                offers(pair, &row.late());
                while Pair::deliver(&mut pair.alice, &mut pair.bob) {}
                pair.bob.sent.clear();
            }
            Who::Previous => {
                offers(pair, &row.late());
                pair.alice.sent.clear();
            }
            Who::Revoked | Who::Late => {
                cheat = Some(Party::restored(&pair.bob));
                unrevoked = Some(keeps(&pair.alice));
                pair.alice_pays(20_000_000, 99);
            }
        }
        let Pair { alice, bob, .. } = world.pair;
        let mut story = Story::of(row, world.chain_box, world.coins, (alice, cheat.unwrap_or(bob)));
        story.unrevoked = unrevoked;
        if row.who == Who::Late {
            story.mines(row.expiry());
        }
        story
    }

    /// A channel whose F is in the box.
    pub fn of(
        row: Row,
        mut chain_box: ChainBox,
        mut coins: Vec<Coin>,
        (alice, bob): (Party, Party),
    ) -> Story {
        let funding = alice.open().contract.funding.outpoint;
        let shell = Shell::new(&mut chain_box, coins.pop().unwrap(), ALICE);
        // F is deep.
        chain_box.mine(6);
        chain_box.events();
        let (left, bobs, shaken, unrevoked, missed) = Default::default();
        Story {
            row,
            chain_box,
            alice,
            bob,
            left,
            shell,
            coins,
            bobs,
            funding,
            shaken,
            unrevoked,
            missed,
        }
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
        if let Trouble::Minimum(rate) = self.row.trouble {
            self.chain_box.set_minimum(PerKvb::new(rate));
        }
        let mut first = Vec::new();
        match is_local {
            true => self.shell.broadcasts(&mut self.chain_box, &commitment),
            // His miner takes what the mempool does not.
            false if self.chain_box.submit(&commitment).is_err() => first.push(commitment.clone()),
            false => {}
        }
        let txid = commitment.compute_txid();
        while self.chain_box.chain().find(&txid).is_none() {
            self.alice_turns();
            self.mines_with(std::mem::take(&mut first));
        }
    }

    /// Those who are to know preimages learn them now, when nothing is said any more.
    pub fn learns(&mut self) {
        let known = self.row.htlcs().into_iter().filter(|htlc| self.row.is_known(htlc));
        for htlc in known {
            let receiver = if htlc.by_alice { &mut self.bob } else { &mut self.alice };
            receiver.fulfills(htlc.n);
        }
    }

    /// Blocks, and both are told what is in them.
    pub fn mines(&mut self, blocks: u32) {
        self.chain_box.mine(blocks);
        self.catches_up();
    }

    /// Alice plans and publishes.
    pub fn alice_turns(&mut self) {
        if self.missed.is_some() {
            return;
        }
        let height = self.chain_box.chain().height().number();
        let is_out = self.alice.open().claims().is_some();
        self.shell.estimates = estimates(match self.row.trouble {
            Trouble::Spike if is_out && height < SPIKE_ENDS => SPIKE,
            _ => CALM,
        });
        if let Trouble::Minimum(rate) = self.row.trouble {
            let entering = u32::try_from(rate / 4 + 1).unwrap();
            self.shell.estimates.entering = FeeratePerKw::new(entering);
        }
        self.shell.turn(&mut self.chain_box, self.alice.open());
    }

    /// What the next block asks for.
    fn least(&self) -> PerKvb {
        let height = self.chain_box.chain().height().number();
        PerKvb::new(match self.row.trouble {
            Trouble::Crowd(rate) if height % 60 > 0 => rate,
            Trouble::Minimum(rate) => rate,
            Trouble::Spike if height < SPIKE_ENDS && self.alice.open().claims().is_some() => {
                300_000
            }
            _ => 0,
        })
    }

    /// What the next block takes of the mempool beside `first`, which it takes in any case.
    fn template(&self, first: &[Transaction], least: PerKvb) -> Vec<Transaction> {
        let pool = self.chain_box.mempool();
        let mut taken: BTreeSet<bitcoin::Txid> = BTreeSet::new();
        for entry in pool.entries() {
            let mut with = pool.ancestors(&entry.tx);
            with.insert(entry.txid);
            let sum = pool.sum(&with);
            if PerKvb::of(sum.fee, sum.vsize) >= least {
                taken.extend(with);
            }
        }
        let inputs = |tx: &Transaction| -> Vec<OutPoint> {
            tx.input.iter().map(|input| input.previous_output).collect()
        };
        let mut spent: BTreeSet<OutPoint> = first.iter().flat_map(inputs).collect();
        let mut out = BTreeSet::new();
        let mut block = first.to_vec();
        for tx in pool.best() {
            let txid = tx.compute_txid();
            let mut of = tx.input.iter().map(|input| input.previous_output);
            let gone = of.any(|at| spent.contains(&at) || out.contains(&at.txid));
            if gone || !taken.contains(&txid) {
                out.insert(txid);
                continue;
            }
            spent.extend(inputs(&tx));
            block.push(tx);
        }
        block
    }

    /// A block with what `first` holds, and what waits and pays enough. It does not stay when
    /// something is spent in it for the first time and the row has it so.
    pub fn mines_with(&mut self, first: Vec<Transaction>) {
        let block = self.template(&first, self.least());
        let known = self.shaken.len();
        let inputs = block.iter().flat_map(|tx| &tx.input);
        self.shaken.extend(inputs.map(|input| input.previous_output));
        let news = self.shaken.len() - known;
        self.chain_box.mine_block(block, Sat::ZERO, to_anybody()).unwrap();
        self.catches_up();
        match self.row.trouble {
            Trouble::SixGone if news > 0 => {
                self.loses(6);
                if self.shaken.len() % 3 == 0 {
                    self.alice_restarts();
                }
            }
            // Some of them: what outpoints are is as good as dice.
            Trouble::HundredGone if news > 0 && self.shaken.len() % 3 != 0 => {
                self.loses(100);
                self.alice_restarts();
            }
            _ => {}
        }
    }

    /// So many blocks are gone, and empty ones there.
    pub fn loses(&mut self, blocks: u32) {
        self.chain_box.reorg(blocks);
        self.catches_up();
    }

    /// Alice's daemon forgets what is not on disk.
    pub fn alice_restarts(&mut self) {
        self.alice.crashes();
        self.shell.restarts(&self.chain_box);
    }

    /// Both are told of blocks that came and went.
    pub fn catches_up(&mut self) {
        for event in self.chain_box.events() {
            hears(&mut self.bob, &event, self.funding);
            match &mut self.missed {
                Some(missed) => missed.push(event),
                None => self.alice_hears(&event),
            }
        }
    }

    fn alice_hears(&mut self, event: &Event) {
        self.shell.hears(event);
        hears(&mut self.alice, event, self.funding);
    }

    /// Alice's node is off from here on.
    pub fn alice_goes(&mut self) {
        self.missed = Some(Vec::new());
    }

    /// What she has not seen while her node is off.
    pub fn missed(&self) -> impl Iterator<Item = &Event> {
        self.missed.iter().flatten()
    }

    /// It is back, and sees each block that it has missed; what was in the mempool then is gone.
    pub fn alice_returns(&mut self) {
        let missed = self.missed.take().unwrap_or_default();
        let blocks = missed.into_iter().filter(|event| !matches!(event, Event::Entered(_)));
        blocks.for_each(|event| self.alice_hears(&event));
    }

    /// Until nothing is left to claim.
    pub fn ends(&mut self) {
        while self.goes_on() {}
        // What the peer may still take back is not waited for longer than it can.
        let height = self.chain_box.chain().height().number();
        self.mines(1 + self.row.expiry().saturating_sub(height) + DEPTH);
    }

    /// To the next block in which something may happen; false when nothing is left to claim.
    pub fn goes_on(&mut self) -> bool {
        let next = self.chain_box.chain().height().plus(1);
        let left = || self.alice.open().claims().map(|(_, claims)| claims);
        let waits = &self.shell.waits;
        assert!(next < Height::new(1_800), "{:?} goes on: {:?} {waits:?}", self.row, left());
        let bobs = self.bobs_turn(next);
        self.alice_turns();
        let sides = [Some(&self.alice), Some(&self.bob).filter(|_| self.row.racing)];
        let claims = sides.into_iter().flatten().filter_map(|side| side.open().claims());
        let later = claims.flat_map(|(_, claims)| claims).map(|claim| claim.from);
        let wait = later.filter(|from| *from > next).min();
        match wait {
            _ if !bobs.is_empty() || !self.chain_box.mempool().entries().is_empty() => {
                self.mines_with(bobs);
            }
            Some(first) => self.mines(first.number() - next.number()),
            None if !self.shell.waits.is_empty() => self.mines(1),
            None => return false,
        }
        true
    }

    /// What Bob sends to his miner for block `next`, if he is there.
    pub fn bobs_turn(&mut self, next: Height) -> Vec<Transaction> {
        if self.row.racing {
            self.bob_claims(next)
        } else {
            Vec::new()
        }
    }

    /// The first block after `next` for which he has something to send.
    pub fn bob_waits(&self, next: Height) -> Option<Height> {
        let claims = self.bob.open().claims().filter(|_| self.row.racing);
        let later = claims.into_iter().flat_map(|(_, claims)| claims).map(|claim| claim.from);
        later.filter(|from| *from > next).min()
    }

    /// One that is free.
    pub fn bobs_coin(&mut self) -> Coin {
        self.coins.pop().unwrap()
    }

    /// What Bob may claim in block `next`.
    fn bob_claims(&mut self, next: Height) -> Vec<Transaction> {
        let Some((published, claims)) = self.bob.open().claims() else { return Vec::new() };
        let (mut txs, mut given_back) = (Vec::new(), Vec::new());
        for claim in claims.iter().filter(|claim| claim.from <= next) {
            let needs_coin = matches!(claim.pays, Pays::Beside(_));
            let is_free = |coin: &Coin| self.chain_box.unspent(&coin.0, false).is_some();
            let place = self.coins.iter().position(is_free).filter(|_| needs_coin);
            let coin = place.map(|place| self.coins.swap_remove(place));
            given_back.extend(coin);
            txs.push(take(claim, published, BOB, coin));
        }
        // One whose transaction a reorganisation took out is free again.
        self.coins.extend(given_back);
        self.bobs.extend(txs.iter().map(|tx| (tx.compute_txid(), tx.clone())));
        txs
    }

    /// What Alice has in the wallet by now, and what her transactions have cost. The anchor of a
    /// commitment that she paid for is not counted.
    pub fn alice_earned(&self) -> (u64, u64) {
        let confirmed = self.shell.confirmed(&self.chain_box);
        let cost = confirmed.fold(0, |cost, version| {
            let anchor = if version.parent.is_some() { 330 } else { 0 };
            cost + version.fee.sat() - anchor
        });
        (self.shell.gained(&self.chain_box), cost)
    }

    /// The commitments that Alice published.
    pub fn alice_published(&self) -> BTreeSet<bitcoin::Txid> {
        let spends_funding = |tx: &&Transaction| tx.input[0].previous_output == self.funding;
        let published = self.alice.published.iter().filter(spends_funding);
        published.map(|tx| tx.compute_txid()).collect()
    }

    /// Bob's transactions in blocks that pay to his wallet.
    fn bobs_takings(&self) -> impl Iterator<Item = &Transaction> {
        let script = wallet_script(BOB.1);
        let found = self.bobs.keys().filter_map(|txid| self.chain_box.chain().find(txid));
        let pays = move |tx: &&Transaction| tx.output.iter().any(|o| o.script_pubkey == script);
        found.map(|(_, tx)| tx).filter(pays)
    }

    /// What Bob has in the wallet by now.
    pub fn bob_earned(&self) -> u64 {
        let script = wallet_script(BOB.1);
        let outputs = self.bobs_takings().flat_map(|tx| &tx.output);
        let his = outputs.filter(|output| output.script_pubkey == script);
        his.map(|output| output.value.to_sat()).sum()
    }

    /// The outputs that he has moved to his wallet.
    pub fn bob_moved(&self) -> Vec<OutPoint> {
        self.bobs_takings().map(|tx| tx.input[0].previous_output).collect()
    }
}

/// Offers an HTLC with its own expiry.
pub fn offers(pair: &mut Pair, htlc: &InFlightHtlc) {
    let (payment_hash, amount) = (preimage(htlc.n).hash(), Msat::new(htlc.sat * 1_000));
    let memo = payment_hash.0.to_vec();
    let cltv_expiry = Height::new(htlc.expiry);
    let offer = Offer { amount, payment_hash, cltv_expiry, onion: onion(), memo };
    let party = if htlc.by_alice { &mut pair.alice } else { &mut pair.bob };
    party.handle(Input::Command(Command::Offer(offer))).unwrap();
}

/// Tells a side of a block, or of what waits for one.
pub fn hears(party: &mut Party, event: &Event, funding: OutPoint) {
    match event {
        Event::Connected(height, block) => {
            party.handle(Input::Block(*height)).unwrap();
            for tx in &block.txdata {
                tells(party, tx, *height, funding);
            }
        }
        Event::Disconnected(height, _) => {
            party.handle(Input::Unblock(*height)).unwrap();
        }
        Event::Entered(tx) => {
            let tx = Box::new((**tx).clone());
            party.handle(Input::Unconfirmed(tx)).unwrap();
        }
        _ => {}
    }
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
