//! A bitcoind of one's own, on regtest unless said otherwise, for a test.

mod fetch;
mod typed;

pub use fetch::Program;
pub use typed::WORDS;

use std::path::Path;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use bitcoin::{Address, BlockHash, Network, OutPoint, Txid};
use bitcoincore_rpc::jsonrpc::http::simple_http;
use bitcoincore_rpc::{jsonrpc, Client, RpcApi};
use fulmen_channel::amount::Sat;
use tempfile::TempDir;

use crate::failure::{Context, Failure, Result};
use crate::places;
use crate::port::Port;
use crate::process::Process;
use crate::wait::{self, PATIENCE};

/// The RPC user and password of every test's bitcoind.
pub const RPC_LOGIN: &str = "fulmen";

/// Blocks until the first coinbase may be spent.
const MATURITY: u64 = 101;

/// A running bitcoind with its own folder and ports; killed and removed on drop.
#[derive(Debug)]
pub struct Bitcoind {
    program: Program,
    network: Network,
    rpc_port: Port,
    block_port: Port,
    tx_port: Port,
    rpc: Client,
    process: Mutex<Option<Process>>,
    miner: OnceLock<Address>,
    // Last, so that the folder goes after the process.
    dir: TempDir,
}

impl Bitcoind {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// When no bitcoind can be found, or it does not start.
    pub fn start() -> Result<Self> {
        Self::start_as(Program::find()?)
    }

    /// Starts one on the main network, which knows no block but the first as it talks to nobody.
    ///
    /// # Errors
    /// When no bitcoind can be found, or it does not start.
    pub fn start_on_mainnet() -> Result<Self> {
        Self::start_on(Network::Bitcoin, Program::find()?)
    }

    /// Starts this program, and waits until it answers.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_as(program: Program) -> Result<Self> {
        Self::start_on(Network::Regtest, program)
    }

    fn start_on(network: Network, program: Program) -> Result<Self> {
        let rpc_port = Port::free()?;
        // What has no answer in time is asked again, which is not what mining a block is for.
        let transport = simple_http::Builder::new()
            .url(&rpc_port.address())
            .context("the RPC's address")?
            .timeout(PATIENCE)
            .auth(RPC_LOGIN, Some(RPC_LOGIN));
        let rpc = Client::from_jsonrpc(jsonrpc::Client::with_transport(transport.build()));
        let bitcoind = Bitcoind {
            program,
            network,
            block_port: Port::free()?,
            tx_port: Port::free()?,
            rpc_port,
            rpc,
            process: Mutex::default(),
            miner: OnceLock::new(),
            dir: places::temporary("bitcoind")?,
        };
        bitcoind.run_with(&[])?;
        Ok(bitcoind)
    }

    /// RPC, also of the miner's wallet, which is the only one.
    pub fn rpc(&self) -> &Client {
        &self.rpc
    }

    /// lnd's name of the network it is on.
    pub fn network(&self) -> &'static str {
        if self.network == Network::Bitcoin {
            "mainnet"
        } else {
            "regtest"
        }
    }

    /// `127.0.0.1:PORT` of its RPC.
    pub fn rpc_address(&self) -> String {
        self.rpc_port.address()
    }

    /// The port of its RPC.
    pub fn rpc_port(&self) -> u16 {
        self.rpc_port.number()
    }

    /// Where it publishes `rawblock` and `hashblock`.
    pub fn zmq_block(&self) -> String {
        format!("tcp://{}", self.block_port.address())
    }

    /// Where it publishes `rawtx`.
    pub fn zmq_tx(&self) -> String {
        format!("tcp://{}", self.tx_port.address())
    }

    /// Its data folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The process id, if it runs.
    pub fn id(&self) -> Option<u32> {
        self.process().as_ref().map(Process::id)
    }

    /// Mines `blocks` blocks to the miner's wallet.
    ///
    /// # Errors
    /// When bitcoind does not answer.
    pub fn mine(&self, blocks: u64) -> Result<Vec<BlockHash>> {
        self.rpc.generate_to_address(blocks, self.miner()?).context("mine")
    }

    /// Mines blocks to an address of their own: after some were invalidated, the same block again
    /// would still be invalid.
    ///
    /// # Errors
    /// When bitcoind does not answer.
    pub fn mine_others(&self, blocks: u64) -> Result<Vec<BlockHash>> {
        self.miner()?;
        let address = self.rpc.get_new_address(None, None)?.assume_checked();
        self.rpc.generate_to_address(blocks, &address).context("mine others")
    }

    /// Pays `amount` to `address` from the miner's wallet, funded first if it is empty; waits in
    /// the mempool until mined.
    ///
    /// # Errors
    /// When bitcoind refuses.
    pub fn send_to(&self, address: &Address, amount: Sat) -> Result<OutPoint> {
        if self.rpc.get_block_count()? < MATURITY {
            self.mine(MATURITY)?;
        }
        let amount = amount.to_amount();
        let txid = self
            .rpc
            .send_to_address(address, amount, None, None, None, None, None, None)
            .context(format!("send {amount} to {address}"))?;
        let sent = self.rpc.get_transaction(&txid, None)?.transaction()?;
        let pays = |output: &bitcoin::TxOut| output.script_pubkey == address.script_pubkey();
        let vout = sent.output.iter().position(pays).context("the output just made")?;
        Ok(OutPoint { txid, vout: u32::try_from(vout)? })
    }

    /// The height of the best block.
    ///
    /// # Errors
    /// When bitcoind does not answer.
    pub fn height(&self) -> Result<u64> {
        self.rpc.get_block_count().context("height")
    }

    /// What waits in the mempool.
    ///
    /// # Errors
    /// When bitcoind does not answer.
    pub fn mempool(&self) -> Result<Vec<Txid>> {
        self.rpc.get_raw_mempool().context("mempool")
    }

    /// Ends it the orderly way and waits until it is gone.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&self) -> Result<()> {
        let mut process = self.process();
        if let Some(running) = process.as_mut() {
            self.rpc.stop().context("stop bitcoind")?;
            running.wait(PATIENCE)?;
        }
        *process = None;
        Ok(())
    }

    /// Kills it. Its chain is flushed to disk first: bitcoind does that about once an hour, so
    /// that a young chain would be gone, which no real chain ever is.
    ///
    /// # Errors
    /// When it does not answer any more.
    pub fn kill(&self) -> Result<()> {
        // Counting the coins flushes them.
        let _: serde_json::Value = self.rpc.call("gettxoutsetinfo", &[]).context("flush")?;
        *self.process() = None;
        Ok(())
    }

    /// Stops it if it runs, and starts it on the same folder and ports.
    ///
    /// # Errors
    /// When it does not stop or start.
    pub fn restart(&self) -> Result<()> {
        self.restart_with(&[])
    }

    /// As [`Bitcoind::restart`], with further flags until the next one.
    ///
    /// # Errors
    /// When it does not stop or start.
    pub fn restart_with(&self, flags: &[&str]) -> Result<()> {
        self.stop()?;
        self.run_with(flags)
    }

    /// As [`Bitcoind::restart`], with the least feerate that it relays, in sat/vB.
    ///
    /// # Errors
    /// When it does not stop or start.
    pub fn restart_relaying_from(&self, sat_per_vb: u64) -> Result<()> {
        let btc_per_kvb = bitcoin::Amount::from_sat(sat_per_vb.saturating_mul(1_000)).to_btc();
        self.restart_with(&[&format!("-minrelaytxfee={btc_per_kvb:.8}")])
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The address that mining pays, in a wallet made at the first call.
    fn miner(&self) -> Result<&Address> {
        if let Some(address) = self.miner.get() {
            return Ok(address);
        }
        // Arguments of createwallet by position; the last loads it again at each start.
        let no = serde_json::Value::Bool(false);
        let null = serde_json::Value::Null;
        let arguments =
            ["miner".into(), no.clone(), no.clone(), null, no, true.into(), true.into()];
        let _: serde_json::Value = self.rpc.call("createwallet", &arguments)?;
        let address = self.rpc.get_new_address(None, None)?.require_network(Network::Regtest)?;
        Ok(self.miner.get_or_init(|| address))
    }

    fn run_with(&self, flags: &[&str]) -> Result<()> {
        let mut command = self.program.command();
        command
            .arg(format!("-datadir={}", self.dir.path().display()))
            .arg(format!("-chain={}", self.network.to_core_arg()))
            .args(["-server", "-dnsseed=0", "-listen=0", "-connect=0", "-txindex=0"])
            .args(["-printtoconsole=0", "-fallbackfee=0.0001", "-dbcache=16"])
            .args(["-rpcbind=127.0.0.1", "-rpcallowip=127.0.0.1", "-rpcworkqueue=256"])
            .arg(format!("-rpcport={}", self.rpc_port.number()))
            .arg(format!("-rpcuser={RPC_LOGIN}"))
            .arg(format!("-rpcpassword={RPC_LOGIN}"))
            .arg(format!("-zmqpubrawblock={}", self.zmq_block()))
            .arg(format!("-zmqpubhashblock={}", self.zmq_block()))
            .arg(format!("-zmqpubrawtx={}", self.zmq_tx()))
            .args(flags)
            .stdin(Stdio::null());
        if self.program.is_knots()? {
            // Knots relays by rules of its own; the network's are Core's.
            command.arg("-corepolicy=1");
        }
        let mut process = Process::spawn("bitcoind", command)?;
        wait::until("bitcoind answers", PATIENCE, || match process.ended()? {
            Some(status) => Err(self.died(status)),
            None => Ok(self.rpc.get_blockchain_info().ok()),
        })?;
        *self.process() = Some(process);
        Ok(())
    }

    fn died(&self, status: std::process::ExitStatus) -> Failure {
        let folder = if self.network == Network::Regtest { "regtest" } else { "" };
        let log = self.dir.path().join(folder).join("debug.log");
        let log = std::fs::read_to_string(log).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(5).collect();
        Failure::new(format!("bitcoind ended with {status}: {}", last.join(" | ")))
    }
}
