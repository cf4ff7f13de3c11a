//! Peers over TCP: encrypted connections (BOLT 8), their rules (BOLT 1), and staying connected.
//!
//! [`Peers`] is the handle. What happens comes out as [`PeerEvent`]s, in order for each peer:
//! `Connected`, its `Message`s, `Disconnected`. A peer has one connection at a time; a second one
//! takes the first one's place, whose `Disconnected` comes before the new `Connected`.
//!
//! Who takes the events must not wait for [`Peers::connect`] or [`Peers::send`] in the same task:
//! both may wait for an event to be taken.

mod address;
mod connection;
pub mod features;
mod frames;
mod listener;
pub use fulmen_watchtower::noise;
pub mod reconnect;
mod registry;
pub mod session;
pub mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bitcoin::constants::ChainHash;
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use lightning::types::features::InitFeatures;
use rand::Rng;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

pub use address::{Address, BadAddress, DEFAULT_PORT};
pub use session::{CloseReason, Patience};
pub use wire::WireMessage;

use connection::Role;
use reconnect::Backoff;
use registry::Registry;

/// How long one attempt to reach a peer that we keep connected may take.
const DIAL_WITHIN: Duration = Duration::from_secs(30);
/// How long `stop` waits for farewells and for the node to take the last events.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// What [`Peers::new`] needs to know.
pub struct PeersConfig {
    /// The node's identity: peers know us by its public key.
    pub node_secret: SecretKey,
    /// Where to listen; port 0 lets the system choose.
    pub listen: Vec<SocketAddr>,
    /// What we offer in `init`, see [`features::our_features`].
    pub features: InitFeatures,
    /// The blockchain that our channels are on.
    pub chain: ChainHash,
    /// How patient we are and how much we take on.
    pub limits: Limits,
}

/// How patient the peer side is and how much it takes on. The default suits the internet.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long the handshake may take.
    pub handshake: Duration,
    /// How long `init` and pongs may take, how often to ping.
    pub patience: Patience,
    /// How long a peer may read nothing while something waits for it.
    pub write: Duration,
    /// How many messages may wait for a peer before [`Peers::send`] waits too.
    pub queue: usize,
    /// How many inbound connections of nodes that we do not keep connected may be open.
    pub max_strangers: usize,
    /// The delay before the first attempt to reconnect, about.
    pub first_retry: Duration,
    /// The longest delay between attempts to reconnect.
    pub longest_retry: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(15),
            patience: Patience {
                init: Duration::from_secs(30),
                ping_every: Duration::from_secs(60),
                pong_within: Duration::from_secs(30),
            },
            write: Duration::from_secs(60),
            queue: 1024,
            max_strangers: 200,
            first_retry: Duration::from_secs(1),
            longest_retry: Duration::from_secs(300),
        }
    }
}

/// What happens with peers.
#[derive(Clone, Debug, PartialEq)]
pub enum PeerEvent {
    /// A connection is open: both `init`s were exchanged and fit.
    Connected {
        /// Who it is.
        node: PublicKey,
        /// What the peer offers.
        features: InitFeatures,
        /// Whether we connected to it.
        outbound: bool,
        /// `host:port` of its end of the connection.
        address: String,
        /// This very connection.
        link: PeerLink,
    },
    /// A message that is not the connection's own: about a channel, or gossip.
    Message {
        /// Who sent it.
        node: PublicKey,
        /// What it sent.
        message: WireMessage,
    },
    /// The connection that was `Connected` has ended.
    Disconnected {
        /// Who it was.
        node: PublicKey,
        /// Why.
        reason: CloseReason,
    },
}

/// One connection to a peer. What is sent over it never reaches a later connection of the same
/// peer, which would not be in step with it.
#[derive(Clone, Debug)]
pub struct PeerLink {
    queue: mpsc::Sender<WireMessage>,
}

impl PeerLink {
    /// Queues a message, in order; waits while the queue is full.
    ///
    /// # Errors
    /// [`NotConnected`] once this connection has ended.
    pub async fn send(&self, message: WireMessage) -> Result<(), NotConnected> {
        self.queue.send(message).await.map_err(|_| NotConnected)
    }

    /// Queues a message if there is room: for whoever must not wait, and loses nothing by it.
    pub fn send_if_room(&self, message: WireMessage) {
        // Full or gone: either way the peer does not get it.
        let _ = self.queue.try_send(message);
    }
}

impl PartialEq for PeerLink {
    fn eq(&self, other: &Self) -> bool {
        self.queue.same_channel(&other.queue)
    }
}

/// A connected peer, as ListPeers shows it.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Its node id.
    pub node: PublicKey,
    /// `host:port` of its end of the connection.
    pub address: String,
    /// Whether it connected to us.
    pub inbound: bool,
    /// What it offers.
    pub features: InitFeatures,
    /// Bytes sent over this connection.
    pub bytes_sent: u64,
    /// Bytes received over this connection.
    pub bytes_received: u64,
    /// How long the last answered ping took, in microseconds; 0 before the first.
    pub ping_micros: u64,
    /// What its last ping carried.
    pub last_ping_payload: Vec<u8>,
    /// The last thing that it complained about, or did wrong.
    pub last_fault: Option<PeerFault>,
    /// How many of its connections have ended since we started.
    pub flap_count: u32,
    /// When the last of them ended.
    pub last_flap: Option<SystemTime>,
}

/// An error or warning of a peer, or what made us close its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerFault {
    /// When it happened.
    pub at: SystemTime,
    /// What it said, as printable ASCII.
    pub text: String,
}

/// A peer could not be connected to. The texts are what clients of lnd match, where they do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Our own node id.
    #[error("cannot make connection to self")]
    ToSelf,
    /// There is a connection.
    #[error("already connected to peer: {node}@{address}")]
    AlreadyConnected {
        /// Who.
        node: PublicKey,
        /// `host:port` of its end.
        address: String,
    },
    /// The host does not answer, or has no address.
    #[error("cannot reach {address}: {why}")]
    Unreachable {
        /// Where.
        address: Address,
        /// The system's words.
        why: String,
    },
    /// The host answered, but no session came of it.
    #[error("cannot connect to {address}: {reason}")]
    Failed {
        /// Where.
        address: Address,
        /// Why.
        reason: CloseReason,
    },
    /// It took too long.
    #[error("no connection to {address} within {limit:?}")]
    TimedOut {
        /// Where.
        address: Address,
        /// The limit given.
        limit: Duration,
    },
    /// The node is shutting down.
    #[error("the node is shutting down")]
    Stopping,
}

/// A message could not be sent: the peer is not connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("peer is not connected")]
pub struct NotConnected;

/// What all connections share.
struct Inner {
    node_secret: SecretKey,
    node_id: PublicKey,
    listen: Vec<SocketAddr>,
    features: InitFeatures,
    chain: ChainHash,
    limits: Limits,
    events: mpsc::Sender<PeerEvent>,
    registry: Registry,
    stop: watch::Sender<bool>,
    runtime: Handle,
    /// Every task; none once `stop` was called.
    tasks: Mutex<Option<JoinSet<()>>>,
}

/// The handle to all peers. Clones share them. It goes on until [`Peers::stop`].
#[derive(Clone)]
pub struct Peers {
    inner: Arc<Inner>,
    listening: Arc<OnceLock<Vec<SocketAddr>>>,
}

impl Peers {
    /// No peers yet; call it within a tokio runtime. While `events` is full, nothing more is read
    /// from the peers concerned.
    pub fn new(config: PeersConfig, events: mpsc::Sender<PeerEvent>) -> Peers {
        let node_id = config.node_secret.public_key(&Secp256k1::signing_only());
        let inner = Arc::new(Inner {
            node_secret: config.node_secret,
            node_id,
            listen: config.listen,
            features: config.features,
            chain: config.chain,
            limits: config.limits,
            events,
            registry: Registry::new(node_id, config.limits.max_strangers),
            stop: watch::Sender::new(false),
            runtime: Handle::current(),
            tasks: Mutex::new(Some(JoinSet::new())),
        });
        Peers { inner, listening: Arc::default() }
    }

    /// Opens the listening sockets and starts to accept; once.
    ///
    /// # Errors
    /// The system's, if an address cannot be listened on.
    pub async fn listen(&self) -> io::Result<()> {
        let listeners = listener::bind(&self.inner.listen).await?;
        let addresses = listeners.iter().map(|listener| listener.local_addr());
        let addresses = addresses.collect::<io::Result<_>>()?;
        self.listening.get_or_init(|| addresses);
        let slots = listener::handshake_slots();
        for listener in listeners {
            self.inner.spawn(listener::accept(self.inner.clone(), listener, slots.clone()));
        }
        Ok(())
    }

    /// The addresses listened on, with the ports that the system chose; none before that.
    pub fn listening(&self) -> Vec<SocketAddr> {
        self.listening.get().cloned().unwrap_or_default()
    }

    /// Our own node id.
    pub fn node_id(&self) -> PublicKey {
        self.inner.node_id
    }

    /// Connects to `node` at `address`; returns when the connection is open, its `Connected` out.
    ///
    /// # Errors
    /// [`ConnectError`] if there is no connection then, or was one before.
    pub async fn connect(
        &self,
        node: PublicKey,
        address: Address,
        limit: Duration,
    ) -> Result<(), ConnectError> {
        match timeout(limit, self.inner.dial(node, &address)).await {
            Ok(result) => result,
            Err(_) => Err(ConnectError::TimedOut { address, limit }),
        }
    }

    /// Ends the connection with `node`, after what is queued for it has been sent; `false` if it is
    /// not connected. From here on it counts as disconnected, and its `Disconnected` follows. A
    /// node that is kept connected comes back: [`Peers::forget`] it first.
    pub fn disconnect(&self, node: PublicKey) -> bool {
        self.inner.registry.hang_up(&node)
    }

    /// From now on connects to `node` at one of `addresses` whenever it is not connected, less and
    /// less often while that fails. Called again it changes the addresses and tries at once.
    pub fn keep_connected(&self, node: PublicKey, addresses: Vec<Address>) {
        if node == self.inner.node_id {
            return;
        }
        if let Some(addresses) = self.inner.registry.want(node, addresses) {
            self.inner.spawn(keep(self.inner.clone(), node, addresses));
        }
    }

    /// No longer reconnects to `node`. An open connection stays.
    pub fn forget(&self, node: PublicKey) {
        self.inner.registry.unwant(&node);
    }

    /// Every connected peer, by node id.
    pub fn list(&self) -> Vec<PeerInfo> {
        self.inner.registry.list()
    }

    /// Whether `node` is connected.
    pub fn is_connected(&self, node: PublicKey) -> bool {
        self.inner.registry.get(&node).is_some()
    }

    /// Queues a message for `node`, in order; waits while the queue is full. It may still be lost
    /// if the connection breaks: then comes a `Disconnected`.
    ///
    /// # Errors
    /// [`NotConnected`].
    pub async fn send(&self, node: PublicKey, message: WireMessage) -> Result<(), NotConnected> {
        let entry = self.inner.registry.get(&node).ok_or(NotConnected)?;
        entry.queue.send(message).await.map_err(|_| NotConnected)
    }

    /// Stops listening and closes every connection, after what is queued has been sent. Each gets
    /// its `Disconnected`, if the node still takes events.
    pub async fn stop(&self) {
        self.inner.stop.send_replace(true);
        let tasks = self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut tasks) = tasks {
            // What has not ended by then is aborted.
            let _ =
                timeout(STOP_WITHIN, async { while tasks.join_next().await.is_some() {} }).await;
        }
    }
}

impl Inner {
    /// Runs a task until it ends or the node stops.
    fn spawn(&self, task: impl std::future::Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tasks) = tasks.as_mut() {
            while tasks.try_join_next().is_some() {}
            tasks.spawn_on(task, &self.runtime);
        }
    }

    async fn emit(&self, event: PeerEvent) {
        // A node that takes no more events is stopping.
        let _ = self.events.send(event).await;
    }

    async fn dial(
        self: &Arc<Self>,
        node: PublicKey,
        address: &Address,
    ) -> Result<(), ConnectError> {
        if node == self.node_id {
            return Err(ConnectError::ToSelf);
        }
        let _turn = Turn::wait(self, node).await;
        if let Some(entry) = self.registry.get(&node) {
            return Err(ConnectError::AlreadyConnected { node, address: entry.address });
        }
        let unreachable = |why: String| ConnectError::Unreachable { address: address.clone(), why };
        let stream = TcpStream::connect((address.host.as_str(), address.port)).await;
        let stream = stream.map_err(|e| unreachable(e.to_string()))?;
        let seen = stream.peer_addr().map_err(|e| unreachable(e.to_string()))?;
        let (ready, opened) = oneshot::channel();
        let role = Role::Initiator(node);
        self.spawn(connection::run(self.clone(), stream, role, seen, Some(ready)));
        match opened.await {
            Ok(Ok(())) => Ok(()),
            // Both sides connected at once: there is a connection, though not this one.
            Ok(Err(CloseReason::Duplicate)) if self.registry.get(&node).is_some() => Ok(()),
            Ok(Err(reason)) => Err(ConnectError::Failed { address: address.clone(), reason }),
            Err(_) => Err(ConnectError::Stopping),
        }
    }
}

/// The right to dial a node: one attempt at a time, or each would replace the one before.
struct Turn<'a> {
    inner: &'a Inner,
    node: PublicKey,
}

impl<'a> Turn<'a> {
    async fn wait(inner: &'a Inner, node: PublicKey) -> Self {
        let mut changes = inner.registry.changes();
        while !inner.registry.start_dialing(&node) {
            // Cannot fail: the registry holds the sender.
            let _ = changes.changed().await;
        }
        Self { inner, node }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.inner.registry.stop_dialing(&self.node);
    }
}

/// Keeps one node connected until it is forgotten or the node stops.
async fn keep(inner: Arc<Inner>, node: PublicKey, mut at: watch::Receiver<Vec<Address>>) {
    let mut backoff = Backoff::new(inner.limits.first_retry, inner.limits.longest_retry);
    let mut stop = inner.stop.subscribe();
    let mut delay = Duration::ZERO;
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            changed = at.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(delay) => {}
        }
        let addresses = at.borrow_and_update().clone();
        let lasted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = forgotten(at.clone()) => return,
            lasted = one_connection(&inner, node, &addresses) => lasted,
        };
        delay = backoff.next(lasted, rand::thread_rng().gen_range(0..=1000));
    }
}

async fn forgotten(mut addresses: watch::Receiver<Vec<Address>>) {
    while addresses.changed().await.is_ok() {}
}

/// Tries each address until `node` is connected, by us or by itself, then waits for the end of the
/// connection. How long it lasted, or `None` if there was none.
async fn one_connection(
    inner: &Arc<Inner>,
    node: PublicKey,
    addresses: &[Address],
) -> Option<Duration> {
    for address in addresses {
        match timeout(DIAL_WITHIN, inner.dial(node, address)).await {
            Ok(Ok(()) | Err(ConnectError::AlreadyConnected { .. })) => break,
            Ok(Err(error)) => tracing::debug!("{error}"),
            Err(_) => tracing::debug!("no answer from {node}@{address}"),
        }
    }
    let mut entry = inner.registry.get(&node)?;
    let opened = Instant::now();
    // An error means that its task is gone as well.
    let _ = entry.gone.wait_for(|gone| *gone).await;
    Some(opened.elapsed())
}
