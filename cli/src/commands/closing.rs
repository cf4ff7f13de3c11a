//! closechannel.

use crate::connect::Lightning;
use crate::error::CliError;
use crate::parse::{channel_point, txid, Positionals};
use crate::print::entry;
use clap::Args;
use fulmen_proto::lnrpc::{close_status_update::Update, CloseChannelRequest};

/// closechannel
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub struct CloseChannel {
    /// Funding txid and output index, or both as txid:index
    #[arg(value_name = "FUNDING_TXID OUTPUT_INDEX")]
    words: Vec<String>,
    /// Txid of the funding transaction
    #[arg(long)]
    funding_txid: Option<String>,
    /// Its output that is the channel
    #[arg(long)]
    output_index: Option<u32>,
    /// Both as txid:index
    #[arg(long, conflicts_with_all = ["funding_txid", "output_index"])]
    chan_point: Option<String>,
    /// Close alone, without the peer
    #[arg(long)]
    force: bool,
    /// Wait until the close is confirmed
    #[arg(long)]
    block: bool,
    /// Blocks in which the closing transaction should confirm
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    conf_target: i32,
    /// Feerate of the closing transaction
    #[arg(long, alias = "sat_per_byte", default_value_t = 0, hide_default_value = true)]
    sat_per_vbyte: u64,
    /// Where our money goes
    #[arg(long, default_value = "", hide_default_value = true)]
    delivery_addr: String,
    /// The highest feerate to agree to, in satoshis per vbyte
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    max_fee_rate: u64,
}

impl CloseChannel {
    pub(super) fn request(&self) -> Result<CloseChannelRequest, CliError> {
        let mut words = Positionals::new(&self.words);
        let point = match &self.chan_point {
            Some(point) => point.clone(),
            None => {
                let txid: String = words.need(self.funding_txid.clone(), "funding txid")?;
                match txid.contains(':') {
                    true => txid,
                    false => {
                        let index = words.or(self.output_index, "output index")?.unwrap_or(0);
                        format!("{txid}:{index}")
                    }
                }
            }
        };
        words.end()?;
        if self.conf_target != 0 && self.sat_per_vbyte != 0 {
            return Err(CliError::text("give either conf_target or sat_per_vbyte, not both"));
        }
        Ok(CloseChannelRequest {
            channel_point: Some(channel_point(&point)?),
            force: self.force,
            target_conf: self.conf_target,
            sat_per_vbyte: self.sat_per_vbyte,
            delivery_address: self.delivery_addr.clone(),
            max_fee_per_vbyte: self.max_fee_rate,
            no_wait: true,
            ..CloseChannelRequest::default()
        })
    }

    pub(super) async fn run(&self, lightning: &mut Lightning) -> Result<(), CliError> {
        let mut updates = lightning.close_channel(self.request()?).await?.into_inner();
        while let Some(status) = updates.message().await? {
            match status.update {
                Some(Update::CloseInstant(wait)) if wait.num_pending_htlcs > 0 => {
                    let open = wait.num_pending_htlcs;
                    eprintln!("The channel will close once its {open} HTLCs are resolved.");
                }
                Some(Update::ClosePending(pending)) => {
                    entry("closing_txid", &txid(&pending.txid))?;
                    if !self.block {
                        return Ok(());
                    }
                }
                Some(Update::ChanClose(closed)) => {
                    return entry("closing_txid", &txid(&closed.closing_txid));
                }
                Some(Update::CloseInstant(_)) | None => {}
            }
        }
        Err(CliError::text("the daemon ended the stream before the channel was closed"))
    }
}
