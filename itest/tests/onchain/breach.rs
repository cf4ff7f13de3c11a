//! Fifty random states of one channel, each of them published after it was revoked: all of it goes
//! to the wronged side, whether the cheater then races or not.

use super::story::{InFlight, Row, Story, Trouble, Who};
use crate::chain_box::claims::support::{preimage, Pair, Party};
use crate::chain_box::claims::World;
use fulmen_channel::contract::htlc::Removal;
use fulmen_channel::params::CommitmentFormat::Anchors;
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

#[test]
fn every_revoked_state_of_a_channel_is_taken_whole() {
    let seed = 20_261_121;
    let mut dice = StdRng::seed_from_u64(seed);
    let World { chain_box, mut pair, coins } = World::open(Anchors, 24);
    pair.alice_pays(400_000_000, 0);
    let mut cheats = Vec::new();
    for n in 1.. {
        if cheats.len() > STATES {
            break;
        }
        let cheat = Party::restored(&pair.bob);
        if step(&mut pair, &mut dice, n) {
            cheats.push(cheat);
        }
    }
    cheats.truncate(STATES);
    let in_flight: usize =
        cheats.iter().map(|cheat| cheat.open().contract.htlcs.len()).max().unwrap();
    assert!(in_flight > 8, "the states are worth little: {in_flight}");
    for (state, cheat) in cheats.into_iter().enumerate() {
        let racing = dice.gen_bool(0.5);
        let (who, in_flight) = (Who::Revoked, InFlight::Twenty);
        let trouble = Trouble::Nothing;
        let row = Row { format: Anchors, who, in_flight, known: racing, racing, trouble };
        let sides = (Party::restored(&pair.alice), cheat);
        let mut story = Story::of(row, chain_box.clone(), coins.clone(), sides);
        story.publishes();
        if racing {
            // The cheater has every preimage.
            for id in story.bob.pending_received() {
                let hash = story.bob.open().contract.htlcs
                    [&(fulmen_channel::params::Side::Remote, id)]
                    .payment_hash;
                let known = (1..).map(preimage).find(|preimage| preimage.hash() == hash).unwrap();
                story.bob.removes(id, Removal::Fulfilled(known)).unwrap();
            }
        }
        story.ends();
        let (sum, fees) = story.alice_earned();
        let all = 1_000_000 - 660 - story.left;
        assert_eq!(sum + fees, all, "state {state} of seed {seed}, racing: {racing}");
        assert_eq!(story.bob_earned(), 0, "state {state} of seed {seed}");
    }
}
