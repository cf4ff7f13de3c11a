//! The revoked rows of the table with Alice's node off: a tower of hers sees blocks and publishes
//! remedies, Bob is gone or races, and when he need not wait for anything any more Alice is back
//! and takes what is left. Down to the satoshi, all of it is hers but what no tower of that kind
//! covers.

use super::breach::{a_life, cheater_has_every_preimage};
use super::story::{InFlight, Row, Story, Trouble, Who, ALICE, DUST};
use super::table::{is_told_all, HE_FEE, HT_FEE};
use crate::chain_box::claims::support::{wallet_script, Party};
use bitcoin::constants::genesis_block;
use bitcoin::secp256k1::{Secp256k1, SecretKey};
use bitcoin::{Network, OutPoint, Transaction, Txid};
use fulmen_channel::amount::{FeeratePerKw, Height};
use fulmen_channel::contract::Commitments;
use fulmen_channel::keys::InMemorySigner;
use fulmen_channel::params::CommitmentFormat::{self, Anchors, StaticRemoteKey};
use fulmen_channel::params::Side;
use fulmen_itest::chainbox::{ChainBox, Event};
use fulmen_watchtower::api::message::{Reply, Request};
use fulmen_watchtower::gatekeeper::Limits;
use fulmen_watchtower::private::PrivateChannel;
use fulmen_watchtower::record::{Terms, Unrevoked};
use fulmen_watchtower::tower::{self, Setup};
use std::collections::{BTreeMap, BTreeSet};
use tempfile::TempDir;

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

/// A tower without sockets.
struct Tower {
    setup: Setup,
    dir: TempDir,
    /// None while it is off.
    inner: Option<tower::Tower>,
    /// How much it has seen of what Alice missed, and up to which block.
    seen: (usize, Height),
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
        let client = SecretKey::from_slice(&[3; 32]).unwrap().public_key(&Secp256k1::new());
        let setup = Setup {
            secret: SecretKey::from_slice(&[4; 32]).unwrap(),
            chain: genesis_block(Network::Regtest).block_hash(),
            private_clients: BTreeSet::from([client]),
            limits: Limits::default(),
        };
        let (sent, seen) = (BTreeMap::new(), (0, tip));
        let mut tower = Tower { setup, dir: in_memory(), inner: None, seen, sent };
        tower.restarts();
        let signer = InMemorySigner::from_seed(ALICE);
        let request = match mode {
            Mode::Altruist => {
                let secret = contract.revocations.get(unrevoked.number).expect("it is revoked");
                let secret = SecretKey::from_slice(&secret).unwrap();
                let (sealed, left_out) = unrevoked.seal(&secret, &signer);
                assert_eq!(left_out, 0);
                Request::Put { sequence: 0, records: vec![sealed], note: vec![] }
            }
            Mode::Private => {
                let secret = signer.revocation_secret();
                let channel = PrivateChannel::of(contract, &secret, wallet_script(HOME));
                Request::PutChannel { body: channel.to_bytes(), note: vec![] }
            }
        };
        let reply = tower.inner().answer(&client, request);
        assert!(matches!(reply, Reply::Stored(_) | Reply::Done), "{reply:?}");
        tower
    }

    fn inner(&self) -> &tower::Tower {
        self.inner.as_ref().unwrap()
    }

    /// It was killed, and goes on with what is on disk.
    fn restarts(&mut self) {
        self.inner = None;
        let file = self.dir.path().join("tower.db");
        self.inner = Some(tower::Tower::open(&file, self.setup.clone()).unwrap());
    }

    /// Looks at the blocks that came and went since, and hands in what is to be in the mempool.
    fn turn(&mut self, story: &mut Story) {
        let missed = story.missed().skip(self.seen.0);
        for event in missed {
            self.seen.0 += 1;
            match event {
                Event::Connected(height, block) => {
                    self.inner().connect(*height, block).unwrap();
                    self.seen.1 = *height;
                }
                Event::Disconnected(height, _) => {
                    self.inner().disconnect(*height).unwrap();
                    self.seen.1 = height.minus(1);
                    // In the middle of it, too.
                    if height.number() % 4 == 0 {
                        self.restarts();
                    }
                }
                _ => {}
            }
        }
        let chain_box = &mut story.chain_box;
        for tx in self.inner().remedies(self.seen.1, ESTIMATE).unwrap() {
            let txid = tx.compute_txid();
            // What the cheater had in a block before a reorganisation waits again, and was first.
            let is_taken = chain_box.mempool().spender(&tx.input[0].previous_output);
            if is_taken.is_none_or(|by| self.sent.contains_key(&by)) && is_taken != Some(txid) {
                chain_box.submit(&tx).expect("relay takes each remedy");
                self.sent.insert(txid, tx);
            }
        }
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

/// A folder that nothing waits for, where the machine has such.
fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
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
        tower.turn(story);
        let next = story.chain_box.chain().height().plus(1);
        let bobs = story.bobs_turn(next);
        let wait = story.bob_waits(next).unwrap_or(until.plus(1)).min(until.plus(1));
        match bobs.is_empty() && story.chain_box.mempool().entries().is_empty() {
            true => story.mines(wait.number() - next.number()),
            false => story.mines_with(bobs),
        }
    }
    tower.turn(story);
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
    let to_tower = due.tower.unwrap_or(all - lost);
    match story.row.trouble {
        // What so deep a reorganisation brings back when she is back too is hers or its.
        Trouble::HundredGone => assert!(taken + cost <= to_tower && taken > 0, "{what}"),
        _ => assert_eq!(taken + cost, to_tower, "{what}"),
    }
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

/// A row with this tower: what the cheater got away with.
fn plays_row(mode: Mode, row: Row) -> u64 {
    let mut story = Story::is_ready(row);
    let unrevoked = story.unrevoked.take().unwrap();
    let tower = plays(mode, &mut story, unrevoked, Story::learns);
    let due = due(mode, &row);
    settles(&story, &tower, due, &format!("{mode:?}: {row:?}"));
    is_told_all(&story);
    due.lost
}

fn all(format: CommitmentFormat, mode: Mode) {
    use InFlight::{Both, Dust, Nothing, Offered, Received, Twenty};
    let mut sum = 0;
    for who in [Who::Revoked, Who::Late] {
        for in_flight in [Nothing, Offered, Received, Dust, Both, Twenty] {
            for (known, racing) in [(false, false), (false, true), (true, false), (true, true)] {
                let trouble = Trouble::Nothing;
                sum += plays_row(mode, Row { format, who, in_flight, known, racing, trouble });
            }
        }
    }
    let may_lose = format == Anchors && mode == Mode::Altruist;
    assert_eq!(sum > 0, may_lose, "what a tower cannot cover");
}

/// The same with blocks that are gone again.
fn all_in(mode: Mode, trouble: Trouble) {
    for format in [Anchors, StaticRemoteKey] {
        for who in [Who::Revoked, Who::Late] {
            for (known, racing) in [(false, false), (false, true), (true, true)] {
                let in_flight = InFlight::Both;
                plays_row(mode, Row { format, who, in_flight, known, racing, trouble });
            }
        }
    }
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

#[test]
fn a_private_tower_and_six_blocks_that_are_gone_after_each_step() {
    all_in(Mode::Private, Trouble::SixGone);
}

#[test]
fn an_altruist_tower_and_six_blocks_that_are_gone_after_each_step() {
    all_in(Mode::Altruist, Trouble::SixGone);
}

#[test]
fn a_private_tower_and_a_hundred_blocks_that_are_gone_after_some_steps() {
    all_in(Mode::Private, Trouble::HundredGone);
}

#[test]
fn an_altruist_tower_and_a_hundred_blocks_that_are_gone_after_some_steps() {
    all_in(Mode::Altruist, Trouble::HundredGone);
}

/// Every state of the life that a sweeper alone is tried with, published while Alice is away.
fn every_state(mode: Mode, format: CommitmentFormat) {
    let life = a_life(format);
    for (state, cheat) in life.cheats.iter().enumerate() {
        let (moved, fees) = cheat.moves(format);
        let base = cheat.bob.open().contract.state.base.local.msat() / 1_000;
        let to_local = base - cheat.offered(Side::Local, true).0;
        let due = match (mode, format) {
            (Mode::Private, _) => Due { fees, tower: Some(to_local + moved - fees), lost: 0 },
            (Mode::Altruist, Anchors) => Due { lost: moved, ..Due::default() },
            (Mode::Altruist, StaticRemoteKey) => Due { fees, ..Due::default() },
        };
        let mut story = life.story(cheat);
        let cheats = |story: &mut Story| {
            if cheat.racing {
                cheater_has_every_preimage(story);
            }
        };
        let tower = plays(mode, &mut story, cheat.unrevoked.clone(), cheats);
        let (racing, late) = (cheat.racing, cheat.late);
        let what = format!("{mode:?}, {format:?}: state {state}, racing: {racing}, late: {late}");
        settles(&story, &tower, due, &what);
    }
}

#[test]
fn a_private_tower_takes_every_revoked_state_of_a_channel() {
    every_state(Mode::Private, Anchors);
}

#[test]
fn an_altruist_tower_takes_every_revoked_state_of_a_channel() {
    every_state(Mode::Altruist, Anchors);
}

#[test]
fn a_private_tower_takes_every_revoked_state_of_a_static_remotekey_channel() {
    every_state(Mode::Private, StaticRemoteKey);
}

#[test]
fn an_altruist_tower_takes_every_revoked_state_of_a_static_remotekey_channel() {
    every_state(Mode::Altruist, StaticRemoteKey);
}
