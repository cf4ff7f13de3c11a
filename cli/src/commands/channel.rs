//! channel explain, channel risk: fulmen's own.

use crate::connect::Node;
use crate::error::CliError;
use crate::explain::{as_svg, as_text, risk};
use crate::print::{line, Format};
use crate::terminal::canvas;
use clap::{Args, Subcommand};
use fulmen_proto::fulmenrpc::{ChannelRiskRequest, ExplainChannelRequest};

/// Commands about one channel.
#[derive(Debug, Subcommand)]
#[command(rename_all = "lower")]
pub enum Channel {
    /// Draw its transactions: what is on chain, what could come, who may spend what from when
    Explain(Explain),
    /// When we would close it and why, and what is at stake
    Risk(Risk),
}

/// channel explain
#[derive(Debug, Args)]
pub struct Explain {
    /// FUNDING_TXID:INDEX, a short channel id, the channel's id, or a transaction of it
    channel: String,
    /// Write an SVG picture
    #[arg(long, conflicts_with = "json")]
    svg: bool,
    /// Write data
    #[arg(long)]
    json: bool,
}

/// channel risk
#[derive(Debug, Args)]
pub struct Risk {
    /// The channel, as for explain; all channels if there is none
    channel: Option<String>,
    /// Write data
    #[arg(long)]
    json: bool,
}

impl Channel {
    pub(super) async fn run(self, node: &mut Node) -> Result<(), CliError> {
        match self {
            Channel::Explain(Explain { channel, svg, json }) => {
                let request = ExplainChannelRequest { channel };
                let answer = node.channels.explain_channel(request).await?.into_inner();
                match (svg, json) {
                    (true, _) => line(&as_svg(&answer)),
                    (_, true) => Format::Json.answer(&answer),
                    _ => line(&as_text(&answer, canvas())),
                }
            }
            Channel::Risk(Risk { channel, json }) => {
                let request = ChannelRiskRequest { channel: channel.unwrap_or_default() };
                let answer = node.channels.channel_risk(request).await?.into_inner();
                match json {
                    true => Format::Json.answer(&answer),
                    false => line(&risk(&answer, canvas())),
                }
            }
        }
    }
}
