//! How far a channel is with one tower: a row, written with every receipt.

use fulmen_channel::changeset::decode;
use fulmen_watchtower::api::message::Standing;
use serde::{Deserialize, Serialize};

/// A row of `TowerSession`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Sessions before the one that is used.
    pub full: u32,
    /// What the tower gave its word for, in this session.
    pub standing: Standing,
    /// Records that the tower keeps, over all sessions.
    pub states: u64,
    /// The revoked states that the tower covers.
    pub covered: Ranges,
    /// How many of them have outputs that are in no record, being worth less than their fee.
    pub partial: u64,
    /// How many such outputs there are.
    pub left_out: u64,
    /// How many records each session before this one has.
    pub before: Vec<u64>,
    /// How many a session may have; 0 as long as the tower was not asked.
    pub max_states: u64,
}

/// What the row was at first.
#[derive(Serialize, Deserialize)]
struct Early {
    full: u32,
    standing: Standing,
    states: u64,
}

impl Progress {
    /// What a row holds, also one that was written before coverage was kept.
    ///
    /// # Errors
    /// In words, for bytes that are none.
    pub fn read(row: &[u8]) -> Result<Progress, String> {
        decode(row).or_else(|_| {
            let Early { full, standing, states } = decode(row)?;
            Ok(Progress { full, standing, states, ..Progress::default() })
        })
    }

    /// The tower says that it has so many records of this session, which is not what it
    /// acknowledged: the next one begins. Not again in one that begins so: a tower that always says
    /// so would have us begin sessions for ever.
    ///
    /// # Errors
    /// In words, when it said so of the session before too.
    pub(super) fn disowned(&mut self, theirs: u64) -> Result<(), String> {
        let ours = self.standing.states;
        if ours == 0 && self.before.last() == Some(&0) {
            return Err(format!(
                "it has {theirs} records of a session in which it got none, and of the one before \
                 too: it does not say what it has"
            ));
        }
        if theirs < ours {
            // Its word was worth nothing.
            (self.covered, self.states) = Default::default();
        }
        self.next_session();
        Ok(())
    }

    /// The session is used up: the next one begins.
    pub fn next_session(&mut self) {
        self.before.push(self.standing.states);
        self.full = self.full.saturating_add(1);
        (self.standing, self.max_states) = (Standing::default(), 0);
    }
}

/// Numbers of states as ranges, each by its first and last: in order, and none touches another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Every state below this one.
    pub fn below(end: u64) -> Ranges {
        let mut ranges = Ranges::default();
        ranges.add(0, end);
        ranges
    }

    /// Adds the states from `first` to the one before `end`.
    pub fn add(&mut self, first: u64, end: u64) {
        let Some(mut last) = end.checked_sub(1).filter(|last| *last >= first) else { return };
        let mut first = first;
        let touches = |(from, to): &(u64, u64)| {
            *from <= last.saturating_add(1) && first <= to.saturating_add(1)
        };
        let touched: Vec<_> = self.0.iter().copied().filter(touches).collect();
        for (from, to) in &touched {
            (first, last) = (first.min(*from), last.max(*to));
        }
        self.0.retain(|range| !touched.contains(range));
        let at = self.0.partition_point(|(from, _)| *from < first);
        self.0.insert(at, (first, last));
    }

    /// The same with those of another.
    pub fn and(mut self, others: &Ranges) -> Ranges {
        others.0.iter().for_each(|(first, last)| self.add(*first, last.saturating_add(1)));
        self
    }

    /// What is missing of the states below `end`.
    pub fn missing(&self, end: u64) -> Ranges {
        let (mut missing, mut next) = (Ranges::default(), 0);
        for (first, last) in &self.0 {
            missing.add(next, (*first).min(end));
            next = last.saturating_add(1);
        }
        missing.add(next, end);
        missing
    }

    /// Each by its first and last.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }

    /// How many states.
    pub fn count(&self) -> u64 {
        let sizes = self.0.iter().map(|(first, last)| last.saturating_sub(*first));
        sizes.fold(0, |sum, size| sum.saturating_add(size).saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use fulmen_channel::changeset::encode;
    use std::collections::BTreeSet;

    #[test]
    fn a_tower_that_never_says_what_it_has_gets_no_sessions_without_end() {
        let mut progress = Progress { full: 3, before: vec![7, 7, 7], ..Progress::default() };
        progress.standing.states = 5;
        progress.covered.add(0, 26);
        assert_eq!(progress.disowned(9), Ok(()), "more than ours");
        assert_eq!((progress.full, progress.covered.count()), (4, 26));
        assert_eq!(progress.disowned(9), Ok(()), "an old copy may be two sessions behind");
        for _ in 0..3 {
            progress.disowned(9).unwrap_err();
        }
        assert_eq!((progress.full, progress.before.as_slice()), (5, [7, 7, 7, 5, 0].as_slice()));
        // It takes records after all, and loses them.
        progress.standing.states = 2;
        assert_eq!(progress.disowned(1), Ok(()));
        assert_eq!((progress.full, progress.covered.count()), (6, 0));
    }

    #[test]
    fn ranges_are_the_sets_that_they_stand_for() {
        // All subsets of eight numbers, added in two orders.
        for bits in 0u32..256 {
            let set: Vec<u64> = (0..8).filter(|n| bits >> n & 1 == 1).collect();
            let (mut up, mut down) = (Ranges::default(), Ranges::default());
            set.iter().for_each(|n| up.add(*n, n + 1));
            set.iter().rev().for_each(|n| down.add(*n, n + 1));
            assert_eq!(up, down);
            let spelled = |ranges: &Ranges| -> Vec<u64> {
                ranges.iter().flat_map(|(first, last)| first..=last).collect()
            };
            assert_eq!(spelled(&up), set);
            assert_eq!(up.count(), u64::try_from(set.len()).unwrap());
            let rest: Vec<u64> = (0..8).filter(|n| bits >> n & 1 == 0).collect();
            assert_eq!(spelled(&up.missing(8)), rest);
            assert_eq!(up.clone().and(&up.missing(8)), Ranges::below(8));
            for pair in up.0.windows(2) {
                assert!(pair.first().unwrap().1 + 1 < pair.last().unwrap().0, "{up:?}");
            }
        }
        let all: BTreeSet<_> = Ranges::below(3).iter().collect();
        assert_eq!(all, [(0, 2)].into());
        assert_eq!(Ranges::below(0), Ranges::default());
    }

    #[test]
    fn a_row_of_before_coverage_was_kept_is_read() {
        let standing = Standing { states: 5, hash: [7; 32] };
        let row = encode(&Early { full: 2, standing, states: 25 });
        let read = Progress::read(&row).unwrap();
        assert_eq!(read, Progress { full: 2, standing, states: 25, ..Progress::default() });
        let now = Progress { covered: Ranges::below(9), before: vec![10, 10], ..read };
        assert_eq!(Progress::read(&encode(&now)).unwrap(), now);
        assert!(Progress::read(&[]).is_err());
    }
}
