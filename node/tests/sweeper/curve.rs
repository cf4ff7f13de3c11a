//! The budget curve.

use super::kw;
use fulmen_channel::amount::{Height, Sat};
use fulmen_node::sweeper::budget::{budget, left, rate_of, Curve};

#[test]
fn it_begins_with_the_estimate_and_ends_with_the_whole_budget() {
    let curve = |deadline: u32| Curve {
        start: kw(1_000),
        top: kw(9_000),
        since: Height::new(100),
        deadline: Height::new(deadline),
    };
    for (deadline, height, rate) in [
        (122, 90, 1_000),
        (122, 100, 1_000),
        (122, 105, 1_125),
        (122, 110, 2_000),
        (122, 115, 4_375),
        (122, 119, 7_859),
        // The block after this one is the last that is surely ours.
        (122, 120, 9_000),
        (122, 130, 9_000),
        (102, 100, 9_000),
        (90, 100, 9_000),
    ] {
        assert_eq!(curve(deadline).at(Height::new(height)), kw(rate), "{deadline} {height}");
    }
}

#[test]
fn it_never_falls() {
    for start in [253, 5_000, 100_000] {
        let curve = Curve {
            start: kw(start),
            top: kw(80_000),
            since: Height::new(0),
            deadline: Height::new(144),
        };
        let rates: Vec<_> = (0..150).map(|height| curve.at(Height::new(height))).collect();
        assert!(rates.is_sorted(), "{rates:?}");
        assert_eq!(rates.last(), Some(&kw(80_000)));
    }
}

#[test]
fn half_of_what_is_at_risk_may_be_paid() {
    for (value, half) in [(0, 0), (1, 0), (1_001, 500), (u64::MAX, u64::MAX / 2)] {
        assert_eq!(budget(Sat::new(value)), Sat::new(half));
    }
    assert_eq!(rate_of(Sat::new(500), 1_000), kw(500));
    assert_eq!(rate_of(Sat::new(500), 0), kw(0));
    // 1,000 sat/vB is the end of it.
    assert_eq!(rate_of(Sat::MAX_MONEY, 1), kw(250_000));
}

#[test]
fn the_block_of_the_deadline_is_too_late() {
    for (height, deadline, blocks) in [(100, 110, 9), (100, 102, 1), (100, 101, 0), (100, 90, 0)] {
        assert_eq!(left(Height::new(height), Height::new(deadline)), blocks);
    }
}
