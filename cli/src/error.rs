//! What can go wrong, in the words that the user sees.

use fulmen_proto::json::JsonError;
use tonic::{Code, Status};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The daemon refused the call.
    #[error("rpc error: code = {} desc = {}", code_name(.0.code()), .0.message())]
    Rpc(#[from] Status),
    /// The answer could not be printed.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// Anything else; the text says what to do.
    #[error("{0}")]
    Text(String),
}

impl CliError {
    /// An error that is only its text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }
}

/// A status code under the name that Go's gRPC gives it.
fn code_name(code: Code) -> String {
    match code {
        Code::Ok => "OK".into(),
        Code::Cancelled => "Canceled".into(),
        other => format!("{other:?}"),
    }
}
