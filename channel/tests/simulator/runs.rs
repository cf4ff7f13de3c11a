//! Many seeds. A run is some things that happen, some kind of end, and then everything must come
//! to rest and add up.

use super::faults::Fault;
use super::keys::Keys;
use super::world::World;
use super::{wrong, Sound, Wrong};
use crate::support::{spent_by, wallet_script};
use fulmen_channel::amount::Msat;
use fulmen_channel::contract::balance::View;
use fulmen_channel::params::Side;
use std::collections::BTreeMap;

/// How many things happen in a run.
const THINGS: u64 = 200;

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The channel stays open.
    Open,
    /// Somebody wants to close together.
    Together,
    /// Somebody closes by force.
    Force,
}

/// A run and what is special about it.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    seed: u64,
    real_keys: bool,
    fault: Option<Fault>,
    blind_to_disk: bool,
}

impl Run {
    pub fn new(seed: u64) -> Self {
        Run { seed, real_keys: false, fault: None, blind_to_disk: false }
    }

    pub fn with_real_keys(self) -> Self {
        Run { real_keys: true, ..self }
    }

    /// With a fault planted; `blind_to_disk` leaves it to the other checks.
    pub fn with(self, fault: Fault, blind_to_disk: bool) -> Self {
        Run { fault: Some(fault), blind_to_disk, ..self }
    }

    /// Runs, and says what was wrong.
    pub fn go(self) -> Sound {
        self.play().map_err(|(wrong, _)| wrong)
    }

    /// Runs, and must be sound; says how to see it again.
    #[track_caller]
    pub fn must_be_sound(self) {
        let _seed = NamesSeed(self.seed);
        if let Err((wrong, log)) = self.play() {
            let last: Vec<_> = log.iter().rev().take(40).rev().map(String::as_str).collect();
            panic!("{self:?}: {}: {}\n{}", wrong.check, wrong.what, last.join("\n"));
        }
    }

    fn play(self) -> Result<(), (Wrong, Vec<String>)> {
        let keys = if self.real_keys { Keys::real } else { Keys::fake };
        let world = World::new(self.seed, self.seed, keys);
        let mut world = world.map_err(|wrong| (wrong, Vec::new()))?;
        world.encodes = self.real_keys;
        for peer in &mut world.peers {
            peer.fault = self.fault;
            peer.witness.blind_to_disk = self.blind_to_disk;
        }
        let end = match self.seed / 7 % 4 {
            0 | 1 => End::Open,
            2 => End::Together,
            _ => End::Force,
        };
        lives(&mut world, end).map_err(|wrong| (wrong, std::mem::take(&mut world.log)))
    }
}

/// Says the seed if the core itself panics.
struct NamesSeed(u64);

impl Drop for NamesSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in the run with seed {}", self.0);
        }
    }
}

fn lives(world: &mut World, end: End) -> Sound {
    let when = THINGS / 2 + world.dice.below(THINGS / 2);
    let closer = world.dice.below(2) as usize;
    let begins_to_end = |world: &mut World| match end {
        End::Open => {}
        End::Together => world.closes(closer),
        End::Force => world.closes_by_force(closer),
    };
    for thing in 0..THINGS {
        if thing == when {
            begins_to_end(world);
        }
        happens(world)?;
    }
    begins_to_end(world); // A crash may have forgotten it.
    match end {
        End::Force => settles_on_chain(world),
        _ => {
            world.comes_to_rest()?;
            world.adds_up()?;
            if end == End::Together {
                es_pays(world)?;
                pays_more(world)?;
            }
            Ok(())
        }
    }
}

/// Closed together: while the wire is cut and sides fall, both want their ES to pay more.
fn pays_more(world: &mut World) -> Sound {
    for thing in 0..30 {
        if thing % 10 == 0 {
            let side = world.dice.below(2) as usize;
            world.bumps(side);
        }
        happens(world)?;
    }
    world.comes_to_rest()?;
    es_pays(world)
}

/// One thing happens.
pub fn happens(world: &mut World) -> Sound {
    let side = world.dice.below(2) as usize;
    match world.dice.below(100) {
        0..=34 => drop(world.delivers(side)?),
        35..=50 => drop(world.peers[side].sync()?),
        51..=66 => drop(world.peers[side].report()),
        67..=78 => offers(world, side),
        79..=93 => ends(world, side)?,
        94 => {
            let rate = world.dice.pick(&[253, 500, 1_000, 2_500, 6_000]);
            world.feerate(rate);
        }
        95 if world.up => {
            let tells = [!world.dice.one_in(3), !world.dice.one_in(3)];
            world.cuts(tells)?;
        }
        96 => {
            let survive = world.dice.below(world.peers[side].unsynced.len() as u64 + 1);
            world.crashes(side, survive as usize)?;
            if world.dice.one_in(3) {
                world.crashes(1 - side, 0)?;
            }
        }
        _ => {
            world.confirms(side);
            if world.peers[side].open().owes_shutdown_script() {
                world.closes(side);
            }
        }
    }
    if !world.up && world.dice.one_in(3) {
        world.connects()?;
    }
    for side in [0, 1] {
        if !world.dice.one_in(3) {
            world.drains(side)?;
        }
    }
    Ok(())
}

fn offers(world: &mut World, side: usize) {
    let spendable = world.peers[side].channel.spendable();
    let amount = match world.dice.below(10) {
        0 => spendable,
        1 => Msat::new(spendable.msat() / 2),
        2 => Msat::new(1),
        3 => Msat::new(353_999),
        4 => Msat::new(900_000),
        _ => Msat::new(1 + world.dice.below(30_000_000)),
    };
    world.offers(side, amount);
}

fn ends(world: &mut World, side: usize) -> Sound {
    let waiting: Vec<u64> = world.peers[side].waiting.keys().copied().collect();
    if waiting.is_empty() {
        return Ok(());
    }
    let id = world.dice.pick(&waiting);
    let how = world.dice.below(5);
    world.ends(side, id, how)
}

/// Closed together: each side got its balance, the funder less the fee, and dust went to the fee.
pub fn es_pays(world: &World) -> Sound {
    const CHECK: &str = "ES pays what is owed";
    if world.negotiated.simple_close {
        one_side_pays_the_fee(world)?;
    }
    for publisher in &world.peers {
        let Some(es) = publisher.published.last() else {
            return wrong(CHECK, format!("{} published none", publisher.name));
        };
        for (side, peer) in world.peers.iter().enumerate() {
            let contract = &peer.open().contract;
            let owed = contract.state.base.local.floor().sat();
            let script = wallet_script(side as u8 + 1);
            let outputs = es.output.iter().filter(|out| out.script_pubkey == script);
            let paid: u64 = outputs.map(|out| out.value.to_sat()).sum();
            let at_most_lost = match (contract.params.funder, world.negotiated.simple_close) {
                (Side::Remote, false) => 0,
                _ => 20_000,
            };
            if paid > owed || (owed - paid > at_most_lost && owed >= 1_000) {
                return wrong(CHECK, format!("{} gets {paid} of {owed}", peer.name));
            }
        }
    }
    Ok(())
}

/// By closing_complete: what is not dust is paid in full to who did not make the ES.
fn one_side_pays_the_fee(world: &World) -> Sound {
    const CHECK: &str = "ES pays what is owed";
    let owed = |side: usize| world.peers[side].open().contract.state.base.local.floor().sat();
    for publisher in &world.peers {
        for es in publisher.published.iter().filter(|tx| tx.input[0].sequence.0 == 0xffff_fffd) {
            let in_full = |side: usize| {
                let script = wallet_script(side as u8 + 1);
                let outputs = es.output.iter().filter(|out| out.script_pubkey == script);
                let paid: u64 = outputs.map(|out| out.value.to_sat()).sum();
                paid == owed(side) || owed(side) < 294
            };
            if !in_full(0) && !in_full(1) {
                return wrong(CHECK, format!("{}: both pay for it", publisher.name));
            }
        }
    }
    Ok(())
}

/// Closed by force: what was published first confirms, and both find their balance on it.
fn settles_on_chain(world: &mut World) -> Sound {
    const CHECK: &str = "each finds its balance on chain";
    for _ in 0..4 {
        for side in [0, 1] {
            while world.peers[side].sync()? {}
            while world.peers[side].report() {}
            world.drains(side)?;
            while world.delivers(side)? {}
        }
    }
    let funding = world.peers[0].open().contract.funding.outpoint;
    // Who may be an old copy waits for somebody to tell, and leaves it to the other.
    let published = |side: usize| {
        let last = world.peers[side].published.last().cloned();
        last.filter(|tx| tx.input[0].previous_output == funding).map(|tx| (side, tx))
    };
    let Some((holder, tx)) = published(0).or(published(1)) else {
        return wrong(CHECK, "nothing was published");
    };
    let content = world.peers[holder].open().contract.content(Side::Local, View::Signed);
    let funder = world.peers[holder].open().contract.params.funder;
    for side in [0, 1] {
        let spent = spent_by(tx.clone());
        let _ = world.peers[side].takes(spent);
        world.peers[side].drain()?;
        while world.peers[side].sync()? {}
        while world.peers[side].report() {}
        world.peers[side].drain()?;
        let whose = if side == holder { Side::Local } else { Side::Remote };
        let owed = content.balances.of(whose).floor().sat();
        let costs = content.feerate.per_kw() * (1_124 + 172 * content.htlcs.len() as u32) / 1_000;
        let costs = if funder == whose { u64::from(costs) + 660 } else { 0 };
        let found = world.peers[side].delivery.map_or(0, |value| value.sat());
        if found > owed || (found < owed.saturating_sub(costs) && owed >= costs + 1_000) {
            return wrong(CHECK, format!("{} finds {found} of {owed}", world.peers[side].name));
        }
        world.peers[side].witness.penalties_are_complete(&world.peers[side].disk)?;
    }
    Ok(())
}

#[test]
fn seeds_0_to_150_are_sound() {
    (0..150).for_each(|seed| Run::new(seed).must_be_sound());
}

#[test]
fn seeds_150_to_300_are_sound() {
    (150..300).for_each(|seed| Run::new(seed).must_be_sound());
}

#[test]
fn seeds_with_the_real_curve_and_codec_are_sound() {
    (1_000..1_024).for_each(|seed| Run::new(seed).with_real_keys().must_be_sound());
}

#[test]
fn runs_are_full_of_events() {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for seed in 0..40 {
        let mut world = World::new(seed, seed, Keys::fake).unwrap();
        lives(&mut world, [End::Open, End::Together][seed as usize % 2]).unwrap();
        for event in &world.log {
            let word = event.split_whitespace().nth(1).unwrap_or(event).to_owned();
            let word = event.split_whitespace().nth(2).filter(|_| word == "→").unwrap_or(&word);
            *seen.entry(word.to_owned()).or_default() += 1;
        }
        for peer in &world.peers {
            for end in peer.ledger.values() {
                let kind = format!("{end:?}").chars().take_while(|c| c.is_alphabetic()).collect();
                *seen.entry(kind).or_default() += 1;
            }
        }
    }
    let at_least = [
        ("Fulfilled", 50),
        ("Failed", 50),
        ("Malformed", 50),
        ("fee", 10),
        ("falls,", 50),
        ("cut", 100),
        ("shutdown", 20),
        ("closing_signed", 10),
        ("closing_complete", 30),
        ("closing_sig", 30),
        ("bumps", 10),
        ("commitment_signed", 200),
    ];
    for (event, count) in at_least {
        assert!(seen.get(event).is_some_and(|seen| *seen >= count), "{event}: {seen:#?}");
    }
}

#[test]
fn a_seed_makes_the_same_run_each_time() {
    let log = |seed| {
        let mut world = World::new(seed, seed, Keys::fake).unwrap();
        lives(&mut world, End::Open).unwrap();
        let disks = world.peers.each_ref().map(|peer| peer.disk.clone());
        (std::mem::take(&mut world.log), disks)
    };
    assert_eq!(log(7), log(7));
    assert_ne!(log(7).0, log(8).0);
}
