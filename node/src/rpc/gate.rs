//! The gate before every call: lnd's answers for what is not there or comes too early, and the
//! macaroon check.

use super::front::Front;
use super::methods::{self, SERVICES};
use fulmen_proto::lnrpc::WalletState;
use http::{Request, Response};
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;
use tonic::body::Body;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tonic::{Code, Status};
use tower::ServiceExt;

/// Puts the gate before the services that answer at all times.
#[derive(Clone)]
pub struct GateLayer(pub Arc<Front>);

impl<S> tower::Layer<S> for GateLayer {
    type Service = Gate<S>;
    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner, front: self.0.clone() }
    }
}

/// Those services behind the gate, and the node's once they are there.
#[derive(Clone)]
pub struct Gate<S> {
    inner: S,
    front: Arc<Front>,
}

impl<S> tower::Service<Request<Body>> for Gate<S>
where
    S: tower::Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match judge(&self.front, &request) {
            Ok(true) => Box::pin(self.inner.call(request)),
            Ok(false) => {
                let front = self.front.clone();
                Box::pin(async move { Ok(to_node(&front, request).await) })
            }
            Err(status) => Box::pin(async move { Ok(status.into_http()) }),
        }
    }
}

async fn to_node(front: &Front, request: Request<Body>) -> Response<Body> {
    let Some(routes) = front.routes().await else {
        return Status::unknown(STARTING).into_http();
    };
    match routes.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// Whether the call is for a service that answers at all times; otherwise it is for the node.
fn judge(front: &Front, request: &Request<Body>) -> Result<bool, Status> {
    let path = request.uri().path();
    let (service, method) = is_built(path)?;
    if let Some(why) = too_early(front.state(), service, method) {
        return Err(Status::unknown(why));
    }
    if methods::answers_at_all_times(service) {
        return Ok(true);
    }
    let bakery = front.bakery().ok_or_else(|| Status::unknown(STARTING))?;
    let macaroons: Vec<&str> = request
        .headers()
        .get_all("macaroon")
        .iter()
        .map(|value| value.to_str().unwrap_or_default())
        .collect();
    let checked = bakery.check(&macaroons, path, SystemTime::now(), peer_of(request.extensions()));
    checked.map(|()| false).map_err(|denied| Status::unknown(denied.to_string()))
}

/// Where a call comes from.
pub fn peer_of(extensions: &http::Extensions) -> Option<IpAddr> {
    let tls = extensions.get::<TlsConnectInfo<TcpConnectInfo>>();
    let address = tls.and_then(|info| info.get_ref().remote_addr());
    address.map(|address| address.ip())
}

/// Service and method. grpc-go's words for what does not exist; lnd's code with our words for what
/// is not built.
fn is_built(path: &str) -> Result<(&str, &str), Status> {
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let (service, method) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let Some(known) = SERVICES.iter().find(|known| known.name == service) else {
        return Err(Status::new(Code::Unimplemented, format!("unknown service {service}")));
    };
    if known.built.contains(&method) {
        return Ok((service, method));
    }
    if known.unbuilt.contains(&method) {
        return Err(Status::unknown(format!("{method} is not built into fulmen yet")));
    }
    let text = format!("unknown method {method} for service {service}");
    Err(Status::new(Code::Unimplemented, text))
}

// lnd's words, which clients look for.
const WAITING: &str = "waiting to start, RPC services not available";
const NO_WALLET: &str = "wallet not created, create one to enable full RPC access";
const LOCKED: &str = "wallet locked, unlock it to enable full RPC access";
const STARTING: &str =
    "the RPC server is in the process of starting up, but not yet ready to accept calls";
const OPEN: &str = "wallet already unlocked, WalletUnlocker service is no longer available";
const SYNCING: &str = "chain backend is still syncing, server not active yet";

/// Why a call cannot be answered in `state`, if it cannot.
fn too_early(state: WalletState, service: &str, method: &str) -> Option<&'static str> {
    use WalletState::*;
    match (service, state) {
        ("lnrpc.State", _) => None,
        (_, WaitingToStart) => Some(WAITING),
        ("lnrpc.WalletUnlocker", NonExisting | Locked) => None,
        ("lnrpc.WalletUnlocker", RpcActive | ServerActive) => Some(OPEN),
        (_, NonExisting) => Some(NO_WALLET),
        (_, Locked) => Some(LOCKED),
        // It waits until the node is there to be stopped, which is soon.
        ("lnrpc.Lightning", Unlocked) if method == "StopDaemon" => None,
        (_, Unlocked) => Some(STARTING),
        (_, RpcActive) => methods::needs_chain(service, method).then_some(SYNCING),
        (_, ServerActive) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_answered_as_lnd_and_grpc_go_do() {
        let rows = [
            ("/lnrpc.Lightning/GetInfo", None),
            ("/lnrpc.State/GetState", None),
            ("/routerrpc.Router/SendPaymentV2", None),
            (
                "/lnrpc.Lightning/DescribeGraph",
                Some((2, "DescribeGraph is not built into fulmen yet")),
            ),
            (
                "/lnrpc.Lightning/Nonsense",
                Some((12, "unknown method Nonsense for service lnrpc.Lightning")),
            ),
            ("/signrpc.Signer/SignMessage", Some((12, "unknown service signrpc.Signer"))),
            ("/", Some((12, "unknown service "))),
        ];
        for (path, wanted) in rows {
            let got = is_built(path).err();
            let got = got.as_ref().map(|status| (status.code() as i32, status.message()));
            assert_eq!(got, wanted, "{path}");
        }
    }

    #[test]
    fn what_comes_too_early_is_told_so_in_lnds_words() {
        use WalletState::*;
        let states = [WaitingToStart, NonExisting, Locked, Unlocked, RpcActive, ServerActive];
        let (wait, none, lock) = (Some(WAITING), Some(NO_WALLET), Some(LOCKED));
        let (start, open, sync) = (Some(STARTING), Some(OPEN), Some(SYNCING));
        let rows = [
            ("lnrpc.State", "GetState", [None; 6]),
            ("lnrpc.State", "SubscribeState", [None; 6]),
            ("lnrpc.WalletUnlocker", "GenSeed", [wait, None, None, start, open, open]),
            ("lnrpc.WalletUnlocker", "UnlockWallet", [wait, None, None, start, open, open]),
            ("lnrpc.Lightning", "GetInfo", [wait, none, lock, start, None, None]),
            ("lnrpc.Lightning", "GetRecoveryInfo", [wait, none, lock, start, None, None]),
            ("lnrpc.Lightning", "ListChannels", [wait, none, lock, start, None, None]),
            ("lnrpc.Lightning", "StopDaemon", [wait, none, lock, None, None, None]),
            ("lnrpc.Lightning", "OpenChannel", [wait, none, lock, start, sync, None]),
            ("lnrpc.Lightning", "ConnectPeer", [wait, none, lock, start, sync, None]),
            ("routerrpc.Router", "SendPaymentV2", [wait, none, lock, start, sync, None]),
            ("routerrpc.Router", "TrackPaymentV2", [wait, none, lock, start, None, None]),
            ("verrpc.Versioner", "GetVersion", [wait, none, lock, start, None, None]),
        ];
        for (service, method, wanted) in rows {
            let got = states.map(|state| too_early(state, service, method));
            assert_eq!(got, wanted, "{service}/{method}");
        }
    }
}
