//! Every message, enum and method against the facts in tests/facts: same names, numbers, types.

use fulmen_proto::json::descriptors;
use prost_reflect::{FieldDescriptor, Kind};
use std::collections::BTreeSet;

const FIELDS: &str = include_str!("facts/fields.tsv");
const ENUMS: &str = include_str!("facts/enums.tsv");
const METHODS: &str = include_str!("facts/methods.tsv");

fn rows(table: &str) -> BTreeSet<String> {
    let rows: BTreeSet<_> = table.lines().skip(1).map(str::to_owned).collect();
    assert!(rows.len() > 10, "the table of facts is empty");
    rows
}

/// What is not fulmen's own.
fn is_lnds(name: &str) -> bool {
    !name.starts_with("fulmenrpc.")
}

fn type_of(kind: &Kind) -> String {
    match kind {
        Kind::Message(m) => format!("message {}", m.full_name()),
        Kind::Enum(e) => format!("enum {}", e.full_name()),
        scalar => format!("{scalar:?}").to_lowercase(),
    }
}

/// A field's type and label in the words of the table.
fn described(field: &FieldDescriptor) -> (String, String) {
    if field.is_map() {
        let entry = field.kind().as_message().unwrap().clone();
        let key = type_of(&entry.map_entry_key_field().kind());
        let value = type_of(&entry.map_entry_value_field().kind()).replace("message ", "");
        return (format!("map<{key},{value}>"), "map".into());
    }
    let label = match field.containing_oneof() {
        _ if field.is_list() => "repeated".into(),
        Some(oneof) if oneof.name().starts_with('_') => "optional".into(),
        Some(oneof) => format!("oneof {}", oneof.name()),
        None => "singular".into(),
    };
    (type_of(&field.kind()), label)
}

#[test]
fn every_field_has_the_number_and_type_of_the_table() {
    let mut ours = BTreeSet::new();
    let messages = descriptors().unwrap().all_messages();
    for message in messages.filter(|m| !m.is_map_entry() && is_lnds(m.full_name())) {
        for field in message.fields() {
            let (kind, label) = described(&field);
            let (message, name, number) = (message.full_name(), field.name(), field.number());
            ours.insert(format!("{message}\t{name}\t{number}\t{kind}\t{label}"));
        }
        for range in message.reserved_ranges() {
            let (message, first, last) = (message.full_name(), range.start, range.end - 1);
            ours.insert(format!("{message}\t(reserved)\t{first}-{last}\t-\treserved"));
        }
    }
    assert_eq!(ours, rows(FIELDS));
}

#[test]
fn every_enum_value_has_the_number_of_the_table() {
    let mut ours = BTreeSet::new();
    for kind in descriptors().unwrap().all_enums().filter(|kind| is_lnds(kind.full_name())) {
        for value in &kind.enum_descriptor_proto().value {
            ours.insert(format!("{}\t{}\t{}", kind.full_name(), value.name(), value.number()));
        }
    }
    assert_eq!(ours, rows(ENUMS));
}

#[test]
fn every_method_has_the_messages_of_the_table() {
    let mut ours = BTreeSet::new();
    for service in descriptors().unwrap().services().filter(|it| is_lnds(it.full_name())) {
        for method in service.methods() {
            assert!(!method.is_client_streaming());
            ours.insert(format!(
                "{}\t{}\t{}\t{}\t{}",
                service.full_name(),
                method.name(),
                method.input().full_name(),
                method.output().full_name(),
                u8::from(method.is_server_streaming()),
            ));
        }
    }
    assert_eq!(ours, rows(METHODS));
}
