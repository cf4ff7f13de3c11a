//! Every record of a released version is read by today's types. Whole daemons do more with the same
//! files in `itest/tests/upgrade.rs`.

use fulmen_channel::changeset::Row;
use fulmen_channel::contract::commitments::Commitments;
use fulmen_channel::params::CommitmentFormat;
use fulmen_node::channels::record::{load_rows, ChannelRecord};
use fulmen_node::desk::{decode, Record};
use fulmen_node::invoices::Invoice;
use fulmen_node::payments::Payment;
use fulmen_node::store::{KeyRange, Store};
use fulmen_node::switch::Circuit;
use std::path::Path;

fn rows<R: Record>(store: &Store) -> Vec<R> {
    let rows = store.scan(R::TABLE, &KeyRange::all(), usize::MAX, false).unwrap();
    rows.iter().map(|(_, value)| decode(value).unwrap()).collect()
}

#[test]
fn every_record_of_v0_1_0_is_read() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../itest/fixtures/v0.1.0");
    for (name, payments, invoices) in [("alice", 5, 1), ("bob", 1, 6)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fulmen.db");
        std::fs::copy(fixture.join(name).join("fulmen.db"), &path).unwrap();
        let store = Store::open(&path).unwrap();
        assert_eq!(rows::<Payment>(&store).len(), payments, "{name}");
        assert_eq!(rows::<Invoice>(&store).len(), invoices, "{name}");
        assert_eq!(rows::<Circuit>(&store).len(), usize::from(name == "alice"));
        let records = ChannelRecord::load_all(&store).unwrap();
        let [record] = &records[..] else { panic!("{records:?}") };
        assert_eq!(record.capacity.sat(), 1_000_000);
        let rows = load_rows(&store, record.index).unwrap();
        let contract = Commitments::restore(&rows).unwrap();
        assert_eq!(contract.params.format, CommitmentFormat::Anchors);
        assert!(rows.0.contains_key(&Row::Life) && contract.htlcs.len() == 1, "{name}");
        store.close();
    }
}
