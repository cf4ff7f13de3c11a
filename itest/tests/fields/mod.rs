//! Every field of every answer is true, or named in docs/limits.md: a story in which whatever can
//! be told is told, and a table that says of each field how it is.
//!
//! | in `answers.tsv` | means | fails when |
//! |---|---|---|
//! | `seen` | the story brings it about | no answer had it |
//! | `limit` | fulmen does not fill it | docs/limits.md does not name it, or an answer had it |
//! | `zero` | zero is the truth, for the reason given | an answer had it |
//! | `elsewhere` | another test sees it | that file does not name it |

mod story;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use fulmen_itest::failure::Result;
use fulmen_proto::json::descriptors;
use prost::{Message, Name};
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, Value};

/// `message.field`, how it is, and why.
const ANSWERS: &str = include_str!("answers.tsv");
/// Names, numbers and types are compared with this table by the tests of `proto`.
const FIELDS: &str = include_str!("../../../proto/tests/facts/fields.tsv");

/// The fields that answers had, with another value than zero.
#[derive(Default)]
pub struct Seen(BTreeSet<String>);

impl Seen {
    /// Takes an answer down, and hands it on.
    pub fn note<M: Message + Name>(&mut self, answer: M) -> M {
        let message = descriptors().unwrap().get_message_by_name(&M::full_name()).unwrap();
        self.walk(&DynamicMessage::decode(message, answer.encode_to_vec().as_slice()).unwrap());
        answer
    }

    fn walk(&mut self, message: &DynamicMessage) {
        for (field, value) in message.fields() {
            self.0.insert(field.full_name().to_owned());
            self.walk_value(value);
        }
    }

    fn walk_value(&mut self, value: &Value) {
        match value {
            Value::Message(message) => self.walk(message),
            Value::List(values) => values.iter().for_each(|value| self.walk_value(value)),
            Value::Map(values) => values.values().for_each(|value| self.walk_value(value)),
            _ => {}
        }
    }
}

/// The fields of a message and of all that it holds.
fn fields_of(message: &MessageDescriptor, fields: &mut BTreeSet<String>) {
    for field in message.fields() {
        let mut kind = field.kind();
        if field.is_map() {
            kind = kind.as_message().unwrap().map_entry_value_field().kind();
        }
        if let (true, Kind::Message(held)) = (fields.insert(field.full_name().to_owned()), kind) {
            fields_of(&held, fields);
        }
    }
}

/// The fields of the answers of these methods.
fn answers(methods: &BTreeSet<String>) -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    // What is fulmen's own has stories of its own.
    let services = descriptors().unwrap().services();
    for service in services.filter(|it| !it.full_name().starts_with("fulmenrpc.")) {
        for method in service.methods() {
            if methods.contains(&format!("/{}/{}", service.full_name(), method.name())) {
                fields_of(&method.output(), &mut fields);
            }
        }
    }
    fields
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_is_true_or_a_limit() -> Result<()> {
    let mut seen = Seen::default();
    let served = story::told(&mut seen).await?;
    assert!(served.len() > 30, "too few methods are served: {served:?}");
    let rows: BTreeMap<&str, (&str, &str)> = ANSWERS
        .lines()
        .skip(1)
        .map(|line| {
            let mut columns = line.split('\t');
            let mut next = || columns.next().unwrap_or_else(|| panic!("{line:?} is too short"));
            (next(), (next(), next()))
        })
        .collect();
    let facts: BTreeSet<String> = FIELDS
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once('\t'))
        .map(|(message, rest)| format!("{message}.{}", rest.split('\t').next().unwrap()))
        .collect();
    let limits = std::fs::read_to_string(root().join("docs/limits.md"))?;
    let limits = named(&limits);
    let mut wrong = Vec::new();
    let fields = answers(&served);
    for field in &fields {
        let had = seen.0.contains(field);
        assert!(facts.contains(field), "{field} is none of lnd's");
        match rows.get(field.as_str()) {
            None => wrong.push(format!("{field}\t{}", if had { "seen" } else { "?" })),
            Some(("seen", _)) if !had => wrong.push(format!("{field}: no answer had it")),
            Some(("seen", _)) => {}
            Some((how @ ("limit" | "zero"), _)) if had => {
                wrong.push(format!("{field}: an answer had it, it is no {how}"));
            }
            Some(("limit", _)) if !limits.contains(field) => {
                wrong.push(format!("{field}: docs/limits.md does not name it"));
            }
            Some(("limit", _)) => {}
            Some(("zero", reason)) if reason.len() > 5 => {}
            Some(("elsewhere", file)) => {
                let text = std::fs::read_to_string(root().join(file)).unwrap_or_default();
                if !text.contains(field.rsplit('.').next().unwrap()) {
                    wrong.push(format!("{field}: {file} does not name it"));
                }
            }
            Some(other) => wrong.push(format!("{field}: {other:?} says nothing")),
        }
    }
    wrong.extend(
        rows.keys()
            .filter(|row| !fields.contains(**row))
            .map(|row| format!("{row}: no field of an answer")),
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The fields that docs/limits.md names: lines of its table "| `message` | `field`, `field` |".
fn named(limits: &str) -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    for line in limits.lines().filter(|line| line.starts_with("| `")) {
        let mut cells = line
            .split('|')
            .skip(1)
            .map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>());
        let (Some(messages), Some(names)) = (cells.next(), cells.next()) else { continue };
        for message in messages {
            let package = if message.starts_with("verrpc.") { "" } else { "lnrpc." };
            fields.extend(names.iter().map(|name| format!("{package}{message}.{name}")));
        }
    }
    fields
}
