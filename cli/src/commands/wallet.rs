//! wallet pendingsweeps, bumpfee, bumpclosefee, bumpforceclosefee.

use super::onchain::one_fee;
use crate::connect::Node;
use crate::error::CliError;
use crate::parse::{channel_point, wallet_outpoint};
use clap::{Args, Subcommand};
use fulmen_proto::walletrpc::{
    BumpFeeRequest, BumpForceCloseFeeRequest, PendingSweep, PendingSweepsRequest,
};
use serde::Serialize;

/// What the wallet does beside the main service.
#[derive(Debug, Subcommand)]
#[command(rename_all = "lower")]
pub enum Wallet {
    /// What is to be taken on chain, until when, and for how much
    PendingSweeps,
    /// Say what may be paid to take an output of a closed channel
    BumpFee(BumpFee),
    /// Say what may be paid for a close by force; the same as bumpforceclosefee
    BumpCloseFee(BumpCloseFee),
    /// Say what may be paid to have a close by force confirm
    BumpForceCloseFee(BumpForceCloseFee),
}

impl Wallet {
    pub(super) async fn run(self, node: &mut Node) -> Result<(), CliError> {
        match self {
            Wallet::PendingSweeps => {
                let sweeps = node.wallet_kit.pending_sweeps(PendingSweepsRequest {}).await?;
                let sweeps = sweeps.into_inner().pending_sweeps.into_iter();
                let pending_sweeps = sweeps.map(Sweep::from).collect();
                node.format.shaped(&Sweeps { pending_sweeps }, "pendingsweeps")
            }
            Wallet::BumpFee(c) => {
                let request = c.request()?;
                node.format.answer(node.wallet_kit.bump_fee(request).await?.get_ref())
            }
            Wallet::BumpCloseFee(c) => bump_close(c.request()?, node).await,
            Wallet::BumpForceCloseFee(c) => bump_close(c.request()?, node).await,
        }
    }
}

async fn bump_close(request: BumpForceCloseFeeRequest, node: &mut Node) -> Result<(), CliError> {
    node.format.answer(node.wallet_kit.bump_force_close_fee(request).await?.get_ref())
}

/// What may be paid.
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
struct Terms {
    /// Begin with the feerate to confirm within so many blocks
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    conf_target: u64,
    /// The feerate to begin with
    #[arg(long, alias = "sat_per_byte", default_value_t = 0, hide_default_value = true)]
    sat_per_vbyte: u64,
    /// Do not wait for the next block
    #[arg(long, alias = "force")]
    immediate: bool,
    /// The most that may be paid, in satoshis
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    budget: u64,
}

impl Terms {
    fn target_conf(&self) -> Result<u32, CliError> {
        let target = blocks(self.conf_target, "conf_target")?;
        one_fee(i32::try_from(target).unwrap_or(i32::MAX), self.sat_per_vbyte)?;
        Ok(target)
    }
}

fn blocks(given: u64, name: &str) -> Result<u32, CliError> {
    u32::try_from(given).map_err(|_| CliError::text(format!("{name} is too large: {given}")))
}

/// wallet bumpfee
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub struct BumpFee {
    /// The output, as txid:index
    #[arg(value_name = "OUTPOINT")]
    outpoint: String,
    #[command(flatten)]
    terms: Terms,
    /// Offer all of the budget so many blocks from now
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    deadline_delta: u64,
}

impl BumpFee {
    pub(super) fn request(&self) -> Result<BumpFeeRequest, CliError> {
        Ok(BumpFeeRequest {
            outpoint: Some(wallet_outpoint(&self.outpoint)?),
            target_conf: self.terms.target_conf()?,
            sat_per_vbyte: self.terms.sat_per_vbyte,
            immediate: self.terms.immediate,
            budget: self.terms.budget,
            deadline_delta: blocks(self.deadline_delta, "deadline_delta")?,
            ..BumpFeeRequest::default()
        })
    }
}

/// wallet bumpclosefee
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub struct BumpCloseFee {
    /// The channel's funding output, as txid:index
    #[arg(value_name = "CHAN_POINT")]
    chan_point: String,
    #[command(flatten)]
    terms: Terms,
}

impl BumpCloseFee {
    pub(super) fn request(&self) -> Result<BumpForceCloseFeeRequest, CliError> {
        Ok(BumpForceCloseFeeRequest {
            chan_point: Some(channel_point(&self.chan_point)?),
            target_conf: self.terms.target_conf()?,
            starting_feerate: self.terms.sat_per_vbyte,
            immediate: self.terms.immediate,
            budget: self.terms.budget,
            deadline_delta: 0,
        })
    }
}

/// wallet bumpforceclosefee
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub struct BumpForceCloseFee {
    #[command(flatten)]
    close: BumpCloseFee,
    /// Offer all of the budget so many blocks from now
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    deadline_delta: u64,
}

impl BumpForceCloseFee {
    pub(super) fn request(&self) -> Result<BumpForceCloseFeeRequest, CliError> {
        let deadline_delta = blocks(self.deadline_delta, "deadline_delta")?;
        Ok(BumpForceCloseFeeRequest { deadline_delta, ..self.close.request()? })
    }
}

/// lncli prints these in a shape of its own.
#[derive(Serialize)]
struct Sweeps {
    pending_sweeps: Vec<Sweep>,
}

#[derive(Serialize)]
struct Sweep {
    outpoint: String,
    witness_type: String,
    amount_sat: u32,
    sat_per_vbyte: u64,
    broadcast_attempts: u32,
    requested_sat_per_vbyte: u64,
    immediate: bool,
    budget: u64,
    deadline_height: u32,
    maturity_height: u32,
}

impl From<PendingSweep> for Sweep {
    fn from(sweep: PendingSweep) -> Self {
        let outpoint = sweep.outpoint.clone().unwrap_or_default();
        Sweep {
            outpoint: format!("{}:{}", outpoint.txid_str, outpoint.output_index),
            witness_type: sweep.witness_type().as_str_name().to_owned(),
            amount_sat: sweep.amount_sat,
            sat_per_vbyte: sweep.sat_per_vbyte,
            broadcast_attempts: sweep.broadcast_attempts,
            requested_sat_per_vbyte: sweep.requested_sat_per_vbyte,
            immediate: sweep.immediate,
            budget: sweep.budget,
            deadline_height: sweep.deadline_height,
            maturity_height: sweep.maturity_height,
        }
    }
}
