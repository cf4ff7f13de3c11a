//! Values of flags and positional arguments: durations, hex, outpoints, custom records.

use crate::error::CliError;
use fulmen_proto::lnrpc::{channel_point::FundingTxid, ChannelPoint, OutPoint};
use std::collections::{BTreeMap, VecDeque};
use std::str::FromStr;
use std::time::Duration;

/// Positional arguments that stand for the flags that were not given, in order.
pub struct Positionals(VecDeque<String>);

impl Positionals {
    /// The words of a command that are not flags.
    pub fn new(words: &[String]) -> Self {
        Self(words.iter().cloned().collect())
    }

    /// The flag's value if it was given, otherwise the next word, if there is one.
    ///
    /// # Errors
    /// The word is not what `name` has to be.
    pub fn or<T: FromStr>(&mut self, flag: Option<T>, name: &str) -> Result<Option<T>, CliError> {
        if flag.is_some() {
            return Ok(flag);
        }
        let Some(word) = self.0.pop_front() else { return Ok(None) };
        let parsed = word.parse();
        parsed.map(Some).map_err(|_| CliError::text(format!("unable to decode {name}: {word}")))
    }

    /// Like [`Self::or`], for what cannot be left out.
    ///
    /// # Errors
    /// It is missing or not what `name` has to be.
    pub fn need<T: FromStr>(&mut self, flag: Option<T>, name: &str) -> Result<T, CliError> {
        self.or(flag, name)?.ok_or_else(|| CliError::text(format!("{name} argument missing")))
    }

    /// # Errors
    /// Words are left over.
    pub fn end(mut self) -> Result<(), CliError> {
        match self.0.pop_front() {
            Some(word) => Err(CliError::text(format!("unexpected argument {word}"))),
            None => Ok(()),
        }
    }
}

/// A duration as Go writes it: `90s`, `1m30s`, `1.5h`, `300ms`.
///
/// # Errors
/// A text that names the units, for clap.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text} is no duration: write one like 60s or 1m30s");
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() || text.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(wrong()),
        };
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        sum = sum.checked_add(part).ok_or_else(wrong)?;
        rest = tail;
    }
    Ok(sum)
}

/// Bytes from hex; none from nothing.
///
/// # Errors
/// The text is not hex; `name` says which.
pub fn hex_bytes(text: Option<&str>, name: &str) -> Result<Vec<u8>, CliError> {
    hex::decode(text.unwrap_or_default())
        .map_err(|e| CliError::text(format!("unable to decode {name}: {e}")))
}

/// `txid:index`, the txid as it is shown.
///
/// # Errors
/// The text has another form.
pub fn outpoint(text: &str) -> Result<(String, u32), CliError> {
    let wrong = || CliError::text(format!("{text} is no outpoint: write it as txid:index"));
    let (txid, index) = text.split_once(':').ok_or_else(wrong)?;
    let bytes = hex::decode(txid).map_err(|_| wrong())?;
    let index = index.parse().map_err(|_| wrong())?;
    if bytes.len() == 32 {
        Ok((txid.to_owned(), index))
    } else {
        Err(wrong())
    }
}

/// An outpoint of the wallet, as [`outpoint`] reads it.
///
/// # Errors
/// The text has another form.
pub fn wallet_outpoint(text: &str) -> Result<OutPoint, CliError> {
    let (txid_str, output_index) = outpoint(text)?;
    Ok(OutPoint { txid_bytes: Vec::new(), txid_str, output_index })
}

/// A channel's funding output, as [`outpoint`] reads it.
///
/// # Errors
/// The text has another form.
pub fn channel_point(text: &str) -> Result<ChannelPoint, CliError> {
    let (txid, output_index) = outpoint(text)?;
    Ok(ChannelPoint { funding_txid: Some(FundingTxid::FundingTxidStr(txid)), output_index })
}

/// A txid in the byte order of a transaction, as it is shown.
pub fn txid(bytes: &[u8]) -> String {
    hex::encode(bytes.iter().rev().copied().collect::<Vec<u8>>())
}

/// Custom records: `number=hex`, with commas between.
///
/// # Errors
/// The text has another form.
pub fn records(text: Option<&str>) -> Result<BTreeMap<u64, Vec<u8>>, CliError> {
    let wrong = |e: &str| CliError::text(format!("unable to decode record {e}: write number=hex"));
    let record = |entry: &str| {
        let (number, value) = entry.split_once('=').ok_or_else(|| wrong(entry))?;
        let number = number.parse().map_err(|_| wrong(entry))?;
        Ok((number, hex::decode(value).map_err(|_| wrong(entry))?))
    };
    text.into_iter().flat_map(|t| t.split(',')).map(record).collect()
}
