//! What the user sees: answers as JSON on standard output, everything else on standard error.

use crate::error::CliError;
use fulmen_proto::json::{to_string_pretty, Bytes};
use prost::Name;
use std::io::Write;

/// Prints `message` as JSON.
///
/// # Errors
/// Standard output is closed.
pub fn answer<M: Name>(message: &M) -> Result<(), CliError> {
    line(&to_string_pretty(message, Bytes::Hex)?)
}

/// Prints an object with one entry.
///
/// # Errors
/// Standard output is closed.
pub fn entry(name: &str, value: &str) -> Result<(), CliError> {
    let (name, value) = (serde_json::Value::from(name), serde_json::Value::from(value));
    line(&format!("{{\n    {name}: {value}\n}}"))
}

fn line(text: &str) -> Result<(), CliError> {
    writeln!(std::io::stdout(), "{text}")
        .map_err(|e| CliError::text(format!("cannot write the answer: {e}")))
}
