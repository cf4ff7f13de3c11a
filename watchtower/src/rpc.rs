//! bitcoind's JSON-RPC: the few calls that the daemon needs, with errors in plain words.
//!
//! Calls block; [`Rpc::run`] moves one to a blocking thread. Answers are read into small types of
//! our own, so that a field that a newer bitcoind adds or reshapes does not matter to us.

use super::http::Http;
use base64::prelude::{Engine, BASE64_STANDARD};
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{Block, BlockHash, Network, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use fulmen_channel::amount::{FeeratePerKw, Height};
use serde::{de::DeserializeOwned, Deserialize};
use serde_json::{json, Value};
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How we prove to bitcoind that we may use its RPC.
#[derive(Clone, PartialEq, Eq)]
pub enum RpcAuth {
    /// `--bitcoind.rpcuser` and `--bitcoind.rpcpass`.
    UserPass {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// bitcoind's `.cookie`, read again when bitcoind has restarted.
    Cookie(PathBuf),
}

impl fmt::Debug for RpcAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RpcAuth::UserPass { user, .. } => write!(f, "UserPass({user}, …)"),
            RpcAuth::Cookie(path) => write!(f, "Cookie({})", path.display()),
        }
    }
}

/// Why a call failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RpcError {
    /// No answer at all.
    #[error(
        "cannot reach bitcoind at {host}: {why}; is it running, and is --bitcoind.rpchost its RPC \
         address?"
    )]
    Unreachable {
        /// The address that was tried.
        host: String,
        /// What the operating system said.
        why: String,
    },
    /// HTTP 401.
    #[error(
        "bitcoind at {host} refuses our RPC credentials; check --bitcoind.rpcuser and \
         --bitcoind.rpcpass, or the cookie file (--bitcoind.rpccookie), and bitcoind's rpcallowip"
    )]
    Credentials {
        /// The address that was tried.
        host: String,
    },
    /// The cookie file cannot be read.
    #[error(
        "cannot read bitcoind's cookie file {path}: {why}; is bitcoind running, and is that the \
         file? Name it with --bitcoind.rpccookie, or give --bitcoind.rpcuser and \
         --bitcoind.rpcpass"
    )]
    Cookie {
        /// The file.
        path: String,
        /// What the operating system said.
        why: String,
    },
    /// Code -28: bitcoind is loading or verifying blocks. It passes by itself.
    #[error("bitcoind is still starting: {0}")]
    WarmingUp(String),
    /// bitcoind answered with an error.
    #[error("bitcoind's {method} failed: {message} (code {code})")]
    Refused {
        /// The method called.
        method: &'static str,
        /// bitcoind's code.
        code: i32,
        /// bitcoind's words.
        message: String,
    },
    /// bitcoind no longer has this old block.
    #[error("bitcoind has pruned block {0}")]
    Pruned(Height),
    /// An answer that we cannot read.
    #[error(
        "bitcoind's answer to {method} makes no sense: {why}; is --bitcoind.rpchost its RPC \
         address?"
    )]
    Garbage {
        /// The method called.
        method: &'static str,
        /// What was wrong.
        why: String,
    },
}

impl RpcError {
    /// Whether trying again later may help: bitcoind is away or starting.
    pub fn is_down(&self) -> bool {
        matches!(
            self,
            RpcError::Unreachable { .. }
                | RpcError::Credentials { .. }
                | RpcError::Cookie { .. }
                | RpcError::WarmingUp(_)
        )
    }
    /// Whether waiting may help: bitcoind is not there yet, or has not written its cookie.
    pub fn may_pass(&self) -> bool {
        self.is_down() && !matches!(self, RpcError::Credentials { .. })
    }
    /// The same, naming the block that was asked for if that is what bitcoind does not have.
    pub fn of_block(self, height: Height) -> RpcError {
        match self {
            RpcError::Refused { message, .. } if message.contains("pruned") => {
                RpcError::Pruned(height)
            }
            other => other,
        }
    }
    /// bitcoind's code, if it answered with one.
    pub fn code(&self) -> Option<i32> {
        match self {
            RpcError::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// What `getblockchaininfo` says.
#[derive(Debug, Clone, Deserialize)]
pub struct ChainInfo {
    /// bitcoind's name of the network: main, test, testnet4, signet, regtest.
    pub chain: String,
    /// Height of the best block.
    pub blocks: u32,
    /// Height of the best header.
    pub headers: u32,
    /// The best block.
    pub bestblockhash: BlockHash,
    /// Time of the best block, in unix seconds.
    #[serde(default)]
    pub time: u32,
    /// bitcoind is still catching up with the network.
    pub initialblockdownload: bool,
}

/// What `getmempoolinfo` says of fees.
#[derive(Debug, Clone, Copy)]
pub struct MempoolInfo {
    /// Transactions in the mempool.
    pub size: usize,
    /// The least feerate that enters the mempool now.
    pub min: FeeratePerKw,
}

/// An output that is unspent as far as bitcoind sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unspent {
    /// The output.
    pub output: TxOut,
    /// Its confirmations: 0 in the mempool.
    pub confirmations: u32,
}

/// bitcoind's answer to "would this transaction enter the mempool?".
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct MempoolVerdict {
    /// It would.
    pub allowed: bool,
    /// Why not.
    #[serde(rename = "reject-reason")]
    pub reject_reason: Option<String>,
    /// The same with numbers, from bitcoind 29 on.
    #[serde(rename = "reject-details")]
    pub reject_details: Option<String>,
}

impl MempoolVerdict {
    /// Why not, in bitcoind's words; nothing if it would.
    pub fn refusal(&self) -> Option<String> {
        let why = self.reject_details.as_ref().or(self.reject_reason.as_ref());
        (!self.allowed).then(|| why.cloned().unwrap_or_default())
    }
}

/// A client of one bitcoind. Clones share one connection; calls on it wait for each other.
#[derive(Clone)]
pub struct Rpc {
    shared: Arc<Shared>,
}

struct Shared {
    host: String,
    auth: RpcAuth,
    timeout: Duration,
    http: Http,
    /// The header that lets us in, once it is known.
    authorization: Mutex<Option<String>>,
    asked: AtomicU64,
}

impl Rpc {
    /// A client of the bitcoind at `host` (`address:port`); nothing is sent yet. No call lasts
    /// longer than `timeout`, once those before it are over.
    pub fn new(host: &str, auth: RpcAuth, timeout: Duration) -> Rpc {
        let shared = Shared {
            host: host.into(),
            auth,
            timeout,
            http: Http::new(host, timeout),
            authorization: Mutex::new(None),
            asked: AtomicU64::new(0),
        };
        Rpc { shared: Arc::new(shared) }
    }

    /// A client of the same bitcoind with a connection of its own.
    pub fn another(&self) -> Rpc {
        let Shared { host, auth, timeout, .. } = &*self.shared;
        Rpc::new(host, auth.clone(), *timeout)
    }

    /// Runs `call` on a blocking thread.
    pub async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Rpc) -> Result<T, RpcError> + Send + 'static,
    ) -> Result<T, RpcError> {
        let rpc = self.clone();
        tokio::task::spawn_blocking(move || call(&rpc)).await.unwrap_or_else(|died| {
            Err(RpcError::Garbage { method: "a call", why: died.to_string() })
        })
    }

    /// How many connections were made so far.
    pub fn connection(&self) -> u64 {
        self.shared.http.connections()
    }

    /// Where the chain stands.
    pub fn chain_info(&self) -> Result<ChainInfo, RpcError> {
        self.call("getblockchaininfo", &[])
    }

    /// The active chain's block at `height`, or nothing beyond the tip.
    pub fn block_hash(&self, height: Height) -> Result<Option<BlockHash>, RpcError> {
        const OUT_OF_RANGE: i32 = -8;
        none_if(OUT_OF_RANGE, self.call("getblockhash", &[json!(height.number())]))
    }

    /// The median of the times of the block at `height` and the ten before it, in unix seconds: it
    /// only grows from block to block.
    pub fn median_time(&self, height: Height) -> Result<u64, RpcError> {
        #[derive(Deserialize)]
        struct Header {
            mediantime: u64,
        }
        let hash: BlockHash = self.call("getblockhash", &[json!(height.number())])?;
        Ok(self.call::<Header>("getblockheader", &[json!(hash), json!(true)])?.mediantime)
    }

    /// The block before `hash`, or nothing if bitcoind does not know `hash` or it is the first.
    pub fn parent(&self, hash: BlockHash) -> Result<Option<BlockHash>, RpcError> {
        #[derive(Deserialize)]
        struct Header {
            previousblockhash: Option<BlockHash>,
        }
        let header = self.call::<Header>("getblockheader", &[json!(hash), json!(true)]);
        Ok(none_if(NOT_FOUND, header)?.and_then(|header| header.previousblockhash))
    }

    /// A whole block, from the active chain or not.
    pub fn block(&self, hash: BlockHash) -> Result<Block, RpcError> {
        let method = "getblock";
        let hex: String = self.call(method, &[json!(hash), json!(0)])?;
        let block: Block = parse(method, &hex)?;
        // What was garbled on the way must not become our chain.
        match block.block_hash() == hash && block.check_merkle_root() {
            true => Ok(block),
            false => Err(RpcError::Garbage { method, why: format!("it is not block {hash}") }),
        }
    }

    /// Hands a transaction to the mempool and the network.
    pub fn send(&self, tx: &Transaction) -> Result<Txid, RpcError> {
        // The 0 lifts bitcoind's guard against high feerates: a claim near its deadline may pay.
        self.call("sendrawtransaction", &[json!(serialize_hex(tx)), json!(0)])
    }

    /// Hands a parent and its child to the mempool together.
    pub fn send_package(&self, parent: &Transaction, child: &Transaction) -> Result<(), RpcError> {
        #[derive(Deserialize)]
        struct Answer {
            package_msg: String,
            #[serde(rename = "tx-results")]
            results: std::collections::BTreeMap<String, Verdict>,
        }
        #[derive(Deserialize)]
        struct Verdict {
            error: Option<String>,
        }
        let method = "submitpackage";
        let package = json!([serialize_hex(parent), serialize_hex(child)]);
        let answer: Answer = self.call(method, &[package, json!(0)])?;
        if answer.package_msg == "success" {
            return Ok(());
        }
        const VERIFY_REJECTED: i32 = -26;
        let each = answer.results.into_values().filter_map(|verdict| verdict.error);
        let message = [answer.package_msg].into_iter().chain(each).collect::<Vec<_>>().join(", ");
        Err(RpcError::Refused { method, code: VERIFY_REJECTED, message })
    }

    /// Whether the mempool would take `tx` now.
    pub fn test_accept(&self, tx: &Transaction) -> Result<MempoolVerdict, RpcError> {
        let method = "testmempoolaccept";
        let args = [json!([serialize_hex(tx)]), json!(0)];
        let verdicts: Vec<MempoolVerdict> = self.call(method, &args)?;
        let none = || RpcError::Garbage { method, why: "no verdict".into() };
        verdicts.into_iter().next().ok_or_else(none)
    }

    /// Size and minimum feerate of the mempool.
    pub fn mempool_info(&self) -> Result<MempoolInfo, RpcError> {
        #[derive(Deserialize)]
        struct Info {
            size: usize,
            mempoolminfee: f64,
            minrelaytxfee: f64,
        }
        let info: Info = self.call("getmempoolinfo", &[])?;
        let min = btc_per_kvb(info.mempoolminfee.max(info.minrelaytxfee));
        Ok(MempoolInfo { size: info.size, min })
    }

    /// Every transaction of the mempool.
    pub fn mempool(&self) -> Result<Vec<Txid>, RpcError> {
        self.call("getrawmempool", &[])
    }

    /// A transaction of the mempool (or of the chain, where bitcoind has a txindex).
    pub fn transaction(&self, txid: Txid) -> Result<Option<Transaction>, RpcError> {
        let method = "getrawtransaction";
        let hex: Option<String> = none_if(NOT_FOUND, self.call(method, &[json!(txid)]))?;
        let tx: Option<Transaction> = hex.map(|hex| parse(method, &hex)).transpose()?;
        match &tx {
            Some(other) if other.compute_txid() != txid => {
                Err(RpcError::Garbage { method, why: format!("it is not transaction {txid}") })
            }
            _ => Ok(tx),
        }
    }

    /// What spends these outputs in the mempool; nothing where bitcoind cannot say (before 24.0).
    pub fn spenders(&self, outpoints: &[OutPoint]) -> Result<Vec<Txid>, RpcError> {
        #[derive(Deserialize)]
        struct Spent {
            spendingtxid: Option<Txid>,
        }
        let named = |out: &OutPoint| json!({ "txid": out.txid, "vout": out.vout });
        let args = [outpoints.iter().map(named).collect::<Value>()];
        let answer: Option<Vec<Spent>> =
            none_if(NO_METHOD, self.call("gettxspendingprevout", &args))?;
        Ok(answer.into_iter().flatten().filter_map(|spent| spent.spendingtxid).collect())
    }

    /// Whether `txid` is in the mempool.
    pub fn in_mempool(&self, txid: Txid) -> Result<bool, RpcError> {
        let entry = self.call::<Value>("getmempoolentry", &[json!(txid)]);
        Ok(none_if(NOT_FOUND, entry)?.is_some())
    }

    /// The estimate for confirmation within `blocks`; nothing while bitcoind has too little data.
    pub fn estimate(&self, blocks: u16) -> Result<Option<FeeratePerKw>, RpcError> {
        #[derive(Deserialize)]
        struct Estimate {
            feerate: Option<f64>,
        }
        let estimate: Estimate = self.call("estimatesmartfee", &[json!(blocks)])?;
        Ok(estimate.feerate.map(btc_per_kvb))
    }

    /// The output, if unspent; with `mempool`, unconfirmed outputs and spends count too.
    pub fn unspent(&self, out: OutPoint, mempool: bool) -> Result<Option<Unspent>, RpcError> {
        #[derive(Deserialize)]
        struct Script {
            hex: ScriptBuf,
        }
        #[derive(Deserialize)]
        struct Found {
            confirmations: u32,
            #[serde(with = "bitcoin::amount::serde::as_btc")]
            value: bitcoin::Amount,
            #[serde(rename = "scriptPubKey")]
            script_pubkey: Script,
        }
        let args = [json!(out.txid), json!(out.vout), json!(mempool)];
        let found: Option<Found> = self.call("gettxout", &args)?;
        Ok(found.map(|found| Unspent {
            output: TxOut { value: found.value, script_pubkey: found.script_pubkey.hex },
            confirmations: found.confirmations,
        }))
    }

    fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        args: &[Value],
    ) -> Result<T, RpcError> {
        let cookie = matches!(self.shared.auth, RpcAuth::Cookie(_));
        match self.ask(method, args) {
            // bitcoind writes a new cookie at each start, so a refusal may only mean it restarted.
            Err(RpcError::Credentials { .. }) if cookie => {
                *self.authorization() = None;
                self.ask(method, args)
            }
            answer => answer,
        }
    }

    fn ask<T: DeserializeOwned>(
        &self,
        method: &'static str,
        args: &[Value],
    ) -> Result<T, RpcError> {
        const WARMING_UP: i32 = -28;
        let Shared { http, asked, .. } = &*self.shared;
        let id = asked.fetch_add(1, Ordering::Relaxed);
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": args });
        let authorization = self.authorize()?;
        let answer = http.post(&authorization, request.to_string().as_bytes());
        let answer = answer.map_err(|e| self.unreachable(&e))?;
        if matches!(answer.status, 401 | 403) {
            return Err(RpcError::Credentials { host: self.shared.host.clone() });
        }
        let garbage = |why: String| RpcError::Garbage { method, why };
        let reply: Reply = match serde_json::from_slice(&answer.body) {
            Err(_) if answer.status != 200 => {
                return Err(self.unreachable(&format!("it answers HTTP {}", answer.status)));
            }
            reply => reply.map_err(|e| garbage(e.to_string()))?,
        };
        if reply.id != id {
            return Err(garbage("it answers another question".into()));
        }
        match reply.error {
            Some(Refusal { code: WARMING_UP, message }) => Err(RpcError::WarmingUp(message)),
            Some(Refusal { code, message }) => Err(RpcError::Refused { method, code, message }),
            None => serde_json::from_value(reply.result).map_err(|e| garbage(e.to_string())),
        }
    }

    fn authorization(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.shared.authorization.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The header that lets us in.
    fn authorize(&self) -> Result<String, RpcError> {
        let mut known = self.authorization();
        if let Some(header) = &*known {
            return Ok(header.clone());
        }
        let login = match &self.shared.auth {
            RpcAuth::UserPass { user, password } => format!("{user}:{password}"),
            RpcAuth::Cookie(path) => {
                let cookie = std::fs::read_to_string(path).map_err(|why| RpcError::Cookie {
                    path: path.display().to_string(),
                    why: why.to_string(),
                })?;
                cookie.lines().next().unwrap_or_default().to_owned()
            }
        };
        Ok(known.insert(format!("Basic {}", BASE64_STANDARD.encode(login))).clone())
    }

    fn unreachable(&self, why: &impl ToString) -> RpcError {
        RpcError::Unreachable { host: self.shared.host.clone(), why: why.to_string() }
    }
}

/// An answer of JSON-RPC; either field of a result or an error may be missing.
#[derive(Deserialize)]
struct Reply {
    #[serde(default)]
    result: Value,
    error: Option<Refusal>,
    id: Value,
}

#[derive(Deserialize)]
struct Refusal {
    code: i32,
    message: String,
}

/// bitcoind's "no such block, transaction or entry".
const NOT_FOUND: i32 = -5;
/// bitcoind does not know the method.
const NO_METHOD: i32 = -32_601;

/// The name that bitcoind's `getblockchaininfo` gives a network.
pub fn chain_name(network: Network) -> &'static str {
    network.to_core_arg()
}

fn none_if<T>(code: i32, answer: Result<T, RpcError>) -> Result<Option<T>, RpcError> {
    match answer {
        Err(e) if e.code() == Some(code) => Ok(None),
        answer => answer.map(Some),
    }
}

fn parse<T: bitcoin::consensus::Decodable>(method: &'static str, hex: &str) -> Result<T, RpcError> {
    deserialize_hex(hex).map_err(|e| RpcError::Garbage { method, why: e.to_string() })
}

/// bitcoind names feerates in BTC per 1000 vbytes; a vbyte is 4 units of weight. Rounded up.
fn btc_per_kvb(rate: f64) -> FeeratePerKw {
    let per_kw = (rate * 100_000_000.0).round() / 4.0;
    // A float that is out of range saturates, and NaN becomes 0.
    FeeratePerKw::new(per_kw.ceil() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feerates_are_converted_and_rounded_up() {
        for (btc, per_kw) in [(0.00001, 250), (0.00001001, 251), (0.0, 0), (f64::NAN, 0)] {
            assert_eq!(btc_per_kvb(btc).per_kw(), per_kw, "{btc}");
        }
    }

    #[test]
    fn a_refused_connection_says_what_to_check() {
        let auth = RpcAuth::UserPass { user: "u".into(), password: "p".into() };
        // Port 1 of the loopback: nobody listens there.
        let error = Rpc::new("127.0.0.1:1", auth, Duration::from_secs(1)).chain_info().unwrap_err();
        assert!(error.is_down());
        assert!(error.to_string().starts_with("cannot reach bitcoind at 127.0.0.1:1"), "{error}");
    }

    #[test]
    fn a_missing_cookie_is_named() {
        let rpc = Rpc::new("127.0.0.1:1", RpcAuth::Cookie("/no/.cookie".into()), Duration::ZERO);
        let error = rpc.chain_info().unwrap_err().to_string();
        assert!(error.starts_with("cannot read bitcoind's cookie file /no/.cookie"), "{error}");
    }
}
