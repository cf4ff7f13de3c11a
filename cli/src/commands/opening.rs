//! openchannel.

use super::onchain::one_fee;
use crate::connect::{Lightning, Node};
use crate::error::CliError;
use crate::parse::{hex_bytes, txid, wallet_outpoint, Positionals};
use crate::progress::{confirmations, Live};
use crate::terminal::{canvas, shows_progress};
use clap::{Args, ValueEnum};
use fulmen_proto::lnrpc::pending_channels_response::PendingOpenChannel;
use fulmen_proto::lnrpc::{
    channel_point::FundingTxid, open_status_update::Update, ChannelPoint, CommitmentType,
    ConnectPeerRequest, LightningAddress, OpenChannelRequest, OpenStatusUpdate,
    PendingChannelsRequest,
};
use std::time::Duration;
use tokio::time::{interval, Interval};
use tonic::Streaming;

/// How often the confirmations are asked for while they are drawn.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Kinds of commitment transactions under the names that lncli gives them.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "lower")]
enum Kind {
    /// static_remotekey alone
    Tweakless,
    /// Anchor outputs, second stages without fees
    Anchors,
    /// Taproot
    Taproot,
}

/// openchannel
#[derive(Debug, Args)]
#[command(rename_all = "snake_case")]
pub struct OpenChannel {
    /// Node id, our satoshis, satoshis to give away: those not given as flags
    #[arg(value_name = "NODE_KEY LOCAL_AMT PUSH_AMT")]
    words: Vec<String>,
    /// Id of the node to open with, in hex
    #[arg(long)]
    node_key: Option<String>,
    /// Connect to it at this host:port first
    #[arg(long)]
    connect: Option<String>,
    /// Satoshis that we put in
    #[arg(long)]
    local_amt: Option<i64>,
    /// Put in all that the wallet has, up to the largest channel
    #[arg(long, conflicts_with = "local_amt")]
    fundmax: bool,
    /// Take the money from this output of the wallet, txid:index; may be repeated
    #[arg(long)]
    utxo: Vec<String>,
    /// Base fee that we ask for forwarding, in millisatoshis
    #[arg(long)]
    base_fee_msat: Option<u64>,
    /// Fee rate that we ask for forwarding, in millionths
    #[arg(long)]
    fee_rate_ppm: Option<u64>,
    /// Satoshis that we give to the peer at once
    #[arg(long)]
    push_amt: Option<i64>,
    /// Wait until the channel is open
    #[arg(long)]
    block: bool,
    /// Blocks in which the funding transaction should confirm
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    conf_target: i32,
    /// Feerate of the funding transaction
    #[arg(long, alias = "sat_per_byte", default_value_t = 0, hide_default_value = true)]
    sat_per_vbyte: u64,
    /// Do not announce the channel
    #[arg(long)]
    private: bool,
    /// Smallest HTLC that we accept, in millisatoshis
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    min_htlc_msat: i64,
    /// Blocks that the peer has to wait for its money after closing alone
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    remote_csv_delay: u32,
    /// Most blocks that we accept to wait after closing alone
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    max_local_csv: u32,
    /// Confirmations that the money we put in must have
    #[arg(long, default_value_t = 1)]
    min_confs: u32,
    /// Where our money goes when both sides close
    #[arg(long, default_value = "", hide_default_value = true)]
    close_address: String,
    /// Most millisatoshis that may be on the way to us
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    remote_max_value_in_flight_msat: u64,
    /// Kind of commitment transactions
    #[arg(long)]
    channel_type: Option<Kind>,
    /// Use the channel before its funding is confirmed
    #[arg(long)]
    zero_conf: bool,
    /// Keep the short channel id between us
    #[arg(long)]
    scid_alias: bool,
    /// Satoshis that the peer has to keep in reserve
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    remote_reserve_sats: u64,
    /// A note for ourselves
    #[arg(long, default_value = "", hide_default_value = true)]
    memo: String,
}

impl OpenChannel {
    pub(super) fn request(&self) -> Result<OpenChannelRequest, CliError> {
        let mut words = Positionals::new(&self.words);
        let node: String = words.need(self.node_key.clone(), "node id")?;
        let local_funding_amount = match self.fundmax {
            true => 0,
            false => words.need(self.local_amt, "local amt")?,
        };
        let push_sat = words.or(self.push_amt, "push amt")?.unwrap_or(0);
        words.end()?;
        one_fee(self.conf_target, self.sat_per_vbyte)?;
        let outpoints: Result<_, _> = self.utxo.iter().map(|o| wallet_outpoint(o)).collect();
        let kind = match self.channel_type {
            None => CommitmentType::UnknownCommitmentType,
            Some(Kind::Tweakless) => CommitmentType::StaticRemoteKey,
            Some(Kind::Anchors) => CommitmentType::Anchors,
            Some(Kind::Taproot) => CommitmentType::SimpleTaproot,
        };
        Ok(OpenChannelRequest {
            node_pubkey: hex_bytes(Some(&node), "node public key")?,
            local_funding_amount,
            push_sat,
            target_conf: self.conf_target,
            sat_per_vbyte: self.sat_per_vbyte,
            private: self.private,
            min_htlc_msat: self.min_htlc_msat,
            remote_csv_delay: self.remote_csv_delay,
            max_local_csv: self.max_local_csv,
            min_confs: i32::try_from(self.min_confs)
                .map_err(|_| CliError::text("min_confs is too large"))?,
            spend_unconfirmed: self.min_confs == 0,
            close_address: self.close_address.clone(),
            remote_max_value_in_flight_msat: self.remote_max_value_in_flight_msat,
            commitment_type: kind.into(),
            zero_conf: self.zero_conf,
            scid_alias: self.scid_alias,
            base_fee: self.base_fee_msat.unwrap_or(0),
            use_base_fee: self.base_fee_msat.is_some(),
            fee_rate: self.fee_rate_ppm.unwrap_or(0),
            use_fee_rate: self.fee_rate_ppm.is_some(),
            remote_chan_reserve_sat: self.remote_reserve_sats,
            fund_max: self.fundmax,
            memo: self.memo.clone(),
            outpoints: outpoints?,
            ..OpenChannelRequest::default()
        })
    }

    pub(super) async fn run(&self, node: &mut Node) -> Result<(), CliError> {
        let request = self.request()?;
        if let Some(host) = &self.connect {
            connect(&mut node.lightning, &request.node_pubkey, host).await?;
        }
        let mut updates = node.lightning.open_channel(request).await?.into_inner();
        let mut confirming = None;
        loop {
            let status = match &mut confirming {
                None => updates.message().await?,
                Some(confirming) => waited(&mut updates, confirming, node).await?,
            };
            let Some(status) = status else { break };
            match status.update {
                Some(Update::ChanPending(pending)) => {
                    node.format.entry("funding_txid", &txid(&pending.txid))?;
                    if !self.block {
                        return Ok(());
                    }
                    let point = format!("{}:{}", txid(&pending.txid), pending.output_index);
                    confirming = shows_progress().then(|| Confirming::of(point));
                }
                Some(Update::ChanOpen(open)) => {
                    return node.format.entry("channel_point", &shown(open.channel_point));
                }
                Some(Update::PsbtFund(_)) | None => {}
            }
        }
        Err(CliError::text("the daemon ended the stream before the channel was open"))
    }
}

/// A channel whose confirmations are drawn.
struct Confirming {
    point: String,
    /// Confirmations that it needs; the most that were ever missing.
    all: u32,
    live: Live,
    ticks: Interval,
}

impl Confirming {
    fn of(point: String) -> Self {
        Self { point, all: 0, live: Live::default(), ticks: interval(LOOK_EVERY) }
    }
}

/// The stream's next update; until it comes, the confirmations are drawn.
async fn waited(
    updates: &mut Streaming<OpenStatusUpdate>,
    confirming: &mut Confirming,
    node: &mut Node,
) -> Result<Option<OpenStatusUpdate>, CliError> {
    loop {
        tokio::select! {
            update = updates.message() => return Ok(update?),
            _ = confirming.ticks.tick() => {}
        }
        let pending = node.lightning.pending_channels(PendingChannelsRequest::default()).await?;
        let opening = pending.into_inner().pending_open_channels.into_iter();
        let ours = |open: &PendingOpenChannel| {
            open.channel.as_ref().is_some_and(|c| c.channel_point == confirming.point)
        };
        if let Some(open) = opening.into_iter().find(ours) {
            let left = open.confirmations_until_active;
            confirming.all = confirming.all.max(left);
            confirming.live.draw(&confirmations(left, confirming.all, canvas()));
        }
    }
}

/// Connects to the peer; being connected already is as good.
async fn connect(lightning: &mut Lightning, node: &[u8], host: &str) -> Result<(), CliError> {
    let addr = LightningAddress { pubkey: hex::encode(node), host: host.into() };
    let request = ConnectPeerRequest { addr: Some(addr), ..ConnectPeerRequest::default() };
    match lightning.connect_peer(request).await {
        Err(status) if !status.message().contains("already connected to") => Err(status.into()),
        _ => Ok(()),
    }
}

/// A channel point as text, txid:index.
fn shown(point: Option<ChannelPoint>) -> String {
    let ChannelPoint { funding_txid, output_index } = point.unwrap_or_default();
    let funding_txid = match funding_txid {
        Some(FundingTxid::FundingTxidBytes(bytes)) => txid(&bytes),
        Some(FundingTxid::FundingTxidStr(text)) => text,
        None => String::new(),
    };
    format!("{funding_txid}:{output_index}")
}
