//! The gate before every call: lnd's answers for what is not there, and the macaroon check.

use super::methods::SERVICES;
use crate::auth::Bakery;
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

/// Puts the gate before a service.
#[derive(Clone)]
pub struct GateLayer(pub Arc<Bakery>);

impl<S> tower::Layer<S> for GateLayer {
    type Service = Gate<S>;
    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner, bakery: self.0.clone() }
    }
}

/// A service behind the gate.
#[derive(Clone)]
pub struct Gate<S> {
    inner: S,
    bakery: Arc<Bakery>,
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
        match judge(&self.bakery, &request) {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err(status) => Box::pin(async move { Ok(status.into_http()) }),
        }
    }
}

fn judge(bakery: &Bakery, request: &Request<Body>) -> Result<(), Status> {
    let path = request.uri().path();
    is_built(path)?;
    let macaroons: Vec<&str> = request
        .headers()
        .get_all("macaroon")
        .iter()
        .map(|value| value.to_str().unwrap_or_default())
        .collect();
    let checked = bakery.check(&macaroons, path, SystemTime::now(), peer_of(request.extensions()));
    checked.map_err(|denied| Status::unknown(denied.to_string()))
}

/// Where a call comes from.
pub fn peer_of(extensions: &http::Extensions) -> Option<IpAddr> {
    let tls = extensions.get::<TlsConnectInfo<TcpConnectInfo>>();
    let address = tls.and_then(|info| info.get_ref().remote_addr());
    address.map(|address| address.ip())
}

/// grpc-go's words for what does not exist; lnd's code with our words for what is not built.
fn is_built(path: &str) -> Result<(), Status> {
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let (service, method) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let Some(known) = SERVICES.iter().find(|known| known.name == service) else {
        return Err(Status::new(Code::Unimplemented, format!("unknown service {service}")));
    };
    if known.built.contains(&method) {
        return Ok(());
    }
    if known.unbuilt.contains(&method) {
        return Err(Status::unknown(format!("{method} is not built into fulmen yet")));
    }
    let text = format!("unknown method {method} for service {service}");
    Err(Status::new(Code::Unimplemented, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_answered_as_lnd_and_grpc_go_do() {
        let rows = [
            ("/lnrpc.Lightning/GetInfo", None),
            ("/routerrpc.Router/SendPaymentV2", None),
            (
                "/lnrpc.Lightning/DescribeGraph",
                Some((2, "DescribeGraph is not built into fulmen yet")),
            ),
            (
                "/lnrpc.Lightning/Nonsense",
                Some((12, "unknown method Nonsense for service lnrpc.Lightning")),
            ),
            ("/walletrpc.WalletKit/ListUnspent", Some((12, "unknown service walletrpc.WalletKit"))),
            ("/", Some((12, "unknown service "))),
        ];
        for (path, wanted) in rows {
            let got = is_built(path).err();
            let got = got.as_ref().map(|status| (status.code() as i32, status.message()));
            assert_eq!(got, wanted, "{path}");
        }
    }
}
