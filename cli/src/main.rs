//! fulmen-cli: lncli's commands, flags and JSON, spoken to fulmend.

mod args;
mod commands;
mod connect;
mod coverage;
mod error;
mod explain;
mod macaroon;
mod parse;
mod print;
mod progress;
mod socks;
mod table;
mod terminal;
mod unbuilt;

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = args::parse(std::env::args_os()).unwrap_or_else(|error| error.exit());
    match commands::run(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("[fulmen-cli] {error}");
            ExitCode::FAILURE
        }
    }
}
