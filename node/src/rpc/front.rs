//! How far the daemon is, and what stands behind the gate: at first only the unlocker and the state
//! service, later everything.

use crate::auth::Bakery;
use fulmen_proto::lnrpc::WalletState;
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;
use tonic::service::Routes;

/// Shared by the gate, the services that answer at all times, and whoever starts the daemon.
pub struct Front {
    /// Every state so far: a subscriber misses none, however soon the next one comes.
    states: watch::Sender<Vec<WalletState>>,
    bakery: OnceLock<Arc<Bakery>>,
    routes: watch::Sender<Option<Routes>>,
}

impl Default for Front {
    fn default() -> Self {
        Front {
            states: watch::Sender::new(vec![WalletState::WaitingToStart]),
            bakery: OnceLock::new(),
            routes: watch::Sender::new(None),
        }
    }
}

impl Front {
    /// How far the daemon is.
    pub fn state(&self) -> WalletState {
        self.states.borrow().last().copied().unwrap_or(WalletState::WaitingToStart)
    }

    /// Every state so far, and news of each further one.
    pub fn states(&self) -> watch::Receiver<Vec<WalletState>> {
        self.states.subscribe()
    }

    /// The daemon is that far.
    pub fn reached(&self, state: WalletState) {
        if self.state() != state {
            tracing::info!("wallet state: {}", state.as_str_name());
            self.states.send_modify(|states| states.push(state));
        }
    }

    /// Macaroons can be checked from now on.
    pub fn unlocked(&self, bakery: Arc<Bakery>) {
        self.bakery.get_or_init(|| bakery);
        self.reached(WalletState::Unlocked);
    }

    /// The node's services are there.
    pub fn active(&self, routes: Routes) {
        self.routes.send_replace(Some(routes));
        self.reached(WalletState::RpcActive);
    }

    /// The macaroons' keys; none while the wallet is locked.
    pub fn bakery(&self) -> Option<&Arc<Bakery>> {
        self.bakery.get()
    }

    /// The node's services, once they are there.
    pub async fn routes(&self) -> Option<Routes> {
        let mut routes = self.routes.subscribe();
        let there = routes.wait_for(Option::is_some).await.ok()?;
        there.clone()
    }
}
