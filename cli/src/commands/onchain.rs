//! The wallet on chain: sendcoins, sendmany, estimatefee, listchaintxns, listunspent.

use crate::connect::{Lightning, Node};
use crate::error::CliError;
use crate::parse::{wallet_outpoint, Positionals};
use crate::terminal::{confirmed, shows_progress};
use clap::{Args, ValueEnum};
use fulmen_proto::lnrpc::{
    CoinSelectionStrategy, EstimateFeeRequest, GetTransactionsRequest, ListUnspentRequest,
    OutPoint, SendCoinsRequest, SendManyRequest, Utxo, WalletBalanceRequest,
};
use serde::Serialize;
use std::collections::BTreeMap;

/// Which coins are taken first.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Strategy {
    /// As the daemon is set up
    GlobalConfig,
    /// The largest
    Largest,
    /// Any
    Random,
}

impl Strategy {
    fn wire(self) -> i32 {
        let strategy = match self {
            Strategy::GlobalConfig => CoinSelectionStrategy::StrategyUseGlobalConfig,
            Strategy::Largest => CoinSelectionStrategy::StrategyLargest,
            Strategy::Random => CoinSelectionStrategy::StrategyRandom,
        };
        strategy.into()
    }
}

/// What a transaction may cost, and which coins it may spend.
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
struct Fees {
    /// Blocks in which the transaction should confirm
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    conf_target: i32,
    /// Feerate of the transaction
    #[arg(long, alias = "sat_per_byte", default_value_t = 0, hide_default_value = true)]
    sat_per_vbyte: u64,
    /// Confirmations that the coins must have
    #[arg(long, default_value_t = 1)]
    min_confs: u32,
    /// Which coins are taken first
    #[arg(long, value_enum, default_value = "global-config")]
    coin_selection_strategy: Strategy,
    /// A note for ourselves
    #[arg(long, default_value = "", hide_default_value = true)]
    label: String,
}

impl Fees {
    fn check(&self) -> Result<i32, CliError> {
        one_fee(self.conf_target, self.sat_per_vbyte)?;
        i32::try_from(self.min_confs).map_err(|_| CliError::text("min_confs is too large"))
    }
}

/// A target or a rate, not both.
pub(super) fn one_fee(conf_target: i32, sat_per_vbyte: u64) -> Result<(), CliError> {
    match (conf_target, sat_per_vbyte) {
        (0, _) | (_, 0) => Ok(()),
        _ => Err(CliError::text("give either conf_target or sat_per_vbyte, not both")),
    }
}

fn outpoints(texts: &[String]) -> Result<Vec<OutPoint>, CliError> {
    texts.iter().map(|text| wallet_outpoint(text)).collect()
}

/// Satoshis by address.
fn amounts(json: &str) -> Result<BTreeMap<String, i64>, CliError> {
    serde_json::from_str(json).map_err(|e| {
        let wanted = r#"write {"address": satoshis, …}"#;
        CliError::text(format!("unable to decode the amounts: {e}; {wanted}"))
    })
}

/// sendcoins
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub struct SendCoins {
    /// Address and satoshis: those not given as flags
    #[arg(value_name = "ADDR AMT")]
    words: Vec<String>,
    /// Address to pay to
    #[arg(long)]
    addr: Option<String>,
    /// Send all that the wallet may spend
    #[arg(long)]
    sweepall: bool,
    /// Satoshis
    #[arg(long)]
    amt: Option<i64>,
    /// Do not ask before sending
    #[arg(long, short)]
    force: bool,
    /// Spend this output of the wallet, txid:index; may be repeated
    #[arg(long)]
    utxo: Vec<String>,
    #[command(flatten)]
    fees: Fees,
}

impl SendCoins {
    pub(super) fn request(&self) -> Result<SendCoinsRequest, CliError> {
        let mut words = Positionals::new(&self.words);
        let addr = words.need(self.addr.clone(), "addr")?;
        let amount = words.or(self.amt, "amt")?;
        words.end()?;
        let amount = match (amount, self.sweepall) {
            (Some(_), true) => {
                return Err(CliError::text("give an amount or --sweepall, not both"));
            }
            (None, false) => return Err(CliError::text("amt argument missing")),
            (amount, _) => amount.unwrap_or(0),
        };
        Ok(SendCoinsRequest {
            addr,
            amount,
            target_conf: self.fees.conf_target,
            sat_per_vbyte: self.fees.sat_per_vbyte,
            send_all: self.sweepall,
            label: self.fees.label.clone(),
            min_confs: self.fees.check()?,
            spend_unconfirmed: self.fees.min_confs == 0,
            coin_selection_strategy: self.fees.coin_selection_strategy.wire(),
            outpoints: outpoints(&self.utxo)?,
            ..SendCoinsRequest::default()
        })
    }

    /// Asks on a terminal, then sends.
    pub(super) async fn run(self, node: &mut Node) -> Result<(), CliError> {
        let request = self.request()?;
        if shows_progress() && !self.force {
            let amount = match self.sweepall {
                true => swept(&request, &mut node.lightning).await?,
                false => request.amount,
            };
            eprintln!("Amount: {amount}");
            eprintln!("Destination address: {}", request.addr);
            if !confirmed("Confirm payment (yes/no): ")? {
                return Ok(());
            }
        }
        node.format.answer(node.lightning.send_coins(request).await?.get_ref())
    }
}

/// Satoshis that a sweep would spend, fee included.
async fn swept(request: &SendCoinsRequest, node: &mut Lightning) -> Result<i64, CliError> {
    let min_confs = request.min_confs;
    if request.outpoints.is_empty() {
        let ask = WalletBalanceRequest { min_confs, ..WalletBalanceRequest::default() };
        let balance = node.wallet_balance(ask).await?.into_inner();
        return Ok(match min_confs {
            0 => balance.total_balance,
            _ => balance.confirmed_balance,
        });
    }
    let ask = ListUnspentRequest { min_confs, max_confs: i32::MAX, ..Default::default() };
    let coins = node.list_unspent(ask).await?.into_inner().utxos;
    let chosen = |utxo: &&Utxo| {
        let place = utxo.outpoint.as_ref().map(|o| (o.txid_str.as_str(), o.output_index));
        request.outpoints.iter().any(|o| Some((o.txid_str.as_str(), o.output_index)) == place)
    };
    Ok(coins.iter().filter(chosen).fold(0i64, |sum, utxo| sum.saturating_add(utxo.amount_sat)))
}

/// sendmany
#[derive(Debug, Args)]
pub struct SendMany {
    /// Satoshis by address: {"address": satoshis, …}
    #[arg(value_name = "SEND_JSON_STRING")]
    amounts: String,
    #[command(flatten)]
    fees: Fees,
}

impl SendMany {
    pub(super) fn request(self) -> Result<SendManyRequest, CliError> {
        Ok(SendManyRequest {
            addr_to_amount: amounts(&self.amounts)?,
            target_conf: self.fees.conf_target,
            sat_per_vbyte: self.fees.sat_per_vbyte,
            min_confs: self.fees.check()?,
            spend_unconfirmed: self.fees.min_confs == 0,
            coin_selection_strategy: self.fees.coin_selection_strategy.wire(),
            label: self.fees.label,
            ..SendManyRequest::default()
        })
    }
}

/// estimatefee
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub struct EstimateFee {
    /// Satoshis by address: {"address": satoshis, …}
    #[arg(value_name = "SEND_JSON_STRING")]
    amounts: String,
    /// Blocks in which the transaction should confirm
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    conf_target: i32,
    /// Which coins are taken first
    #[arg(long, value_enum, default_value = "global-config")]
    coin_selection_strategy: Strategy,
    /// Spend this output of the wallet, txid:index; may be repeated
    #[arg(long)]
    utxo: Vec<String>,
}

impl EstimateFee {
    pub(super) fn request(self) -> Result<EstimateFeeRequest, CliError> {
        Ok(EstimateFeeRequest {
            addr_to_amount: amounts(&self.amounts)?,
            target_conf: self.conf_target,
            coin_selection_strategy: self.coin_selection_strategy.wire(),
            inputs: outpoints(&self.utxo)?,
            ..EstimateFeeRequest::default()
        })
    }
}

/// listchaintxns
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub struct ListChainTxns {
    /// First height
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    start_height: i32,
    /// Last height; -1 for all, the unconfirmed too
    #[arg(long, default_value_t = -1)]
    end_height: i32,
    /// Transactions to leave out at the start
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    index_offset: u32,
    /// Most transactions to show
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    max_transactions: u32,
}

impl ListChainTxns {
    pub(super) fn request(self) -> GetTransactionsRequest {
        GetTransactionsRequest {
            start_height: self.start_height,
            end_height: self.end_height,
            index_offset: self.index_offset,
            max_transactions: self.max_transactions,
            ..GetTransactionsRequest::default()
        }
    }
}

/// listunspent
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub struct ListUnspent {
    /// Fewest and most confirmations: those not given as flags
    #[arg(value_name = "MIN_CONFS MAX_CONFS")]
    words: Vec<String>,
    /// Fewest confirmations [default: 0]
    #[arg(long)]
    min_confs: Option<i32>,
    /// Most confirmations [default: any number]
    #[arg(long)]
    max_confs: Option<i32>,
    /// Only what is not confirmed
    #[arg(long)]
    unconfirmed_only: bool,
}

impl ListUnspent {
    pub(super) fn request(&self) -> Result<ListUnspentRequest, CliError> {
        let mut words = Positionals::new(&self.words);
        let min_confs = words.or(self.min_confs, "min_confs")?;
        let max_confs = words.or(self.max_confs, "max_confs")?;
        words.end()?;
        if self.unconfirmed_only && (min_confs.is_some() || max_confs.is_some()) {
            return Err(CliError::text("--unconfirmed_only goes without min_confs and max_confs"));
        }
        let max_confs = if self.unconfirmed_only { 0 } else { max_confs.unwrap_or(i32::MAX) };
        Ok(ListUnspentRequest {
            min_confs: min_confs.unwrap_or(0),
            max_confs,
            ..ListUnspentRequest::default()
        })
    }

    /// lncli prints these in a shape of its own.
    pub(super) async fn run(self, node: &mut Node) -> Result<(), CliError> {
        let coins = node.lightning.list_unspent(self.request()?).await?.into_inner();
        let utxos = coins.utxos.into_iter().map(Coin::from).collect();
        node.format.shaped(&Coins { utxos }, "listunspent")
    }
}

#[derive(Serialize)]
struct Coins {
    utxos: Vec<Coin>,
}

#[derive(Serialize)]
struct Coin {
    address_type: i32,
    address: String,
    amount_sat: i64,
    pk_script: String,
    outpoint: String,
    confirmations: i64,
}

impl From<Utxo> for Coin {
    fn from(utxo: Utxo) -> Self {
        let outpoint = utxo.outpoint.unwrap_or_default();
        Coin {
            address_type: utxo.address_type,
            address: utxo.address,
            amount_sat: utxo.amount_sat,
            pk_script: utxo.pk_script,
            outpoint: format!("{}:{}", outpoint.txid_str, outpoint.output_index),
            confirmations: utxo.confirmations,
        }
    }
}
