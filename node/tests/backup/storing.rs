//! What peers keep for us, and we for them.

use super::{keys, node as peer, single};
use bitcoin::secp256k1::PublicKey;
use fulmen_channel::amount::Sat;
use fulmen_node::backup::blob::{open, Content, Witness, LARGE, SMALL};
use fulmen_node::backup::keepers::{self, Keepers};
use fulmen_node::backup::shelf::{self, Shelf};
use fulmen_node::backup::{Single, Vault};
use std::time::{Duration, Instant};

/// A node with so many channels; each with another peer, the later the larger.
fn content(count: u64) -> Content {
    let backup = |index: u64| Single {
        peer: peer(u8::try_from(index % 200).unwrap()),
        capacity: Sat::new(index),
        ..single(1, index)
    };
    Content {
        backups: (0..count).map(backup).collect(),
        numbers: (0..count).map(|index| (index, 1_000_000 + index)).collect(),
    }
}

#[test]
fn a_blob_tells_nothing_by_its_length_and_comes_back_whole() {
    let vault = Vault::new(&keys(1));
    for count in 0..=60 {
        let content = content(count);
        let sealed = content.seal(&vault, &peer(7), false).unwrap();
        assert!([SMALL, LARGE].contains(&sealed.len()), "{count}: {}", sealed.len());
        let Witness { mut backups, numbers } = open(&vault, &sealed).unwrap();
        assert_eq!(numbers, content.numbers);
        backups.sort_by_key(|single| single.index);
        assert_eq!(backups, content.backups, "{count}");
    }
    assert_eq!(content(3).seal(&vault, &peer(7), false).unwrap().len(), SMALL);
    assert_eq!(content(60).seal(&vault, &peer(7), false).unwrap().len(), LARGE);
}

#[test]
fn what_does_not_fit_leaves_the_smallest_channels_out_but_not_the_keepers_own() {
    let vault = Vault::new(&keys(1));
    for (count, small) in [(30, true), (150, true), (1_000, false)] {
        let content = content(count);
        let sealed = content.seal(&vault, &peer(2), small).unwrap();
        assert_eq!(sealed.len(), if small { SMALL } else { LARGE });
        let Witness { backups, numbers } = open(&vault, &sealed).unwrap();
        assert!(backups.len() < content.backups.len());
        if count < 150 || !small {
            assert_eq!(numbers, content.numbers, "numbers first");
            let own = backups.iter().take_while(|single| single.peer == peer(2)).count();
            assert!(own > 0);
            let rest = &backups[own..];
            assert!(rest.windows(2).all(|two| two[0].capacity >= two[1].capacity));
        }
    }
}

#[test]
fn only_our_own_blob_is_a_witness() {
    let vault = Vault::new(&keys(1));
    let mut sealed = content(2).seal(&vault, &peer(7), false).unwrap();
    open(&Vault::new(&keys(2)), &sealed).unwrap_err();
    open(&vault, &vault.seal_multi(&[single(1, 7)]).unwrap()).unwrap_err();
    sealed[500] ^= 1;
    open(&vault, &sealed).unwrap_err();
    open(&vault, &[]).unwrap_err();
}

#[test]
fn a_peer_writes_once_a_minute_and_the_latest_counts() {
    let mut shelf = Shelf::default();
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(shelf.take(peer(1), vec![1], at(0)), Some(vec![1]));
    assert_eq!(shelf.take(peer(1), vec![2], at(1)), None);
    assert_eq!(shelf.take(peer(1), vec![3], at(2)), None);
    assert_eq!(shelf.take(peer(2), vec![9], at(2)), Some(vec![9]), "peers do not wait for others");
    assert_eq!(shelf.waiting(&peer(1)), Some([3].as_slice()), "it gets the latest back");
    let all = |_: &PublicKey| true;
    assert!(shelf.due(at(59), all).is_empty());
    assert_eq!(shelf.due(at(60), all), [(peer(1), vec![3])]);
    assert_eq!(shelf.waiting(&peer(1)), None);
    assert_eq!(shelf.take(peer(1), vec![4], at(61)), None);
    assert_eq!(shelf.all(all), [(peer(1), vec![4])]);
    assert_eq!(shelf::EVERY, Duration::from_secs(60));
    // Who has promised a channel only is not written for; what it gave waits until it is one.
    shelf.hold(peer(3), vec![5]);
    shelf.hold(peer(4), vec![6]);
    assert!(shelf.due(at(200), |_| false).is_empty());
    assert_eq!(shelf.waiting(&peer(3)), Some([5].as_slice()), "it gets it back");
    assert_eq!(shelf.due(at(200), |it| *it == peer(3)), [(peer(3), vec![5])]);
    shelf.keep_only(|it| *it != peer(4));
    assert_eq!(shelf.waiting(&peer(4)), None, "its channel never came to be");
    shelf.hold(peer(4), vec![7]);
    assert!(shelf.all(|_| false).is_empty());
}

/// A peer that is connected, and has said what it says before its channels.
fn ready(keepers: &mut Keepers, number: u8) {
    keepers.connected(peer(number));
    assert!(keepers.ready(&peer(number)) && !keepers.ready(&peer(number)));
}

#[test]
fn a_keeper_gets_what_is_new_at_once_and_numbers_once_a_minute() {
    let mut keepers = Keepers::default();
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let (first, mut second) = (content(1), content(1));
    second.numbers.insert(0, 2_000_000);
    keepers.connected(peer(1));
    assert!(keepers.due(&first, at(0), true).is_empty(), "it may still give back what it keeps");
    keepers.ready(&peer(1));
    assert_eq!(keepers.due(&first, at(0), false), [(peer(1), false)]);
    keepers.sent(&peer(1), &first, SMALL, at(0));
    assert!(keepers.due(&first, at(100), true).is_empty(), "nothing is new");
    assert!(keepers.due(&second, at(59), false).is_empty());
    assert_eq!(keepers.due(&second, at(60), false).len(), 1);
    assert_eq!(keepers.due(&second, at(1), true).len(), 1, "at the end all is told");
    assert_eq!(keepers.due(&content(2), at(1), false).len(), 1, "a channel more");
    keepers.disconnected(&peer(1));
    assert!(keepers.due(&content(2), at(1), true).is_empty());
    assert!(!keepers.ready(&peer(2)), "it keeps nothing");
    assert_eq!(keepers::EVERY, Duration::from_secs(60));
}

#[test]
fn who_complains_of_a_large_blob_gets_small_ones() {
    let mut keepers = Keepers::default();
    let now = Instant::now();
    ready(&mut keepers, 1);
    keepers.sent(&peer(1), &content(1), SMALL, now);
    keepers.warned(&peer(1));
    assert_eq!(keepers.due(&content(9), now, false), [(peer(1), false)], "not about the blob");
    keepers.sent(&peer(1), &content(9), LARGE, now);
    keepers.warned(&peer(1));
    assert_eq!(keepers.due(&content(9), now, false), [(peer(1), true)]);
    keepers.sent(&peer(1), &content(9), SMALL, now);
    assert!(keepers.due(&content(9), now, false).is_empty());
    ready(&mut keepers, 1);
    assert_eq!(keepers.due(&content(9), now, false), [(peer(1), true)], "it is remembered");
}

/// An old copy of the database must not talk peers out of what they know.
#[test]
fn the_highest_number_ever_witnessed_is_told_on() {
    let mut keepers = Keepers::default();
    keepers.witnessed(&[(0, 1_000_007), (9, 5)].into());
    keepers.witnessed(&[(0, 3)].into());
    let told = keepers.with_witnessed(content(2));
    assert_eq!(told.numbers, [(0, 1_000_007), (1, 1_000_001)].into(), "of its own channels");
}
