//! The commands: one enum, and a module for each part of the node that they are about.

mod channels;
mod closing;
mod invoices;
mod node;
mod opening;
mod payments;
mod sending;
#[cfg(test)]
mod tests;

use crate::args::Global;
use crate::connect::connect;
use crate::error::CliError;
use crate::print::answer;
use clap::Subcommand;
use fulmen_proto::lnrpc::{
    ChannelBalanceRequest, GetInfoRequest, PendingChannelsRequest, StopRequest,
};

/// lncli's commands, as far as fulmend has the calls.
#[derive(Debug, Subcommand)]
#[command(rename_all = "lower")]
pub enum Command {
    /// About the node itself
    GetInfo,
    /// An address of the wallet
    NewAddress(node::NewAddress),
    /// What the wallet holds
    WalletBalance(node::WalletBalance),
    /// What the channels hold
    ChannelBalance,
    /// Connect to a node
    Connect(node::Connect),
    /// Hang up on a peer
    Disconnect(node::Disconnect),
    /// The connected peers
    ListPeers(node::ListPeers),
    /// Open a channel
    OpenChannel(opening::OpenChannel),
    /// The channels that are neither open nor closed
    PendingChannels(channels::PendingChannels),
    /// The open channels
    ListChannels(channels::ListChannels),
    /// The closed channels
    ClosedChannels(channels::ClosedChannels),
    /// Close a channel
    CloseChannel(closing::CloseChannel),
    /// Make an invoice
    AddInvoice(invoices::AddInvoice),
    /// Show an invoice
    LookupInvoice(invoices::LookupInvoice),
    /// The invoices, by pages
    ListInvoices(invoices::ListInvoices),
    /// What an invoice of somebody says
    DecodePayReq(invoices::DecodePayReq),
    /// Pay: to an invoice, or to a node by hand
    SendPayment(sending::SendPayment),
    /// Pay an invoice
    PayInvoice(sending::PayInvoice),
    /// Follow a payment until it ends
    TrackPayment(payments::TrackPayment),
    /// The payments, by pages
    ListPayments(payments::ListPayments),
    /// Stop the daemon
    Stop,
}

/// Connects, calls, and prints the answer.
///
/// # Errors
/// [`CliError`]: what the daemon refused or why it could not be asked.
pub async fn run(global: &Global, command: Command) -> Result<(), CliError> {
    let mut node = connect(global).await?;
    let lightning = &mut node.lightning;
    match command {
        Command::GetInfo => answer(lightning.get_info(GetInfoRequest {}).await?.get_ref()),
        Command::NewAddress(c) => answer(lightning.new_address(c.request()).await?.get_ref()),
        Command::WalletBalance(c) => answer(lightning.wallet_balance(c.request()).await?.get_ref()),
        Command::ChannelBalance => {
            answer(lightning.channel_balance(ChannelBalanceRequest {}).await?.get_ref())
        }
        Command::Connect(c) => answer(lightning.connect_peer(c.request()?).await?.get_ref()),
        Command::Disconnect(c) => answer(lightning.disconnect_peer(c.request()?).await?.get_ref()),
        Command::ListPeers(c) => answer(lightning.list_peers(c.request()).await?.get_ref()),
        Command::OpenChannel(c) => c.run(lightning).await,
        Command::PendingChannels(c) => {
            let request = PendingChannelsRequest { include_raw_tx: c.include_raw_tx };
            answer(lightning.pending_channels(request).await?.get_ref())
        }
        Command::ListChannels(c) => answer(lightning.list_channels(c.request()?).await?.get_ref()),
        Command::ClosedChannels(c) => {
            answer(lightning.closed_channels(c.request()).await?.get_ref())
        }
        Command::CloseChannel(c) => c.run(lightning).await,
        Command::AddInvoice(c) => answer(lightning.add_invoice(c.request()?).await?.get_ref()),
        Command::LookupInvoice(c) => {
            answer(lightning.lookup_invoice(c.request()?).await?.get_ref())
        }
        Command::ListInvoices(c) => answer(lightning.list_invoices(c.request()).await?.get_ref()),
        Command::DecodePayReq(c) => answer(lightning.decode_pay_req(c.request()?).await?.get_ref()),
        Command::SendPayment(c) => c.run(&mut node).await,
        Command::PayInvoice(c) => c.run(&mut node).await,
        Command::TrackPayment(c) => c.run(&mut node.router).await,
        Command::ListPayments(c) => answer(lightning.list_payments(c.request()).await?.get_ref()),
        Command::Stop => answer(lightning.stop_daemon(StopRequest {}).await?.get_ref()),
    }
}
