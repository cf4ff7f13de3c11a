//! The command line: global flags, commands, and Go's way of writing flags.

use crate::commands::Command;
use crate::print::Format;
use crate::unbuilt;
use clap::builder::BoolishValueParser;
use clap::{Arg, ArgAction, Args, CommandFactory, FromArgMatches, Parser};
use std::ffi::OsString;
use std::net::IpAddr;

/// fulmen-cli's command line.
#[derive(Debug, Parser)]
#[command(name = "fulmen-cli", version, about = "Speaks to fulmend, with lncli's commands")]
pub struct Cli {
    /// Where the daemon is and how we show who we are.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that stand before the command.
#[derive(Debug, Args)]
pub struct Global {
    /// host:port of fulmend's gRPC interface
    #[arg(long, default_value = "localhost:10009")]
    pub rpcserver: String,
    /// fulmend's directory
    #[arg(long, visible_alias = "lnddir", default_value = "~/.fulmen", value_name = "DIR")]
    pub fulmendir: String,
    /// host:port of a SOCKS 5 proxy through which to connect
    #[arg(long, value_name = "HOST:PORT")]
    pub socksproxy: Option<String>,
    /// fulmend's certificate [default: tls.cert in fulmend's directory]
    #[arg(long, value_name = "FILE")]
    pub tlscertpath: Option<String>,
    /// The block chain
    #[arg(long, short, default_value = "bitcoin", value_parser = ["bitcoin"])]
    pub chain: String,
    /// The network that fulmend is on
    #[arg(long, short, default_value = "mainnet")]
    #[arg(value_parser = ["mainnet", "testnet", "testnet4", "signet", "regtest", "simnet"])]
    pub network: String,
    /// Send no macaroon
    #[arg(long = "no-macaroons")]
    pub no_macaroons: bool,
    /// Macaroon to send [default: admin.macaroon of the network in fulmend's directory]
    #[arg(long, value_name = "FILE")]
    pub macaroonpath: Option<String>,
    /// Seconds after which the macaroon that is sent is worthless to a thief
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub macaroontimeout: i64,
    /// Address from which alone the macaroon that is sent may be used
    #[arg(long, value_name = "ADDRESS")]
    pub macaroonip: Option<IpAddr>,
    /// An entry key:value for the metadata of each call; may be repeated
    #[arg(long, value_name = "KEY:VALUE")]
    pub metadata: Vec<String>,
    /// How answers are written; may also stand after the command
    #[arg(long, value_enum, default_value = "json", global = true)]
    pub format: Format,
}

/// Reads a command line, its first word being the program's name.
///
/// # Errors
/// clap's error: also for `-h`; its `exit` prints it with the right exit code.
pub fn parse<I>(words: I) -> Result<Cli, clap::Error>
where
    I: IntoIterator,
    I::Item: Into<OsString>,
{
    let words = go_dashes(words.into_iter().map(Into::into));
    let matches = definition().try_get_matches_from(words)?;
    match unbuilt::asked(&matches) {
        None => Cli::from_arg_matches(&matches),
        Some(name) => {
            Ok(Cli { global: Global::from_arg_matches(&matches)?, command: Command::Unbuilt(name) })
        }
    }
}

/// The whole command line for clap: ours, Go's way with values, and what is not built yet.
pub fn definition() -> clap::Command {
    let command = unbuilt::with_flags(Cli::command()).mut_args(go_values);
    let command = command.mut_subcommands(|c| {
        c.mut_args(go_values).mut_subcommands(|inner| inner.mut_args(go_values))
    });
    unbuilt::with_commands(command)
}

/// Go reads `-flag` as `--flag`, and `--f` as `-f`. Negative numbers and all after `--` stay.
fn go_dashes(words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut flags = true;
    let mut one = |word: OsString| -> OsString {
        flags = flags && word != "--";
        let text = word.to_str().and_then(|w| w.strip_prefix('-')).unwrap_or("");
        let name = text.split('=').next().unwrap_or("");
        if flags && name.len() == 2 && name.starts_with('-') {
            return text.into();
        }
        let long = name.len() > 1 && name.starts_with(|c: char| c.is_ascii_alphabetic());
        if flags && long {
            return format!("--{text}").into();
        }
        word
    };
    words.map(&mut one).collect()
}

/// Go reads `--flag`, `--flag=true` and `--flag=false`, and takes a negative number for a value.
fn go_values(arg: Arg) -> Arg {
    if !matches!(arg.get_action(), ArgAction::SetTrue) {
        return arg.allow_negative_numbers(true);
    }
    arg.action(ArgAction::Set)
        .value_parser(BoolishValueParser::new())
        .num_args(0..=1)
        .require_equals(true)
        .default_value("false")
        .default_missing_value("true")
        .hide_default_value(true)
        .hide_possible_values(true)
        .value_name("BOOL")
}
