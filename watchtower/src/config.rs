//! The tower's settings, by lnd's names where lnd has such.

use crate::gatekeeper::Limits;
use crate::rpc::{Rpc, RpcAuth};
use bitcoin::constants::genesis_block;
use bitcoin::secp256k1::{PublicKey, SecretKey};
use bitcoin::{BlockHash, Network};
use clap::Parser;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A call to bitcoind that takes longer has failed.
const RPC_TIMEOUT: Duration = Duration::from_secs(60);

/// fulmen-tower: watches the chain for revoked commitments and takes them for its clients.
#[derive(Clone, Debug, Parser)]
#[command(name = "fulmen-tower", version, about)]
#[allow(missing_docs)] // the help texts are the documentation
pub struct Flags {
    /// Where the tower keeps its key and its database.
    #[arg(long, value_name = "DIR")]
    pub towerdir: Option<PathBuf>,
    /// Watch bitcoin's main network.
    #[arg(long = "bitcoin.mainnet")]
    pub mainnet: bool,
    /// Watch bitcoin's testnet.
    #[arg(long = "bitcoin.testnet")]
    pub testnet: bool,
    /// Watch a signet.
    #[arg(long = "bitcoin.signet")]
    pub signet: bool,
    /// Watch a regtest chain.
    #[arg(long = "bitcoin.regtest")]
    pub regtest: bool,
    /// bitcoind's RPC address.
    #[arg(long = "bitcoind.rpchost", value_name = "HOST:PORT")]
    pub rpchost: Option<String>,
    /// bitcoind's RPC user.
    #[arg(long = "bitcoind.rpcuser", value_name = "USER")]
    pub rpcuser: Option<String>,
    /// Its password.
    #[arg(long = "bitcoind.rpcpass", value_name = "PASSWORD")]
    pub rpcpass: Option<String>,
    /// bitcoind's cookie file, instead of user and password.
    #[arg(long = "bitcoind.rpccookie", value_name = "FILE")]
    pub rpccookie: Option<PathBuf>,
    /// Where clients connect to.
    #[arg(long, value_name = "HOST:PORT", default_value = "0.0.0.0:9911")]
    pub listen: String,
    /// A node that may hand in whole channels (private mode), by its identity key: your own only,
    /// as the tower then holds a secret of each channel. May be given several times.
    #[arg(long, value_name = "PUBKEY")]
    pub privateclient: Vec<PublicKey>,
    /// The most that the tower's database may grow to, in MB.
    #[arg(long, value_name = "MB", default_value_t = 4096)]
    pub maxdisk: u64,
    /// The most sessions that the tower has at once.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub maxsessions: u64,
}

impl Flags {
    /// The network: exactly one is to be named.
    ///
    /// # Errors
    /// In words.
    pub fn network(&self) -> Result<Network, String> {
        match (self.mainnet, self.testnet, self.signet, self.regtest) {
            (true, false, false, false) => Ok(Network::Bitcoin),
            (false, true, false, false) => Ok(Network::Testnet),
            (false, false, true, false) => Ok(Network::Signet),
            (false, false, false, true) => Ok(Network::Regtest),
            _ => Err("name one network: --bitcoin.regtest, --bitcoin.signet, --bitcoin.testnet \
                      or --bitcoin.mainnet"
                .into()),
        }
    }

    /// The directory of this network, made if it is not there.
    ///
    /// # Errors
    /// In words.
    pub fn directory(&self) -> Result<PathBuf, String> {
        let home = || std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        let base = self.towerdir.clone().unwrap_or_else(|| home().join(".fulmen-tower"));
        let directory = base.join(self.network()?.to_core_arg());
        let made = std::fs::create_dir_all(&directory);
        made.map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
        Ok(directory)
    }

    /// A client of bitcoind.
    ///
    /// # Errors
    /// In words.
    pub fn rpc(&self) -> Result<Rpc, String> {
        let port = match self.network()? {
            Network::Bitcoin => 8_332,
            Network::Testnet => 18_332,
            Network::Signet => 38_332,
            _ => 18_443,
        };
        let host = self.rpchost.clone().unwrap_or_else(|| format!("127.0.0.1:{port}"));
        let auth = match (&self.rpcuser, &self.rpcpass, &self.rpccookie) {
            (Some(user), Some(password), None) => {
                RpcAuth::UserPass { user: user.clone(), password: password.clone() }
            }
            (None, None, Some(cookie)) => RpcAuth::Cookie(cookie.clone()),
            _ => {
                return Err("give --bitcoind.rpcuser and --bitcoind.rpcpass, or \
                            --bitcoind.rpccookie"
                    .into())
            }
        };
        Ok(Rpc::new(&host, auth, RPC_TIMEOUT))
    }

    /// The tower's bounds.
    pub fn limits(&self) -> Limits {
        let max_disk = self.maxdisk.saturating_mul(1 << 20);
        Limits { max_disk, max_sessions: self.maxsessions, ..Limits::default() }
    }

    /// The genesis block of the network.
    ///
    /// # Errors
    /// In words.
    pub fn chain(&self) -> Result<BlockHash, String> {
        Ok(genesis_block(self.network()?).block_hash())
    }
}

/// The tower's key, made at the first start and kept in `directory`, readable for its owner only.
///
/// # Errors
/// In words.
pub fn key(directory: &Path) -> Result<SecretKey, String> {
    let path = directory.join("tower.key");
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    match std::fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|error: bitcoin::secp256k1::Error| failed(&error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let secret = SecretKey::new(&mut bitcoin::secp256k1::rand::rngs::OsRng);
            let mut options = std::fs::OpenOptions::new();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
                .map_err(|error| failed(&error))?;
            let text = hex::encode(secret.secret_bytes());
            let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
            written.map_err(|error| failed(&error))?;
            Ok(secret)
        }
        Err(error) => Err(failed(&error)),
    }
}
