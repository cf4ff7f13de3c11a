//! The data directories of released versions in `itest/fixtures`, and what they held.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitcoin::consensus::Decodable;
use bitcoin::Block;
use bitcoincore_rpc::RpcApi;
use serde::{Deserialize, Serialize};

use crate::bitcoind::Bitcoind;
use crate::failure::{Context, Result};
use crate::places;
use crate::regtest::Daemon;

/// What is kept of a data directory.
pub const FILES: [&str; 3] = [
    "data/chain/bitcoin/regtest/fulmen.db",
    "data/chain/bitcoin/regtest/wallet.seed",
    "data/chain/bitcoin/regtest/admin.macaroon",
];

/// What a daemon says of itself by gRPC; whatever a restart or an upgrade must not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Its public key.
    pub node_id: String,
    /// The funding output of its one channel.
    pub channel_point: String,
    /// The channel's balances in satoshi, without the HTLC that is under way.
    pub local_balance: i64,
    /// See `local_balance`.
    pub remote_balance: i64,
    /// Hash, status and amount in millisatoshi of each payment, but for the one under way.
    pub payments: Vec<(String, String, i64)>,
    /// Memo, hash, state and amount paid in millisatoshi of each invoice, but for that one.
    pub invoices: Vec<(String, String, String, i64)>,
    /// The wallet's confirmed balance in satoshi.
    pub coins: i64,
}

/// What invoices say that are paid after the fixture was taken.
pub const UNDER_WAY: &str = "under way";

/// Asks a daemon.
///
/// # Errors
/// When it does not answer.
pub async fn tells(daemon: &Daemon) -> Result<Told> {
    let channel = daemon.channel().await?;
    let mut payments = Vec::new();
    for payment in daemon.payments().await? {
        let status = payment.status().as_str_name().to_owned();
        if status != "IN_FLIGHT" {
            payments.push((payment.payment_hash, status, payment.value_msat));
        }
    }
    let invoices = daemon.all_invoices().await?.into_iter();
    let invoices = invoices.filter(|invoice| invoice.memo != UNDER_WAY).map(|invoice| {
        let (state, hash) = (invoice.state().as_str_name().into(), hex::encode(&invoice.r_hash));
        (invoice.memo, hash, state, invoice.amt_paid_msat)
    });
    Ok(Told {
        node_id: daemon.info().await?.identity_pubkey,
        channel_point: channel.channel_point,
        local_balance: channel.local_balance,
        remote_balance: channel.remote_balance,
        payments,
        invoices: invoices.collect(),
        coins: daemon.coins().await?.confirmed_balance,
    })
}

/// A release's fixture.
#[derive(Clone, Debug)]
pub struct Fixture(PathBuf);

impl Fixture {
    /// That of `version`.
    pub fn of(version: &str) -> Self {
        Fixture(places::workspace().join("itest/fixtures").join(version))
    }

    /// What the daemon `name` told when it was taken.
    ///
    /// # Errors
    /// When there is none.
    pub fn told(&self, name: &str) -> Result<Told> {
        let path = self.0.join(name).join("told.json");
        Ok(serde_json::from_slice(&std::fs::read(&path).context(path.display())?)?)
    }

    /// A daemon with the data directory of `name`; it does not run yet.
    ///
    /// # Errors
    /// When the fixture or the new directory cannot be used.
    pub fn daemon(&self, bitcoind: &Arc<Bitcoind>, name: &str) -> Result<Daemon> {
        let daemon = Daemon::new(bitcoind, name, &[])?;
        for file in FILES {
            let to = daemon.dir().join(file);
            std::fs::create_dir_all(to.parent().unwrap_or(Path::new("/")))?;
            let from = self.0.join(name).join(to.file_name().unwrap_or_default());
            std::fs::copy(&from, &to).context(from.display())?;
        }
        Ok(daemon)
    }

    /// Its chain, with one block more: bitcoind takes an old chain for one that it still loads.
    ///
    /// # Errors
    /// When bitcoind does not start or refuses a block.
    pub fn bitcoind(&self) -> Result<Arc<Bitcoind>> {
        let path = self.0.join("blocks");
        let bytes = std::fs::read(&path).context(path.display())?;
        let mut rest = bytes.as_slice();
        let bitcoind = Bitcoind::start()?;
        while !rest.is_empty() {
            bitcoind.rpc().submit_block(&Block::consensus_decode(&mut rest)?)?;
        }
        bitcoind.mine(1)?;
        Ok(Arc::new(bitcoind))
    }
}
