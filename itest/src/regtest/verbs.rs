//! What a daemon does in a story: it connects, opens, pays, closes. Each verb waits for its end.

use bitcoin::secp256k1::PublicKey;
use bitcoin::{Address, Network, OutPoint, Txid};
use bitcoincore_rpc::RpcApi;
use fulmen_channel::amount::{Msat, Sat};
use fulmen_channel::onchain::deadline::HESITATION;
use fulmen_proto::lnrpc::channel_point::FundingTxid;
use fulmen_proto::lnrpc::close_status_update::Update;
use fulmen_proto::lnrpc::payment::PaymentStatus;
use fulmen_proto::lnrpc::{
    AddressType, Channel, ChannelPoint, CloseChannelRequest, CloseStatusUpdate, ConnectPeerRequest,
    GetInfoRequest, GetInfoResponse, Invoice, LightningAddress, ListChannelsRequest,
    ListInvoiceRequest, ListPaymentsRequest, ListPeersRequest, NewAddressRequest,
    OpenChannelRequest, Payment, PendingChannelsRequest, PendingChannelsResponse, PendingUpdate,
    WalletBalanceRequest, WalletBalanceResponse,
};
use fulmen_proto::routerrpc::SendPaymentRequest;
use tonic::Streaming;

use super::daemon::{Daemon, PAYMENT_TIMEOUT};
use super::peer::Peer;
use crate::failure::{Context, Failure, Result};

/// Enough for channel_ready and for announcing.
pub const DEEP: u64 = 6;

impl Daemon {
    /// Pays `amount` into its wallet and mines until it has it.
    ///
    /// # Errors
    /// When it does not see it.
    pub async fn receives_coins(&self, amount: Sat) -> Result<()> {
        let kind = AddressType::WitnessPubkeyHash.into();
        let request = NewAddressRequest { r#type: kind, ..NewAddressRequest::default() };
        let address = self.lightning().await?.new_address(request).await?.into_inner().address;
        let address = address.parse::<Address<_>>()?.require_network(Network::Regtest)?;
        let before = self.coins().await?.confirmed_balance;
        let wanted = before.saturating_add(i64::try_from(amount.sat())?);
        self.bitcoind().send_to(&address, amount)?;
        self.bitcoind().mine(1)?;
        self.until("the coins arrive", async || {
            Ok((self.coins().await?.confirmed_balance >= wanted).then_some(()))
        })
        .await
    }

    /// Connects to a peer, and waits until it is listed.
    ///
    /// # Errors
    /// When the peer does not answer.
    pub async fn connects(&self, peer: &impl Peer) -> Result<()> {
        let pubkey = peer.node_id()?.to_string();
        let addr = Some(LightningAddress { pubkey: pubkey.clone(), host: peer.address() });
        let request = ConnectPeerRequest { addr, ..ConnectPeerRequest::default() };
        match self.lightning().await?.connect_peer(request).await {
            Err(status) if status.message().contains("already connected to") => {}
            answer => drop(answer.context(format!("{} connects", self.name()))?),
        }
        self.is_connected_to(peer).await
    }

    /// Waits until a peer is connected, whoever connected.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn is_connected_to(&self, peer: &impl Peer) -> Result<()> {
        let pubkey = peer.node_id()?.to_string();
        self.until("the peer is connected", async || {
            let peers = self.lightning().await?.list_peers(ListPeersRequest::default()).await?;
            Ok(peers.into_inner().peers.iter().any(|peer| peer.pub_key == pubkey).then_some(()))
        })
        .await
    }

    /// Opens an announced channel to a connected peer and mines until both can use it.
    ///
    /// # Errors
    /// When it is refused or does not come to use.
    pub async fn opens(&self, peer: &impl Peer, capacity: Sat) -> Result<Channel> {
        self.opens_with(peer, capacity, |_| {}).await
    }

    /// As [`Daemon::opens`], with a request that the story changes first.
    ///
    /// # Errors
    /// As [`Daemon::opens`].
    pub async fn opens_with(
        &self,
        peer: &impl Peer,
        capacity: Sat,
        change: impl FnOnce(&mut OpenChannelRequest),
    ) -> Result<Channel> {
        let funding = self.begins_to_open(peer, capacity, change).await?;
        self.until("its funding transaction is published", async || {
            Ok(self.bitcoind().mempool()?.contains(&funding.txid).then_some(()))
        })
        .await?;
        self.bitcoind().mine(DEEP)?;
        peer.has_channel_with(self.id()?).await?;
        // Who pays from a height too far behind the payee's is refused.
        self.is_at_tip().await?;
        self.active_channel(peer.node_id()?).await
    }

    /// Opens up to the broadcast of the funding transaction, whose output it returns.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn begins_to_open(
        &self,
        peer: &impl Peer,
        capacity: Sat,
        change: impl FnOnce(&mut OpenChannelRequest),
    ) -> Result<OutPoint> {
        let mut request = OpenChannelRequest {
            node_pubkey: peer.node_id()?.serialize().to_vec(),
            local_funding_amount: i64::try_from(capacity.sat())?,
            ..OpenChannelRequest::default()
        };
        change(&mut request);
        let opened = self.lightning().await?.open_channel_sync(request).await;
        outpoint(&opened.context(format!("{} opens", self.name()))?.into_inner())
    }

    /// Waits until a channel with `peer` is active, and returns it.
    ///
    /// # Errors
    /// When that does not come.
    pub async fn active_channel(&self, peer: PublicKey) -> Result<Channel> {
        let peer = peer.to_string();
        self.until("the channel is active", async || {
            let channels = self.channels().await?.into_iter();
            let mut active = channels.filter(|channel| channel.active);
            Ok(active.find(|channel| channel.remote_pubkey == peer))
        })
        .await
    }

    /// Pays `amount` to a peer's new invoice.
    ///
    /// # Errors
    /// When the payment fails.
    pub async fn pays(&self, peer: &impl Peer, amount: Msat) -> Result<Payment> {
        self.pays_invoice(&peer.invoices(amount, "story").await?).await
    }

    /// Pays an invoice.
    ///
    /// # Errors
    /// When the payment fails.
    pub async fn pays_invoice(&self, invoice: &str) -> Result<Payment> {
        let payment = self.tries_to_pay(invoice).await?;
        match payment.status() {
            PaymentStatus::Succeeded => Ok(payment),
            _ => Err(Failure::new(format!("not paid: {:?}", payment.failure_reason()))),
        }
    }

    /// Begins to pay an invoice whose payee holds what it receives.
    ///
    /// # Errors
    /// When the daemon refuses to try.
    pub async fn begins_to_pay(&self, invoice: &str) -> Result<()> {
        let request = SendPaymentRequest {
            payment_request: invoice.into(),
            timeout_seconds: i32::try_from(PAYMENT_TIMEOUT.as_secs())?,
            ..SendPaymentRequest::default()
        };
        self.router().await?.send_payment_v2(request).await?;
        Ok(())
    }

    /// Pays an invoice and returns how that ended, well or not.
    ///
    /// # Errors
    /// When the daemon refuses to try, or goes away.
    pub async fn tries_to_pay(&self, invoice: &str) -> Result<Payment> {
        let request = SendPaymentRequest {
            payment_request: invoice.into(),
            timeout_seconds: i32::try_from(PAYMENT_TIMEOUT.as_secs())?,
            no_inflight_updates: true,
            ..SendPaymentRequest::default()
        };
        let mut updates = self.router().await?.send_payment_v2(request).await?.into_inner();
        while let Some(payment) = updates.message().await? {
            if is_ended(&payment) {
                return Ok(payment);
            }
        }
        Err(Failure::new("the updates ended before the payment"))
    }

    /// Waits until bitcoind's best block is its tip.
    ///
    /// # Errors
    /// When that does not come.
    pub async fn is_at_tip(&self) -> Result<()> {
        self.until("it is at the tip", async || {
            let best = self.bitcoind().rpc().get_best_block_hash()?.to_string();
            Ok((self.info().await?.block_hash == best).then_some(()))
        })
        .await
    }

    /// Mines until a daemon that was just started waits for nobody any more to tell whether its
    /// database is an old copy.
    ///
    /// # Errors
    /// When bitcoind does not mine or it does not follow.
    pub async fn outlives_doubt(&self) -> Result<()> {
        self.bitcoind().mine(HESITATION.into())?;
        self.is_at_tip().await
    }

    /// Waits until its own version of a closing transaction waits to be mined: the peer's, whose
    /// fee is another one, may come first.
    ///
    /// # Errors
    /// When it is not published.
    pub async fn own_close(
        &self,
        updates: &mut Streaming<CloseStatusUpdate>,
    ) -> Result<PendingUpdate> {
        let pending = loop {
            let update = updates.message().await?.context("the updates ended before the close")?;
            match update.update {
                Some(Update::ClosePending(pending)) if pending.local_close_tx => break pending,
                _ => {}
            }
        };
        let txid: Txid = bitcoin::consensus::deserialize(&pending.txid)?;
        self.until("its close is in the mempool", async || {
            Ok(self.bitcoind().mempool()?.contains(&txid).then_some(()))
        })
        .await?;
        Ok(pending)
    }

    /// Closes its channel with a peer together, and mines until that is done.
    ///
    /// # Errors
    /// When it is refused or does not end.
    pub async fn closes(&self, channel: &Channel) -> Result<()> {
        self.until("nothing is in flight", async || {
            let channels = self.channels().await?;
            Ok(channels.iter().all(|channel| channel.pending_htlcs.is_empty()).then_some(()))
        })
        .await?;
        let mut updates = self.begins_to_close(channel, false).await?;
        self.own_close(&mut updates).await?;
        self.bitcoind().mine(DEEP)?;
        while let Some(CloseStatusUpdate { update }) = updates.message().await? {
            if matches!(update, Some(Update::ChanClose(close)) if close.success) {
                return Ok(());
            }
        }
        Err(Failure::new("the updates ended before the channel was closed"))
    }

    /// Begins to close a channel, together or alone.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn begins_to_close(
        &self,
        channel: &Channel,
        force: bool,
    ) -> Result<Streaming<CloseStatusUpdate>> {
        self.begins_to_close_with(channel, |request| request.force = force).await
    }

    /// The same, with a request of one's own.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn begins_to_close_with(
        &self,
        channel: &Channel,
        change: impl FnOnce(&mut CloseChannelRequest),
    ) -> Result<Streaming<CloseStatusUpdate>> {
        let channel_point = Some(channel_point(channel)?);
        let mut request = CloseChannelRequest { channel_point, ..Default::default() };
        change(&mut request);
        let closing = self.lightning().await?.close_channel(request).await;
        Ok(closing.context(format!("{} closes", self.name()))?.into_inner())
    }

    /// GetInfo.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn info(&self) -> Result<GetInfoResponse> {
        Ok(self.lightning().await?.get_info(GetInfoRequest {}).await?.into_inner())
    }

    /// WalletBalance.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn coins(&self) -> Result<WalletBalanceResponse> {
        let request = WalletBalanceRequest::default();
        Ok(self.lightning().await?.wallet_balance(request).await?.into_inner())
    }

    /// ListChannels.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn channels(&self) -> Result<Vec<Channel>> {
        let request = ListChannelsRequest::default();
        Ok(self.lightning().await?.list_channels(request).await?.into_inner().channels)
    }

    /// Its one channel.
    ///
    /// # Errors
    /// When it has none or several.
    pub async fn channel(&self) -> Result<Channel> {
        let mut channels = self.channels().await?.into_iter();
        let channel = channels.next().context(format!("{} has no channel", self.name()))?;
        match channels.next() {
            None => Ok(channel),
            Some(_) => Err(Failure::new(format!("{} has several channels", self.name()))),
        }
    }

    /// Its one channel, once nothing is in flight.
    ///
    /// # Errors
    /// When something stays in flight.
    pub async fn quiet_channel(&self) -> Result<Channel> {
        self.until("nothing is in flight", async || {
            let channel = self.channel().await?;
            Ok(channel.pending_htlcs.is_empty().then_some(channel))
        })
        .await
    }

    /// PendingChannels.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn pending_channels(&self) -> Result<PendingChannelsResponse> {
        let request = PendingChannelsRequest::default();
        Ok(self.lightning().await?.pending_channels(request).await?.into_inner())
    }

    /// ListPayments, those that have not ended too.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn payments(&self) -> Result<Vec<Payment>> {
        let request = ListPaymentsRequest { include_incomplete: true, ..Default::default() };
        Ok(self.lightning().await?.list_payments(request).await?.into_inner().payments)
    }

    /// ListInvoices, up to a thousand.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn all_invoices(&self) -> Result<Vec<Invoice>> {
        let request = ListInvoiceRequest { num_max_invoices: 1_000, ..Default::default() };
        Ok(self.lightning().await?.list_invoices(request).await?.into_inner().invoices)
    }
}

/// Whether a payment is settled or failed.
pub fn is_ended(payment: &Payment) -> bool {
    matches!(payment.status(), PaymentStatus::Succeeded | PaymentStatus::Failed)
}

fn outpoint(point: &ChannelPoint) -> Result<OutPoint> {
    let txid = match &point.funding_txid {
        Some(FundingTxid::FundingTxidStr(txid)) => txid.parse()?,
        Some(FundingTxid::FundingTxidBytes(bytes)) => bitcoin::consensus::deserialize(bytes)?,
        None => return Err(Failure::new("a channel point without a transaction")),
    };
    Ok(OutPoint { txid, vout: point.output_index })
}

fn channel_point(channel: &Channel) -> Result<ChannelPoint> {
    let outpoint: OutPoint = channel.channel_point.parse()?;
    let funding_txid = Some(FundingTxid::FundingTxidStr(outpoint.txid.to_string()));
    Ok(ChannelPoint { funding_txid, output_index: outpoint.vout })
}
