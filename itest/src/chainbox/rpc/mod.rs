//! bitcoind's JSON-RPC on a box: a method and its arguments in, a value or an error out.
//!
//! Those calls that fulmend, the tests and a developer at hand use. Arguments come by position;
//! codes and words of errors are bitcoind's, since clients match them.

mod blocks;
mod pool;
mod purse;

use std::fmt;
use std::str::FromStr;

use bitcoin::consensus::encode::{deserialize_hex, Decodable};
use fulmen_channel::amount::Sat;
use serde_json::{json, Value};

use super::policy::PerKvb;
use super::reject::Reject;
use super::ChainBox;

/// An error as JSON-RPC has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcError {
    /// bitcoind's code.
    pub code: i32,
    /// bitcoind's words.
    pub message: String,
}

/// The argument has another type.
const WRONG_TYPE: i32 = -3;
/// No such block, transaction, entry or address.
const NOT_FOUND: i32 = -5;
/// The argument is out of range.
const BAD_PARAMETER: i32 = -8;
/// Bytes that cannot be read.
const BAD_BYTES: i32 = -22;
/// No such method.
pub const NO_METHOD: i32 = -32_601;

impl RpcError {
    /// An error.
    pub fn new(code: i32, message: impl fmt::Display) -> Self {
        RpcError { code, message: message.to_string() }
    }
}

impl From<Reject> for RpcError {
    fn from(reject: Reject) -> Self {
        RpcError::new(reject.code(), reject)
    }
}

/// What a call answers.
pub type Answer = Result<Value, RpcError>;

/// Answers a call.
///
/// # Errors
/// bitcoind's, and -32601 for what is not built into the box.
pub fn answer(chain_box: &mut ChainBox, method: &str, arguments: &[Value]) -> Answer {
    let arguments = Arguments(arguments);
    let answer = blocks::answer(chain_box, method, &arguments);
    let answer = answer.or_else(|| pool::answer(chain_box, method, &arguments));
    let answer = answer.or_else(|| purse::answer(chain_box, method, &arguments));
    answer.unwrap_or_else(|| match method {
        "getnetworkinfo" => Ok(network_info()),
        "getconnectioncount" => Ok(json!(0)),
        "getpeerinfo" => Ok(json!([])),
        "getindexinfo" => Ok(json!({})),
        _ => Err(RpcError::new(NO_METHOD, "Method not found")),
    })
}

fn network_info() -> Value {
    let fee = per_kvb(super::policy::RELAY_MINIMUM);
    json!({
        "version": 290_100,
        "subversion": "/fulmen:chainbox/",
        "protocolversion": 70_016,
        "localservices": "0000000000000409",
        "localservicesnames": ["NETWORK", "WITNESS", "NETWORK_LIMITED"],
        "localrelay": true,
        "timeoffset": 0,
        "networkactive": false,
        "connections": 0,
        "connections_in": 0,
        "connections_out": 0,
        "networks": [],
        "relayfee": fee,
        "incrementalfee": fee,
        "localaddresses": [],
        "warnings": [],
    })
}

/// A call's arguments by position.
struct Arguments<'a>(&'a [Value]);

impl Arguments<'_> {
    /// The argument, if it is there and not null.
    fn get<T: serde::de::DeserializeOwned>(&self, at: usize) -> Result<Option<T>, RpcError> {
        match self.0.get(at) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => T::deserialize(value).map(Some).map_err(|_| {
                let what =
                    format!("Wrong type passed: Position {} ({value})", at.saturating_add(1));
                RpcError::new(WRONG_TYPE, what)
            }),
        }
    }

    fn required<T: serde::de::DeserializeOwned>(&self, at: usize) -> Result<T, RpcError> {
        let missing = || RpcError::new(-1, format!("argument {} is missing", at.saturating_add(1)));
        self.get(at)?.ok_or_else(missing)
    }

    /// A hash in hex.
    fn hash<T: FromStr>(&self, at: usize, name: &str) -> Result<T, RpcError> {
        let text: String = self.required(at)?;
        let wrong = match text.len() {
            64 => format!("{name} must be hexadecimal string (not '{text}')"),
            other => format!("{name} must be of length 64 (not {other}, for '{text}')"),
        };
        text.parse().map_err(|_| RpcError::new(BAD_PARAMETER, wrong))
    }

    /// What consensus encodes, in hex; what to say where it is not.
    fn decoded<T: Decodable>(&self, at: usize, what: &str) -> Result<T, RpcError> {
        decode(&self.required::<String>(at)?, what)
    }

    /// Bitcoin, as a number or in a string.
    fn amount(&self, at: usize) -> Result<Option<Sat>, RpcError> {
        let Some(value) = self.get::<Value>(at)? else { return Ok(None) };
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let btc = text.parse::<f64>().ok();
        let amount = btc.and_then(|btc| bitcoin::Amount::from_btc(btc).ok());
        let amount = amount.ok_or_else(|| RpcError::new(WRONG_TYPE, "Invalid amount"))?;
        Ok(Some(amount.into()))
    }
}

fn decode<T: Decodable>(hex: &str, what: &str) -> Result<T, RpcError> {
    deserialize_hex(hex).map_err(|_| RpcError::new(BAD_BYTES, what))
}

/// Satoshi as bitcoind's numbers have it: bitcoin.
fn btc(amount: impl Into<Sat>) -> Value {
    json!(amount.into().to_amount().to_btc())
}

/// A feerate as bitcoind's numbers have it: bitcoin for 1,000 vbytes.
fn per_kvb(rate: PerKvb) -> Value {
    btc(Sat::new(rate.sat_per_kvb()))
}
