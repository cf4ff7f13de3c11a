//! One connection from handshake to farewell, one task each. Reading and writing go on side by
//! side, so that two nodes that send each other much at once do not wait for each other.
//!
//! ```text
//!     socket -> FrameReader -> Session -> events, in order, waiting when the node is busy
//!     node   -> bounded queue ------\
//!     pings, pongs -> urgent queue ---> FrameWriter -> socket, all that waits in one write
//! ```

use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::secp256k1::{PublicKey, SecretKey};
use fulmen_channel::message::Message;
use lightning::types::features::InitFeatures;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch, OwnedSemaphorePermit};
use tokio::time::{sleep_until, timeout};

use super::frames::{FrameReader, FrameWriter, Traffic};
use super::noise::{Initiator, Responder, Transport, ACT_ONE, ACT_THREE, ACT_TWO};
use super::registry::{Admission, Entry, Registry};
use super::session::{ping_payload, CloseReason, Session, Step};
use super::wire::WireMessage;
use super::{Inner, PeerEvent, PeerLink};

/// How many pings and pongs may wait for the peer to read on.
const URGENT: usize = 64;
/// How many messages leave in one write at most.
const BATCH: usize = 64;
/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// Which side of the handshake we are.
pub(super) enum Role {
    /// We connected to this node.
    Initiator(PublicKey),
    /// Someone connected to us, and holds a listener's slot until the connection is open.
    Responder {
        /// Given back when dropped.
        _slot: Option<OwnedSemaphorePermit>,
    },
}

/// Who asked for the connection and waits for it to open.
pub(super) type Ready = oneshot::Sender<Result<(), CloseReason>>;

/// A connection after the handshake.
struct Link {
    node: PublicKey,
    outbound: bool,
    address: SocketAddr,
    started: Instant,
    traffic: Arc<Traffic>,
    session: Session,
    reader: FrameReader<ReadHalf<TcpStream>>,
    writer: FrameWriter<WriteHalf<TcpStream>>,
}

/// The node's place in the registry, given up when dropped.
struct Place<'a> {
    registry: &'a Registry,
    node: PublicKey,
    id: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.registry.remove(&self.node, self.id);
    }
}

/// Runs a connection to its end.
pub(super) async fn run(
    inner: Arc<Inner>,
    stream: TcpStream,
    role: Role,
    address: SocketAddr,
    mut ready: Option<Ready>,
) {
    let mut stop = inner.stop.subscribe();
    let opened = tokio::select! {
        opened = open(&inner, stream, &role, address) => opened,
        _ = stop.wait_for(|stop| *stop) => return,
        () = given_up(&mut ready) => return,
    };
    drop(role);
    let opened = match opened {
        Ok((link, features)) => live(&inner, link, features, &mut ready).await,
        Err(reason) => Err(reason),
    };
    if let Err(reason) = opened {
        tracing::debug!("no connection with {address}: {reason}");
        if let Some(ready) = ready {
            // Who asked may have stopped waiting.
            let _ = ready.send(Err(reason));
        }
    }
}

/// Resolves when the one who wanted the connection no longer waits for it.
async fn given_up(ready: &mut Option<Ready>) {
    match ready {
        Some(ready) => ready.closed().await,
        None => std::future::pending().await,
    }
}

/// Handshake and the exchange of `init`.
async fn open(
    inner: &Inner,
    mut stream: TcpStream,
    role: &Role,
    address: SocketAddr,
) -> Result<(Link, InitFeatures), CloseReason> {
    let limits = &inner.limits;
    // Without it small messages would wait for company; where it cannot be had, they do.
    let _ = stream.set_nodelay(true);
    let started = Instant::now();
    let shaken = timeout(limits.handshake, handshake(&mut stream, &inner.node_secret, role)).await;
    let (transport, node) = shaken.map_err(|_| CloseReason::HandshakeTimeout)??;
    let traffic = Arc::new(Traffic::default());
    let (read, write) = tokio::io::split(stream);
    let mut link = Link {
        node,
        outbound: matches!(role, Role::Initiator(_)),
        address,
        started,
        session: Session::new(
            inner.features.clone(),
            inner.chain,
            limits.patience,
            started.elapsed(),
        ),
        reader: FrameReader::new(read, transport.opener, traffic.clone()),
        writer: FrameWriter::new(write, transport.sealer, traffic.clone()),
        traffic,
    };
    match link.greet(limits.write).await {
        Ok(features) => Ok((link, features)),
        Err(reason) => {
            link.part(None, &reason).await;
            Err(reason)
        }
    }
}

/// The three acts of BOLT 8 on a stream. Gives the session and who the other side is.
///
/// # Errors
/// [`CloseReason`] if the stream ends or an act is wrong.
async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    node_secret: &SecretKey,
    role: &Role,
) -> Result<(Transport, PublicKey), CloseReason> {
    let ephemeral = SecretKey::new(&mut rand::rngs::OsRng);
    match role {
        Role::Initiator(node) => {
            let (state, act_one) = Initiator::start(node_secret, node, ephemeral)?;
            stream.write_all(&act_one).await.map_err(lost)?;
            let mut act_two = [0; ACT_TWO];
            stream.read_exact(&mut act_two).await.map_err(lost)?;
            let (transport, act_three) = state.finish(&act_two)?;
            stream.write_all(&act_three).await.map_err(lost)?;
            Ok((transport, *node))
        }
        Role::Responder { .. } => {
            let mut act_one = [0; ACT_ONE];
            stream.read_exact(&mut act_one).await.map_err(lost)?;
            let (state, act_two) = Responder::start(node_secret, ephemeral, &act_one)?;
            stream.write_all(&act_two).await.map_err(lost)?;
            let mut act_three = [0; ACT_THREE];
            stream.read_exact(&mut act_three).await.map_err(lost)?;
            Ok(state.finish(&act_three)?)
        }
    }
}

fn lost(error: std::io::Error) -> CloseReason {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => CloseReason::Closed,
        _ => CloseReason::Lost(error.to_string()),
    }
}

/// An open connection's life: enters it, tells the node, lets messages flow until something ends
/// it, and tells the node again.
async fn live(
    inner: &Inner,
    mut link: Link,
    features: InitFeatures,
    ready: &mut Option<Ready>,
) -> Result<(), CloseReason> {
    let (node, outbound) = (link.node, link.outbound);
    let (queue, mut queued) = mpsc::channel(inner.limits.queue);
    let (close, mut closed) = watch::channel(None);
    let (gone, gone_seen) = watch::channel(false);
    let entry = Entry {
        id: inner.registry.next_id(),
        outbound,
        address: link.address.to_string(),
        since: link.started,
        features: features.clone(),
        traffic: link.traffic.clone(),
        queue,
        close: Arc::new(close),
        gone: gone_seen,
        closing: false,
    };
    if let Err(reason) = enter(inner, node, &entry).await {
        link.part(None, &reason).await;
        return Err(reason);
    }
    let place = Place { registry: &inner.registry, node, id: entry.id };
    let address = entry.address;
    tracing::info!("connected to {node}@{address}");
    let handle = PeerLink { queue: entry.queue.clone() };
    inner.emit(PeerEvent::Connected { node, features, outbound, address, link: handle }).await;
    if let Some(ready) = ready.take() {
        // Who asked may have stopped waiting; the connection stays.
        let _ = ready.send(Ok(()));
    }
    let reason = link.talk(inner, &mut queued, &mut closed).await;
    inner.registry.closing(&node, place.id);
    if reason.farewell().is_some() {
        inner.registry.note_fault(&node, &reason.to_string());
    }
    link.part(Some(&mut queued), &reason).await;
    tracing::info!("disconnected from {node}: {reason}");
    inner.emit(PeerEvent::Disconnected { node, reason }).await;
    drop(place);
    gone.send_replace(true);
    Ok(())
}

/// Takes the node's place, after an older connection of it has left.
async fn enter(inner: &Inner, node: PublicKey, entry: &Entry) -> Result<(), CloseReason> {
    loop {
        match inner.registry.admit(node, entry) {
            Admission::Open => return Ok(()),
            Admission::Refused(reason) => return Err(reason),
            // An error means that the older one's task is gone without saying so: gone as well.
            Admission::After(mut gone) => drop(gone.wait_for(|gone| *gone).await),
        }
    }
}

impl Link {
    /// Sends our `init` and waits for theirs.
    async fn greet(&mut self, patience: Duration) -> Result<InitFeatures, CloseReason> {
        // Only who was connected to tells the other its address (BOLT 1).
        let seen_at = Some(self.address).filter(|seen| !self.outbound && is_public(seen.ip()));
        let init = self.session.init(seen_at.map(Into::into));
        self.writer.push(&init.encode())?;
        self.writer.flush(patience).await?;
        loop {
            let wake = instant(self.started, self.session.wake_at());
            tokio::select! {
                biased;
                frame = self.reader.next() => {
                    let step = self.session.receive(self.started.elapsed(), &frame?)?;
                    if let Step::Open(features) = step {
                        return Ok(features);
                    }
                }
                () = sleep_until(wake) => drop(self.session.tick(self.started.elapsed())?),
            }
        }
    }

    /// Lets messages flow until something ends it.
    async fn talk(
        &mut self,
        inner: &Inner,
        queued: &mut mpsc::Receiver<WireMessage>,
        closed: &mut watch::Receiver<Option<CloseReason>>,
    ) -> CloseReason {
        let (urgent, mut urgent_queued) = mpsc::channel(URGENT);
        let mut stop = inner.stop.subscribe();
        let Link { node, started, traffic, session, reader, writer, .. } = self;
        let flow = Inbound { inner, node: *node, started: *started, traffic, urgent };
        let ended = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return CloseReason::Stopping,
            asked = closed.wait_for(Option::is_some) => {
                return asked.ok().and_then(|reason| reason.clone()).unwrap_or(CloseReason::Asked);
            }
            ended = flow.receive(session, reader) => ended,
            ended = send(writer, &mut urgent_queued, queued, inner.limits.write) => ended,
        };
        let Err(reason) = ended;
        reason
    }

    /// Sends what was queued before we decided to close, and why we close; then hangs up.
    async fn part(
        &mut self,
        mut queued: Option<&mut mpsc::Receiver<WireMessage>>,
        reason: &CloseReason,
    ) {
        use CloseReason::*;
        let nobody_listens = matches!(reason, Closed | Lost(_) | Silent | NotReading | Replaced);
        if nobody_listens || matches!(reason, Frame(_) | Handshake(_) | Duplicate) {
            return;
        }
        let messages = std::iter::from_fn(|| queued.as_mut()?.try_recv().ok());
        for message in messages.chain(reason.farewell()) {
            if self.writer.push(&message.encode()).is_err() {
                return;
            }
        }
        let farewell = async {
            if self.writer.flush(FAREWELL).await.is_ok() {
                self.writer.shutdown().await;
                // Hanging up on bytes not read would take back what was just sent.
                self.reader.drain().await;
            }
        };
        // The peer need not listen.
        let _ = timeout(FAREWELL, farewell).await;
    }
}

/// What the receiving side of an open connection needs.
struct Inbound<'a> {
    inner: &'a Inner,
    node: PublicKey,
    started: Instant,
    traffic: &'a Traffic,
    urgent: mpsc::Sender<WireMessage>,
}

impl Inbound<'_> {
    async fn receive(
        &self,
        session: &mut Session,
        reader: &mut FrameReader<ReadHalf<TcpStream>>,
    ) -> Result<Infallible, CloseReason> {
        loop {
            // Frames come before the clock: while the node was busy, answers may have piled up.
            tokio::select! {
                biased;
                frame = reader.next() => {
                    let frame = frame?;
                    let step = session.receive(self.started.elapsed(), &frame)?;
                    if let Some(payload) = ping_payload(&frame) {
                        self.traffic.pinged(payload);
                    }
                    match step {
                        Step::Send(message) => {
                            self.urgent.try_send(message).map_err(|_| CloseReason::PingFlood)?;
                        }
                        Step::Deliver(message) => self.deliver(message).await,
                        Step::Nothing | Step::Open(_) => self.note_round_trip(session),
                    }
                }
                () = sleep_until(instant(self.started, session.wake_at())) => {
                    if let Some(ping) = session.tick(self.started.elapsed())? {
                        // Full only while the peer does not read; then the ping is not missed.
                        let _ = self.urgent.try_send(ping);
                    }
                }
            }
        }
    }

    async fn deliver(&self, message: WireMessage) {
        match &message {
            WireMessage::Channel(Message::Error(error)) => {
                self.inner.registry.note_fault(&self.node, &error.data);
            }
            WireMessage::Channel(Message::Warning(warning)) => {
                self.inner.registry.note_fault(&self.node, &warning.data);
            }
            _ => {}
        }
        self.inner.emit(PeerEvent::Message { node: self.node, message }).await;
    }

    fn note_round_trip(&self, session: &Session) {
        if let Some(took) = session.round_trip() {
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
            self.traffic.ping_micros.store(micros, Ordering::Relaxed);
        }
    }
}

/// Sends what the queues hold: all that waits, in one write.
async fn send(
    writer: &mut FrameWriter<WriteHalf<TcpStream>>,
    urgent: &mut mpsc::Receiver<WireMessage>,
    queued: &mut mpsc::Receiver<WireMessage>,
    patience: Duration,
) -> Result<Infallible, CloseReason> {
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            biased;
            Some(message) = urgent.recv() => batch.push(message),
            count = queued.recv_many(&mut batch, BATCH) => if count == 0 {
                return Err(CloseReason::Asked); // nobody is left who could send
            },
        }
        for message in batch.drain(..) {
            writer.push(&message.encode())?;
        }
        writer.flush(patience).await?;
    }
}

fn instant(start: Instant, after: Duration) -> tokio::time::Instant {
    // Centuries ahead at most: then any far time does.
    start.checked_add(after).unwrap_or(start).into()
}

/// Whether an address makes sense to tell a peer as its own (BOLT 1: not private ones).
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let shared = ip.octets().first() == Some(&100); // 100.64.0.0/10, and some more
            !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified())
                && !(ip.is_broadcast() || ip.is_documentation() || ip.is_multicast() || shared)
        }
        IpAddr::V6(ip) => {
            let global = ip.segments().first().is_some_and(|first| first & 0xe000 == 0x2000);
            global && ip != Ipv6Addr::UNSPECIFIED
        }
    }
}
