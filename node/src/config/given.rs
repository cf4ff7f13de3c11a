//! What the user gave: flags from the command line and from the file, in one map.

use super::flags::{self, Flag, Kind, NOT_BUILT, SHORT};
use super::ConfigError;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

/// A value and the place it comes from, for error texts.
#[derive(Debug, Clone)]
struct Entry {
    value: String,
    /// The line of the file; none on the command line.
    line: Option<usize>,
}

/// The flags that were given, by name.
#[derive(Debug, Default)]
pub(super) struct Given(BTreeMap<&'static str, Vec<Entry>>);

impl Given {
    /// Reads `--flag`, `--flag=value` and `--flag value`, without the program's name.
    pub(super) fn from_args<S: AsRef<str>>(args: &[S]) -> Result<Given, ConfigError> {
        let mut given = Given::default();
        let mut args = args.iter().map(AsRef::as_ref);
        while let Some(arg) = args.next() {
            let (name, value) = match arg.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (arg, None),
            };
            let flag = flag_of(name)?;
            let value = match (value, flag.kind) {
                (Some(value), _) => value,
                (None, Kind::Switch) => "true",
                (None, _) => match args.next() {
                    Some(next) if !next.starts_with("--") => next,
                    _ => return Err(ConfigError::new(format!("{name} needs a value"))),
                },
            };
            given.add(flag, value, None);
        }
        Ok(given)
    }

    /// Reads lnd.conf's syntax: `NAME=VALUE` lines, `[sections]`, comments after `;` or `#`.
    pub(super) fn from_file(text: &str) -> Result<Given, ConfigError> {
        let mut given = Given::default();
        for (index, line) in text.lines().enumerate() {
            let number = index.saturating_add(1);
            let line = line.trim();
            // The sections are for the reader: each name says by itself what it belongs to.
            let section = line.starts_with('[') && line.ends_with(']');
            if line.is_empty() || line.starts_with([';', '#']) || section {
                continue;
            }
            let at = |why: String| ConfigError::new(format!("fulmen.conf line {number}: {why}"));
            let (name, value) =
                line.split_once('=').ok_or_else(|| at(format!("\"{line}\" is not NAME=VALUE")))?;
            let flag = known(name.trim()).map_err(|error| at(error.to_string()))?;
            let value = value.trim();
            let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            given.add(flag, bare.unwrap_or(value), Some(number));
        }
        Ok(given)
    }

    /// These flags, and those of `file` that are not among them.
    pub(super) fn over(mut self, file: Given) -> Given {
        for (name, entries) in file.0 {
            self.0.entry(name).or_insert(entries);
        }
        self
    }

    fn add(&mut self, flag: &'static Flag, value: &str, line: Option<usize>) {
        let entries = self.0.entry(flag.name).or_default();
        entries.push(Entry { value: value.to_owned(), line });
    }

    /// Whether the flag was given at all.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The last value given, parsed; or the default, parsed; or nothing if there is no default.
    pub(super) fn one<T, E: Display>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, ConfigError> {
        self.entries(name).last().map(|entry| parsed(name, entry, &parse)).transpose()
    }

    /// As [`Given::one`], of a flag that has a default.
    pub(super) fn value<T, E: Display>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<T, ConfigError> {
        let missing = || ConfigError::new(format!("--{name} is missing"));
        self.one(name, parse)?.ok_or_else(missing)
    }

    /// Every value given, parsed.
    pub(super) fn all<T, E: Display>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Vec<T>, ConfigError> {
        self.entries(name).iter().map(|entry| parsed(name, entry, &parse)).collect()
    }

    /// The last value given as it is, if it is not empty.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.entries(name).pop().map(|entry| entry.value).filter(|value| !value.is_empty())
    }

    /// A whole number within bounds.
    pub(super) fn number<T: FromStr + PartialOrd + Display>(
        &self,
        name: &str,
        least: T,
        most: T,
    ) -> Result<T, ConfigError> {
        self.value(name, |text| match text.parse::<T>() {
            Ok(number) if number >= least && number <= most => Ok(number),
            Ok(_) => Err(format!("must be from {least} to {most}")),
            Err(_) => Err(format!("must be a whole number from {least} to {most}")),
        })
    }

    /// Whether a switch is on.
    pub(super) fn switch(&self, name: &str) -> Result<bool, ConfigError> {
        let parse = |text: &str| match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            _ => Err("must be true or false"),
        };
        Ok(self.one(name, parse)?.unwrap_or(false))
    }

    fn entries(&self, name: &str) -> Vec<Entry> {
        match self.0.get(name) {
            Some(entries) => entries.clone(),
            None => flags::find(name)
                .filter(|flag| !flag.default.is_empty())
                .map(|flag| Entry { value: flag.default.to_owned(), line: None })
                .into_iter()
                .collect(),
        }
    }
}

fn parsed<T, E: Display>(
    name: &str,
    entry: &Entry,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<T, ConfigError> {
    parse(&entry.value).map_err(|why| {
        let value = &entry.value;
        ConfigError::new(match entry.line {
            Some(line) => format!("fulmen.conf line {line}: {name}={value}: {why}"),
            None => format!("--{name}={value}: {why}"),
        })
    })
}

fn flag_of(arg: &str) -> Result<&'static Flag, ConfigError> {
    if let Some(name) = arg.strip_prefix("--") {
        return known(name);
    }
    let short = arg.strip_prefix('-').filter(|short| !short.is_empty());
    let short = short.ok_or_else(|| ConfigError::new(format!("\"{arg}\" is not a flag")))?;
    let long = SHORT.iter().find(|(name, _)| *name == short).map(|(_, long)| *long);
    known(long.unwrap_or(short))
}

fn known(name: &str) -> Result<&'static Flag, ConfigError> {
    if let Some((name, what)) = NOT_BUILT.iter().find(|(flag, _)| *flag == name) {
        return Err(ConfigError::new(format!("--{name}: {what} is not built into fulmen yet")));
    }
    flags::find(name).ok_or_else(|| {
        ConfigError::new(format!("there is no flag --{name}; fulmend --help lists all"))
    })
}
