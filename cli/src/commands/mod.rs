//! The commands: one enum for each way of reaching the daemon, and a module for each part of the
//! node that they are about.

mod backups;
mod channel;
mod channels;
mod closing;
#[cfg(test)]
mod compared_tests;
mod invoices;
mod macaroons;
mod node;
mod onchain;
mod opening;
mod payments;
mod sending;
mod startup;
#[cfg(test)]
mod tests;
mod wallet;
mod wtclient;

use crate::args::{Cli, Global};
use crate::connect::{connect, connect_bare, Node};
use crate::error::CliError;
use crate::print::Format;
use clap::Subcommand;
use fulmen_proto::lnrpc::{
    ChannelBalanceRequest, GetInfoRequest, GetRecoveryInfoRequest, ListAliasesRequest,
    ListMacaroonIDsRequest, ListPermissionsRequest, StopRequest,
};

/// lncli's commands, as far as fulmend has the calls.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Before there is a macaroon
    #[command(flatten)]
    Startup(Startup),
    /// With a macaroon
    #[command(flatten)]
    Online(Online),
    /// Without a daemon
    #[command(flatten)]
    Offline(Offline),
    /// What lncli has and fulmen has not: its name
    #[command(skip)]
    Unbuilt(String),
}

/// Commands for a daemon whose wallet is missing or locked.
#[derive(Debug, Subcommand)]
#[command(rename_all = "lower")]
pub enum Startup {
    /// Make a wallet, of a new seed or of a known one
    Create(startup::Create),
    /// Open the wallet
    Unlock(startup::Unlock),
    /// Give the locked wallet another password, and open it
    ChangePassword(startup::ChangePassword),
    /// How far the daemon has come: wallet missing, locked, open; serving calls
    State,
}

/// Commands that need no daemon.
#[derive(Debug, Subcommand)]
#[command(rename_all = "lower")]
pub enum Offline {
    /// What a macaroon says
    PrintMacaroon(macaroons::PrintMacaroon),
    /// Narrow a macaroon
    ConstrainMacaroon(macaroons::ConstrainMacaroon),
}

/// Commands for a daemon that serves calls.
#[derive(Debug, Subcommand)]
#[command(rename_all = "lower")]
pub enum Online {
    /// About the node itself
    GetInfo,
    /// How far the search for a restored wallet's coins has come
    GetRecoveryInfo,
    /// An address of the wallet
    NewAddress(node::NewAddress),
    /// What the wallet holds
    WalletBalance(node::WalletBalance),
    /// What the channels hold
    ChannelBalance,
    /// Send to an address on chain
    SendCoins(onchain::SendCoins),
    /// Send to several addresses in one transaction
    SendMany(onchain::SendMany),
    /// What sending would cost
    EstimateFee(onchain::EstimateFee),
    /// The wallet's transactions
    ListChainTxns(onchain::ListChainTxns),
    /// The wallet's coins
    ListUnspent(onchain::ListUnspent),
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
    /// Draw a channel, or what is at stake in it
    #[command(subcommand)]
    Channel(channel::Channel),
    /// The names that channels go by beside their place in the chain
    ListAliases,
    /// Close a channel
    CloseChannel(closing::CloseChannel),
    /// Close every channel
    CloseAllChannels(closing::CloseAllChannels),
    /// Back up a channel, or all of them
    ExportChanBackup(backups::ExportChanBackup),
    /// Check a backup of channels
    VerifyChanBackup(backups::Given),
    /// Restore channels from a backup: their peers close them
    RestoreChanBackup(backups::Given),
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
    /// Make a macaroon that allows some calls only
    BakeMacaroon(macaroons::BakeMacaroon),
    /// The root keys of macaroons, by number
    ListMacaroonIds,
    /// Delete a root key: its macaroons are void from then on
    DeleteMacaroonId(macaroons::DeleteMacaroonId),
    /// What each call needs of a macaroon
    ListPermissions,
    /// What is logged
    DebugLevel(node::DebugLevel),
    /// What is taken on chain, and for how much
    #[command(subcommand)]
    Wallet(wallet::Wallet),
    /// The watchtower within the daemon
    #[command(subcommand)]
    Tower(wtclient::Tower),
    /// The watchtowers that watch our channels
    #[command(subcommand)]
    Wtclient(wtclient::Wtclient),
    /// Which program answers, and which asks
    Version,
    /// Stop the daemon
    Stop,
}

/// Does what the command line says, and prints the answer.
///
/// # Errors
/// [`CliError`]: what the daemon refused or why it could not be asked.
pub async fn run(cli: Cli) -> Result<(), CliError> {
    match cli.command {
        Command::Startup(command) => command.run(&cli.global).await,
        Command::Online(command) => command.run(&mut connect(&cli.global).await?).await,
        Command::Offline(command) => command.run(cli.global.format),
        Command::Unbuilt(name) => {
            Err(CliError::text(format!("{name} is not built into fulmen yet")))
        }
    }
}

impl Startup {
    async fn run(self, global: &Global) -> Result<(), CliError> {
        let mut node = connect_bare(global).await?;
        match self {
            Startup::Create(c) => c.run(&mut node).await,
            Startup::Unlock(c) => c.run(&mut node).await,
            Startup::ChangePassword(c) => c.run(&mut node).await,
            Startup::State => startup::state(&mut node).await,
        }
    }
}

impl Offline {
    fn run(self, format: Format) -> Result<(), CliError> {
        match self {
            Offline::PrintMacaroon(c) => c.run(format),
            Offline::ConstrainMacaroon(c) => c.run(),
        }
    }
}

/// Makes a call and prints its answer.
macro_rules! answer {
    ($node:ident.$client:ident.$method:ident($request:expr)) => {
        $node.format.answer($node.$client.$method($request).await?.get_ref())
    };
}

impl Online {
    async fn run(self, node: &mut Node) -> Result<(), CliError> {
        match self {
            Self::GetInfo => answer!(node.lightning.get_info(GetInfoRequest {})),
            Self::GetRecoveryInfo => {
                answer!(node.lightning.get_recovery_info(GetRecoveryInfoRequest {}))
            }
            Self::NewAddress(c) => answer!(node.lightning.new_address(c.request())),
            Self::WalletBalance(c) => answer!(node.lightning.wallet_balance(c.request())),
            Self::ChannelBalance => {
                answer!(node.lightning.channel_balance(ChannelBalanceRequest {}))
            }
            Self::SendCoins(c) => c.run(node).await,
            Self::SendMany(c) => answer!(node.lightning.send_many(c.request()?)),
            Self::EstimateFee(c) => answer!(node.lightning.estimate_fee(c.request()?)),
            Self::ListChainTxns(c) => answer!(node.lightning.get_transactions(c.request())),
            Self::ListUnspent(c) => c.run(node).await,
            Self::Connect(c) => answer!(node.lightning.connect_peer(c.request()?)),
            Self::Disconnect(c) => answer!(node.lightning.disconnect_peer(c.request()?)),
            Self::ListPeers(c) => answer!(node.lightning.list_peers(c.request())),
            Self::OpenChannel(c) => c.run(node).await,
            Self::PendingChannels(c) => c.run(node).await,
            Self::ListChannels(c) => answer!(node.lightning.list_channels(c.request()?)),
            Self::ClosedChannels(c) => answer!(node.lightning.closed_channels(c.request())),
            Self::Channel(c) => c.run(node).await,
            Self::ListAliases => answer!(node.lightning.list_aliases(ListAliasesRequest {})),
            Self::CloseChannel(c) => c.run(node).await,
            Self::CloseAllChannels(c) => c.run(node).await,
            Self::ExportChanBackup(c) => c.run(node).await,
            Self::VerifyChanBackup(c) => {
                answer!(node.lightning.verify_chan_backup(c.verification()?))
            }
            Self::RestoreChanBackup(c) => {
                answer!(node.lightning.restore_channel_backups(c.restoration()?))
            }
            Self::AddInvoice(c) => answer!(node.lightning.add_invoice(c.request()?)),
            Self::LookupInvoice(c) => answer!(node.lightning.lookup_invoice(c.request()?)),
            Self::ListInvoices(c) => answer!(node.lightning.list_invoices(c.request())),
            Self::DecodePayReq(c) => answer!(node.lightning.decode_pay_req(c.request()?)),
            Self::SendPayment(c) => c.run(node).await,
            Self::PayInvoice(c) => c.run(node).await,
            Self::TrackPayment(c) => c.run(node).await,
            Self::ListPayments(c) => answer!(node.lightning.list_payments(c.request())),
            Self::BakeMacaroon(c) => c.run(node).await,
            Self::ListMacaroonIds => {
                answer!(node.lightning.list_macaroon_i_ds(ListMacaroonIDsRequest {}))
            }
            Self::DeleteMacaroonId(c) => answer!(node.lightning.delete_macaroon_id(c.request())),
            Self::ListPermissions => {
                answer!(node.lightning.list_permissions(ListPermissionsRequest {}))
            }
            Self::DebugLevel(c) => answer!(node.lightning.debug_level(c.request())),
            Self::Wallet(c) => c.run(node).await,
            Self::Tower(c) => c.run(node).await,
            Self::Wtclient(c) => c.run(node).await,
            Self::Version => node::version(node).await,
            Self::Stop => answer!(node.lightning.stop_daemon(StopRequest {})),
        }
    }
}
