//! The connection to a daemon: its own certificate, its admin macaroon, the generated clients.

use std::path::Path;

use fulmen_proto::lnrpc::lightning_client::LightningClient;
use fulmen_proto::lnrpc::state_client::StateClient;
use fulmen_proto::lnrpc::wallet_unlocker_client::WalletUnlockerClient;
use fulmen_proto::routerrpc::router_client::RouterClient;
use fulmen_proto::tls;
use fulmen_proto::walletrpc::wallet_kit_client::WalletKitClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::service::Interceptor;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::failure::{Context, Result};

/// What calls go through.
pub type Wire = InterceptedService<Channel, Macaroon>;
/// The main service.
pub type Lightning = LightningClient<Wire>;
/// Payments followed to their end.
pub type Router = RouterClient<Wire>;

/// What is taken on chain.
pub type WalletKit = WalletKitClient<Wire>;
/// Makes and opens wallets.
pub type Unlocker = WalletUnlockerClient<Wire>;
/// How far the daemon is.
pub type State = StateClient<Wire>;

/// Puts a macaroon, or none, on each call.
#[derive(Clone, Debug)]
pub struct Macaroon(Option<MetadataValue<Ascii>>);

impl Macaroon {
    /// The one that `file` holds.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(file: &Path) -> Result<Self> {
        let bytes = std::fs::read(file).context(file.display())?;
        Ok(Macaroon(Some(hex::encode(bytes).parse()?)))
    }

    /// These bytes, whatever they are; nothing for no macaroon at all.
    ///
    /// # Errors
    /// Never for bytes: hex can always be sent.
    pub fn of(bytes: Option<&[u8]>) -> Result<Self> {
        Ok(Macaroon(bytes.map(|bytes| hex::encode(bytes).parse()).transpose()?))
    }
}

impl Interceptor for Macaroon {
    fn call(&mut self, mut request: Request<()>) -> std::result::Result<Request<()>, Status> {
        if let Some(macaroon) = &self.0 {
            request.metadata_mut().insert("macaroon", macaroon.clone());
        }
        Ok(request)
    }
}

/// Connects to `address`, trusting the certificate of the file `tls_cert` only.
///
/// # Errors
/// When there is no such file, or nobody answers with that certificate.
pub async fn connect(address: &str, tls_cert: &Path, macaroon: Macaroon) -> Result<Wire> {
    let pem = std::fs::read(tls_cert).context(tls_cert.display())?;
    let channel = tls::endpoint(address, &pem)?.connect().await.context(address)?;
    Ok(InterceptedService::new(channel, macaroon))
}
