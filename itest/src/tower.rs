//! fulmen-tower as a process.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use bitcoin::secp256k1::PublicKey;
use tempfile::TempDir;

use crate::bitcoind::{Bitcoind, RPC_LOGIN};
use crate::failure::{Context, Result};
use crate::process::Process;
use crate::{build, places};

/// What a tower says on stderr, in its folder.
const LOG: &str = "stderr";

/// A tower in a process of its own.
#[derive(Debug)]
pub struct Tower {
    /// The process.
    pub process: Process,
    /// Its key.
    pub id: PublicKey,
    /// Where it listens.
    pub address: String,
    dir: TempDir,
}

impl Tower {
    /// One that listens here, in private mode for its owner if it has one.
    ///
    /// # Errors
    /// When it does not build or start.
    pub fn on(bitcoind: &Bitcoind, listen: String, owner: Option<PublicKey>) -> Result<Tower> {
        let dir = places::temporary("tower")?;
        let (process, id, address) = run(bitcoind, &dir, &listen, owner)?;
        Ok(Tower { process, id, address, dir })
    }

    /// Killed, and started on what it had on disk, for this owner.
    ///
    /// # Errors
    /// When it does not start, or is another one.
    pub fn again_for(self, bitcoind: &Bitcoind, owner: Option<PublicKey>) -> Result<Tower> {
        let Tower { mut process, dir, id: before, address } = self;
        process.kill();
        let (process, id, address) = run(bitcoind, &dir, &address, owner)?;
        (id == before).then_some(()).context("the same tower")?;
        Ok(Tower { process, id, address, dir })
    }

    /// What it logged, over all its starts.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn logs(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.dir.path().join(LOG))?)
    }
}

fn run(
    bitcoind: &Bitcoind,
    dir: &TempDir,
    listen: &str,
    owner: Option<PublicKey>,
) -> Result<(Process, PublicKey, String)> {
    let mut command = Command::new(build::fulmen_tower()?);
    command
        .arg("--bitcoin.regtest")
        .arg(format!("--bitcoind.rpchost={}", bitcoind.rpc_address()))
        .arg(format!("--bitcoind.rpcuser={RPC_LOGIN}"))
        .arg(format!("--bitcoind.rpcpass={RPC_LOGIN}"))
        .arg(format!("--towerdir={}", dir.path().display()))
        .arg(format!("--listen={listen}"))
        .args(owner.map(|owner| format!("--privateclient={owner}")))
        .stdout(Stdio::piped())
        .stderr(File::options().create(true).append(true).open(dir.path().join(LOG))?);
    let mut process = Process::spawn("fulmen-tower", command)?;
    let stdout = process.child().stdout.take().context("the tower's output")?;
    // What it logs before it is not for us.
    let uri = BufReader::new(stdout).lines().map_while(|line| line.ok());
    let uri = uri.filter_map(|line| Some((line.split_once('@')?.0.parse().ok()?, line)));
    let (id, line): (PublicKey, String) = uri.into_iter().next().context("where it listens")?;
    let address = line.split_once('@').context("its address")?.1.to_owned();
    Ok((process, id, address))
}
