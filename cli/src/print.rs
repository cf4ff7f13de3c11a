//! What the user sees: answers on standard output as JSON or tables, all else on standard error.

use crate::error::CliError;
use crate::table::{lists, render};
use crate::terminal;
use clap::ValueEnum;
use fulmen_proto::json::{to_string_pretty, Bytes, JsonError};
use prost::Name;
use serde::Serialize;
use std::io::Write;

/// How answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// As lncli does
    Json,
    /// For people
    Table,
}

impl Format {
    /// Prints `message`.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn answer<M: Name>(self, message: &M) -> Result<(), CliError> {
        let json = to_string_pretty(message, Bytes::Hex)?;
        line(&match self {
            Format::Json => json,
            Format::Table => table(&json, &M::full_name())?,
        })
    }

    /// Prints `value`, which is not a message of the daemon's, as the table called `name`.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn shaped(self, value: &impl Serialize, name: &str) -> Result<(), CliError> {
        let json = pretty(value).map_err(JsonError::Write)?;
        line(&match self {
            Format::Json => json,
            Format::Table => table(&json, name)?,
        })
    }

    /// Prints an object with one entry.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn entry(self, name: &str, value: &str) -> Result<(), CliError> {
        self.shaped(&std::collections::BTreeMap::from([(name, value)]), "")
    }
}

/// Indented by four spaces.
fn pretty(value: &impl Serialize) -> Result<String, serde_json::Error> {
    let mut out = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, format))?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

fn table(json: &str, message: &str) -> Result<String, CliError> {
    let tree = serde_json::from_str(json).map_err(JsonError::Write)?;
    Ok(render(&tree, lists(message), terminal::canvas()))
}

/// Prints a line.
///
/// # Errors
/// Standard output is closed.
pub fn line(text: &str) -> Result<(), CliError> {
    writeln!(std::io::stdout(), "{text}")
        .map_err(|e| CliError::text(format!("cannot write the answer: {e}")))
}
