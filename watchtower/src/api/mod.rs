//! The tower's door: connections, each with its pace, its time and its turn.

pub mod link;
pub mod message;

use crate::gatekeeper::Bucket;
use crate::tower::Tower;
use link::{Link, LinkError};
use message::{Refusal, Reply, Request};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{watch, Semaphore};

/// A connection on which nothing is asked for so long is closed.
const IDLE: Duration = Duration::from_secs(120);
/// How long to wait when the system cannot accept, as when it is out of file descriptors.
const RETRY: Duration = Duration::from_millis(200);

/// How many connections each address has.
#[derive(Clone, Default)]
struct Addresses(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One of them, given back when dropped.
struct Place(Addresses, IpAddr);

impl Addresses {
    fn enter(&self, address: IpAddr, at_most: usize) -> Option<Place> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(address).or_insert(0);
        if *count >= at_most {
            return None;
        }
        *count = count.saturating_add(1);
        Some(Place(self.clone(), address))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.0 .0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.1) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                all.remove(&self.1);
            }
        }
    }
}

/// Serves clients until `stop`.
pub async fn serve(tower: Arc<Tower>, listener: TcpListener, mut stop: watch::Receiver<bool>) {
    let limits = tower.setup().limits;
    let connections = Arc::new(Semaphore::new(limits.max_connections));
    let addresses = Addresses::default();
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
        let Some(place) = addresses.enter(address.ip(), limits.max_per_address) else { continue };
        let tower = tower.clone();
        tokio::spawn(async move {
            if let Err(error) = client(tower, stream).await {
                tracing::debug!("client at {address}: {error}");
            }
            drop((slot, place));
        });
    }
}

async fn client(tower: Arc<Tower>, stream: TcpStream) -> Result<(), LinkError> {
    let (mut link, client) = Link::accept(stream, &tower.setup().secret).await?;
    let (started, mut bucket) = (Instant::now(), Bucket::new(&tower.setup().limits));
    let mut greeted = false;
    loop {
        let request: Request = link.receive(IDLE).await?;
        let hello = matches!(request, Request::Hello { .. });
        let refusal = match () {
            () if hello == greeted => Some(Refusal::HelloFirst),
            () if !bucket.take(started.elapsed()) => Some(Refusal::TooFast),
            () => None,
        };
        let reply = match refusal {
            Some(refusal) => Reply::Refused(refusal),
            None => {
                let tower = tower.clone();
                let answer = tokio::task::spawn_blocking(move || tower.answer(&client, request));
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
