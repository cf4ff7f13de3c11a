//! Anything a daemon can have at the other end of a channel.

use std::sync::Arc;

use bitcoin::secp256k1::PublicKey;
use fulmen_channel::amount::Msat;
use fulmen_proto::lnrpc::Invoice;

use super::daemon::Daemon;
use crate::failure::{Context, Result};
use crate::ldk::LdkPeer;

/// A node with an address that makes invoices.
#[allow(async_fn_in_trait, reason = "used with types that are known, never as an object")]
pub trait Peer {
    /// Its public key.
    ///
    /// # Errors
    /// When it never ran.
    fn node_id(&self) -> Result<PublicKey>;

    /// `127.0.0.1:PORT` where it listens.
    fn address(&self) -> String;

    /// A BOLT 11 invoice for `amount`.
    ///
    /// # Errors
    /// When it makes none.
    async fn invoices(&self, amount: Msat, memo: &str) -> Result<String>;

    /// Waits until it can use a channel with `other`.
    ///
    /// # Errors
    /// When that does not come.
    async fn has_channel_with(&self, other: PublicKey) -> Result<()>;
}

impl Peer for Daemon {
    fn node_id(&self) -> Result<PublicKey> {
        self.id()
    }

    fn address(&self) -> String {
        self.listen_address()
    }

    async fn invoices(&self, amount: Msat, memo: &str) -> Result<String> {
        let value_msat = i64::try_from(amount.msat())?;
        let invoice = Invoice { value_msat, memo: memo.into(), ..Invoice::default() };
        let added = self.lightning().await?.add_invoice(invoice).await;
        Ok(added.context("add an invoice")?.into_inner().payment_request)
    }

    async fn has_channel_with(&self, other: PublicKey) -> Result<()> {
        self.active_channel(other).await?;
        self.is_at_tip().await
    }
}

impl Peer for LdkPeer {
    fn node_id(&self) -> Result<PublicKey> {
        Ok(LdkPeer::node_id(self))
    }

    fn address(&self) -> String {
        LdkPeer::address(self)
    }

    async fn invoices(&self, amount: Msat, memo: &str) -> Result<String> {
        LdkPeer::invoices(self, amount, memo)
    }

    async fn has_channel_with(&self, other: PublicKey) -> Result<()> {
        self.usable_channel(other).map(drop)
    }
}

impl<P: Peer> Peer for Arc<P> {
    fn node_id(&self) -> Result<PublicKey> {
        P::node_id(self)
    }

    fn address(&self) -> String {
        P::address(self)
    }

    async fn invoices(&self, amount: Msat, memo: &str) -> Result<String> {
        P::invoices(self, amount, memo).await
    }

    async fn has_channel_with(&self, other: PublicKey) -> Result<()> {
        P::has_channel_with(self, other).await
    }
}
