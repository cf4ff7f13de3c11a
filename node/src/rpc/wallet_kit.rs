//! `walletrpc.WalletKit`: one line a method; what they do is in `calls`.

use super::calls::sweeps;
use crate::node::Node;
use fulmen_proto::walletrpc as rpc;
use std::sync::Arc;
use tonic::{async_trait, Request, Response, Status};

/// The service over a node.
pub struct WalletKit {
    /// The node.
    pub node: Arc<Node>,
}

#[async_trait]
impl rpc::wallet_kit_server::WalletKit for WalletKit {
    async fn pending_sweeps(
        &self,
        _: Request<rpc::PendingSweepsRequest>,
    ) -> Result<Response<rpc::PendingSweepsResponse>, Status> {
        Ok(Response::new(sweeps::pending_sweeps(&self.node)))
    }

    async fn bump_fee(
        &self,
        request: Request<rpc::BumpFeeRequest>,
    ) -> Result<Response<rpc::BumpFeeResponse>, Status> {
        sweeps::bump_fee(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn bump_force_close_fee(
        &self,
        request: Request<rpc::BumpForceCloseFeeRequest>,
    ) -> Result<Response<rpc::BumpForceCloseFeeResponse>, Status> {
        sweeps::bump_force_close_fee(&self.node, request.into_inner()).await.map(Response::new)
    }
}
