//! A chain and the daemons on it.

use std::sync::Arc;

use fulmen_channel::amount::Sat;
use fulmen_proto::lnrpc::Channel;

use super::daemon::Daemon;
use crate::bitcoind::{Bitcoind, Program};
use crate::failure::Result;

/// A bitcoind; daemons are added by name.
#[derive(Debug)]
pub struct Cluster {
    bitcoind: Arc<Bitcoind>,
}

impl Cluster {
    /// A chain of its own with coins to give away.
    ///
    /// # Errors
    /// When bitcoind does not start.
    pub fn start() -> Result<Self> {
        Self::start_on(Program::find()?)
    }

    /// The same on another program in bitcoind's place.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_on(program: Program) -> Result<Self> {
        let bitcoind = Arc::new(Bitcoind::start_as(program)?);
        bitcoind.mine(101)?;
        Ok(Cluster { bitcoind })
    }

    /// The chain.
    pub fn bitcoind(&self) -> &Arc<Bitcoind> {
        &self.bitcoind
    }

    /// A daemon with an empty wallet.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn daemon(&self, name: &str) -> Result<Daemon> {
        Daemon::start(&self.bitcoind, name).await
    }

    /// Two daemons, and a channel of `capacity` that the first opened and owns all of.
    ///
    /// # Errors
    /// When one of the steps fails.
    pub async fn pair(&self, capacity: Sat) -> Result<(Daemon, Daemon, Channel)> {
        let (alice, bob) = (self.daemon("alice").await?, self.daemon("bob").await?);
        alice.receives_coins(capacity.saturating_add(Sat::new(1_000_000))).await?;
        alice.connects(&bob).await?;
        let channel = alice.opens(&bob, capacity).await?;
        Ok((alice, bob, channel))
    }
}
