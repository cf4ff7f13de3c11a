//! The identifier of a macaroon, as version 3 of the bakery writes it: what the macaroon allows.

use prost::Message;
use std::collections::{BTreeMap, BTreeSet};

/// The first byte of version 3.
const VERSION: u8 = 3;

/// For each entity the actions that are allowed on it.
pub type Ops = BTreeMap<String, BTreeSet<String>>;

/// What a macaroon allows, and under which root key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identifier {
    /// Random, so that no two macaroons are the same.
    pub nonce: Vec<u8>,
    /// The root key's id, a decimal number in ASCII.
    pub storage_id: Vec<u8>,
    /// What it allows.
    pub ops: Ops,
}

#[derive(Clone, PartialEq, Message)]
struct MacaroonId {
    #[prost(bytes = "vec", tag = "1")]
    nonce: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    storage_id: Vec<u8>,
    #[prost(message, repeated, tag = "3")]
    ops: Vec<EntityOps>,
}

#[derive(Clone, PartialEq, Message)]
struct EntityOps {
    #[prost(string, tag = "1")]
    entity: String,
    #[prost(string, repeated, tag = "2")]
    actions: Vec<String>,
}

impl Identifier {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let ops = self.ops.iter().map(|(entity, actions)| EntityOps {
            entity: entity.clone(),
            actions: actions.iter().cloned().collect(),
        });
        let id = MacaroonId {
            nonce: self.nonce.clone(),
            storage_id: self.storage_id.clone(),
            ops: ops.collect(),
        };
        [vec![VERSION], id.encode_to_vec()].concat()
    }

    /// Reads what [`Identifier::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Identifier, &'static str> {
        let Some((&VERSION, message)) = bytes.split_first() else {
            return Err("its identifier is not of version 3");
        };
        let id = MacaroonId::decode(message).map_err(|_| "its identifier cannot be read")?;
        let mut ops = Ops::new();
        for op in id.ops {
            ops.entry(op.entity).or_default().extend(op.actions);
        }
        Ok(Identifier { nonce: id.nonce, storage_id: id.storage_id, ops })
    }

    /// Whether `action` on `entity` is allowed.
    pub fn allows(&self, entity: &str, action: &str) -> bool {
        self.ops.get(entity).is_some_and(|actions| actions.contains(action))
    }
}
