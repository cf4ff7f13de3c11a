//! Logging: to the terminal and to a rotating file, as much of it as `--debuglevel` says.

mod rotate;

pub use rotate::RotatingFile;

use std::io::IsTerminal;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Mutex, OnceLock, PoisonError};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{reload, Layer, Registry};

/// lnd's names of the parts that can be made louder or quieter, and where they are in our code.
pub const SUBSYSTEMS: &[(&str, &str)] = &[
    ("BTWL", "fulmen_node::wallet"),
    ("CHDB", "fulmen_node::store"),
    ("CNCT", "fulmen_node::channels"),
    ("CRTR", "fulmen_node::payments"),
    ("DISC", "fulmen_node::gossip"),
    ("FNDG", "fulmen_node::channels::opening"),
    ("HSWC", "fulmen_node::switch"),
    ("INVC", "fulmen_node::invoices"),
    ("LNWL", "fulmen_channel"),
    ("LTND", "fulmend"),
    ("NTFN", "fulmen_node::chain"),
    ("PEER", "fulmen_node::peer"),
    ("RPCS", "fulmen_node::rpc"),
    ("SWPR", "fulmen_node::sweeper"),
    ("WTCL", "fulmen_node::tower_client"),
];

/// The biggest a log file gets, in bytes, and how many old ones are kept.
const FILE_SIZE: u64 = 20_000_000;
const OLD_FILES: u32 = 3;

/// The filter in use, and what it was made of.
static LOG: OnceLock<(reload::Handle<Targets, Registry>, Mutex<Levels>)> = OnceLock::new();

/// How much is said: a level for all, and others for some subsystems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Levels {
    all: LevelFilter,
    each: Vec<(&'static str, LevelFilter)>,
}

impl Default for Levels {
    fn default() -> Self {
        Levels { all: LevelFilter::INFO, each: Vec::new() }
    }
}

impl Levels {
    /// Parses lnd's syntax: `LEVEL`, `SUBSYSTEM=LEVEL,…`, or a level and then subsystems.
    pub fn parse(text: &str) -> Result<Levels, String> {
        Levels::default().changed(text)
    }

    /// These levels with what the text says changed: a level for all is one for every subsystem.
    fn changed(&self, text: &str) -> Result<Levels, String> {
        let mut levels = self.clone();
        for (position, part) in text.split(',').map(str::trim).enumerate() {
            match part.split_once('=') {
                Some((name, value)) => levels.each.push((subsystem(name)?, level(value)?)),
                None if position == 0 => {
                    levels = Levels { all: level(part)?, each: Vec::new() };
                }
                None => return Err(format!("\"{part}\" is not SUBSYSTEM=LEVEL")),
            }
        }
        Ok(levels)
    }

    /// The filter. Other people's code speaks up only if something is wrong, or at `trace`.
    pub fn targets(&self) -> Targets {
        let others = match self.all {
            LevelFilter::TRACE => LevelFilter::TRACE,
            level => level.min(LevelFilter::WARN),
        };
        let targets = Targets::new().with_default(others).with_target("fulmen", self.all);
        self.each.iter().fold(targets, |all, (target, level)| all.with_target(*target, *level))
    }
}

fn level(text: &str) -> Result<LevelFilter, String> {
    match text {
        "critical" => Ok(LevelFilter::ERROR),
        "trace" | "debug" | "info" | "warn" | "error" | "off" => {
            LevelFilter::from_str(text).map_err(|error| error.to_string())
        }
        _ => Err(format!(
            "\"{text}\" is not a level: use trace, debug, info, warn, error, critical or off"
        )),
    }
}

fn subsystem(name: &str) -> Result<&'static str, String> {
    let found = SUBSYSTEMS.iter().find(|(subsystem, _)| *subsystem == name);
    found.map(|(_, target)| *target).ok_or_else(|| {
        let names: Vec<_> = SUBSYSTEMS.iter().map(|(name, _)| *name).collect();
        format!("\"{name}\" is not a subsystem: there are {}", names.join(", "))
    })
}

/// Starts logging to the terminal and to `fulmend.log` in `directory`. Once a process.
pub fn start(levels: &Levels, directory: &Path) -> Result<(), String> {
    let file = RotatingFile::open(&directory.join("fulmend.log"), FILE_SIZE, OLD_FILES)
        .map_err(|error| format!("cannot write logs to {}: {error}", directory.display()))?;
    // A line that cannot be written is lost, and must not stop the thread that logs it.
    let terminal = tracing_subscriber::fmt::layer()
        .log_internal_errors(false)
        .with_ansi(std::io::stdout().is_terminal())
        .boxed();
    let file = tracing_subscriber::fmt::layer()
        .log_internal_errors(false)
        .with_ansi(false)
        .with_writer(Mutex::new(file));
    let (filter, handle) = reload::Layer::new(levels.targets());
    tracing_subscriber::registry()
        .with(filter)
        .with(terminal)
        .with(file)
        .try_init()
        .map_err(|error| error.to_string())?;
    // Started once a process: there is none before.
    let _ = LOG.set((handle, Mutex::new(levels.clone())));
    Ok(())
}

/// Changes what is said, until the daemon stops.
///
/// # Errors
/// What is wrong with the text; or that nothing is logged.
pub fn change(text: &str) -> Result<(), String> {
    let (handle, levels) = LOG.get().ok_or("nothing is logged")?;
    let mut levels = levels.lock().unwrap_or_else(PoisonError::into_inner);
    let changed = levels.changed(text)?;
    handle.reload(changed.targets()).map_err(|error| error.to_string())?;
    *levels = changed;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn levels_are_for_all_or_for_subsystems() {
        let enabled = |text: &str, target: &str, level: Level| {
            Levels::parse(text).unwrap().targets().would_enable(target, &level)
        };
        assert!(enabled("debug", "fulmen_node::peer::noise", Level::DEBUG));
        assert!(!enabled("debug", "fulmen_node::peer", Level::TRACE));
        assert!(!enabled("debug", "h2::codec", Level::INFO));
        assert!(enabled("trace", "h2::codec", Level::TRACE));
        assert!(!enabled("off", "fulmend", Level::ERROR));
        assert!(enabled("critical", "fulmend", Level::ERROR));
        let some = "warn,PEER=trace,CHDB=debug";
        assert!(enabled(some, "fulmen_node::peer", Level::TRACE));
        assert!(enabled(some, "fulmen_node::store::writer", Level::DEBUG));
        assert!(!enabled(some, "fulmen_node::switch", Level::INFO));
        assert!(enabled("HSWC=debug", "fulmen_node::rpc", Level::INFO));
    }

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        let levels = Levels::parse("warn,PEER=trace").unwrap();
        let peer =
            |levels: &Levels, level| levels.targets().would_enable("fulmen_node::peer", &level);
        let changed = levels.changed("CHDB=debug").unwrap();
        assert!(peer(&changed, Level::TRACE));
        assert!(!changed.targets().would_enable("fulmen_node::switch", &Level::INFO));
        assert!(!peer(&changed.changed("PEER=info").unwrap(), Level::DEBUG));
        assert!(!peer(&changed.changed("debug").unwrap(), Level::TRACE));
    }

    #[test]
    fn nonsense_is_refused_with_what_there_is() {
        for (text, answer) in [
            ("loud", "\"loud\" is not a level: use trace"),
            ("", "\"\" is not a level"),
            ("NOPE=info", "\"NOPE\" is not a subsystem: there are BTWL, CHDB"),
            ("PEER=loud", "\"loud\" is not a level"),
            ("PEER=info,debug", "\"debug\" is not SUBSYSTEM=LEVEL"),
        ] {
            let error = Levels::parse(text).unwrap_err();
            assert!(error.starts_with(answer), "{text}: {error}");
        }
    }
}
