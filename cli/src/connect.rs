//! The connection to fulmend: TLS that trusts one certificate, and a macaroon for each call.

use crate::args::Global;
use crate::error::CliError;
use crate::macaroon::add_caveat;
use fulmen_proto::lnrpc::lightning_client::LightningClient;
use fulmen_proto::routerrpc::router_client::RouterClient;
use std::error::Error;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use time::format_description::well_known::Rfc3339;
use time::OffsetDateTime;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    ring, verify_tls12_signature, verify_tls13_signature, WebPkiSupportedAlgorithms,
};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{self, CertificateError, DigitallySignedStruct, SignatureScheme};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::{interceptor::InterceptedService, Interceptor};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
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
    let verifier = Arc::new(OneCertificate::read(&certificate)?);
    let tls = ClientTlsConfig::new().domain_name("localhost");
    let endpoint = Endpoint::from_shared(format!("https://{server}"))
        .and_then(|endpoint| endpoint.tls_config_with_verifier(tls, verifier))
        .map_err(unreachable)?;
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

/// Trusts the certificates of one file and nothing else.
///
/// fulmend's certificate signs itself and is marked as an authority, which the usual check refuses
/// at a server's end. It is compared byte for byte instead; whoever holds its key is our daemon, so
/// names and dates need no look.
#[derive(Debug)]
struct OneCertificate {
    trusted: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl OneCertificate {
    fn read(path: &Path) -> Result<Self, CliError> {
        let pem = read(path, "certificate")?;
        let wrong = || CliError::text(format!("{} holds no certificate in PEM", path.display()));
        let trusted: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let trusted = trusted.ok().filter(|t| !t.is_empty()).ok_or_else(wrong)?;
        let algorithms = ring::default_provider().signature_verification_algorithms;
        Ok(Self { trusted, algorithms })
    }
}

impl ServerCertVerifier for OneCertificate {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.trusted.iter().any(|trusted| trusted == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
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
