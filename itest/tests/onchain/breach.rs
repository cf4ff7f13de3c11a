//! Fifty random states of one channel, each of them published after it was revoked: all of it goes
//! to the wronged side, whether the cheater then races or not.

use super::story::{InFlight, Row, Story, Trouble, Who};
use super::towers::keeps;
use crate::chain_box::claims::support::{preimage, Pair, Party};
use crate::chain_box::claims::World;
use fulmen_channel::contract::htlc::Removal;
use fulmen_channel::params::CommitmentFormat::Anchors;
use fulmen_channel::params::Side;
use fulmen_watchtower::record::Unrevoked;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const STATES: usize = 50;

/// Something random happens to the channel, and both agree on it. Whether anything did.
fn step(pair: &mut Pair, dice: &mut StdRng, n: u64) -> bool {
    let before = pair.bob.open().contract.state.local_number;
    let pays = dice.gen_bool(0.5);
    if dice.gen_bool(0.6) {
        let sat = if dice.gen_bool(0.2) { 300 } else { dice.gen_range(1_000..20_000) };
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

/// A channel, and its states that were revoked: Bob as he was, what Alice kept of it for towers,
/// whether he will race.
pub struct Life {
    world: World,
    pub cheats: Vec<(Party, Unrevoked, bool)>,
}

const SEED: u64 = 20_261_121;

pub fn a_life() -> Life {
    let mut dice = StdRng::seed_from_u64(SEED);
    let mut world = World::open(Anchors, 24);
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
    let mut races = |(cheat, unrevoked)| (cheat, unrevoked, dice.gen_bool(0.5));
    let cheats: Vec<_> = cheats.into_iter().map(&mut races).collect();
    let htlcs = |cheat: &Party| cheat.open().contract.htlcs.len();
    let in_flight = cheats.iter().map(|(cheat, ..)| htlcs(cheat)).max().unwrap();
    assert!(in_flight > 8, "the states are worth little: {in_flight}");
    Life { world, cheats }
}

impl Life {
    pub fn row(&self, racing: bool) -> Row {
        let (who, in_flight) = (Who::Revoked, InFlight::Twenty);
        Row { format: Anchors, who, in_flight, known: racing, racing, trouble: Trouble::Nothing }
    }

    pub fn story(&self, row: Row, cheat: Party) -> Story {
        let sides = (Party::restored(&self.world.pair.alice), cheat);
        Story::of(row, self.world.chain_box.clone(), self.world.coins.clone(), sides)
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

#[test]
fn every_revoked_state_of_a_channel_is_taken_whole() {
    let life = a_life();
    for (state, (cheat, _, racing)) in life.cheats.iter().enumerate() {
        let mut story = life.story(life.row(*racing), Party::restored(cheat));
        story.publishes();
        if *racing {
            cheater_has_every_preimage(&mut story);
        }
        story.ends();
        let (sum, fees) = story.alice_earned();
        let all = 1_000_000 - 660 - story.left;
        assert_eq!(sum + fees, all, "state {state} of seed {SEED}, racing: {racing}");
        assert_eq!(story.bob_earned(), 0, "state {state} of seed {SEED}");
    }
}
