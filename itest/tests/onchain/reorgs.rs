//! Six and a hundred blocks are gone again after each step, with Alice's daemon restarting in some:
//! every commitment, everything in flight, in both formats. Preimages and the peer's race take
//! turns, so that each kind of commitment meets each of them with most of what is in flight.

use super::story::InFlight::{Both, Dust, Nothing, Offered, Received, Twenty};
use super::story::{Row, Trouble, Who};
use super::table::plays;
use fulmen_channel::params::CommitmentFormat::{self, Anchors, StaticRemoteKey};

const WHO: [Who; 6] = [Who::Local, Who::Remote, Who::Next, Who::Previous, Who::Revoked, Who::Late];

/// Each commitment with each thing in flight; `turn` says who begins to know and race.
fn all(format: CommitmentFormat, trouble: Trouble, turn: usize) {
    for (place, who) in WHO.into_iter().enumerate() {
        for (kind, in_flight) in
            [Nothing, Offered, Received, Dust, Both, Twenty].into_iter().enumerate()
        {
            let way = place + kind + turn;
            let (known, racing) = (way % 2 == 0, way % 4 < 2);
            plays(Row { format, who, in_flight, known, racing, trouble });
        }
    }
}

#[test]
fn six_blocks_are_gone_with_anchors() {
    all(Anchors, Trouble::SixGone, 0);
}

#[test]
fn six_blocks_are_gone_without_anchors() {
    all(StaticRemoteKey, Trouble::SixGone, 1);
}

#[test]
fn a_hundred_blocks_are_gone_with_anchors() {
    all(Anchors, Trouble::HundredGone, 2);
}

#[test]
fn a_hundred_blocks_are_gone_without_anchors() {
    all(StaticRemoteKey, Trouble::HundredGone, 3);
}
