//! `lnrpc.State`: how far the daemon is. Answers at all times.

use super::front::Front;
use super::{answers, Answers};
use fulmen_proto::lnrpc;
use std::sync::Arc;
use tokio::sync::mpsc;
use tonic::{async_trait, Request, Response, Status};

/// The service.
pub struct State {
    /// Who knows.
    pub front: Arc<Front>,
}

#[async_trait]
impl lnrpc::state_server::State for State {
    type SubscribeStateStream = Answers<lnrpc::SubscribeStateResponse>;

    async fn subscribe_state(
        &self,
        _: Request<lnrpc::SubscribeStateRequest>,
    ) -> Result<Response<Self::SubscribeStateStream>, Status> {
        let mut states = self.front.states();
        let (news, receiver) = mpsc::channel(8);
        tokio::spawn(async move {
            let mut told = states.borrow_and_update().len().saturating_sub(1);
            loop {
                let new: Vec<_> = states.borrow_and_update().iter().skip(told).copied().collect();
                told = told.saturating_add(new.len());
                for state in new {
                    let answer = lnrpc::SubscribeStateResponse { state: state.into() };
                    if news.send(Ok(answer)).await.is_err() {
                        return;
                    }
                }
                tokio::select! {
                    changed = states.changed() => if changed.is_err() { return },
                    () = news.closed() => return,
                }
            }
        });
        Ok(Response::new(answers(receiver)))
    }

    async fn get_state(
        &self,
        _: Request<lnrpc::GetStateRequest>,
    ) -> Result<Response<lnrpc::GetStateResponse>, Status> {
        Ok(Response::new(lnrpc::GetStateResponse { state: self.front.state().into() }))
    }
}
