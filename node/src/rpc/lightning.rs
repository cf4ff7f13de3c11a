//! `lnrpc.Lightning`: one line a method; what they do is in `calls`.

use super::calls::{
    add_invoice, channel_backups, channel_balance, close_channel, closed_channels, connect_peer,
    debug_level, decode_pay_req, get_info, get_recovery_info, invoices, list_aliases,
    list_channels, list_payments, list_peers, macaroons, open_channel, pending_channels,
    send_coins, send_payment, subscribe_invoices, transactions, wallet,
};
use super::{answers, gate, Answers};
use crate::node::Node;
use fulmen_proto::lnrpc;
use std::sync::Arc;
use tonic::{async_trait, Request, Response, Status};

/// The service over a node.
pub struct Lightning {
    /// The node.
    pub node: Arc<Node>,
}

type Answer<T> = Result<Response<T>, Status>;

#[async_trait]
impl lnrpc::lightning_server::Lightning for Lightning {
    type OpenChannelStream = Answers<lnrpc::OpenStatusUpdate>;
    type SubscribeInvoicesStream = Answers<lnrpc::Invoice>;
    type CloseChannelStream = Answers<lnrpc::CloseStatusUpdate>;
    type SubscribeChannelBackupsStream = Answers<lnrpc::ChanBackupSnapshot>;
    type SubscribeTransactionsStream = Answers<lnrpc::Transaction>;

    async fn get_info(&self, _: Request<lnrpc::GetInfoRequest>) -> Answer<lnrpc::GetInfoResponse> {
        get_info::get_info(&self.node).await.map(Response::new)
    }

    async fn get_recovery_info(
        &self,
        _: Request<lnrpc::GetRecoveryInfoRequest>,
    ) -> Answer<lnrpc::GetRecoveryInfoResponse> {
        Ok(Response::new(get_recovery_info::get_recovery_info(&self.node)))
    }

    async fn stop_daemon(&self, _: Request<lnrpc::StopRequest>) -> Answer<lnrpc::StopResponse> {
        self.node.stop.send_replace(true);
        let status = "shutdown initiated, check logs for progress".into();
        Ok(Response::new(lnrpc::StopResponse { status }))
    }

    async fn connect_peer(
        &self,
        request: Request<lnrpc::ConnectPeerRequest>,
    ) -> Answer<lnrpc::ConnectPeerResponse> {
        connect_peer::connect_peer(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn disconnect_peer(
        &self,
        request: Request<lnrpc::DisconnectPeerRequest>,
    ) -> Answer<lnrpc::DisconnectPeerResponse> {
        connect_peer::disconnect_peer(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn list_peers(
        &self,
        _: Request<lnrpc::ListPeersRequest>,
    ) -> Answer<lnrpc::ListPeersResponse> {
        list_peers::list_peers(&self.node).await.map(Response::new)
    }

    async fn new_address(
        &self,
        request: Request<lnrpc::NewAddressRequest>,
    ) -> Answer<lnrpc::NewAddressResponse> {
        wallet::new_address(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn wallet_balance(
        &self,
        request: Request<lnrpc::WalletBalanceRequest>,
    ) -> Answer<lnrpc::WalletBalanceResponse> {
        wallet::wallet_balance(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn send_coins(
        &self,
        request: Request<lnrpc::SendCoinsRequest>,
    ) -> Answer<lnrpc::SendCoinsResponse> {
        send_coins::send_coins(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn send_many(
        &self,
        request: Request<lnrpc::SendManyRequest>,
    ) -> Answer<lnrpc::SendManyResponse> {
        send_coins::send_many(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn estimate_fee(
        &self,
        request: Request<lnrpc::EstimateFeeRequest>,
    ) -> Answer<lnrpc::EstimateFeeResponse> {
        send_coins::estimate_fee(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn get_transactions(
        &self,
        request: Request<lnrpc::GetTransactionsRequest>,
    ) -> Answer<lnrpc::TransactionDetails> {
        transactions::get_transactions(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn subscribe_transactions(
        &self,
        _: Request<lnrpc::GetTransactionsRequest>,
    ) -> Answer<Self::SubscribeTransactionsStream> {
        let news = transactions::subscribe_transactions(self.node.clone()).await;
        news.map(|news| Response::new(answers(news)))
    }

    async fn list_unspent(
        &self,
        request: Request<lnrpc::ListUnspentRequest>,
    ) -> Answer<lnrpc::ListUnspentResponse> {
        transactions::list_unspent(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn channel_balance(
        &self,
        _: Request<lnrpc::ChannelBalanceRequest>,
    ) -> Answer<lnrpc::ChannelBalanceResponse> {
        channel_balance::channel_balance(&self.node).await.map(Response::new)
    }

    async fn open_channel_sync(
        &self,
        request: Request<lnrpc::OpenChannelRequest>,
    ) -> Answer<lnrpc::ChannelPoint> {
        open_channel::open_channel_sync(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn open_channel(
        &self,
        request: Request<lnrpc::OpenChannelRequest>,
    ) -> Answer<Self::OpenChannelStream> {
        let opened = open_channel::open_channel(self.node.clone(), request.into_inner()).await;
        opened.map(|news| Response::new(answers(news)))
    }

    async fn pending_channels(
        &self,
        request: Request<lnrpc::PendingChannelsRequest>,
    ) -> Answer<lnrpc::PendingChannelsResponse> {
        let request = request.into_inner();
        pending_channels::pending_channels(&self.node, request).await.map(Response::new)
    }

    async fn list_channels(
        &self,
        request: Request<lnrpc::ListChannelsRequest>,
    ) -> Answer<lnrpc::ListChannelsResponse> {
        list_channels::list_channels(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn list_aliases(
        &self,
        _: Request<lnrpc::ListAliasesRequest>,
    ) -> Answer<lnrpc::ListAliasesResponse> {
        list_aliases::list_aliases(&self.node).map(Response::new)
    }

    async fn closed_channels(
        &self,
        request: Request<lnrpc::ClosedChannelsRequest>,
    ) -> Answer<lnrpc::ClosedChannelsResponse> {
        closed_channels::closed_channels(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn close_channel(
        &self,
        request: Request<lnrpc::CloseChannelRequest>,
    ) -> Answer<Self::CloseChannelStream> {
        let closed = close_channel::close_channel(self.node.clone(), request.into_inner()).await;
        closed.map(|news| Response::new(answers(news)))
    }

    async fn export_channel_backup(
        &self,
        request: Request<lnrpc::ExportChannelBackupRequest>,
    ) -> Answer<lnrpc::ChannelBackup> {
        channel_backups::export(&self.node, request.into_inner()).map(Response::new)
    }

    async fn export_all_channel_backups(
        &self,
        _: Request<lnrpc::ChanBackupExportRequest>,
    ) -> Answer<lnrpc::ChanBackupSnapshot> {
        channel_backups::export_all(&self.node).map(Response::new)
    }

    async fn verify_chan_backup(
        &self,
        request: Request<lnrpc::ChanBackupSnapshot>,
    ) -> Answer<lnrpc::VerifyChanBackupResponse> {
        channel_backups::verify(&self.node, &request.into_inner()).map(Response::new)
    }

    async fn restore_channel_backups(
        &self,
        request: Request<lnrpc::RestoreChanBackupRequest>,
    ) -> Answer<lnrpc::RestoreBackupResponse> {
        channel_backups::restore(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn subscribe_channel_backups(
        &self,
        _: Request<lnrpc::ChannelBackupSubscription>,
    ) -> Answer<Self::SubscribeChannelBackupsStream> {
        Ok(Response::new(answers(channel_backups::subscribe(self.node.clone()))))
    }

    async fn add_invoice(
        &self,
        request: Request<lnrpc::Invoice>,
    ) -> Answer<lnrpc::AddInvoiceResponse> {
        add_invoice::add_invoice(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn lookup_invoice(&self, request: Request<lnrpc::PaymentHash>) -> Answer<lnrpc::Invoice> {
        invoices::lookup_invoice(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn list_invoices(
        &self,
        request: Request<lnrpc::ListInvoiceRequest>,
    ) -> Answer<lnrpc::ListInvoiceResponse> {
        invoices::list_invoices(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn decode_pay_req(&self, request: Request<lnrpc::PayReqString>) -> Answer<lnrpc::PayReq> {
        decode_pay_req::decode_pay_req(&self.node, request.into_inner()).map(Response::new)
    }

    async fn send_payment_sync(
        &self,
        request: Request<lnrpc::SendRequest>,
    ) -> Answer<lnrpc::SendResponse> {
        send_payment::send_payment_sync(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn list_payments(
        &self,
        request: Request<lnrpc::ListPaymentsRequest>,
    ) -> Answer<lnrpc::ListPaymentsResponse> {
        list_payments::list_payments(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn subscribe_invoices(
        &self,
        request: Request<lnrpc::InvoiceSubscription>,
    ) -> Answer<Self::SubscribeInvoicesStream> {
        let news = subscribe_invoices::subscribe_invoices(self.node.clone(), request.into_inner());
        Ok(Response::new(answers(news)))
    }

    async fn bake_macaroon(
        &self,
        request: Request<lnrpc::BakeMacaroonRequest>,
    ) -> Answer<lnrpc::BakeMacaroonResponse> {
        macaroons::bake_macaroon(&self.node.bakery, request.into_inner()).await.map(Response::new)
    }

    async fn list_macaroon_i_ds(
        &self,
        _: Request<lnrpc::ListMacaroonIDsRequest>,
    ) -> Answer<lnrpc::ListMacaroonIDsResponse> {
        Ok(Response::new(macaroons::list_macaroon_ids(&self.node.bakery)))
    }

    async fn delete_macaroon_id(
        &self,
        request: Request<lnrpc::DeleteMacaroonIdRequest>,
    ) -> Answer<lnrpc::DeleteMacaroonIdResponse> {
        macaroons::delete_macaroon_id(&self.node.bakery, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_permissions(
        &self,
        _: Request<lnrpc::ListPermissionsRequest>,
    ) -> Answer<lnrpc::ListPermissionsResponse> {
        Ok(Response::new(macaroons::list_permissions()))
    }

    async fn check_macaroon_permissions(
        &self,
        request: Request<lnrpc::CheckMacPermRequest>,
    ) -> Answer<lnrpc::CheckMacPermResponse> {
        let peer = gate::peer_of(request.extensions());
        let request = request.into_inner();
        macaroons::check_macaroon_permissions(&self.node.bakery, request, peer).map(Response::new)
    }

    async fn debug_level(
        &self,
        request: Request<lnrpc::DebugLevelRequest>,
    ) -> Answer<lnrpc::DebugLevelResponse> {
        debug_level::debug_level(&request.into_inner()).map(Response::new)
    }
}
