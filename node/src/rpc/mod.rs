//! The face: LND's interface over gRPC with TLS and macaroons.
//!
//! ```text
//!   TLS ─▶ gate ─▶ lightning, router ─▶ calls
//!          is it there,   one line     a file each
//!          may they       a method
//! ```

pub mod calls;
mod gate;
mod lightning;
mod methods;
mod router;

use crate::auth::{tls, Bakery};
use crate::node::Node;
use fulmen_proto::lnrpc::lightning_server::LightningServer;
use fulmen_proto::routerrpc::router_server::RouterServer;
use gate::GateLayer;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::Stream;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::Status;

/// The largest message taken, as lnd.
const MAX_MESSAGE: usize = 200 * 1024 * 1024;

/// A stream of answers.
pub type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A stream of what comes through a channel.
fn answers<T: Send + 'static>(
    receiver: tokio::sync::mpsc::Receiver<Result<T, Status>>,
) -> Answers<T> {
    Box::pin(ReceiverStream::new(receiver))
}

/// What serves; stops when told.
pub struct Served {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    /// Where it is served.
    pub addresses: Vec<SocketAddr>,
}

impl Served {
    /// Stops serving. Calls under way are cut off: some of them never end.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            task.abort();
            // Aborted or over: both are what was wanted.
            let _ = task.await;
        }
    }
}

/// Serves the API on every address of the configuration.
///
/// # Errors
/// What is wrong with the certificate, the macaroons or an address.
pub async fn serve(node: Arc<Node>, macaroons: &Path) -> Result<Served, String> {
    let identity = identity(&node).await?;
    let bakery = bakery(&node, macaroons).await?;
    let stop = watch::Sender::new(false);
    let (mut tasks, mut addresses) = (Vec::new(), Vec::new());
    for address in &node.config.rpc_listen {
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|e| format!("cannot serve gRPC on {address}: {e}"))?;
        addresses.push(listener.local_addr().map_err(|e| e.to_string())?);
        // Without this each small answer waits 40 ms for the one before to be acknowledged.
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let lightning = LightningServer::new(lightning::Lightning {
            node: node.clone(),
            bakery: bakery.clone(),
        })
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
        let router = RouterServer::new(router::Router { node: node.clone() })
            .max_decoding_message_size(MAX_MESSAGE);
        let mut stopped = stop.subscribe();
        let server = Server::builder()
            .tls_config(ServerTlsConfig::new().identity(identity.clone()))
            .map_err(|error| format!("the TLS certificate cannot be used: {error}"))?
            .layer(GateLayer(bakery.clone()))
            .add_service(lightning)
            .add_service(router)
            .serve_with_incoming_shutdown(incoming, async move {
                // An error means that nobody can tell any more: stop as well.
                let _ = stopped.wait_for(|stop| *stop).await;
            });
        tasks.push(tokio::spawn(async move {
            if let Err(error) = server.await {
                tracing::error!("gRPC is no longer served: {error}");
            }
        }));
    }
    for address in &addresses {
        tracing::info!("gRPC is served on {address}");
    }
    Ok(Served { stop, tasks, addresses })
}

async fn identity(node: &Node) -> Result<Identity, String> {
    let config = node.config.clone();
    let made = tokio::task::spawn_blocking(move || {
        let names = tls::Names::of_this_machine(&config.tls_extra_ips, &config.tls_extra_domains);
        let (cert, key) = (config.tls_cert_path(), config.tls_key_path());
        tls::load_or_make(&cert, &key, &names, SystemTime::now())
    });
    let made = made.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    Ok(Identity::from_pem(made.cert, made.key))
}

async fn bakery(node: &Node, directory: &Path) -> Result<Arc<Bakery>, String> {
    let (store, key) = (node.services.store.clone(), node.services.keys.storage_key());
    let directory = directory.to_owned();
    let opened = tokio::task::spawn_blocking(move || {
        let bakery = Bakery::open(&store, &key)?;
        bakery.write_files(&directory)?;
        Ok::<_, crate::auth::BakeryError>(bakery)
    });
    let bakery = opened.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    Ok(Arc::new(bakery))
}
