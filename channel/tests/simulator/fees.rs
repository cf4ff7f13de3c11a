//! Feerates that jump, by a tenth to twentyfold, told to one side or both, while HTLCs are under
//! way both ways and the funder has little above its reserve.

use super::faults::Fault;
use super::keys::Keys;
use super::runs::happens;
use super::world::World;
use super::{wrong, Sound, Wrong};
use fulmen_channel::amount::{FeeratePerKw, Msat, Sat};
use fulmen_channel::changeset::Row;
use fulmen_channel::contract::balance::View;
use fulmen_channel::input::{Feerates, Input};
use fulmen_channel::params::Side;
use fulmen_channel::payment::PaymentHash;

/// How many things happen in a run.
const THINGS: u64 = 250;

/// Tells some side that all feerates are another multiple of what they were.
fn jumps(world: &mut World, rate: &mut u32) {
    let tenths = world.dice.pick(&[1, 2, 5, 20, 30, 50, 100, 200]);
    *rate = (*rate * tenths / 10).clamp(100, 60_000);
    let feerate = FeeratePerKw::new(*rate);
    let only = world.dice.below(4) as usize;
    for side in (0..2).filter(|side| only > 1 || only == *side) {
        let feerates = Feerates { anchors: feerate, urgent: feerate, close: feerate };
        let _ = world.peers[side].takes(Input::Feerates(feerates));
    }
    world.log.push(format!("jump {rate}"));
}

/// The funder keeps only what it must: of three offers one is fulfilled.
fn spends_all(world: &mut World) -> Sound {
    for _ in 0..20 {
        let all = world.peers[0].channel.spendable();
        if all == Msat::ZERO {
            break;
        }
        world.offers(0, all.min(Msat::new(300_000_000)));
        world.comes_to_rest()?;
    }
    Ok(())
}

/// A run; with a limit, each side may object to a feerate that passes it.
fn runs(seed: u64, limit: Option<Sat>, fault: Option<Fault>) -> Result<World, Wrong> {
    let mut world = World::new(seed, seed, Keys::fake)?;
    world.limit = limit.or(Some(Sat::MAX_MONEY));
    for side in [0, 1] {
        world.peers[side].fault = fault;
        world.peers[side].is_careful = limit.is_some();
        world.crashes(side, 0)?;
    }
    world.comes_to_rest()?;
    if seed / 7 % 2 == 0 {
        spends_all(&mut world)?;
    }
    let mut rate = 1_000;
    for _ in 0..THINGS {
        if world.dice.one_in(10) {
            jumps(&mut world, &mut rate);
        }
        happens(&mut world)?;
    }
    // What was objected to must be taken in the end, or nothing moves.
    world.limit = Some(Sat::MAX_MONEY);
    for peer in &mut world.peers {
        peer.is_told(Sat::MAX_MONEY);
    }
    world.comes_to_rest()?;
    world.adds_up()?;
    Ok(world)
}

/// How often each word came up in the logs of these runs.
#[track_caller]
fn must_be_sound<const N: usize>(
    seeds: std::ops::Range<u64>,
    limit: Option<Sat>,
    words: [&str; N],
) -> [usize; N] {
    let mut seen = [0; N];
    for seed in seeds {
        match runs(seed, limit, None) {
            Ok(world) => words.iter().zip(&mut seen).for_each(|(word, seen)| {
                *seen += world.log.iter().filter(|event| event.ends_with(word)).count();
            }),
            Err(wrong) => panic!("seed {seed}: {}: {}", wrong.check, wrong.what),
        }
    }
    seen
}

#[test]
fn feerates_that_jump_are_borne() {
    let [fees, adds] = must_be_sound(0..140, None, ["→ fee", "→ add"]);
    assert!(fees > 250 && adds > 1_000, "{fees} {adds}");
}

#[test]
fn feerates_that_jump_stay_within_the_limit() {
    let [hung_up] = must_be_sound(140..210, Some(Sat::new(3_000)), ["hangs up"]);
    assert!(hung_up > 10, "{hung_up}");
}

/// The seed and what was wrong, of the first run that is.
fn caught(limit: Option<Sat>, fault: Fault) -> (&'static str, String) {
    let first = (0..100).find_map(|seed| runs(seed, limit, Some(fault)).err());
    first.map_or(("nothing", String::new()), |wrong| (wrong.check, wrong.what))
}

#[test]
fn a_limit_that_is_not_kept_is_seen() {
    let (check, what) = caught(Some(Sat::new(3_000)), Fault::NoExposureLimit);
    assert_eq!(check, "what fees may take is bounded", "{what}");
}

#[test]
fn a_feerate_below_the_floor_is_objected_to() {
    let (check, what) = caught(None, Fault::BelowFloor);
    assert!(check == "honest sides never object" && what.contains("too low"), "{check}: {what}");
}

/// A funder that spent all it could bears twice the feerate, and can still be paid.
fn can_be_paid(kind: u64, fault: Option<Fault>) -> Sound {
    const CHECK: &str = "the funder keeps a fee buffer";
    let mut world = World::new(kind, kind, Keys::fake)?;
    let agreed = world.peers[0].disk.0[&Row::Params].clone();
    world.peers[0].fault = fault;
    world.crashes(0, 0)?;
    world.comes_to_rest()?;
    spends_all(&mut world)?;
    // The fault is over: what it spent is gone.
    world.peers[0].fault = None;
    world.peers[0].disk.0.insert(Row::Params, agreed);
    world.crashes(0, 0)?;
    world.comes_to_rest()?;
    let now = world.peers[0].open().contract.state.fees[0].feerate;
    world.feerate(now.doubled().per_kw());
    for side in [0, 1] {
        world.drains(side)?;
    }
    world.comes_to_rest()?;
    let paid = world.peers[0].open().contract.content(Side::Local, View::Signed).feerate;
    if paid != now.doubled() {
        return wrong(CHECK, format!("{paid} after {now} doubled"));
    }
    let payment = crate::support::offer(Msat::new(8_000_000), PaymentHash([1; 32]));
    match world.peers[1].open().contract.can_send_add(&payment) {
        Ok(()) => Ok(()),
        Err(refused) => wrong(CHECK, format!("the funder cannot be paid: {refused}")),
    }
}

#[test]
fn the_fee_buffer_lets_the_feerate_double_and_the_funder_be_paid() {
    // All kinds of channels whose fundee has more than its reserve then.
    for kind in [0, 1, 3, 4] {
        assert_eq!(can_be_paid(kind, None), Ok(()), "{kind}");
    }
    for kind in [0, 1, 3, 4] {
        let wrong = can_be_paid(kind, Some(Fault::NoFeeBuffer)).unwrap_err();
        assert_eq!(wrong.check, "the funder keeps a fee buffer", "{kind}: {}", wrong.what);
    }
}
