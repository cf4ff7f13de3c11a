//! A fulmend of one's own: its process, its folder, and a connection to it.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use fulmen_proto::lnrpc::{
    GetInfoRequest, GetInfoResponse, GetStateRequest, StopRequest, WalletState,
};
use tempfile::TempDir;

use super::wire::{connect, Lightning, Macaroon, Router, State, Unlocker, WalletKit, Wire};
use crate::bitcoind::{Bitcoind, RPC_LOGIN};
use crate::build;
use crate::disk::Disk;
use crate::failure::{Context, Failure, Result};
use crate::places;
use crate::port::Port;
use crate::process::Process;
use crate::wait::{self, PATIENCE};

/// A fulmend; killed and removed on drop.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    bitcoind: Arc<Bitcoind>,
    listen: Port,
    rpc: Port,
    flags: Vec<String>,
    no_seed_backup: bool,
    running: Mutex<Option<Running>>,
    node_id: Mutex<Option<PublicKey>>,
    disk: Option<Disk>,
    // Last, so that the folder goes after the process.
    dir: TempDir,
}

#[derive(Debug)]
struct Running {
    process: Process,
    wire: Option<Wire>,
    // Writes down what it says.
    scribe: JoinHandle<()>,
}

impl Daemon {
    /// Starts one and waits until it has caught up with the chain.
    ///
    /// # Errors
    /// When it does not build, start or answer; with the last lines it wrote.
    pub async fn start(bitcoind: &Arc<Bitcoind>, name: &str) -> Result<Self> {
        let daemon = Self::new(bitcoind, name, &[])?;
        daemon.starts().await?;
        Ok(daemon)
    }

    /// One that does not run yet, with further flags.
    ///
    /// # Errors
    /// When it has no folder or no ports.
    pub fn new(bitcoind: &Arc<Bitcoind>, name: &str, flags: &[&str]) -> Result<Self> {
        Ok(Daemon {
            name: name.into(),
            bitcoind: Arc::clone(bitcoind),
            listen: Port::free()?,
            rpc: Port::free()?,
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            no_seed_backup: true,
            running: Mutex::default(),
            node_id: Mutex::default(),
            disk: None,
            dir: places::temporary(name)?,
        })
    }

    /// One that does not run yet, whose wallet is to be made and opened by hand.
    ///
    /// # Errors
    /// When it has no folder or no ports.
    pub fn without_wallet(bitcoind: &Arc<Bitcoind>, name: &str, flags: &[&str]) -> Result<Self> {
        Ok(Daemon { no_seed_backup: false, ..Self::new(bitcoind, name, flags)? })
    }

    /// One that does not run yet, all of whose files are on a disk of its own, made by `disk` over
    /// its folder.
    ///
    /// # Errors
    /// When it has no folder, no ports or no disk.
    pub fn on_disk(
        bitcoind: &Arc<Bitcoind>,
        name: &str,
        disk: impl FnOnce(&Path) -> Result<Disk>,
    ) -> Result<Self> {
        let daemon = Self::new(bitcoind, name, &[])?;
        let disk = Some(disk(daemon.dir.path())?);
        Ok(Daemon { disk, ..daemon })
    }

    /// What it is called, also by its peers.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The chain it is on.
    pub fn bitcoind(&self) -> &Arc<Bitcoind> {
        &self.bitcoind
    }

    /// `127.0.0.1:PORT` where peers connect.
    pub fn listen_address(&self) -> String {
        self.listen.address()
    }

    /// `127.0.0.1:PORT` of its RPC.
    pub fn rpc_address(&self) -> String {
        self.rpc.address()
    }

    /// Its `tls.cert`.
    pub fn tls_cert(&self) -> PathBuf {
        self.dir().join("tls.cert")
    }

    /// Its `admin.macaroon`.
    pub fn admin_macaroon(&self) -> PathBuf {
        self.dir().join("data/chain/bitcoin").join(self.bitcoind.network()).join("admin.macaroon")
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        self.disk.as_ref().map_or(self.dir.path(), Disk::path)
    }

    /// The disk of its own that its folder is on.
    ///
    /// # Errors
    /// When it is on the machine's.
    pub fn disk(&self) -> Result<&Disk> {
        self.disk.as_ref().context(format!("{} has no disk of its own", self.name))
    }

    /// Its disk becomes full up to the last `left` bytes.
    ///
    /// # Errors
    /// When it has no disk of its own.
    pub fn disk_fills_up(&self, left: u64) -> Result<()> {
        let id = lock(&self.running).as_ref().map(|running| running.process.id());
        self.disk()?.fill(left, id)
    }

    /// Its public key, known from the first start on.
    ///
    /// # Errors
    /// When it never ran.
    pub fn id(&self) -> Result<PublicKey> {
        lock(&self.node_id).context(format!("{} never ran", self.name))
    }

    /// Starts it, also again on the same folder, and waits until it has caught up with the chain.
    ///
    /// # Errors
    /// When it does not start or answer.
    pub async fn starts(&self) -> Result<()> {
        self.spawn()?;
        self.catches_up().await
    }

    /// Waits until it serves everything and has caught up with the chain.
    ///
    /// # Errors
    /// When that does not come.
    pub async fn catches_up(&self) -> Result<()> {
        let info = self.until("it has caught up", async || Ok(self.caught_up().await)).await?;
        *lock(&self.node_id) = Some(info.identity_pubkey.parse()?);
        Ok(())
    }

    /// Starts the process only, whatever comes of it.
    ///
    /// # Errors
    /// When it does not build.
    pub fn spawn(&self) -> Result<()> {
        let mut output = File::options().create(true).append(true).open(self.output())?;
        // Not straight to the file: what it says of a disk that is full must be heard.
        let (mut hears, says) = UnixStream::pair()?;
        let says = OwnedFd::from(says);
        let fulmend = build::fulmend()?;
        let mut command = match &self.disk {
            Some(disk) => disk.command(&fulmend),
            None => Command::new(fulmend),
        };
        command
            .arg(format!("--fulmendir={}", self.dir.path().display()))
            .arg(format!("--alias={}", self.name))
            .arg(format!("--listen={}", self.listen.address()))
            .arg(format!("--rpclisten={}", self.rpc.address()))
            .args(self.no_seed_backup.then_some("--noseedbackup"))
            .arg("--bitcoin.active")
            .arg(format!("--bitcoin.{}", self.bitcoind.network()))
            .arg("--bitcoin.node=bitcoind")
            .arg(format!("--bitcoind.rpchost={}", self.bitcoind.rpc_address()))
            .arg(format!("--bitcoind.rpcuser={RPC_LOGIN}"))
            .arg(format!("--bitcoind.rpcpass={RPC_LOGIN}"))
            .arg(format!("--bitcoind.zmqpubrawblock={}", self.bitcoind.zmq_block()))
            .arg(format!("--bitcoind.zmqpubrawtx={}", self.bitcoind.zmq_tx()))
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(says.try_clone()?)
            .stderr(says);
        let process = Process::spawn(&self.name, command)?;
        let scribe = thread::spawn(move || drop(std::io::copy(&mut hears, &mut output)));
        *lock(&self.running) = Some(Running { process, wire: None, scribe });
        Ok(())
    }

    /// Asks it to stop, and waits until it has.
    ///
    /// # Errors
    /// When it refuses or does not end.
    pub async fn stops(&self) -> Result<()> {
        self.lightning().await?.stop_daemon(StopRequest {}).await?;
        self.ends().map(drop)
    }

    /// Waits until it ends by itself; true for an exit without error.
    ///
    /// # Errors
    /// When it does not end.
    pub fn ends(&self) -> Result<bool> {
        // Calls to it go on until then.
        let what = format!("{} ends", self.name);
        let status = wait::until(what, PATIENCE, || self.ended());
        let status = status.map_err(|failure| self.explain(failure))?;
        let ended = lock(&self.running).take();
        ended.and_then(|ended| ended.scribe.join().ok()).context("what it wrote last")?;
        Ok(status.success())
    }

    /// Whether its process runs.
    pub fn runs(&self) -> bool {
        self.still_runs().is_ok()
    }

    /// kill -9.
    pub fn killed(&self) {
        *lock(&self.running) = None;
    }

    /// Sends it a signal by name: `STOP` has it stand still, `CONT` go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, name: &str) -> Result<()> {
        let running = lock(&self.running);
        let id = running.as_ref().context(format!("{} does not run", self.name))?.process.id();
        let status = Command::new("kill").arg(format!("-{name}")).arg(id.to_string()).status()?;
        status.success().then_some(()).context(format!("signal {name} to {}", self.name))
    }

    /// What it wrote to stdout and stderr.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn wrote(&self) -> Result<String> {
        std::fs::read_to_string(self.output()).context("what it wrote")
    }

    /// The main service, with the admin macaroon.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn lightning(&self) -> Result<Lightning> {
        Ok(Lightning::new(self.wire().await?))
    }

    /// The service for payments, with the admin macaroon.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn router(&self) -> Result<Router> {
        Ok(Router::new(self.wire().await?))
    }

    /// The service for claims and their fees, with the admin macaroon.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn wallet_kit(&self) -> Result<WalletKit> {
        Ok(WalletKit::new(self.wire().await?))
    }

    /// The main service with these bytes as macaroon, or with none.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn lightning_with(&self, macaroon: Option<&[u8]>) -> Result<Lightning> {
        let macaroon = Macaroon::of(macaroon)?;
        Ok(Lightning::new(connect(&self.rpc_address(), &self.tls_cert(), macaroon).await?))
    }

    /// The service that makes and opens wallets, as soon as it answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn unlocker(&self) -> Result<Unlocker> {
        Ok(Unlocker::new(self.bare_wire().await?))
    }

    /// The service that tells how far it is, as soon as it answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn state(&self) -> Result<State> {
        Ok(State::new(self.bare_wire().await?))
    }

    /// A connection without a macaroon; waits for the daemon to serve.
    async fn bare_wire(&self) -> Result<Wire> {
        self.until("it serves", async || {
            let macaroon = Macaroon::of(None)?;
            Ok(connect(&self.rpc_address(), &self.tls_cert(), macaroon).await.ok())
        })
        .await
    }

    /// Asks `probe` until it gives a value: what a daemon's state becomes is told by no event.
    ///
    /// # Errors
    /// When it does not within a minute, or the daemon ends; with the last lines it wrote.
    pub async fn until<T>(
        &self,
        what: &str,
        mut probe: impl AsyncFnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        let what = format!("{}: {what}", self.name);
        let found = wait::until_async(&what, PATIENCE, async || match probe().await {
            Ok(found) => Ok(found),
            Err(failure) => self.still_runs().and(Err(failure)),
        });
        found.await.map_err(|failure| self.explain(failure))
    }

    async fn caught_up(&self) -> Option<GetInfoResponse> {
        let mut lightning = self.lightning().await.ok()?;
        let info = lightning.get_info(GetInfoRequest {}).await.ok()?.into_inner();
        let height = self.bitcoind.height().ok()?;
        let state = self.state().await.ok()?.get_state(GetStateRequest {}).await.ok()?;
        let active = state.into_inner().state() == WalletState::ServerActive;
        (active && info.synced_to_chain && u64::from(info.block_height) >= height).then_some(info)
    }

    /// The connection, made at the first call after each start.
    async fn wire(&self) -> Result<Wire> {
        self.still_runs()?;
        if let Some(wire) = lock(&self.running).as_ref().and_then(|running| running.wire.clone()) {
            return Ok(wire);
        }
        let macaroon = Macaroon::read(&self.admin_macaroon())?;
        let wire = connect(&self.rpc_address(), &self.tls_cert(), macaroon).await?;
        if let Some(running) = lock(&self.running).as_mut() {
            running.wire = Some(wire.clone());
        }
        Ok(wire)
    }

    fn still_runs(&self) -> Result<()> {
        match self.ended()? {
            Some(status) => Err(Failure::new(format!("{} ended with {status}", self.name))),
            None => Ok(()),
        }
    }

    fn ended(&self) -> Result<Option<ExitStatus>> {
        let mut running = lock(&self.running);
        let running = running.as_mut().context(format!("{} does not run", self.name))?;
        running.process.ended()
    }

    fn explain(&self, failure: Failure) -> Failure {
        let wrote = self.wrote().unwrap_or_default();
        let mut last: Vec<&str> = wrote.lines().rev().take(15).collect();
        last.reverse();
        Failure::new(format!("{failure}\n{} wrote last:\n{}", self.name, last.join("\n")))
    }

    // Beside the small disk, if there is one: what it says when that is full must be seen.
    fn output(&self) -> PathBuf {
        self.dir.path().join("output")
    }
}

/// What a daemon gets to settle a payment, also over a peer's restart.
pub(super) const PAYMENT_TIMEOUT: Duration = PATIENCE;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
