//! An LDK node as a peer: a process of its own (`itest/peers/ldk`), so that it can be killed.

mod pipe;

use std::fs;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use bitcoin::{Address, Network, OutPoint};
use fulmen_channel::amount::{Msat, Sat};
use fulmen_channel::payment::Preimage;
use serde::Deserialize;
use serde_json::{json, Value};
use tempfile::TempDir;

use crate::bitcoind::{Bitcoind, RPC_LOGIN};
use crate::build;
use crate::failure::{Context, Failure, Result};
use crate::places;
use crate::port::Port;
use crate::process::Process;
use crate::wait::{self, PATIENCE};
use pipe::Pipe;

/// A running LDK node; killed and removed on drop.
#[derive(Debug)]
pub struct LdkPeer {
    node_id: PublicKey,
    running: Mutex<Option<Running>>,
    settings: Settings,
}

/// What stays the same over restarts.
#[derive(Debug)]
struct Settings {
    alias: String,
    anchors: bool,
    trusts: Vec<String>,
    bitcoind: Arc<Bitcoind>,
    listen: Port,
    dir: TempDir,
}

/// The process and the pipe to it.
#[derive(Debug)]
struct Running {
    pipe: Arc<Pipe>,
    process: Process,
}

/// What the node owns.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub struct Balances {
    onchain_sat: u64,
    onchain_spendable_sat: u64,
    lightning_sat: u64,
    /// The height it has seen.
    pub height: u32,
}

impl Balances {
    /// In its wallet, with what it keeps back for anchors.
    pub fn onchain(&self) -> Sat {
        Sat::new(self.onchain_sat)
    }
    /// In its wallet and free to spend.
    pub fn spendable(&self) -> Sat {
        Sat::new(self.onchain_spendable_sat)
    }
    /// In channels, less what closing them would cost.
    pub fn lightning(&self) -> Sat {
        Sat::new(self.lightning_sat)
    }
}

/// One of its channels.
#[derive(Clone, Debug, Deserialize)]
pub struct LdkChannel {
    /// LDK's own name for it, for [`LdkPeer::closes`].
    pub channel: String,
    /// BOLT 2's channel_id, in hex.
    pub channel_id: String,
    /// The other side.
    pub node_id: PublicKey,
    /// The funding output, once known.
    pub funding: Option<OutPoint>,
    /// Where it is in the chain, once it is.
    pub short_channel_id: Option<u64>,
    sat: u64,
    outbound_msat: u64,
    inbound_msat: u64,
    /// channel_ready went both ways.
    pub ready: bool,
    /// Ready, and the peer is here.
    pub usable: bool,
    /// Meant to be public.
    pub announced: bool,
    /// Whether this node opened it.
    pub ours: bool,
}

impl LdkChannel {
    /// Its capacity.
    pub fn capacity(&self) -> Sat {
        Sat::new(self.sat)
    }
    /// What this node can send, without its reserve.
    pub fn outbound(&self) -> Msat {
        Msat::new(self.outbound_msat)
    }
    /// What this node can receive, without the other's reserve.
    pub fn inbound(&self) -> Msat {
        Msat::new(self.inbound_msat)
    }
}

/// One of its payments.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct LdkPayment {
    /// In hex.
    pub payment_hash: String,
    /// `Inbound` or `Outbound`.
    pub direction: String,
    /// `Pending`, `Succeeded` or `Failed`.
    pub status: String,
    /// The amount, once known.
    pub msat: Option<u64>,
    /// What it cost, once known.
    pub fee_msat: Option<u64>,
}

impl LdkPeer {
    /// Starts one that may announce itself and opens anchor channels.
    ///
    /// # Errors
    /// When it cannot be built or started.
    pub fn start(bitcoind: &Arc<Bitcoind>, alias: &str) -> Result<Self> {
        Self::start_with(bitcoind, alias, true, &[])
    }

    /// As [`LdkPeer::start`]; without `anchors` it opens static_remotekey channels, and channels of
    /// those it trusts are used before they are in a block.
    ///
    /// # Errors
    /// When it cannot be built or started.
    pub fn start_with(
        bitcoind: &Arc<Bitcoind>,
        alias: &str,
        anchors: bool,
        trusts: &[PublicKey],
    ) -> Result<Self> {
        let settings = Settings {
            alias: alias.to_owned(),
            anchors,
            trusts: trusts.iter().map(PublicKey::to_string).collect(),
            bitcoind: Arc::clone(bitcoind),
            listen: Port::free()?,
            dir: places::temporary(alias)?,
        };
        let (node_id, running) = settings.launch()?;
        Ok(LdkPeer { node_id, running: Mutex::new(Some(running)), settings })
    }

    /// Its public key.
    pub fn node_id(&self) -> PublicKey {
        self.node_id
    }

    /// `127.0.0.1:PORT` of its listener.
    pub fn address(&self) -> String {
        self.settings.listen.address()
    }

    /// The process id, if it runs.
    pub fn id(&self) -> Option<u32> {
        self.running().as_ref().map(|running| running.process.id())
    }

    /// Pays `amount` into its wallet and mines until it sees it.
    ///
    /// # Errors
    /// When it does not see it.
    pub fn receives_coins(&self, amount: Sat) -> Result<()> {
        let before = self.balances()?.onchain();
        let address: String = self.take("address", json!({ "command": "new_address" }))?;
        let address: Address<_> = address.parse()?;
        self.settings.bitcoind.send_to(&address.require_network(Network::Regtest)?, amount)?;
        self.settings.bitcoind.mine(1)?;
        wait::until(format!("{} has {amount:?}", self.settings.alias), PATIENCE, || {
            self.sync()?;
            Ok((self.balances()?.onchain() >= before.saturating_add(amount)).then_some(()))
        })
    }

    /// Its money.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn balances(&self) -> Result<Balances> {
        Ok(serde_json::from_value(self.ask(json!({ "command": "balances" }))?)?)
    }

    /// Looks at the chain now; by itself it does so every two seconds.
    ///
    /// # Errors
    /// When it cannot.
    pub fn sync(&self) -> Result<()> {
        self.ask(json!({ "command": "sync" })).map(drop)
    }

    /// Connects, and reconnects from then on.
    ///
    /// # Errors
    /// When the other does not answer.
    pub fn connects(&self, node_id: PublicKey, address: &str) -> Result<()> {
        let command =
            json!({ "command": "connect", "node_id": node_id.to_string(), "address": address });
        self.ask(command).map(drop)
    }

    /// The peers that are connected now.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn peers(&self) -> Result<Vec<PublicKey>> {
        Ok(serde_json::from_value(self.ask(json!({ "command": "list_peers" }))?)?)
    }

    /// Begins to open a channel, and waits until its funding transaction is made.
    ///
    /// # Errors
    /// When it is refused.
    pub fn opens(
        &self,
        node_id: PublicKey,
        address: &str,
        capacity: Sat,
        announced: bool,
    ) -> Result<LdkChannel> {
        let channel: String = self.take(
            "channel",
            json!({
                "command": "open_channel", "node_id": node_id.to_string(), "address": address,
                "sat": capacity.sat(), "announced": announced,
            }),
        )?;
        let of_it = |event: &Value| event.get("channel") == Some(&json!(channel));
        let is = |event: &Value, name| event.get("event") == Some(&json!(name));
        let event = self.event(PATIENCE, |event| {
            of_it(event) && (is(event, "channel_pending") || is(event, "channel_closed"))
        })?;
        if is(&event, "channel_closed") {
            return Err(Failure::new(format!("ldk does not open: {event}")));
        }
        let mut channels = self.channels()?.into_iter();
        channels.find(|listed| listed.channel == channel).context("the channel just opened")
    }

    /// Its channels.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn channels(&self) -> Result<Vec<LdkChannel>> {
        Ok(serde_json::from_value(self.ask(json!({ "command": "list_channels" }))?)?)
    }

    /// Waits until its channel with `node_id` can be used, and returns it.
    ///
    /// # Errors
    /// When that does not come.
    pub fn usable_channel(&self, node_id: PublicKey) -> Result<LdkChannel> {
        wait::until(format!("{} can use a channel", self.settings.alias), PATIENCE, || {
            self.sync()?;
            let usable = |channel: &LdkChannel| channel.node_id == node_id && channel.usable;
            Ok(self.channels()?.into_iter().find(usable))
        })
    }

    /// A BOLT 11 invoice.
    ///
    /// # Errors
    /// When it makes none.
    pub fn invoices(&self, amount: Msat, description: &str) -> Result<String> {
        let command = json!({
            "command": "bolt11_invoice", "msat": amount.msat(),
            "description": description, "expiry_secs": 3600,
        });
        self.take("invoice", command)
    }

    /// An invoice whose payment it holds until it [`claims`](LdkPeer::claims) it.
    ///
    /// # Errors
    /// When it makes none.
    pub fn holds(&self, amount: Msat, preimage: Preimage) -> Result<String> {
        let command = json!({
            "command": "hold_invoice", "msat": amount.msat(), "description": "held",
            "expiry_secs": 3600, "payment_hash": preimage.hash().to_string(),
        });
        self.take("invoice", command)
    }

    /// Waits until it holds a payment.
    ///
    /// # Errors
    /// When that does not come.
    pub fn has_to_claim(&self, preimage: Preimage) -> Result<()> {
        let hash = json!(preimage.hash().to_string());
        self.event(PATIENCE, |event| {
            event.get("event") == Some(&json!("payment_claimable"))
                && event.get("payment_hash") == Some(&hash)
        })
        .map(drop)
    }

    /// Claims what it holds, and waits until its channel knows the preimage.
    ///
    /// # Errors
    /// When it holds no such payment.
    pub fn claims(&self, amount: Msat, preimage: Preimage) -> Result<()> {
        let hash = preimage.hash().to_string();
        self.ask(json!({
            "command": "claim", "payment_hash": hash,
            "preimage": hex::encode(preimage.0), "msat": amount.msat(),
        }))?;
        self.event(PATIENCE, |event| {
            event.get("event") == Some(&json!("payment_received"))
                && event.get("payment_hash") == Some(&json!(hash))
        })
        .map(drop)
    }

    /// Begins to pay an invoice and returns the payment hash.
    ///
    /// # Errors
    /// When it finds no way, or paid it before.
    pub fn begins_to_pay(&self, invoice: &str) -> Result<String> {
        self.take("payment_hash", json!({ "command": "pay", "invoice": invoice }))
    }

    /// Pays an invoice and waits until that is settled.
    ///
    /// # Errors
    /// When it fails or does not end.
    pub fn pays(&self, invoice: &str) -> Result<()> {
        let payment_hash = self.begins_to_pay(invoice)?;
        self.settles(&payment_hash)
    }

    /// Waits until a payment that was begun is settled.
    ///
    /// # Errors
    /// When it fails or does not end.
    pub fn settles(&self, payment_hash: &str) -> Result<()> {
        let ended = self.event(PATIENCE, |event| {
            let name = event.get("event").and_then(Value::as_str).unwrap_or_default();
            let ends = name == "payment_successful" || name == "payment_failed";
            ends && event.get("payment_hash") == Some(&json!(payment_hash))
        })?;
        match ended.get("preimage").and_then(Value::as_str) {
            Some(_) => Ok(()),
            None => Err(Failure::new(format!("ldk's payment failed: {ended}"))),
        }
    }

    /// Its Lightning payments, both ways.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn payments(&self) -> Result<Vec<LdkPayment>> {
        Ok(serde_json::from_value(self.ask(json!({ "command": "list_payments" }))?)?)
    }

    /// Begins to close a channel together with the peer.
    ///
    /// # Errors
    /// When it refuses.
    pub fn closes(&self, channel: &LdkChannel) -> Result<()> {
        self.close("close", channel)
    }

    /// Closes a channel alone.
    ///
    /// # Errors
    /// When it refuses.
    pub fn force_closes(&self, channel: &LdkChannel) -> Result<()> {
        self.close("force_close", channel)
    }

    /// Waits for the first event that `wanted` accepts.
    ///
    /// # Errors
    /// When it does not come within the time.
    pub fn event(&self, within: Duration, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        self.pipe()?.event(within, wanted)
    }

    /// Stops it in order.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&self) -> Result<()> {
        self.ask(json!({ "command": "stop" }))?;
        self.kill();
        Ok(())
    }

    /// Kills it.
    pub fn kill(&self) {
        *self.running() = None;
    }

    /// Starts it again on its folder and port, after [`LdkPeer::stop`] or [`LdkPeer::kill`].
    ///
    /// # Errors
    /// When it does not start.
    pub fn starts_again(&self) -> Result<()> {
        let (_, running) = self.settings.launch()?;
        *self.running() = Some(running);
        Ok(())
    }

    /// A copy of its folder. Call between [`LdkPeer::stop`] and [`LdkPeer::starts_again`].
    ///
    /// # Errors
    /// When a file cannot be copied.
    pub fn copies(&self) -> Result<TempDir> {
        let copy = places::temporary(&format!("{}-old", self.settings.alias))?;
        places::copy_all(self.settings.dir.path(), copy.path())?;
        Ok(copy)
    }

    /// Puts a copy of its folder back, as if nothing had happened since.
    ///
    /// # Errors
    /// When a file cannot be copied.
    pub fn goes_back_to(&self, copy: &TempDir) -> Result<()> {
        let dir = self.settings.dir.path();
        fs::remove_dir_all(dir)?;
        places::copy_all(copy.path(), dir)
    }

    fn close(&self, command: &str, channel: &LdkChannel) -> Result<()> {
        let node_id = channel.node_id.to_string();
        let name = &channel.channel;
        self.ask(json!({ "command": command, "channel": name, "node_id": node_id })).map(drop)
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pipe(&self) -> Result<Arc<Pipe>> {
        let running = self.running();
        let running = running.as_ref().context(format!("{} does not run", self.settings.alias))?;
        Ok(Arc::clone(&running.pipe))
    }

    fn ask(&self, command: Value) -> Result<Value> {
        self.pipe()?.ask(command)
    }

    fn take(&self, field: &str, command: Value) -> Result<String> {
        self.pipe()?.take(field, command)
    }
}

impl Settings {
    /// Starts the process and the node in it.
    fn launch(&self) -> Result<(PublicKey, Running)> {
        let mut command = Command::new(build::ldk_peer()?);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::spawn(&self.alias, command)?;
        let stdin = process.child().stdin.take().context("a pipe to ldk")?;
        let stdout = process.child().stdout.take().context("a pipe from ldk")?;
        let pipe = Arc::new(Pipe::new(stdin, stdout));
        let start = json!({
            "command": "start", "dir": self.dir.path(), "listen": self.listen.address(),
            "alias": self.alias, "anchors": self.anchors, "trusts": self.trusts,
            "rpc_host": "127.0.0.1",
            "rpc_port": self.bitcoind.rpc_port(),
            "rpc_user": RPC_LOGIN, "rpc_password": RPC_LOGIN,
        });
        let node_id = pipe.take("node_id", start)?.parse()?;
        Ok((node_id, Running { pipe, process }))
    }
}
