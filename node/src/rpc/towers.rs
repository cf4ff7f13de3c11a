//! `wtclientrpc.WatchtowerClient`, `watchtowerrpc.Watchtower`, `fulmenrpc.Towers`: one line a
//! method; what they do is in `calls`.

use super::calls::{tower_coverage, towers};
use crate::node::Node;
use fulmen_proto::{fulmenrpc, watchtowerrpc, wtclientrpc as rpc};
use std::sync::Arc;
use tonic::{async_trait, Request, Response, Status};

/// The services over a node.
pub struct Towers {
    /// The node.
    pub node: Arc<Node>,
}

#[async_trait]
impl rpc::watchtower_client_server::WatchtowerClient for Towers {
    async fn add_tower(
        &self,
        request: Request<rpc::AddTowerRequest>,
    ) -> Result<Response<rpc::AddTowerResponse>, Status> {
        towers::add(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn remove_tower(
        &self,
        request: Request<rpc::RemoveTowerRequest>,
    ) -> Result<Response<rpc::RemoveTowerResponse>, Status> {
        towers::remove(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn deactivate_tower(
        &self,
        request: Request<rpc::DeactivateTowerRequest>,
    ) -> Result<Response<rpc::DeactivateTowerResponse>, Status> {
        towers::deactivate(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn terminate_session(
        &self,
        request: Request<rpc::TerminateSessionRequest>,
    ) -> Result<Response<rpc::TerminateSessionResponse>, Status> {
        towers::terminate(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn list_towers(
        &self,
        request: Request<rpc::ListTowersRequest>,
    ) -> Result<Response<rpc::ListTowersResponse>, Status> {
        towers::list(&self.node, request.into_inner()).map(Response::new)
    }

    async fn get_tower_info(
        &self,
        request: Request<rpc::GetTowerInfoRequest>,
    ) -> Result<Response<rpc::Tower>, Status> {
        towers::info(&self.node, request.into_inner()).map(Response::new)
    }

    async fn stats(
        &self,
        _: Request<rpc::StatsRequest>,
    ) -> Result<Response<rpc::StatsResponse>, Status> {
        towers::stats(&self.node).map(Response::new)
    }

    async fn policy(
        &self,
        request: Request<rpc::PolicyRequest>,
    ) -> Result<Response<rpc::PolicyResponse>, Status> {
        towers::policy(&self.node, request.into_inner()).map(Response::new)
    }
}

#[async_trait]
impl watchtowerrpc::watchtower_server::Watchtower for Towers {
    async fn get_info(
        &self,
        _: Request<watchtowerrpc::GetInfoRequest>,
    ) -> Result<Response<watchtowerrpc::GetInfoResponse>, Status> {
        towers::own(&self.node).map(Response::new)
    }
}

#[async_trait]
impl fulmenrpc::towers_server::Towers for Towers {
    async fn coverage(
        &self,
        request: Request<fulmenrpc::CoverageRequest>,
    ) -> Result<Response<fulmenrpc::CoverageResponse>, Status> {
        tower_coverage::coverage(&self.node, request.into_inner()).await.map(Response::new)
    }
}
