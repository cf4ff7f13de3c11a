//! The tower's door: connections, each with its pace, its time and its turn.

pub mod link;
pub mod message;

use crate::gatekeeper::{Bucket, Gate, Origin};
use crate::tower::Tower;
use link::{Link, LinkError};
use message::{Refusal, Reply, Request};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{watch, Semaphore};

/// A connection on which nothing is asked for so long is closed.
const IDLE: Duration = Duration::from_secs(120);
/// How long to wait when the system cannot accept, as when it is out of file descriptors.
const RETRY: Duration = Duration::from_millis(200);
/// Connections beside those that strangers may have: until a client has said who it is, and for
/// private clients.
const SPARE: usize = 32;

/// What all connections share.
struct Door {
    tower: Arc<Tower>,
    gate: Mutex<Gate>,
    strangers: Semaphore,
    opened: Instant,
}

impl Door {
    fn gate(&self) -> (MutexGuard<'_, Gate>, Duration) {
        let gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        (gate, self.opened.elapsed())
    }
}

/// One connection of an address, given back when dropped.
struct Place {
    door: Arc<Door>,
    from: Option<Origin>,
}

impl Place {
    fn of(door: &Arc<Door>, from: Option<Origin>) -> Option<Place> {
        let (mut gate, now) = door.gate();
        let enters = gate.enter(&door.tower.setup().limits, from, now);
        enters.then(|| Place { door: door.clone(), from })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.door.gate().0.leave(self.from);
    }
}

/// Serves clients until `stop`.
pub async fn serve(tower: Arc<Tower>, listener: TcpListener, mut stop: watch::Receiver<bool>) {
    let strangers = tower.setup().limits.max_connections;
    let connections = Arc::new(Semaphore::new(strangers.saturating_add(SPARE)));
    let strangers = Semaphore::new(strangers);
    let (gate, opened) = (Mutex::default(), Instant::now());
    let door = Arc::new(Door { tower, gate, strangers, opened });
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("cannot accept a client: {error}");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        // Whoever finds no place is hung up on: who holds many connections blocks nobody's queue.
        let Ok(slot) = connections.clone().try_acquire_owned() else { continue };
        let Some(place) = Place::of(&door, Origin::of(address.ip())) else { continue };
        tokio::spawn(async move {
            if let Err(error) = client(&place, stream).await {
                tracing::debug!("client at {address}: {error}");
            }
            drop((slot, place));
        });
    }
}

async fn client(Place { door, from }: &Place, stream: TcpStream) -> Result<(), LinkError> {
    let (tower, from) = (&door.tower, *from);
    let (mut link, client) = Link::accept(stream, &tower.setup().secret).await?;
    let private = tower.setup().private_clients.contains(&client);
    let stranger = if private { None } else { Some(door.strangers.try_acquire()) };
    if matches!(stranger, Some(Err(_))) {
        return Ok(());
    }
    // A pace of its own has who is not told from others by its address, or must not be.
    let (started, mut own) = (Instant::now(), Bucket::new(&tower.setup().limits));
    let mut in_time = || match from.filter(|_| !private) {
        Some(from) => {
            let (mut gate, now) = door.gate();
            gate.take(from, now)
        }
        None => own.take(started.elapsed()),
    };
    let mut greeted = false;
    loop {
        let request: Request = link.receive(IDLE).await?;
        let hello = matches!(request, Request::Hello { .. });
        let refusal = match () {
            () if hello == greeted => Some(Refusal::HelloFirst),
            () if !in_time() => Some(Refusal::TooFast),
            () => None,
        };
        let reply = match refusal {
            Some(refusal) => Reply::Refused(refusal),
            None => {
                let tower = tower.clone();
                let answer = move || tower.answer_from(from, &client, request);
                let answer = tokio::task::spawn_blocking(answer);
                answer.await.unwrap_or(Reply::Refused(Refusal::Trouble))
            }
        };
        greeted |= matches!(reply, Reply::Welcome(_));
        let gone = matches!(reply, Reply::Refused(Refusal::HelloFirst | Refusal::Version));
        link.send(&reply).await?;
        if gone {
            return Ok(());
        }
    }
}
