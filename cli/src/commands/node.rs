//! The node and its peers: newaddress, walletbalance, connect, disconnect, listpeers, debuglevel,
//! version.

use crate::connect::Node;
use crate::error::CliError;
use crate::parse::{duration, Positionals};
use clap::{Args, ValueEnum};
use fulmen_proto::lnrpc::{
    AddressType, ConnectPeerRequest, DebugLevelRequest, DisconnectPeerRequest, LightningAddress,
    ListPeersRequest, NewAddressRequest, WalletBalanceRequest,
};
use fulmen_proto::verrpc::{Version, VersionRequest};
use serde::Serialize;
use std::time::Duration;

/// Kinds of addresses under the names that lncli gives them.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "lower")]
enum Kind {
    /// Pay to witness public key hash (BIP 84)
    P2wkh,
    /// The same, nested in a script hash (BIP 49)
    Np2wkh,
    /// Taproot (BIP 86)
    P2tr,
}

/// newaddress
#[derive(Debug, Args)]
pub struct NewAddress {
    /// Kind of the address
    kind: Kind,
    /// Account of the wallet
    #[arg(long, default_value = "", hide_default_value = true)]
    account: String,
    /// The last address again, as long as nothing was paid to it
    #[arg(long)]
    unused: bool,
}

impl NewAddress {
    pub(super) fn request(self) -> NewAddressRequest {
        let kind = match (self.kind, self.unused) {
            (Kind::P2wkh, false) => AddressType::WitnessPubkeyHash,
            (Kind::P2wkh, true) => AddressType::UnusedWitnessPubkeyHash,
            (Kind::Np2wkh, false) => AddressType::NestedPubkeyHash,
            (Kind::Np2wkh, true) => AddressType::UnusedNestedPubkeyHash,
            (Kind::P2tr, false) => AddressType::TaprootPubkey,
            (Kind::P2tr, true) => AddressType::UnusedTaprootPubkey,
        };
        NewAddressRequest { r#type: kind.into(), account: self.account }
    }
}

/// walletbalance
#[derive(Debug, Args)]
pub struct WalletBalance {
    /// Account of the wallet
    #[arg(long, default_value = "", hide_default_value = true)]
    account: String,
}

impl WalletBalance {
    pub(super) fn request(self) -> WalletBalanceRequest {
        WalletBalanceRequest { account: self.account, ..WalletBalanceRequest::default() }
    }
}

/// connect
#[derive(Debug, Args)]
pub struct Connect {
    /// node id@host:port
    address: String,
    /// Keep trying, also after a restart of the daemon
    #[arg(long)]
    perm: bool,
    /// When to give up, like 10s
    #[arg(long, value_parser = duration, conflicts_with = "perm", value_name = "DURATION")]
    timeout: Option<Duration>,
}

impl Connect {
    pub(super) fn request(self) -> Result<ConnectPeerRequest, CliError> {
        let wrong = || CliError::text("target address expected in format: pubkey@host:port");
        let (pubkey, host) = self.address.split_once('@').ok_or_else(wrong)?;
        let addr = LightningAddress { pubkey: pubkey.into(), host: host.into() };
        let timeout = self.timeout.unwrap_or_default().as_secs();
        Ok(ConnectPeerRequest { addr: Some(addr), perm: self.perm, timeout })
    }
}

/// disconnect
#[derive(Debug, Args)]
pub struct Disconnect {
    /// Node id in hex, if not given as flag
    #[arg(value_name = "NODE_KEY")]
    words: Vec<String>,
    /// Node id in hex
    #[arg(long = "node_key")]
    node_key: Option<String>,
}

impl Disconnect {
    pub(super) fn request(self) -> Result<DisconnectPeerRequest, CliError> {
        let mut words = Positionals::new(&self.words);
        let pub_key = words.need(self.node_key, "node key")?;
        words.end()?;
        Ok(DisconnectPeerRequest { pub_key })
    }
}

/// listpeers
#[derive(Debug, Args)]
pub struct ListPeers {
    /// All errors that a peer sent, not only the newest
    #[arg(long = "list_errors")]
    list_errors: bool,
}

impl ListPeers {
    pub(super) fn request(self) -> ListPeersRequest {
        ListPeersRequest { latest_error: !self.list_errors }
    }
}

/// debuglevel
#[derive(Debug, Args)]
pub struct DebugLevel {
    /// Show what can be logged apart
    #[arg(long)]
    show: bool,
    /// A level for all, or part=level with commas between
    #[arg(long, default_value = "", hide_default_value = true)]
    level: String,
}

impl DebugLevel {
    pub(super) fn request(self) -> DebugLevelRequest {
        DebugLevelRequest { show: self.show, level_spec: self.level }
    }
}

/// One program's version, in lncli's shape.
#[derive(Default, Serialize)]
struct Program {
    commit: String,
    commit_hash: String,
    version: String,
    app_major: u32,
    app_minor: u32,
    app_patch: u32,
    app_pre_release: String,
    build_tags: Vec<String>,
    go_version: String,
}

/// Both, under lncli's names: it is scripts that read this.
#[derive(Serialize)]
struct Programs {
    lncli: Program,
    lnd: Program,
}

impl Program {
    fn this() -> Self {
        let number = |text: &str| text.parse().unwrap_or(0);
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            app_major: number(env!("CARGO_PKG_VERSION_MAJOR")),
            app_minor: number(env!("CARGO_PKG_VERSION_MINOR")),
            app_patch: number(env!("CARGO_PKG_VERSION_PATCH")),
            app_pre_release: env!("CARGO_PKG_VERSION_PRE").into(),
            ..Self::default()
        }
    }
}

impl From<Version> for Program {
    fn from(version: Version) -> Self {
        Self {
            commit: version.commit,
            commit_hash: version.commit_hash,
            version: version.version,
            app_major: version.app_major,
            app_minor: version.app_minor,
            app_patch: version.app_patch,
            app_pre_release: version.app_pre_release,
            build_tags: version.build_tags,
            go_version: version.go_version,
        }
    }
}

/// version
pub async fn version(node: &mut Node) -> Result<(), CliError> {
    let lnd = node.versioner.get_version(VersionRequest {}).await?.into_inner().into();
    node.format.shaped(&Programs { lncli: Program::this(), lnd }, "")
}
