//! Reading through what is written but not durable yet.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::disk::Disk;
use fulmen_node::desk::{decode_as, encode, Desk, Pending};
use fulmen_node::store::{Table, Unit};

const KEY: &[u8] = b"key";

/// Writes or deletes, and gives the unit and the mark behind it.
fn step(disk: &Disk, pending: &mut Pending, value: Option<u8>) -> (Unit, u64) {
    let mut unit = Unit::new();
    let mut desk = Desk::new(disk, pending, &mut unit);
    match value {
        Some(value) => desk.put(Table::Meta, KEY, vec![value]),
        None => desk.delete(Table::Meta, KEY),
    }
    (unit, pending.mark())
}

fn read(disk: &Disk, pending: &mut Pending) -> Option<Vec<u8>> {
    Desk::new(disk, pending, &mut Unit::new()).get(Table::Meta, KEY).unwrap()
}

#[test]
fn the_last_write_is_read_however_far_the_disk_is() {
    let (mut disk, mut pending) = (Disk::default(), Pending::default());
    assert_eq!(read(&disk, &mut pending), None);
    let (first, first_mark) = step(&disk, &mut pending, Some(1));
    let (second, second_mark) = step(&disk, &mut pending, Some(2));
    let (third, third_mark) = step(&disk, &mut pending, None);
    for (unit, mark) in [(first, first_mark), (second, second_mark)] {
        assert_eq!(read(&disk, &mut pending), None, "deleted, although the disk has it");
        disk.apply(&unit);
        pending.durable(mark);
    }
    assert_eq!(read(&disk, &mut pending), None);
    assert_eq!(read(&disk, &mut Pending::default()), Some(vec![2]));
    disk.apply(&third);
    pending.durable(third_mark);
    assert_eq!(read(&disk, &mut pending), None);
    // Nothing is held back: what the disk says now is read.
    disk.apply(&step(&Disk::default(), &mut Pending::default(), Some(9)).0);
    assert_eq!(read(&disk, &mut pending), Some(vec![9]));
}

/// Takes a number, and writes its row.
fn number(disk: &Disk, pending: &mut Pending) -> (u64, Unit, u64) {
    let mut unit = Unit::new();
    let mut desk = Desk::new(disk, pending, &mut unit);
    let number = desk.next_number(Table::Invoice).unwrap();
    desk.put(Table::Invoice, &number.to_be_bytes(), vec![]);
    (number, unit, pending.mark())
}

#[test]
fn numbers_are_never_given_twice_whatever_becomes_durable_first() {
    let (mut disk, mut pending) = (Disk::default(), Pending::default());
    let mut numbers = Vec::new();
    for restart in [false, true, false] {
        let (first, first_unit, first_mark) = number(&disk, &mut pending);
        let (second, second_unit, second_mark) = number(&disk, &mut pending);
        disk.apply(&second_unit);
        pending.durable(second_mark);
        let (third, third_unit, _) = number(&disk, &mut pending);
        disk.apply(&first_unit);
        pending.durable(first_mark);
        disk.apply(&third_unit);
        numbers.extend([first, second, third]);
        if restart {
            pending = Pending::default();
        }
    }
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn what_is_durable_out_of_order_does_not_hide_what_is_not() {
    let (mut disk, mut pending) = (Disk::default(), Pending::default());
    let (first, first_mark) = step(&disk, &mut pending, Some(1));
    let (_, other, other_mark) = number(&disk, &mut pending);
    disk.apply(&other);
    pending.durable(other_mark);
    assert_eq!(read(&disk, &mut pending), Some(vec![1]), "still waiting");
    disk.apply(&first);
    pending.durable(first_mark);
    assert_eq!(read(&disk, &mut pending), Some(vec![1]));
}

#[test]
fn other_formats_are_refused_in_words() {
    let good = encode(&7u64);
    assert_eq!(decode_as::<u64>("the row", &good), Ok(7));
    let today = good[0];
    let newer = format!("format {} is newer than this version", today + 1);
    for (bytes, why) in
        [(vec![], "it is empty"), (vec![today + 1, 7], newer.as_str()), (vec![today], "")]
    {
        let error = decode_as::<u64>("the row", &bytes).unwrap_err().to_string();
        assert!(error.contains("the row cannot be read") && error.contains(why), "{error}");
    }
}
