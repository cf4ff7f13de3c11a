//! What the user set: lnd's flag names, on the command line and in fulmen.conf. The command line
//! wins; a list given there replaces the file's. Parsing is pure, reading the file is the caller's.

mod address;
mod flags;
mod given;
mod page;

pub use flags::{help, Flag, Kind, FLAGS};
pub use page::{page, SAMPLE};

use crate::chain::RpcAuth;
use crate::log::Levels;
use crate::peer::features::Protocol;
use crate::tower_client::{Policy, TowerAt};
use bitcoin::secp256k1::PublicKey;
use bitcoin::Network;
use fulmen_channel::amount::{FeeratePerKw, Msat, Sat};
use given::Given;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The largest channel without large_channels (BOLT 2).
const MAX_CHANNEL: u64 = 16_777_215;
/// The smallest channel worth its fees.
const MIN_CHANNEL: u64 = 20_000;

/// A setting that cannot be used. The text names the flag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    fn new(text: impl Into<String>) -> Self {
        ConfigError(text.into())
    }
}

/// What a first look at the command line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirstLook {
    /// Print [`help`] and stop.
    Help,
    /// Print the version and stop.
    Version,
    /// Read this file, then [`Config::parse`].
    Run {
        /// The configuration file.
        file: PathBuf,
        /// Whether it was asked for by name, so that it must be there.
        must_exist: bool,
    },
}

/// Where bitcoind is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bitcoind {
    /// `HOST:PORT` of its RPC.
    pub host: String,
    /// How to log in.
    pub auth: RpcAuth,
    /// Where it publishes blocks.
    pub zmq_raw_block: Option<String>,
    /// Where it publishes block hashes.
    pub zmq_hash_block: Option<String>,
    /// Where it publishes transactions.
    pub zmq_raw_tx: Option<String>,
}

/// What we ask for forwarding, unless a channel says otherwise (BOLT 7 channel_update).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForwardingPolicy {
    /// For each HTLC.
    pub base_fee: Msat,
    /// Millionths of the amount.
    pub fee_rate_ppm: u32,
    /// Blocks between the two expiries.
    pub time_lock_delta: u16,
    /// The smallest HTLC.
    pub min_htlc: Msat,
}

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The network; never the main one for now.
    pub network: Network,
    /// The directory of everything that has no other.
    pub base_dir: PathBuf,
    /// The directory above the networks'.
    pub data_dir: PathBuf,
    /// The directory of this network's logs.
    pub log_dir: PathBuf,
    /// How much to log.
    pub levels: Levels,
    /// The node's name, if one was given.
    pub alias: Option<String>,
    /// The node's colour.
    pub color: [u8; 3],
    /// Where peers may connect.
    pub listen: Vec<SocketAddr>,
    /// Where gRPC is served.
    pub rpc_listen: Vec<SocketAddr>,
    /// What to announce.
    pub external_ips: Vec<SocketAddr>,
    /// More addresses for the TLS certificate.
    pub tls_extra_ips: Vec<IpAddr>,
    /// More names for the TLS certificate.
    pub tls_extra_domains: Vec<String>,
    /// Make and open a wallet without asking.
    pub no_seed_backup: bool,
    /// HTLCs for us are neither settled nor failed: for tests of what comes of them on chain.
    pub hodl_exit_settle: bool,
    /// The file that holds the password with which the wallet is opened.
    pub unlock_password_file: Option<PathBuf>,
    /// Without a wallet that file is not needed yet.
    pub unlock_allow_create: bool,
    /// Channels that a peer may have opening at once.
    pub max_pending_channels: u32,
    /// The smallest channel accepted.
    pub min_chan_size: Sat,
    /// The largest channel accepted.
    pub max_chan_size: Sat,
    /// Coins are chosen at random, not for the least fees.
    pub random_coins: bool,
    /// Time between two batches of gossip.
    pub trickle_delay: Duration,
    /// Confirmations asked for; none means by the channel's size.
    pub default_chan_confs: Option<u16>,
    /// Fees and limits of forwarding.
    pub policy: ForwardingPolicy,
    /// What a channel may lose to fees at most.
    pub max_fee_exposure: Sat,
    /// What of the protocol is switched on.
    pub protocol: Protocol,
    /// Peers whose zero-conf channels are accepted.
    pub zero_conf_peers: BTreeSet<PublicKey>,
    /// Whether states are kept for watchtowers.
    pub towers_active: bool,
    /// The watchtowers that are named here; others may be added by command.
    pub towers: Vec<TowerAt>,
    /// What sealed records are made with.
    pub tower_policy: Policy,
    /// Where the watchtower for others keeps what it has; none if there is no such tower.
    pub tower_dir: Option<PathBuf>,
    /// Where it listens.
    pub tower_listen: Vec<SocketAddr>,
    /// Where others reach it.
    pub tower_external_ips: Vec<SocketAddr>,
    /// The chain.
    pub bitcoind: Bitcoind,
}

impl Config {
    /// Looks at the command line (without the program's name) for what must be known before the
    /// file is read. `home` stands for `~`.
    pub fn first_look<S: AsRef<str>>(args: &[S], home: &Path) -> Result<FirstLook, ConfigError> {
        let given = Given::from_args(args)?;
        if given.switch("help")? {
            return Ok(FirstLook::Help);
        }
        if given.switch("version")? {
            return Ok(FirstLook::Version);
        }
        let named = given.text("configfile").map(|file| expand(&file, home));
        let must_exist = named.is_some();
        let file = match named {
            Some(file) => file,
            None => base_dir(&given, home)?.join("fulmen.conf"),
        };
        Ok(FirstLook::Run { file, must_exist })
    }

    /// The configuration of this command line and this file's text, checked.
    pub fn parse<S: AsRef<str>>(
        args: &[S],
        file: Option<&str>,
        home: &Path,
    ) -> Result<Config, ConfigError> {
        let file = Given::from_file(file.unwrap_or_default())?;
        let given = Given::from_args(args)?.over(file);
        let network = network(&given)?;
        let base_dir = base_dir(&given, home)?;
        let directory = |name, default| match given.text(name) {
            Some(path) => expand(&path, home),
            None => base_dir.join(default),
        };
        let tower_dir = tower_dir(&given, &directory("datadir", "data"), network, home)?;
        let (min, max) = (MIN_CHANNEL, MAX_CHANNEL);
        let min_chan_size = Sat::new(given.number("minchansize", min, max)?);
        let max_chan_size = Sat::new(given.number("maxchansize", min_chan_size.sat(), max)?);
        Ok(Config {
            network,
            data_dir: directory("datadir", "data"),
            log_dir: directory("logdir", "logs").join("bitcoin").join(network_name(network)),
            base_dir,
            levels: given.value("debuglevel", Levels::parse)?,
            alias: given.one("alias", alias)?.flatten(),
            color: given.value("color", color)?,
            listen: given.all("listen", |text| address::socket(text, 9735))?,
            rpc_listen: given.all("rpclisten", |text| address::socket(text, 10009))?,
            external_ips: given.all("externalip", |text| address::socket(text, 9735))?,
            tls_extra_ips: given
                .all("tlsextraip", |text| text.parse().map_err(|_| "must be an IP address"))?,
            tls_extra_domains: given.all("tlsextradomain", domain)?,
            no_seed_backup: given.switch("noseedbackup")?,
            hodl_exit_settle: given.switch("hodl.exit-settle")?,
            unlock_password_file: unlock_file(&given, home)?,
            unlock_allow_create: given.switch("wallet-unlock-allow-create")?,
            max_pending_channels: given.number("maxpendingchannels", 1, 1_000)?,
            min_chan_size,
            max_chan_size,
            random_coins: given.value("coin-selection-strategy", random_coins)?,
            trickle_delay: Duration::from_millis(given.number("trickledelay", 0, 3_600_000)?),
            default_chan_confs: Some(given.number("bitcoin.defaultchanconfs", 0, 144)?)
                .filter(|confirmations| *confirmations > 0),
            policy: policy(&given)?,
            max_fee_exposure: max_fee_exposure(&given)?,
            protocol: protocol(&given)?,
            zero_conf_peers: zero_conf_peers(&given)?,
            towers_active: given.switch("wtclient.active")?,
            towers: towers(&given)?,
            tower_policy: tower_policy(&given)?,
            tower_dir,
            tower_listen: given.all("watchtower.listen", |text| address::socket(text, 9911))?,
            tower_external_ips: given
                .all("watchtower.externalip", |text| address::socket(text, 9911))?,
            bitcoind: bitcoind(&given, network, home)?,
        })
    }

    /// Where this network's database, seed and macaroons are.
    pub fn network_dir(&self) -> PathBuf {
        self.data_dir.join("chain").join("bitcoin").join(network_name(self.network))
    }

    /// The database.
    pub fn database_path(&self) -> PathBuf {
        self.network_dir().join("fulmen.db")
    }

    /// The encrypted seed.
    pub fn seed_path(&self) -> PathBuf {
        self.network_dir().join("wallet.seed")
    }

    /// The backup of all channels.
    pub fn backup_path(&self) -> PathBuf {
        self.network_dir().join("channel.backup")
    }

    /// The TLS certificate, which clients read.
    pub fn tls_cert_path(&self) -> PathBuf {
        self.base_dir.join("tls.cert")
    }

    /// The TLS certificate's key.
    pub fn tls_key_path(&self) -> PathBuf {
        self.base_dir.join("tls.key")
    }
}

/// lnd's name of a network: in paths, and in GetInfo.
pub fn network_name(network: Network) -> &'static str {
    match network {
        Network::Bitcoin => "mainnet",
        Network::Testnet => "testnet",
        Network::Testnet4 => "testnet4",
        Network::Signet => "signet",
        Network::Regtest => "regtest",
    }
}

fn random_coins(text: &str) -> Result<bool, &'static str> {
    match text {
        "largest" => Ok(false),
        "random" => Ok(true),
        _ => Err("must be largest or random"),
    }
}

fn base_dir(given: &Given, home: &Path) -> Result<PathBuf, ConfigError> {
    let alias = given.text("lnddir");
    let own = given.text("fulmendir");
    if given.has("fulmendir") && alias.is_some() && alias != own {
        return Err(ConfigError::new("--fulmendir and --lnddir differ: give one of them"));
    }
    let path = alias.or(own).ok_or_else(|| ConfigError::new("--fulmendir is empty"))?;
    Ok(expand(&path, home))
}

fn expand(path: &str, home: &Path) -> PathBuf {
    match path.strip_prefix('~') {
        Some("") => home.to_path_buf(),
        Some(rest) if rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
        _ => PathBuf::from(path),
    }
}

fn unlock_file(given: &Given, home: &Path) -> Result<Option<PathBuf>, ConfigError> {
    let file = given.text("wallet-unlock-password-file");
    if file.is_some() && given.switch("noseedbackup")? {
        return Err(ConfigError::new(
            "--noseedbackup and --wallet-unlock-password-file exclude each other",
        ));
    }
    if file.is_none() && given.switch("wallet-unlock-allow-create")? {
        return Err(ConfigError::new(
            "--wallet-unlock-allow-create needs --wallet-unlock-password-file",
        ));
    }
    Ok(file.map(|file| expand(&file, home)))
}

fn network(given: &Given) -> Result<Network, ConfigError> {
    if !given.switch("bitcoin.active")? {
        return Err(ConfigError::new("--bitcoin.active=false: there is no other chain"));
    }
    let mut chosen = Vec::new();
    for (name, network) in [
        ("bitcoin.mainnet", Network::Bitcoin),
        ("bitcoin.testnet", Network::Testnet),
        ("bitcoin.signet", Network::Signet),
        ("bitcoin.regtest", Network::Regtest),
    ] {
        if given.switch(name)? {
            chosen.push((name, network));
        }
    }
    match chosen.as_slice() {
        [(_, Network::Bitcoin)] if !given.switch("mainnet-at-own-risk")? => Err(ConfigError::new(
            "--bitcoin.mainnet is refused: fulmen is young, and real money could be lost; \
             read docs/limits.md and give --mainnet-at-own-risk with it, or use regtest, signet \
             or testnet",
        )),
        [(_, network)] => Ok(*network),
        [] => Err(ConfigError::new(
            "no network is chosen: give --bitcoin.regtest, --bitcoin.signet or --bitcoin.testnet",
        )),
        [(one, _), (other, _), ..] => {
            Err(ConfigError::new(format!("--{one} and --{other} exclude each other")))
        }
    }
}

fn max_fee_exposure(given: &Given) -> Result<Sat, ConfigError> {
    let (old, new) = ("dust-threshold", "channel-max-fee-exposure");
    if given.has(old) && given.has(new) {
        return Err(ConfigError::new(format!("cannot set both {old} and {new}")));
    }
    let name = if given.has(old) { old } else { new };
    Ok(Sat::new(given.number(name, 1, Sat::MAX_MONEY.sat())?))
}

fn protocol(given: &Given) -> Result<Protocol, ConfigError> {
    let protocol = Protocol {
        anchors: !given.switch("protocol.no-anchors")?,
        scid_alias: given.switch("protocol.option-scid-alias")?,
        zero_conf: given.switch("protocol.zero-conf")?,
    };
    if protocol.zero_conf && !protocol.scid_alias {
        let why = "--protocol.zero-conf needs --protocol.option-scid-alias too";
        return Err(ConfigError::new(why));
    }
    Ok(protocol)
}

fn zero_conf_peers(given: &Given) -> Result<BTreeSet<PublicKey>, ConfigError> {
    let read = |text: &str| text.parse().map_err(|_| "must be a public key, 33 bytes in hex");
    let peers: BTreeSet<PublicKey> = given.all("zeroconfpeer", read)?.into_iter().collect();
    if !peers.is_empty() && !given.switch("protocol.zero-conf")? {
        let why = "--zeroconfpeer needs --protocol.zero-conf too";
        return Err(ConfigError::new(why));
    }
    Ok(peers)
}

fn towers(given: &Given) -> Result<Vec<TowerAt>, ConfigError> {
    let mut towers: Vec<TowerAt> = given.all("wtclient.tower", str::parse)?;
    let private: Vec<TowerAt> = given.all("wtclient.privatetower", str::parse)?;
    towers.extend(private.into_iter().map(|tower| TowerAt { private: true, ..tower }));
    if !towers.is_empty() && !given.switch("wtclient.active")? {
        return Err(ConfigError::new("a watchtower needs --wtclient.active too"));
    }
    let ids: BTreeSet<PublicKey> = towers.iter().map(|tower| tower.id).collect();
    match ids.len() == towers.len() {
        true => Ok(towers),
        false => Err(ConfigError::new("the same watchtower is named twice")),
    }
}

fn tower_dir(
    given: &Given,
    data_dir: &Path,
    network: Network,
    home: &Path,
) -> Result<Option<PathBuf>, ConfigError> {
    let base = match given.text("watchtower.towerdir").filter(|path| !path.is_empty()) {
        Some(path) => expand(&path, home),
        None => data_dir.join("watchtower"),
    };
    let active = given.switch("watchtower.active")?;
    Ok(active.then(|| base.join("bitcoin").join(network_name(network))))
}

fn tower_policy(given: &Given) -> Result<Policy, ConfigError> {
    // A vbyte is 4 units of weight.
    let per_vb: u32 = given.number("wtclient.sweep-fee-rate", 1, 10_000)?;
    let feerate = FeeratePerKw::new(per_vb.saturating_mul(250)).max(FeeratePerKw::FLOOR);
    Ok(Policy { feerate, max_updates: given.number("wtclient.max-updates", 1, 1_000_000)? })
}

fn policy(given: &Given) -> Result<ForwardingPolicy, ConfigError> {
    Ok(ForwardingPolicy {
        base_fee: Msat::new(given.number("bitcoin.basefee", 0, u64::from(u32::MAX))?),
        fee_rate_ppm: given.number("bitcoin.feerate", 0, u32::MAX)?,
        time_lock_delta: given.number("bitcoin.timelockdelta", 18, 2_016)?,
        min_htlc: Msat::new(given.number("bitcoin.minhtlc", 0, Msat::MAX_MONEY.msat())?),
    })
}

fn bitcoind(given: &Given, network: Network, home: &Path) -> Result<Bitcoind, ConfigError> {
    given.value("bitcoin.node", |node| match node {
        "bitcoind" => Ok(()),
        _ => Err("blocks come from bitcoind only"),
    })?;
    let (port, sub) = match network {
        Network::Bitcoin => (8332, ""),
        Network::Testnet => (18332, "testnet3"),
        Network::Testnet4 => (48332, "testnet4"),
        Network::Signet => (38332, "signet"),
        Network::Regtest => (18443, "regtest"),
    };
    let auth = match (given.text("bitcoind.rpcuser"), given.text("bitcoind.rpcpass")) {
        (Some(user), Some(password)) => RpcAuth::UserPass { user, password },
        (None, None) => RpcAuth::Cookie(match given.text("bitcoind.rpccookie") {
            Some(cookie) => expand(&cookie, home),
            None => {
                let dir = given.text("bitcoind.dir").unwrap_or_default();
                expand(&dir, home).join(sub).join(".cookie")
            }
        }),
        _ => {
            let why = "--bitcoind.rpcuser and --bitcoind.rpcpass go together: give both or none";
            return Err(ConfigError::new(why));
        }
    };
    Ok(Bitcoind {
        host: given.value("bitcoind.rpchost", |text| address::host(text, port))?,
        auth,
        zmq_raw_block: given.one("bitcoind.zmqpubrawblock", address::zmq)?,
        zmq_hash_block: given.one("bitcoind.zmqpubhashblock", address::zmq)?,
        zmq_raw_tx: given.one("bitcoind.zmqpubrawtx", address::zmq)?,
    })
}

fn alias(text: &str) -> Result<Option<String>, String> {
    match text.len() {
        0 => Ok(None),
        1..=32 => Ok(Some(text.to_owned())),
        long => Err(format!("is {long} bytes long, 32 are the most (BOLT 7)")),
    }
}

fn color(text: &str) -> Result<[u8; 3], &'static str> {
    let digits = text.strip_prefix('#').unwrap_or(text);
    let mut color = [0; 3];
    hex::decode_to_slice(digits, &mut color).map_err(|_| "must be #RRGGBB")?;
    Ok(color)
}

fn domain(text: &str) -> Result<String, &'static str> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '*');
    match !text.is_empty() && text.chars().all(fine) {
        true => Ok(text.to_owned()),
        false => Err("must be a domain name"),
    }
}
