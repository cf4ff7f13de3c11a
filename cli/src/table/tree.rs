//! JSON in the order in which it was written, which `serde_json::Value` forgets.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// One JSON value; numbers and words are text already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tree {
    /// A text, a number, true or false. Null is empty.
    Leaf(String),
    /// A list.
    List(Vec<Tree>),
    /// An object, in its order.
    Object(Vec<(String, Tree)>),
}

impl Tree {
    /// What stands at `path`: names with dots between.
    pub fn at(&self, path: &str) -> Option<&Tree> {
        path.split('.').try_fold(self, |tree, name| match tree {
            Tree::Object(entries) => entries.iter().find(|(n, _)| n == name).map(|(_, v)| v),
            _ => None,
        })
    }

    /// The text at `path`, of a list its texts; empty if there is none.
    pub fn text(&self, path: &str) -> String {
        match self.at(path) {
            Some(Tree::Leaf(text)) => text.clone(),
            Some(Tree::List(items)) => joined(items),
            _ => String::new(),
        }
    }

    /// All texts with their paths, as `name.name` and `name[0]`.
    pub fn leaves(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        self.collect(String::new(), &mut found);
        found
    }

    fn collect(&self, path: String, found: &mut Vec<(String, String)>) {
        match self {
            Tree::Leaf(text) => found.push((path, text.clone())),
            Tree::List(items) if items.iter().all(|item| matches!(item, Tree::Leaf(_))) => {
                found.push((path, joined(items)));
            }
            Tree::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    item.collect(format!("{path}[{index}]"), found);
                }
            }
            Tree::Object(entries) => {
                for (name, value) in entries {
                    let dot = if path.is_empty() { "" } else { "." };
                    value.collect(format!("{path}{dot}{name}"), found);
                }
            }
        }
    }
}

fn joined(items: &[Tree]) -> String {
    let text = |item: &Tree| match item {
        Tree::Leaf(text) => text.clone(),
        _ => String::new(),
    };
    items.iter().map(text).collect::<Vec<_>>().join(", ")
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf(String::new()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Tree::Object(entries))
    }
}
