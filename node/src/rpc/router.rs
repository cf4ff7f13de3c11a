//! `routerrpc.Router`: one line a method; what they do is in `calls`.

use super::calls::send_payment;
use super::{answers, Answers};
use crate::node::Node;
use fulmen_proto::{lnrpc, routerrpc};
use std::sync::Arc;
use tonic::{async_trait, Request, Response, Status};

/// The service over a node.
pub struct Router {
    /// The node.
    pub node: Arc<Node>,
}

#[async_trait]
impl routerrpc::router_server::Router for Router {
    type SendPaymentV2Stream = Answers<lnrpc::Payment>;
    type TrackPaymentV2Stream = Answers<lnrpc::Payment>;

    async fn send_payment_v2(
        &self,
        request: Request<routerrpc::SendPaymentRequest>,
    ) -> Result<Response<Self::SendPaymentV2Stream>, Status> {
        let begun = send_payment::send_payment_v2(&self.node, request.into_inner()).await;
        begun.map(|news| Response::new(answers(news)))
    }

    async fn track_payment_v2(
        &self,
        request: Request<routerrpc::TrackPaymentRequest>,
    ) -> Result<Response<Self::TrackPaymentV2Stream>, Status> {
        let found = send_payment::track_payment_v2(&self.node, request.into_inner());
        found.map(|news| Response::new(answers(news)))
    }
}
