//! Fifty random states of one channel, each of them published after it was revoked: all of it goes
//! to the wronged side, whether the cheater then races or not, and whether HTLCs have expired.

use super::story::{InFlight, Row, Story, Trouble, Who, DUST};
use super::table::{HE_FEE, HT_FEE};
use super::towers::keeps;
use crate::chain_box::claims::support::{preimage, Pair, Party};
use crate::chain_box::claims::World;
use fulmen_channel::contract::htlc::Removal;
use fulmen_channel::params::CommitmentFormat::{self, Anchors, StaticRemoteKey};
use fulmen_channel::params::Side;
use fulmen_itest::chainbox::ChainBox;
use fulmen_watchtower::record::Unrevoked;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const STATES: usize = 50;

/// Something random happens to the channel, and both agree on it. Whether anything did.
fn step(pair: &mut Pair, dice: &mut StdRng, n: u64) -> bool {
    let before = pair.bob.open().contract.state.local_number;
    let pays = dice.gen_bool(0.5);
    if dice.gen_bool(0.6) {
        let sat = if dice.gen_bool(0.2) { DUST } else { dice.gen_range(2_000..20_000) };
        let payer = if pays { &mut pair.alice } else { &mut pair.bob };
        // Refused when it has no money left for it: then nothing happens.
        let _ = payer.handle(Party::offer(n, sat * 1_000));
    } else {
        let payee = if pays { &mut pair.bob } else { &mut pair.alice };
        let waiting = payee.pending_received();
        if let Some(id) = waiting.get(dice.gen_range(0..waiting.len().max(1))) {
            let number = (1..n).find(|n| payee.received_as(*n) == Some(*id)).unwrap();
            let removal = match dice.gen_bool(0.7) {
                true => Removal::Fulfilled(preimage(number)),
                false => Removal::Failed(vec![1; 292]),
            };
            payee.removes(*id, removal).unwrap();
        }
    }
    pair.talk();
    pair.bob.open().contract.state.local_number > before
}

/// A state that was revoked.
pub struct Cheat {
    /// Bob as he was.
    pub bob: Party,
    /// What Alice kept of it for towers.
    pub unrevoked: Unrevoked,
    /// Whether he will race.
    pub racing: bool,
    /// Whether its HTLCs have expired when it is published.
    pub late: bool,
}

/// A channel, and its states that were revoked.
pub struct Life {
    world: World,
    format: CommitmentFormat,
    /// The chain when all HTLCs have expired.
    late: ChainBox,
    pub cheats: Vec<Cheat>,
}

const SEED: u64 = 20_261_121;
/// When all HTLCs have expired, after F.
const LATE: u32 = 400;

pub fn a_life(format: CommitmentFormat) -> Life {
    let mut dice = StdRng::seed_from_u64(SEED);
    let mut world = World::open(format, 24);
    let pair = &mut world.pair;
    pair.alice_pays(400_000_000, 0);
    let mut cheats = Vec::new();
    for n in 1.. {
        if cheats.len() > STATES {
            break;
        }
        let (cheat, unrevoked) = (Party::restored(&pair.bob), keeps(&pair.alice));
        if step(pair, &mut dice, n) {
            cheats.push((cheat, unrevoked));
        }
    }
    cheats.truncate(STATES);
    let mut cheats_so = |(bob, unrevoked)| Cheat {
        bob,
        unrevoked,
        racing: dice.gen_bool(0.5),
        late: dice.gen_bool(0.4),
    };
    let cheats: Vec<_> = cheats.into_iter().map(&mut cheats_so).collect();
    let in_flight = cheats.iter().map(|cheat| cheat.bob.open().contract.htlcs.len()).max().unwrap();
    assert!(in_flight > 8, "the states are worth little: {in_flight}");
    let mut late = world.chain_box.clone();
    late.mine(LATE);
    Life { world, format, late, cheats }
}

impl Life {
    pub fn story(&self, cheat: &Cheat) -> Story {
        let Cheat { racing, late, .. } = *cheat;
        let who = if late { Who::Late } else { Who::Revoked };
        let (format, in_flight, trouble) = (self.format, InFlight::Twenty, Trouble::Nothing);
        let row = Row { format, who, in_flight, known: racing, racing, trouble };
        let sides = (Party::restored(&self.world.pair.alice), Party::restored(&cheat.bob));
        let chain_box = if late { &self.late } else { &self.world.chain_box };
        Story::of(row, chain_box.clone(), self.world.coins.clone(), sides)
    }
}

impl Cheat {
    /// What a side has in HTLCs that it offered, and in how many; in those with an output, or all.
    pub fn offered(&self, by: Side, all: bool) -> (u64, u64) {
        let htlcs = self.bob.open().contract.htlcs.iter().filter(|((it, _), _)| *it == by);
        let values = htlcs.map(|(_, htlc)| htlc.amount.msat() / 1_000);
        let values = values.filter(|sat| all || *sat > DUST);
        values.fold((0, 0), |(sum, count), sat| (sum + sat, count + 1))
    }

    /// What the cheater moves by second stages that are mined first, and what these leave to
    /// miners: he has every preimage, and takes back what has expired.
    pub fn moves(&self, format: CommitmentFormat) -> (u64, u64) {
        let offered = |by, so| if so { self.offered(by, false) } else { (0, 0) };
        let (he, ht) =
            (offered(Side::Remote, self.racing), offered(Side::Local, self.racing && self.late));
        match format {
            Anchors => (he.0 + ht.0, 0),
            StaticRemoteKey => (he.0 + ht.0, he.1 * HE_FEE + ht.1 * HT_FEE),
        }
    }
}

/// Bob learns the preimage of each HTLC that he was offered.
pub fn cheater_has_every_preimage(story: &mut Story) {
    for id in story.bob.pending_received() {
        let htlcs = &story.bob.open().contract.htlcs;
        let hash = htlcs[&(Side::Remote, id)].payment_hash;
        let known = (1..).map(preimage).find(|preimage| preimage.hash() == hash).unwrap();
        story.bob.removes(id, Removal::Fulfilled(known)).unwrap();
    }
}

fn every_state(format: CommitmentFormat) {
    let life = a_life(format);
    for (state, cheat) in life.cheats.iter().enumerate() {
        let mut story = life.story(cheat);
        story.publishes();
        if cheat.racing {
            cheater_has_every_preimage(&mut story);
        }
        story.ends();
        let (sum, fees) = story.alice_earned();
        let anchors = if format == Anchors { 660 } else { 0 };
        let all = 1_000_000 - anchors - story.left - cheat.moves(format).1;
        let Cheat { racing, late, .. } = cheat;
        let what = format!("state {state} of seed {SEED}, racing: {racing}, late: {late}");
        assert_eq!(sum + fees, all, "{what}");
        assert_eq!(story.bob_earned(), 0, "{what}");
    }
}

#[test]
fn every_revoked_state_of_a_channel_is_taken_whole() {
    every_state(Anchors);
}

#[test]
fn every_revoked_state_of_a_static_remotekey_channel_is_taken_whole() {
    every_state(StaticRemoteKey);
}
