//! Which claims go together.

use super::{at, claim, due, kw, NOW};
use fulmen_channel::amount::Height;
use fulmen_channel::onchain::claim::Name::{self, *};
use fulmen_node::sweeper::batch::{together, MOST};
use fulmen_node::sweeper::wanted::Wanted;

/// Claims by name, deadline and lock time.
fn claims(rows: &[(Name, Option<u32>, u32)]) -> Vec<Wanted> {
    let wanted = |(number, (name, deadline, lock_time)): (u8, &(Name, Option<u32>, u32))| {
        let mut wanted = match deadline {
            Some(blocks) => due(number, *name, 50_000, *blocks),
            None => claim(number, *name, 50_000),
        };
        wanted.claim.spend.lock_time = Height::new(*lock_time);
        wanted
    };
    (0..).zip(rows).map(wanted).collect()
}

#[test]
fn what_may_be_held_up_together_goes_together() {
    type Row = (&'static [(Name, Option<u32>, u32)], &'static [&'static [u8]]);
    let rows: &[Row] = &[
        // Nobody else's: of all channels, whatever they are.
        (&[(D, None, 0), (RD, None, 0), (HTRD, None, 0), (HERD, None, 0)], &[&[0, 1, 2, 3]]),
        // The peer may take these with a preimage, so they stand apart from ours.
        (&[(D, None, 0), (HTD, None, 900), (HTD, None, 901)], &[&[0], &[1, 2]]),
        // The peer signed a lock time.
        (&[(HT, None, 900), (HT, None, 901), (HT, None, 900)], &[&[0, 2], &[1]]),
        (&[(HTD, None, 900), (HT, None, 900)], &[&[0], &[1]]),
        // Like deadlines, then one that is twelve blocks and one further off.
        (&[(HED, Some(20), 0), (HED, Some(32), 0), (HED, Some(33), 0)], &[&[0, 1], &[2]]),
        // Near its deadline each stands for itself.
        (&[(HED, Some(7), 0), (HED, Some(7), 0)], &[&[0], &[1]]),
        (&[(HED, Some(8), 0), (HED, Some(8), 0)], &[&[0, 1]]),
        (&[(HE, Some(7), 0), (HE, Some(8), 0), (HE, Some(9), 0)], &[&[0], &[1, 2]]),
        // A breach: to_local alone, the HTLCs as their deadlines are.
        (&[(BR, Some(100), 0), (HEBR, Some(100), 0), (HTBR, Some(101), 0)], &[&[0], &[1, 2]]),
        (&[(HBR, Some(1), 0), (HBR, Some(1), 0), (HBR, Some(40), 0)], &[&[0], &[1], &[2]]),
    ];
    for (number, (wanted, batches)) in rows.iter().enumerate() {
        let wanted = claims(wanted);
        let mut found: Vec<Vec<u8>> = together(&wanted, NOW)
            .iter()
            .map(|batch| batch.iter().map(|wanted| number_of(wanted)).collect())
            .collect();
        found.sort();
        assert_eq!(found, *batches, "row {number}");
    }
}

fn number_of(wanted: &Wanted) -> u8 {
    (0..u8::MAX).find(|number| at(*number) == wanted.outpoint()).unwrap()
}

#[test]
fn a_claim_with_a_feerate_of_its_own_stands_alone() {
    let mut wanted = claims(&[(D, None, 0), (RD, None, 0), (D, None, 0)]);
    wanted[1].order.feerate = Some(kw(5_000));
    let sizes: Vec<usize> = together(&wanted, NOW).iter().map(Vec::len).collect();
    assert_eq!(sizes, [2, 1]);
}

#[test]
fn a_batch_is_never_too_large_to_be_relayed() {
    let wanted: Vec<Wanted> = (0..120).map(|number| claim(number, RD, 50_000)).collect();
    let sizes: Vec<usize> = together(&wanted, NOW).iter().map(Vec::len).collect();
    assert_eq!(sizes, [MOST, MOST, 20]);
}
