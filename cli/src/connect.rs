//! The connection to fulmend: TLS that trusts one certificate, and a macaroon for each call.

use crate::args::Global;
use crate::error::CliError;
use crate::macaroon::add_caveat;
use fulmen_proto::lnrpc::lightning_client::LightningClient;
use fulmen_proto::routerrpc::router_client::RouterClient;
use fulmen_proto::tls::{self, TlsError};
use std::error::Error;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use time::format_description::well_known::Rfc3339;
use time::OffsetDateTime;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::{interceptor::InterceptedService, Interceptor};
use tonic::transport::Channel;
use tonic::{Request, Status};

/// As large as the answers that the daemon may send: 200 MiB.
const LARGEST_ANSWER: usize = 200 << 20;
const DEFAULT_PORT: u16 = 10009;

/// A connection that shows our macaroon at each call.
type Wire = InterceptedService<Channel, Credentials>;

/// The main service.
pub type Lightning = LightningClient<Wire>;
/// The service for payments.
pub type Router = RouterClient<Wire>;

/// fulmend, ready to be called.
pub struct Node {
    /// Node, wallet, channels, invoices.
    pub lightning: Lightning,
    /// Payments.
    pub router: Router,
}

/// Connects as the global flags say.
///
/// # Errors
/// A file cannot be read, or nobody answers, or somebody with another certificate.
pub async fn connect(global: &Global) -> Result<Node, CliError> {
    let credentials = Credentials::read(global)?;
    let directory = home(&global.fulmendir);
    let certificate = match &global.tlscertpath {
        Some(path) => home(path),
        None => directory.join("tls.cert"),
    };
    let server = match global.rpcserver.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => global.rpcserver.clone(),
        _ => format!("{}:{DEFAULT_PORT}", global.rpcserver),
    };
    let unreachable = |e: tonic::transport::Error| {
        let cause = root(&e);
        let certificate = certificate.display();
        CliError::text(format!(
            "cannot reach fulmend at {server}: {cause}. Is it running, with {certificate}?"
        ))
    };
    let pem = read(&certificate, "certificate")?;
    let endpoint = tls::endpoint(&server, &pem).map_err(|wrong| match wrong {
        TlsError::NoCertificate => {
            CliError::text(format!("{} holds no certificate in PEM", certificate.display()))
        }
        TlsError::Address(wrong) => unreachable(wrong),
    })?;
    let wire = InterceptedService::new(endpoint.connect().await.map_err(unreachable)?, credentials);
    Ok(Node {
        lightning: Lightning::new(wire.clone()).max_decoding_message_size(LARGEST_ANSWER),
        router: Router::new(wire).max_decoding_message_size(LARGEST_ANSWER),
    })
}

/// The innermost cause of an error.
fn root<'a>(mut error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

/// `path` with a leading `~` replaced by the user's home directory.
fn home(path: &str) -> PathBuf {
    match (path.strip_prefix('~'), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest.trim_start_matches('/')),
        _ => PathBuf::from(path),
    }
}

fn read(path: &Path, what: &str) -> Result<Vec<u8>, CliError> {
    let wrong = |e| CliError::text(format!("cannot read the {what} {}: {e}", path.display()));
    std::fs::read(path).map_err(wrong)
}

/// The macaroon to show, narrowed anew for each call.
#[derive(Clone)]
pub struct Credentials {
    /// Binary; none with --no-macaroons.
    macaroon: Option<Vec<u8>>,
    lifetime: time::Duration,
    address: Option<IpAddr>,
}

impl Credentials {
    fn read(global: &Global) -> Result<Self, CliError> {
        let path = match &global.macaroonpath {
            Some(path) => home(path),
            None => home(&global.fulmendir)
                .join("data/chain")
                .join(&global.chain)
                .join(&global.network)
                .join("admin.macaroon"),
        };
        let macaroon = match global.no_macaroons {
            true => None,
            false => Some(read(&path, "macaroon")?),
        };
        let lifetime = time::Duration::seconds(global.macaroontimeout);
        Ok(Self { macaroon, lifetime, address: global.macaroonip })
    }

    /// The macaroon as it is sent at `now`: hex, with its caveats.
    fn narrowed(&self, macaroon: &[u8], now: OffsetDateTime) -> Option<MetadataValue<Ascii>> {
        let until = now.checked_add(self.lifetime)?.format(&Rfc3339).ok()?;
        let mut macaroon = add_caveat(macaroon, &format!("time-before {until}"))?;
        if let Some(address) = self.address {
            macaroon = add_caveat(&macaroon, &format!("ipaddr {address}"))?;
        }
        hex::encode(macaroon).parse().ok()
    }
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(macaroon) = &self.macaroon {
            let narrowed = self.narrowed(macaroon, OffsetDateTime::now_utc());
            let wrong = || Status::unauthenticated("the macaroon file holds no macaroon");
            request.metadata_mut().insert("macaroon", narrowed.ok_or_else(wrong)?);
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_macaroon_is_sent_with_its_end_and_its_address() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../tests/vectors/macaroons.json")).unwrap();
        let case = &vectors["cases"][0];
        let macaroon = hex::decode(case["macaroon_hex"].as_str().unwrap()).unwrap();
        let mut credentials =
            Credentials { macaroon: None, lifetime: time::Duration::seconds(60), address: None };
        // 2030-01-02 03:03:05.123456789 UTC, a minute before the vector's caveat
        let now = OffsetDateTime::from_unix_timestamp_nanos(1_893_553_385_123_456_789).unwrap();
        let sent = credentials.narrowed(&macaroon, now).unwrap();
        assert_eq!(sent.to_str().unwrap(), case["with_time_before"]);
        credentials.address = Some("127.0.0.1".parse().unwrap());
        let sent = credentials.narrowed(&macaroon, now).unwrap();
        assert_eq!(sent.to_str().unwrap(), case["with_time_before_and_ipaddr"]);
    }
}
