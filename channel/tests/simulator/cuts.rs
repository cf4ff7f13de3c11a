//! All cut points of a dance of two HTLCs, one each way, the first settled and the second failed:
//! the wire is cut, or a side falls, or both, before and after every write, report, message and
//! command. Then all goes on, and must add up.

use super::keys::Keys;
use super::runs::es_pays;
use super::world::World;
use super::{Sound, Wrong};
use fulmen_channel::amount::Msat;

/// Whose turn it is when both could go on.
#[derive(Clone, Copy, Debug)]
enum Order {
    Alternating,
    AliceFirst,
    BobFirst,
}

/// What happens at a cut point.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// The wire; both hear of it, or only of the new connection.
    Wire { told: bool },
    /// One side falls, and what was written but not durable survives or does not.
    Falls { side: usize, writes_survive: bool },
    /// Both fall.
    BothFall,
}

const CUTS: [Cut; 7] = [
    Cut::Wire { told: true },
    Cut::Wire { told: false },
    Cut::Falls { side: 0, writes_survive: false },
    Cut::Falls { side: 0, writes_survive: true },
    Cut::Falls { side: 1, writes_survive: false },
    Cut::Falls { side: 1, writes_survive: true },
    Cut::BothFall,
];

/// A world in which both have just offered.
fn begins() -> Result<World, Wrong> {
    let mut world = World::new(0, 1, Keys::fake)?;
    world.comes_to_rest()?;
    world.offers(0, Msat::new(20_000_000));
    world.offers(1, Msat::new(30_000_000));
    world.drains(0)?;
    world.drains(1)?;
    Ok(world)
}

/// A world in which both want to close at once, each by an ES of its own.
fn begins_to_close() -> Result<World, Wrong> {
    let mut world = World::new(2, 1, Keys::fake)?;
    assert!(world.negotiated.simple_close);
    world.comes_to_rest()?;
    both_close(&mut world)?;
    Ok(world)
}

fn both_close(world: &mut World) -> Sound {
    for side in [0, 1] {
        world.closes(side);
        world.drains(side)?;
    }
    Ok(())
}

/// After all cuts: each side has an ES of its own and the other's.
fn closes_in_the_end(world: &mut World) -> Sound {
    both_close(world)?; // A crash may have forgotten it.
    world.comes_to_rest()?;
    world.adds_up()?;
    for peer in &world.peers {
        let closing = &peer.open().closing;
        assert!(closing.ours.is_some() && closing.theirs.is_some(), "{}", peer.name);
    }
    es_pays(world)
}

/// The smallest thing that a side can do. Whether there was one.
fn steps(world: &mut World, side: usize) -> Result<bool, Wrong> {
    if world.peers[side].sync()? {
        return Ok(true);
    }
    if world.peers[side].report() {
        world.drains(side)?;
        return Ok(true);
    }
    if world.delivers(1 - side)? {
        world.drains(side)?;
        return Ok(true);
    }
    let waiting = world.peers[side].waiting.keys().next().copied();
    if let Some(id) = waiting {
        world.ends_by_number(side, id)?;
        world.drains(side)?;
    }
    Ok(waiting.is_some())
}

/// Takes up to `count` steps. How many there were.
fn dances(world: &mut World, order: Order, count: usize) -> Result<usize, Wrong> {
    for step in 0..count {
        let first = match order {
            Order::Alternating => step % 2,
            Order::AliceFirst => 0,
            Order::BobFirst => 1,
        };
        if !steps(world, first)? && !steps(world, 1 - first)? {
            return Ok(step);
        }
    }
    Ok(count)
}

fn cuts(world: &mut World, cut: Cut) -> Sound {
    let under_way = |world: &World, side: usize| world.peers[side].unsynced.len();
    match cut {
        Cut::Wire { told } => world.cuts([told, told]),
        Cut::Falls { side, writes_survive } => {
            let survive = if writes_survive { under_way(world, side) } else { 0 };
            world.crashes(side, survive)
        }
        Cut::BothFall => {
            world.crashes(0, 0)?;
            world.crashes(1, 0)
        }
    }
}

/// After all cuts: everything ends, and the channel is as good as new.
fn goes_on(world: &mut World) -> Sound {
    world.comes_to_rest()?;
    world.adds_up()?;
    assert!(world.offers(0, Msat::new(1_000_000)) && world.offers(1, Msat::new(1_000_000)));
    world.comes_to_rest()?;
    world.adds_up()
}

#[track_caller]
fn must_be_sound(what: &str, world: Result<World, Wrong>, then: impl FnOnce(&mut World) -> Sound) {
    let mut world = world.expect("the dance begins");
    if let Err(wrong) = then(&mut world) {
        panic!("{what}: {}: {}\n{}", wrong.check, wrong.what, world.log.join("\n"));
    }
}

fn length(order: Order) -> usize {
    dances(&mut begins().unwrap(), order, usize::MAX).unwrap()
}

fn one_cut_anywhere(order: Order) {
    one_cut_in(order, 30, begins, goes_on);
}

fn one_cut_in(
    order: Order,
    at_least: usize,
    begins: fn() -> Result<World, Wrong>,
    goes_on: fn(&mut World) -> Sound,
) {
    let steps = dances(&mut begins().unwrap(), order, usize::MAX).unwrap();
    assert!(steps > at_least, "{order:?}: {steps} steps");
    for at in 0..=steps {
        for cut in CUTS {
            must_be_sound(&format!("{order:?}, {cut:?} at {at}"), begins(), |world| {
                dances(world, order, at)?;
                cuts(world, cut)?;
                goes_on(world)
            });
        }
    }
}

#[test]
fn one_cut_anywhere_when_both_take_turns() {
    one_cut_anywhere(Order::Alternating);
}

#[test]
fn one_cut_anywhere_when_alice_is_quick() {
    one_cut_anywhere(Order::AliceFirst);
}

#[test]
fn one_cut_anywhere_when_bob_is_quick() {
    one_cut_anywhere(Order::BobFirst);
}

#[test]
fn one_cut_anywhere_while_both_close() {
    for order in [Order::Alternating, Order::AliceFirst, Order::BobFirst] {
        one_cut_in(order, 12, begins_to_close, closes_in_the_end);
    }
}

#[test]
fn a_second_cut_anywhere_after_the_first() {
    let kinds = [Cut::Wire { told: true }, Cut::BothFall];
    for at in (0..=length(Order::Alternating)).step_by(2) {
        for (first, second) in kinds.into_iter().flat_map(|one| kinds.map(|other| (one, other))) {
            for after in (1..24).step_by(4) {
                let what = format!("{first:?} at {at}, {second:?} {after} later");
                must_be_sound(&what, begins(), |world| {
                    dances(world, Order::Alternating, at)?;
                    cuts(world, first)?;
                    world.connects()?;
                    dances(world, Order::Alternating, after)?;
                    cuts(world, second)?;
                    goes_on(world)
                });
            }
        }
    }
}
