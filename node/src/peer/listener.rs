//! Sockets that others connect to. Only so many handshakes run at once: whoever comes then waits in
//! the system's queue.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::connection::{self, Role};
use super::Inner;

/// How many inbound connections may be between accept and init.
const HANDSHAKES: usize = 256;
/// How long to wait when the system cannot accept, as when it is out of file descriptors.
const RETRY: Duration = Duration::from_millis(200);

/// Opens the sockets, all or none.
///
/// # Errors
/// The system's, naming the address.
pub(super) async fn bind(addresses: &[SocketAddr]) -> io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        let listener = TcpListener::bind(address).await.map_err(|e| {
            io::Error::new(e.kind(), format!("cannot listen for peers on {address}: {e}"))
        })?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Accepts connections until the node stops.
pub(super) async fn accept(inner: Arc<Inner>, listener: TcpListener, handshakes: Arc<Semaphore>) {
    let mut stop = inner.stop.subscribe();
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            accepted = async {
                // Never closed, so it cannot fail.
                let slot = handshakes.clone().acquire_owned().await.ok();
                (listener.accept().await, slot)
            } => accepted,
        };
        match accepted {
            (Ok((stream, address)), slot) => {
                let connection = connection::run(
                    inner.clone(),
                    stream,
                    Role::Responder { _slot: slot },
                    address,
                    None,
                );
                inner.spawn(connection);
            }
            (Err(e), _) => {
                tracing::warn!("cannot accept a peer: {e}");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// The slots that all listeners share.
pub(super) fn handshake_slots() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(HANDSHAKES))
}
