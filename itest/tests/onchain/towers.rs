//! The revoked rows of the table with Alice's node off: a tower of hers sees blocks and publishes
//! remedies, Bob is gone or races, and when he need not wait for anything any more Alice is back
//! and takes what is left. Down to the satoshi, all of it is hers but what no tower of that kind
//! covers.

use super::breach::{a_life, cheater_has_every_preimage};
use super::story::{InFlight, Row, Story, Trouble, Who, ALICE, DUST};
use super::table::{is_told_all, HE_FEE, HT_FEE};
use crate::chain_box::claims::support::{wallet_script, Party};
use bitcoin::secp256k1::SecretKey;
use bitcoin::{OutPoint, Transaction, Txid};
use fulmen_channel::amount::{FeeratePerKw, Height};
use fulmen_channel::contract::Commitments;
use fulmen_channel::keys::InMemorySigner;
use fulmen_channel::params::CommitmentFormat::{self, Anchors, StaticRemoteKey};
use fulmen_channel::params::Side;
use fulmen_itest::chainbox::ChainBox;
use fulmen_watchtower::private::PrivateChannel;
use fulmen_watchtower::record::{Record, Sealed, Terms, Unrevoked};
use fulmen_watchtower::responder::{Breach, Means};
use fulmen_watchtower::watcher::Watcher;
use std::collections::BTreeMap;

/// What remedies that are signed beforehand pay: so little that the smallest HTLC is worth its own.
const SIGNED_AT: FeeratePerKw = FeeratePerKw::new(1_000);
/// What a private tower is told that two blocks cost.
const ESTIMATE: FeeratePerKw = FeeratePerKw::new(2_500);
/// How long Alice's node is off: Bob's to_self_delay, from his second stages on too.
const AWAY: u32 = 144 + 6;
/// Where towers pay to.
const HOME: u8 = 9;

/// What a tower can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Private,
    Altruist,
}

/// What it was handed, as bytes.
enum Held {
    Private(Vec<u8>),
    Altruist(Sealed),
}

/// A tower without disk and sockets.
struct Tower {
    held: Held,
    watcher: Watcher,
    breach: Option<Breach>,
    /// The last block that it looked at.
    tip: Height,
    /// What it published.
    sent: BTreeMap<Txid, Transaction>,
}

/// What Alice keeps of Bob's newest state for her altruist towers until he revokes it.
pub fn keeps(alice: &Party) -> Unrevoked {
    let contract = &alice.open().contract;
    let terms = Terms { feerate: SIGNED_AT, destination: wallet_script(HOME) };
    Unrevoked::of(contract, &contract.remote_draft(), terms)
}

impl Tower {
    /// Alice has told it of the state, which is revoked by now, or of the channel.
    fn told(mode: Mode, contract: &Commitments, unrevoked: Unrevoked, tip: Height) -> Tower {
        let signer = InMemorySigner::from_seed(ALICE);
        let mut watcher = Watcher::default();
        let held = match mode {
            Mode::Altruist => {
                let secret = contract.revocations.get(unrevoked.number).expect("it is revoked");
                let secret = SecretKey::from_slice(&secret).unwrap();
                let (sealed, left_out) = unrevoked.seal(&secret, &signer);
                assert_eq!(left_out, 0);
                watcher.add_hint(sealed.hint);
                Held::Altruist(sealed)
            }
            Mode::Private => {
                watcher.add_funding(contract.funding.outpoint);
                let secret = signer.revocation_secret();
                let channel = PrivateChannel::of(contract, &secret, wallet_script(HOME));
                Held::Private(channel.to_bytes())
            }
        };
        Tower { held, watcher, breach: None, tip, sent: BTreeMap::new() }
    }

    fn means(&self, tx: &Transaction) -> Means {
        match &self.held {
            Held::Altruist(sealed) => {
                Means::Altruist(Record::open(&sealed.bytes, &tx.compute_txid()).unwrap())
            }
            Held::Private(bytes) => {
                let channel = PrivateChannel::from_bytes(bytes).unwrap();
                Means::Private(channel.punisher(tx).expect("it is revoked"))
            }
        }
    }

    /// Looks at the blocks that it has not seen, and hands in what is to be in the mempool.
    fn turn(&mut self, chain_box: &mut ChainBox) {
        while self.tip < chain_box.chain().height() {
            self.tip = self.tip.plus(1);
            let hash = chain_box.chain().hash_at(self.tip).unwrap();
            let block = chain_box.chain().block(&hash).unwrap().1.clone();
            block.txdata.iter().for_each(|tx| self.looks(tx));
        }
        let Some(breach) = &mut self.breach else { return };
        for tx in breach.remedies(self.tip, ESTIMATE).0 {
            let txid = tx.compute_txid();
            if chain_box.mempool().get(&txid).is_none() {
                chain_box.submit(&tx).expect("relay takes each remedy");
                self.sent.insert(txid, tx);
            }
        }
    }

    fn looks(&mut self, tx: &Transaction) {
        let Some(sighting) = self.watcher.look(tx) else { return };
        match &mut self.breach {
            Some(breach) => assert!(sighting.of_breach && breach.see(tx, self.tip)),
            None => self.breach = Breach::new(tx, self.tip, vec![self.means(tx)]),
        }
        let watched = self.breach.iter().flat_map(Breach::watched);
        watched.for_each(|txid| self.watcher.add_breach(txid));
    }

    /// What it took for Alice, and what that cost.
    fn took(&self, chain_box: &ChainBox) -> (u64, u64) {
        let confirmed = self.sent.iter().filter(|(txid, _)| chain_box.chain().find(txid).is_some());
        confirmed.fold((0, 0), |(sum, fees), (_, tx)| {
            let [input] = tx.input.as_slice() else { panic!("one input each") };
            let [output] = tx.output.as_slice() else { panic!("one output each") };
            assert_eq!(output.script_pubkey, wallet_script(HOME));
            let paid = output.value.to_sat();
            (sum + paid, fees + value_of(chain_box, &input.previous_output) - paid)
        })
    }
}

fn value_of(chain_box: &ChainBox, outpoint: &OutPoint) -> u64 {
    let (_, tx) = chain_box.chain().find(&outpoint.txid).unwrap();
    tx.output[outpoint.vout as usize].value.to_sat()
}

/// The cheat, [`AWAY`] blocks of the tower alone, and Alice from then on.
fn plays(
    mode: Mode,
    story: &mut Story,
    unrevoked: Unrevoked,
    cheats: impl FnOnce(&mut Story),
) -> Tower {
    let contract = &story.alice.open().contract;
    let height = story.chain_box.chain().height();
    let mut tower = Tower::told(mode, contract, unrevoked, height);
    story.alice_goes();
    story.publishes();
    cheats(story);
    let until = story.chain_box.chain().height().plus(AWAY);
    while story.chain_box.chain().height() < until {
        tower.turn(&mut story.chain_box);
        let next = story.chain_box.chain().height().plus(1);
        let bobs = story.bobs_turn(next);
        let wait = story.bob_waits(next).unwrap_or(until.plus(1)).min(until.plus(1));
        match bobs.is_empty() && story.chain_box.mempool().entries().is_empty() {
            true => story.mines(wait.number() - next.number()),
            false => story.mines_with(bobs),
        }
    }
    tower.turn(&mut story.chain_box);
    story.alice_returns();
    story.ends();
    tower
}

/// What is due, in satoshi.
#[derive(Clone, Copy, Debug, Default)]
struct Due {
    /// To the cheater's second stages, for fees of theirs.
    fees: u64,
    /// To the cheater: what no tower of this kind takes from him while Alice is away.
    lost: u64,
    /// To the tower; none if that is all there is but `lost`.
    tower: Option<u64>,
}

/// The ends meet: what Alice and her tower have and what that cost, and what Bob got away with.
fn settles(story: &Story, tower: &Tower, due: Due, what: &str) {
    let anchors = if story.row.format == Anchors { 660 } else { 0 };
    let all = 1_000_000 - anchors - story.left - due.fees;
    let moved = story.bob_moved();
    let lost: u64 = moved.iter().map(|at| value_of(&story.chain_box, at)).sum();
    assert_eq!(lost, due.lost, "{what}");
    assert_eq!(story.bob_earned() == 0, lost == 0, "{what}");
    let (taken, cost) = tower.took(&story.chain_box);
    assert_eq!(taken + cost, due.tower.unwrap_or(all - lost), "{what}");
    let (sum, fees) = story.alice_earned();
    assert_eq!(sum + fees + taken + cost + lost, all, "{what}");
    let open = story.alice.open();
    assert!(open.is_resolved(6) == Some(true), "{what}: {:?}", open.claims());
}

/// What is due in a row with this tower.
fn due(mode: Mode, row: &Row) -> Due {
    let htlcs = row.htlcs();
    let bobs: u64 = htlcs.iter().filter(|htlc| !htlc.by_alice).map(|htlc| htlc.sat).sum();
    let (mut due, mut moved) = (Due::default(), 0);
    for htlc in htlcs.iter().filter(|htlc| row.racing && htlc.sat != DUST) {
        // His HT waits for the expiry; by then only a private tower has left him the HTLC.
        let is_his = match htlc.by_alice {
            true => row.known,
            false => row.who == Who::Late || mode == Mode::Private,
        };
        let fee = match row.format {
            Anchors => 0,
            StaticRemoteKey if htlc.by_alice => HE_FEE,
            StaticRemoteKey => HT_FEE,
        };
        if is_his {
            due.fees += fee;
            moved += htlc.sat - fee;
        }
    }
    match (mode, row.format) {
        // To_local, and the second stages.
        (Mode::Private, _) => due.tower = Some(400_000 - bobs + moved),
        // No signature made beforehand fits a second stage whose txid is open.
        (Mode::Altruist, Anchors) => due.lost = moved,
        (Mode::Altruist, StaticRemoteKey) => {}
    }
    due
}

fn all(format: CommitmentFormat, mode: Mode) {
    use InFlight::{Both, Dust, Nothing, Offered, Received, Twenty};
    let mut sum = 0;
    for who in [Who::Revoked, Who::Late] {
        for in_flight in [Nothing, Offered, Received, Dust, Both, Twenty] {
            for (known, racing) in [(false, false), (false, true), (true, false), (true, true)] {
                let trouble = Trouble::Nothing;
                let row = Row { format, who, in_flight, known, racing, trouble };
                let mut story = Story::is_ready(row);
                let unrevoked = story.unrevoked.take().unwrap();
                let tower = plays(mode, &mut story, unrevoked, Story::learns);
                let due = due(mode, &row);
                settles(&story, &tower, due, &format!("{mode:?}: {row:?}"));
                is_told_all(&story);
                sum += due.lost;
            }
        }
    }
    let may_lose = format == Anchors && mode == Mode::Altruist;
    assert_eq!(sum > 0, may_lose, "what a tower cannot cover");
}

#[test]
fn a_private_tower_on_anchors() {
    all(Anchors, Mode::Private);
}

#[test]
fn a_private_tower_on_static_remotekey() {
    all(StaticRemoteKey, Mode::Private);
}

#[test]
fn an_altruist_tower_on_anchors() {
    all(Anchors, Mode::Altruist);
}

#[test]
fn an_altruist_tower_on_static_remotekey() {
    all(StaticRemoteKey, Mode::Altruist);
}

/// Every state of the life that a sweeper alone is tried with, published while Alice is away.
fn every_state(mode: Mode) {
    let life = a_life();
    for (state, (cheat, unrevoked, racing)) in life.cheats.iter().enumerate() {
        let row = life.row(*racing);
        let contract = &cheat.open().contract;
        let sum = |side, least| -> u64 {
            let htlcs = contract.htlcs.iter().filter(|((by, _), _)| *by == side);
            htlcs.map(|(_, htlc)| htlc.amount.msat() / 1_000).filter(|sat| *sat >= least).sum()
        };
        // The cheater has every preimage: what Alice offered him and has an output is his at once.
        let moved = if *racing { sum(Side::Remote, DUST + 1) } else { 0 };
        let to_local = contract.state.base.local.msat() / 1_000 - sum(Side::Local, 0);
        let due = match mode {
            Mode::Private => Due { tower: Some(to_local + moved), ..Due::default() },
            Mode::Altruist => Due { lost: moved, ..Due::default() },
        };
        let mut story = life.story(row, Party::restored(cheat));
        let cheats = |story: &mut Story| {
            if *racing {
                cheater_has_every_preimage(story);
            }
        };
        let tower = plays(mode, &mut story, unrevoked.clone(), cheats);
        settles(&story, &tower, due, &format!("{mode:?}: state {state}, racing: {racing}"));
    }
}

#[test]
fn a_private_tower_takes_every_revoked_state_of_a_channel() {
    every_state(Mode::Private);
}

#[test]
fn an_altruist_tower_takes_every_revoked_state_of_a_channel() {
    every_state(Mode::Altruist);
}
