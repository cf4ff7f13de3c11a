//! `fulmenrpc.Channels`: one line a method; what they do is in `calls`.

use super::calls::{channel_risk, explain_channel};
use crate::node::Node;
use fulmen_proto::fulmenrpc;
use std::sync::Arc;
use tonic::{async_trait, Request, Response, Status};

/// The service over a node.
pub struct Channels {
    /// The node.
    pub node: Arc<Node>,
}

#[async_trait]
impl fulmenrpc::channels_server::Channels for Channels {
    async fn explain_channel(
        &self,
        request: Request<fulmenrpc::ExplainChannelRequest>,
    ) -> Result<Response<fulmenrpc::ExplainChannelResponse>, Status> {
        explain_channel::explain_channel(&self.node, request.into_inner()).await.map(Response::new)
    }

    async fn channel_risk(
        &self,
        request: Request<fulmenrpc::ChannelRiskRequest>,
    ) -> Result<Response<fulmenrpc::ChannelRiskResponse>, Status> {
        channel_risk::channel_risk(&self.node, request.into_inner()).await.map(Response::new)
    }
}
