//! What can go wrong, in the words that the user sees.

use fulmen_proto::json::JsonError;
use tonic::{Code, Status};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The daemon refused the call.
    #[error("rpc error: code = {} desc = {}{}", code_name(.0.code()), .0.message(), hint(.0))]
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

/// What to do about refusals that every user meets once; a line of its own.
fn hint(status: &Status) -> &'static str {
    let says = |text: &str| status.message().contains(text);
    if says("wallet locked") {
        "\nOpen the wallet with `fulmen-cli unlock`."
    } else if says("wallet not created") {
        "\nMake a wallet with `fulmen-cli create`."
    } else if says("verification failed") || says("root key with id") {
        "\nThe macaroon is another daemon's, or was made void: look at --fulmendir, --network and \
         --macaroonpath."
    } else if says("expected 1 macaroon, got 0") {
        "\nLeave --no-macaroons out."
    } else if says("in the process of starting up") || says("waiting to start") {
        "\nTry again in a moment; `fulmen-cli state` tells how far it has come."
    } else if status.code() == Code::Unavailable {
        "\nThe daemon ended, or the connection broke."
    } else {
        ""
    }
}
