//! Each command carried out on the node.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use std::thread;

use ldk_node::bitcoin::hex::FromHex;
use ldk_node::bitcoin::Network;
use ldk_node::config::Config;
use ldk_node::lightning::ln::msgs::SocketAddress;
use ldk_node::lightning_invoice::{Bolt11Invoice, Bolt11InvoiceDescription, Description};
use ldk_node::lightning_types::payment::{PaymentHash, PaymentPreimage};
use ldk_node::payment::{PaymentDetails, PaymentKind};
use ldk_node::{Builder, ChannelDetails, Node, UserChannelId};
use serde_json::{json, Value};

use crate::command::{Command, OpenChannel, Start};
use crate::{event, say};

/// Why a command was not carried out, in plain words.
pub type Refusal = Box<dyn Display>;

/// The running node.
pub struct Peer(Arc<Node>);

/// Carries out a command; everything but `start` needs a started node.
pub fn obey(peer: &mut Option<Peer>, command: Command) -> Result<Value, Refusal> {
    if let Command::Start(start) = command {
        if peer.is_some() {
            return Err(Box::new("started already"));
        }
        return peer.insert(Peer::start(start)?).node_id();
    }
    let Some(running) = peer.as_ref() else { return Err(Box::new("not started")) };
    running.obey(command)
}

impl Peer {
    fn start(start: Start) -> Result<Self, Refusal> {
        let mut config = Config { network: Network::Regtest, ..Config::default() };
        if !start.anchors {
            config.anchor_channels_config = None;
        }
        for peer in &start.trusts {
            config.trusted_peers_0conf.push(read(peer)?);
        }
        let mut builder = Builder::from_config(config);
        builder.set_storage_dir_path(start.dir);
        let (host, user, password) = (start.rpc_host, start.rpc_user, start.rpc_password);
        builder.set_chain_source_bitcoind_rpc(host, start.rpc_port, user, password);
        builder.set_listening_addresses(vec![read(&start.listen)?]).map_err(refusal)?;
        if let Some(alias) = start.alias {
            builder.set_node_alias(alias).map_err(refusal)?;
        }
        let node = Arc::new(builder.build().map_err(refusal)?);
        node.start().map_err(refusal)?;
        let tells = Arc::clone(&node);
        thread::spawn(move || loop {
            say(&event::to_json(&tells.wait_next_event()));
            if let Err(error) = tells.event_handled() {
                say(&json!({ "event": "other", "what": error.to_string() }));
            }
        });
        Ok(Peer(node))
    }

    /// Stops the node in order.
    pub fn stop(&self) {
        // Fails only if it has stopped.
        let _ = self.0.stop();
    }

    fn node_id(&self) -> Result<Value, Refusal> {
        Ok(json!({ "node_id": self.0.node_id().to_string() }))
    }

    fn obey(&self, command: Command) -> Result<Value, Refusal> {
        let node = &self.0;
        match command {
            Command::Start(_) | Command::NodeId => self.node_id(),
            Command::NewAddress => {
                let address = node.onchain_payment().new_address().map_err(refusal)?;
                Ok(json!({ "address": address.to_string() }))
            }
            Command::Balances => Ok(self.balances()),
            Command::Connect { node_id, address } => {
                done(node.connect(read(&node_id)?, socket(&address)?, true))
            }
            Command::Disconnect { node_id } => done(node.disconnect(read(&node_id)?)),
            Command::ListPeers => {
                let peers = node.list_peers();
                let connected = peers.iter().filter(|peer| peer.is_connected);
                Ok(connected.map(|peer| peer.node_id.to_string()).collect())
            }
            Command::OpenChannel(open) => self.open(open),
            Command::ListChannels => Ok(node.list_channels().iter().map(channel).collect()),
            Command::Bolt11Invoice { msat, description, expiry_secs } => {
                self.invoice(msat, description, expiry_secs)
            }
            Command::HoldInvoice { msat, description, expiry_secs, payment_hash } => {
                let text = self::description(description)?;
                let hash = PaymentHash(bytes(&payment_hash)?);
                let bolt11 = node.bolt11_payment();
                let invoice = bolt11.receive_for_hash(msat, &text, expiry_secs, hash);
                Ok(json!({ "invoice": invoice.map_err(refusal)?.to_string() }))
            }
            Command::Claim { payment_hash, preimage, msat } => {
                let hash = PaymentHash(bytes(&payment_hash)?);
                let preimage = PaymentPreimage(bytes(&preimage)?);
                done(node.bolt11_payment().claim_for_hash(hash, msat, preimage))
            }
            Command::Pay { invoice, msat } => self.pay(&invoice, msat),
            Command::ListPayments => Ok(node.list_payments().iter().filter_map(payment).collect()),
            Command::Close { channel, node_id } => {
                done(node.close_channel(&channel_id(&channel)?, read(&node_id)?))
            }
            Command::ForceClose { channel, node_id } => {
                done(node.force_close_channel(&channel_id(&channel)?, read(&node_id)?, None))
            }
            Command::Sync => done(node.sync_wallets()),
            Command::Stop => done(node.stop()),
        }
    }

    fn balances(&self) -> Value {
        let balances = self.0.list_balances();
        json!({
            "onchain_sat": balances.total_onchain_balance_sats,
            "onchain_spendable_sat": balances.spendable_onchain_balance_sats,
            "lightning_sat": balances.total_lightning_balance_sats,
            "height": self.0.status().current_best_block.height,
        })
    }

    fn open(&self, open: OpenChannel) -> Result<Value, Refusal> {
        let (node_id, address) = (read(&open.node_id)?, socket(&open.address)?);
        let opened = if open.announced {
            self.0.open_announced_channel(node_id, address, open.sat, open.push_msat, None)
        } else {
            self.0.open_channel(node_id, address, open.sat, open.push_msat, None)
        };
        Ok(json!({ "channel": opened.map_err(refusal)?.0.to_string() }))
    }

    fn invoice(&self, msat: Option<u64>, text: String, expiry: u32) -> Result<Value, Refusal> {
        let description = description(text)?;
        let bolt11 = self.0.bolt11_payment();
        let invoice = match msat {
            Some(msat) => bolt11.receive(msat, &description, expiry),
            None => bolt11.receive_variable_amount(&description, expiry),
        };
        Ok(json!({ "invoice": invoice.map_err(refusal)?.to_string() }))
    }

    /// Begins to pay; how it ends comes as an event.
    fn pay(&self, invoice: &str, msat: Option<u64>) -> Result<Value, Refusal> {
        let invoice: Bolt11Invoice = read(invoice)?;
        let bolt11 = self.0.bolt11_payment();
        let sent = match msat {
            Some(msat) => bolt11.send_using_amount(&invoice, msat, None),
            None => bolt11.send(&invoice, None),
        };
        sent.map_err(refusal)?;
        Ok(json!({ "payment_hash": invoice.payment_hash().to_string() }))
    }
}

fn channel(channel: &ChannelDetails) -> Value {
    json!({
        "channel": channel.user_channel_id.0.to_string(),
        "channel_id": channel.channel_id.to_string(),
        "node_id": channel.counterparty_node_id.to_string(),
        "funding": channel.funding_txo.map(|outpoint| outpoint.to_string()),
        "short_channel_id": channel.short_channel_id,
        "sat": channel.channel_value_sats,
        "outbound_msat": channel.outbound_capacity_msat,
        "inbound_msat": channel.inbound_capacity_msat,
        "ready": channel.is_channel_ready,
        "usable": channel.is_usable,
        "announced": channel.is_announced,
        "ours": channel.is_outbound,
    })
}

/// A Lightning payment; on-chain ones are left out.
fn payment(payment: &PaymentDetails) -> Option<Value> {
    let PaymentKind::Bolt11 { hash, .. } = &payment.kind else { return None };
    Some(json!({
        "payment_hash": hash.to_string(),
        "msat": payment.amount_msat,
        "fee_msat": payment.fee_paid_msat,
        "direction": format!("{:?}", payment.direction),
        "status": format!("{:?}", payment.status),
    }))
}

fn description(text: String) -> Result<Bolt11InvoiceDescription, Refusal> {
    Ok(Bolt11InvoiceDescription::Direct(Description::new(text).map_err(refusal)?))
}

fn done<E: Display + 'static>(result: Result<(), E>) -> Result<Value, Refusal> {
    result.map(|()| json!({})).map_err(refusal)
}

fn refusal<E: Display + 'static>(error: E) -> Refusal {
    Box::new(error)
}

fn read<T: FromStr>(text: &str) -> Result<T, Refusal> {
    text.parse().map_err(|_| refusal(format!("{text:?} cannot be read")))
}

/// 32 bytes, given in hex.
fn bytes(hex: &str) -> Result<[u8; 32], Refusal> {
    FromHex::from_hex(hex).map_err(|_| refusal(format!("{hex:?} is not 32 bytes in hex")))
}

fn socket(text: &str) -> Result<SocketAddress, Refusal> {
    read(text)
}

fn channel_id(text: &str) -> Result<UserChannelId, Refusal> {
    Ok(UserChannelId(read(text)?))
}
