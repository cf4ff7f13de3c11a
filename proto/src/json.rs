//! JSON of any message, as LND's own tools print it.
//!
//! Names as in the .proto files, in their order; every field present, also when zero; 64-bit
//! integers as strings; enum values by name; an unset message as `null`; unset members of a oneof
//! and unset `optional` fields left out. Bytes are hex for people and base64 for REST.

use base64::{prelude::BASE64_STANDARD, Engine};
use prost::Name;
use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, ReflectMessage,
    Value,
};
use serde::ser::{Error as _, SerializeMap, Serializer};
use serde::Serialize;
use std::sync::OnceLock;

/// How a field of type `bytes` is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bytes {
    /// Lower-case hex: what lncli prints.
    Hex,
    /// Standard base64 with padding: what the REST gateway sends.
    Base64,
}

/// Why a message could not be written as JSON.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// The message belongs to no .proto file of ours.
    #[error(
        "no descriptor for message {0}: give one that is generated from fulmen's .proto files"
    )]
    UnknownMessage(String),
    /// The descriptors built into this program are damaged.
    #[error("the message descriptors built into this program are damaged: {0}")]
    Descriptors(String),
    /// Writing failed.
    #[error("the message cannot be written as JSON: {0}")]
    Write(#[from] serde_json::Error),
}

/// The descriptors of every message and service, for JSON and for the tests.
///
/// # Errors
/// [`JsonError::Descriptors`] if the program was built wrongly.
pub fn descriptors() -> Result<&'static DescriptorPool, JsonError> {
    static POOL: OnceLock<Result<DescriptorPool, String>> = OnceLock::new();
    let encoded = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
    POOL.get_or_init(|| DescriptorPool::decode(encoded.as_slice()).map_err(|e| e.to_string()))
        .as_ref()
        .map_err(|e| JsonError::Descriptors(e.clone()))
}

/// `message` as one JSON value.
///
/// # Errors
/// [`JsonError`]: only for a message that is not ours.
pub fn to_value<M: Name>(message: &M, bytes: Bytes) -> Result<serde_json::Value, JsonError> {
    Ok(serde_json::to_value(Json { message: &reflect(message)?, bytes })?)
}

/// `message` as text: indented by four spaces, without a newline at its end.
///
/// # Errors
/// [`JsonError`]: only for a message that is not ours.
pub fn to_string_pretty<M: Name>(message: &M, bytes: Bytes) -> Result<String, JsonError> {
    let mut out = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut writer = serde_json::Serializer::with_formatter(&mut out, format);
    Json { message: &reflect(message)?, bytes }.serialize(&mut writer)?;
    String::from_utf8(out).map_err(|e| JsonError::Write(serde_json::Error::custom(e)))
}

fn reflect<M: Name>(message: &M) -> Result<DynamicMessage, JsonError> {
    let name = M::full_name();
    let unknown = || JsonError::UnknownMessage(name.clone());
    let descriptor = descriptors()?.get_message_by_name(&name).ok_or_else(unknown)?;
    let mut dynamic = DynamicMessage::new(descriptor);
    dynamic.transcode_from(message).map_err(|_| unknown())?;
    Ok(dynamic)
}

struct Json<'a> {
    message: &'a DynamicMessage,
    bytes: Bytes,
}

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let descriptor = self.message.descriptor();
        let mut map = serializer.serialize_map(None)?;
        for declared in &descriptor.descriptor_proto().field {
            let Some(field) = descriptor.get_field_by_name(declared.name()) else { continue };
            if field.supports_presence() && !self.message.has_field(&field) {
                let left_out = field.containing_oneof().is_some(); // `optional` is a oneof too
                if !left_out {
                    map.serialize_entry(field.name(), &())?;
                }
                continue;
            }
            let value = self.message.get_field(&field);
            let value = JsonValue { value: &value, field: &field, bytes: self.bytes };
            map.serialize_entry(field.name(), &value)?;
        }
        map.end()
    }
}

struct JsonValue<'a> {
    value: &'a Value,
    field: &'a FieldDescriptor,
    bytes: Bytes,
}

impl JsonValue<'_> {
    fn with<'b>(&'b self, value: &'b Value, field: &'b FieldDescriptor) -> JsonValue<'b> {
        JsonValue { value, field, bytes: self.bytes }
    }

    /// Entries by ascending key, so that the same message always prints the same.
    fn map<S: Serializer>(
        &self,
        entries: &std::collections::HashMap<MapKey, Value>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let Kind::Message(entry) = self.field.kind() else {
            return Err(S::Error::custom("a map field without entries"));
        };
        let field = entry.map_entry_value_field();
        let mut sorted: Vec<_> = entries.iter().collect();
        sorted.sort_by_key(|(key, _)| order(key));
        serializer.collect_map(sorted.into_iter().map(|(key, value)| {
            let (_, key) = order(key);
            (key, self.with(value, &field))
        }))
    }
}

/// A map key as number (0 for text) and as text: numbers sort by size, texts by letters.
fn order(key: &MapKey) -> (i128, String) {
    match key {
        MapKey::Bool(v) => (i128::from(*v), v.to_string()),
        MapKey::I32(v) => (i128::from(*v), v.to_string()),
        MapKey::I64(v) => (i128::from(*v), v.to_string()),
        MapKey::U32(v) => (i128::from(*v), v.to_string()),
        MapKey::U64(v) => (i128::from(*v), v.to_string()),
        MapKey::String(v) => (0, v.clone()),
    }
}

impl Serialize for JsonValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.value {
            Value::Bool(v) => serializer.serialize_bool(*v),
            Value::I32(v) => serializer.serialize_i32(*v),
            Value::U32(v) => serializer.serialize_u32(*v),
            Value::I64(v) => serializer.collect_str(v),
            Value::U64(v) => serializer.collect_str(v),
            Value::F32(v) => serializer.serialize_f64(f64::from(*v)),
            Value::F64(v) => serializer.serialize_f64(*v),
            Value::String(v) => serializer.serialize_str(v),
            Value::Bytes(v) => match self.bytes {
                Bytes::Hex => serializer.serialize_str(&hex::encode(v)),
                Bytes::Base64 => serializer.serialize_str(&BASE64_STANDARD.encode(v)),
            },
            Value::EnumNumber(number) => match self.field.kind() {
                Kind::Enum(kind) => enum_value(&kind, *number, serializer),
                _ => serializer.serialize_i32(*number),
            },
            Value::Message(message) => Json { message, bytes: self.bytes }.serialize(serializer),
            Value::List(values) => {
                serializer.collect_seq(values.iter().map(|value| self.with(value, self.field)))
            }
            Value::Map(entries) => self.map(entries, serializer),
        }
    }
}

/// The first name that the .proto file gives to `number`; the number itself if it has none.
fn enum_value<S: Serializer>(kind: &EnumDescriptor, number: i32, s: S) -> Result<S::Ok, S::Error> {
    let named = kind.enum_descriptor_proto().value.iter().find(|v| v.number() == number);
    match named {
        Some(value) => s.serialize_str(value.name()),
        None => s.serialize_i32(number),
    }
}
