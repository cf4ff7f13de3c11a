//! The face: LND's interface over gRPC with TLS and macaroons.
//!
//! ```text
//!   TLS ─▶ gate ─┬▶ state, unlocker           at all times
//!                └▶ lightning, router … ─▶ calls   once the wallet is open
//!          is it there,   one line     a file each
//!          now, for them  a method
//! ```

pub mod calls;
mod channels;
mod front;
mod gate;
mod lightning;
mod methods;
mod router;
mod state;
mod towers;
mod unlocker;
mod versioner;
mod wallet_kit;

pub use front::Front;

use crate::auth::tls;
use crate::config::Config;
use crate::node::Node;
use crate::unlock::Unlocker;
use fulmen_proto::fulmenrpc::{channels_server::ChannelsServer, towers_server::TowersServer};
use fulmen_proto::lnrpc::lightning_server::LightningServer;
use fulmen_proto::lnrpc::state_server::StateServer;
use fulmen_proto::lnrpc::wallet_unlocker_server::WalletUnlockerServer;
use fulmen_proto::routerrpc::router_server::RouterServer;
use fulmen_proto::verrpc::versioner_server::VersionerServer;
use fulmen_proto::walletrpc::wallet_kit_server::WalletKitServer;
use fulmen_proto::watchtowerrpc::watchtower_server::WatchtowerServer;
use fulmen_proto::wtclientrpc::watchtower_client_server::WatchtowerClientServer;
use gate::GateLayer;
use state::State;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::Stream;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::Status;
use unlocker::WalletUnlocker;
use versioner::Versioner;

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

/// Serves the API on every address of the configuration: at first the services that answer at all
/// times, and behind `front` the node's once they are there.
///
/// # Errors
/// What is wrong with the certificate or an address.
pub async fn serve(
    config: &Config,
    front: &Arc<Front>,
    unlocker: Unlocker,
) -> Result<Served, String> {
    let identity = identity(config).await?;
    let stop = watch::Sender::new(false);
    let (mut tasks, mut addresses) = (Vec::new(), Vec::new());
    for address in &config.rpc_listen {
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|e| format!("cannot serve gRPC on {address}: {e}"))?;
        addresses.push(listener.local_addr().map_err(|e| e.to_string())?);
        // Without this each small answer waits 40 ms for the one before to be acknowledged.
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let mut stopped = stop.subscribe();
        let server = Server::builder()
            .tls_config(ServerTlsConfig::new().identity(identity.clone()))
            .map_err(|error| format!("the TLS certificate cannot be used: {error}"))?
            .layer(GateLayer(front.clone()))
            .add_service(StateServer::new(State { front: front.clone() }))
            .add_service(WalletUnlockerServer::new(WalletUnlocker { unlocker: unlocker.clone() }))
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

/// The node's services.
pub fn routes(node: &Arc<Node>) -> Routes {
    let lightning = LightningServer::new(lightning::Lightning { node: node.clone() })
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let router = RouterServer::new(router::Router { node: node.clone() })
        .max_decoding_message_size(MAX_MESSAGE);
    let channels = ChannelsServer::new(channels::Channels { node: node.clone() });
    let wallet_kit = WalletKitServer::new(wallet_kit::WalletKit { node: node.clone() });
    Routes::new(lightning)
        .add_service(router)
        .add_service(channels)
        .add_service(wallet_kit)
        .add_service(WatchtowerClientServer::new(towers::Towers { node: node.clone() }))
        .add_service(WatchtowerServer::new(towers::Towers { node: node.clone() }))
        .add_service(TowersServer::new(towers::Towers { node: node.clone() }))
        .add_service(VersionerServer::new(Versioner))
}

async fn identity(config: &Config) -> Result<Identity, String> {
    let config = config.clone();
    let made = tokio::task::spawn_blocking(move || {
        let names = tls::Names::of_this_machine(&config.tls_extra_ips, &config.tls_extra_domains);
        let (cert, key) = (config.tls_cert_path(), config.tls_key_path());
        tls::load_or_make(&cert, &key, &names, SystemTime::now())
    });
    let made = made.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    Ok(Identity::from_pem(made.cert, made.key))
}
