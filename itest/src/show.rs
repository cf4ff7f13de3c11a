//! What the demos print.

use std::io::{stdout, Write};
use std::process::Command;

use fulmen_channel::amount::Sat;

use crate::build;
use crate::failure::{Failure, Result};
use crate::regtest::Daemon;

/// A headline: what happens next.
pub fn step(what: &str) {
    println!("\n▸ {what}");
}

/// 1234567 as `1,234,567`.
pub fn grouped(amount: Sat) -> String {
    let digits = amount.sat().to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && digits.len().saturating_sub(at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// fulmen-cli with what it needs to find a daemon.
///
/// # Errors
/// When it does not build.
pub fn cli(daemon: &Daemon) -> Result<Command> {
    let mut command = Command::new(build::fulmen_cli()?);
    command
        .arg(format!("--fulmendir={}", daemon.dir().display()))
        .arg(format!("--rpcserver={}", daemon.rpc_address()))
        .arg("--network=regtest");
    Ok(command)
}

/// What fulmen-cli says to these words, in colours if this is a terminal.
///
/// # Errors
/// When it fails.
pub fn says(daemon: &Daemon, words: &[&str]) -> Result<()> {
    println!();
    stdout().flush()?;
    match cli(daemon)?.args(words).status()?.success() {
        true => Ok(()),
        false => Err(Failure::new(format!("fulmen-cli {} fails", words.join(" ")))),
    }
}
