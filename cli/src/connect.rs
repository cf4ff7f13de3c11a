//! The connection to fulmend: TLS that trusts one certificate, and a macaroon for each call.

use crate::args::Global;
use crate::error::CliError;
use crate::macaroon::add_caveat;
use crate::print::Format;
use crate::socks;
use fulmen_proto::fulmenrpc::{channels_client::ChannelsClient, towers_client::TowersClient};
use fulmen_proto::lnrpc::lightning_client::LightningClient;
use fulmen_proto::lnrpc::state_client::StateClient;
use fulmen_proto::lnrpc::wallet_unlocker_client::WalletUnlockerClient;
use fulmen_proto::routerrpc::router_client::RouterClient;
use fulmen_proto::tls::{self, TlsError};
use fulmen_proto::verrpc::versioner_client::VersionerClient;
use fulmen_proto::walletrpc::wallet_kit_client::WalletKitClient;
use fulmen_proto::watchtowerrpc::watchtower_client::WatchtowerClient as OwnTower;
use fulmen_proto::wtclientrpc::watchtower_client_client::WatchtowerClientClient;
use std::error::Error;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use time::format_description::well_known::Rfc3339;
use time::OffsetDateTime;
use tonic::metadata::{Ascii, AsciiMetadataKey, MetadataValue};
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
    /// Channels explained.
    pub channels: ChannelsClient<Wire>,
    /// Creates and opens the wallet.
    pub unlocker: WalletUnlockerClient<Wire>,
    /// How far the daemon has come.
    pub state: StateClient<Wire>,
    /// What is taken on chain.
    pub wallet_kit: WalletKitClient<Wire>,
    /// The watchtower within the daemon.
    pub watchtower: OwnTower<Wire>,
    /// The watchtowers that watch our channels.
    pub wtclient: WatchtowerClientClient<Wire>,
    /// What they cover.
    pub towers: TowersClient<Wire>,
    /// Which program it is.
    pub versioner: VersionerClient<Wire>,
    /// How answers are printed.
    pub format: Format,
}

/// Connects as the global flags say.
///
/// # Errors
/// A file cannot be read, or nobody answers, or somebody with another certificate.
pub async fn connect(global: &Global) -> Result<Node, CliError> {
    connect_with(global, Credentials::read(global)?).await
}

/// Connects without a macaroon: before there is a wallet, there is none.
///
/// # Errors
/// As [`connect`].
pub async fn connect_bare(global: &Global) -> Result<Node, CliError> {
    connect_with(global, Credentials::none(global)?).await
}

async fn connect_with(global: &Global, credentials: Credentials) -> Result<Node, CliError> {
    let directory = home(&global.fulmendir);
    let certificate = match &global.tlscertpath {
        Some(path) => home(path),
        None => directory.join("tls.cert"),
    };
    let (host, port) = match global.rpcserver.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()),
        None => (global.rpcserver.as_str(), Some(DEFAULT_PORT)),
    };
    let wrong = || CliError::text(format!("{} is no host:port", global.rpcserver));
    let port: u16 = port.ok_or_else(wrong)?;
    let server = format!("{host}:{port}");
    let pem = read(&certificate, "certificate", "Has fulmend run with this --fulmendir?")?;
    let unreachable = |e: tonic::transport::Error| unreachable(&e, &server, &certificate);
    let near = match &global.socksproxy {
        None => server.clone(),
        Some(proxy) => socks::through(proxy, host.trim_matches(['[', ']']), port)
            .await
            .map_err(|e| CliError::text(format!("no way to {server} by the proxy {proxy}: {e}")))?
            .to_string(),
    };
    let endpoint = tls::endpoint(&near, &pem).map_err(|wrong| match wrong {
        TlsError::NoCertificate => {
            CliError::text(format!("{} holds no certificate in PEM", certificate.display()))
        }
        TlsError::Address(wrong) => unreachable(wrong),
    })?;
    let wire = InterceptedService::new(endpoint.connect().await.map_err(unreachable)?, credentials);
    Ok(Node {
        lightning: Lightning::new(wire.clone()).max_decoding_message_size(LARGEST_ANSWER),
        router: Router::new(wire.clone()).max_decoding_message_size(LARGEST_ANSWER),
        channels: ChannelsClient::new(wire.clone()).max_decoding_message_size(LARGEST_ANSWER),
        unlocker: WalletUnlockerClient::new(wire.clone()),
        state: StateClient::new(wire.clone()),
        wallet_kit: WalletKitClient::new(wire.clone()),
        watchtower: OwnTower::new(wire.clone()),
        wtclient: WatchtowerClientClient::new(wire.clone()),
        towers: TowersClient::new(wire.clone()).max_decoding_message_size(LARGEST_ANSWER),
        versioner: VersionerClient::new(wire),
        format: global.format,
    })
}

/// Why no connection came about, and what to look at.
fn unreachable(error: &tonic::transport::Error, server: &str, certificate: &Path) -> CliError {
    let cause = root(error).to_string();
    let hint = if cause.contains("UnknownIssuer") || cause.contains("BadSignature") {
        format!("It shows another certificate than {}", certificate.display())
    } else if cause.contains("NotValidForName") {
        "Its certificate is not for this name: start it with --tlsextradomain or --tlsextraip"
            .into()
    } else if cause.contains("InvalidContentType") || cause.contains("InvalidMessage") {
        "Whoever listens there does not speak TLS: is this the port of --rpclisten?".into()
    } else {
        "Is it running, and is this the address of its --rpclisten?".into()
    };
    CliError::text(format!("cannot reach fulmend at {server}: {cause}. {hint}"))
}

/// The innermost cause of an error.
fn root<'a>(mut error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

/// `path` with a leading `~` replaced by the user's home directory.
pub fn home(path: &str) -> PathBuf {
    match (path.strip_prefix('~'), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest.trim_start_matches('/')),
        _ => PathBuf::from(path),
    }
}

/// A file's bytes; `hint` is what to do if there is no such file.
///
/// # Errors
/// The file cannot be read; `what` says which.
pub fn read(path: &Path, what: &str, hint: &str) -> Result<Vec<u8>, CliError> {
    std::fs::read(path).map_err(|e| {
        let hint = match e.kind() {
            std::io::ErrorKind::NotFound => format!(". {hint}"),
            _ => String::new(),
        };
        CliError::text(format!("cannot read the {what} {}: {e}{hint}", path.display()))
    })
}

/// The macaroon to show, narrowed anew for each call, and what else goes with each call.
#[derive(Clone)]
pub struct Credentials {
    /// Binary; none with --no-macaroons.
    macaroon: Option<Vec<u8>>,
    lifetime: time::Duration,
    address: Option<IpAddr>,
    metadata: Vec<(AsciiMetadataKey, MetadataValue<Ascii>)>,
}

impl Credentials {
    fn none(global: &Global) -> Result<Self, CliError> {
        let lifetime = time::Duration::seconds(global.macaroontimeout);
        let metadata: Result<_, _> = global.metadata.iter().map(|entry| header(entry)).collect();
        Ok(Self { macaroon: None, lifetime, address: global.macaroonip, metadata: metadata? })
    }

    fn read(global: &Global) -> Result<Self, CliError> {
        let path = match &global.macaroonpath {
            Some(path) => home(path),
            None => home(&global.fulmendir)
                .join("data/chain")
                .join(&global.chain)
                .join(&global.network)
                .join("admin.macaroon"),
        };
        let mut credentials = Self::none(global)?;
        if !global.no_macaroons {
            let hint = "Is --network the daemon's, and is there a wallet already? \
                        `fulmen-cli create` makes one";
            credentials.macaroon = Some(read(&path, "macaroon", hint)?);
        }
        Ok(credentials)
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

/// An entry of --metadata: key:value.
fn header(entry: &str) -> Result<(AsciiMetadataKey, MetadataValue<Ascii>), CliError> {
    let wrong = || CliError::text(format!("{entry} is no metadata: write it as key:value"));
    let (key, value) = entry.split_once(':').ok_or_else(wrong)?;
    Ok((key.to_lowercase().parse().map_err(|_| wrong())?, value.parse().map_err(|_| wrong())?))
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(macaroon) = &self.macaroon {
            let narrowed = self.narrowed(macaroon, OffsetDateTime::now_utc());
            let wrong = || Status::unauthenticated("the macaroon file holds no macaroon");
            request.metadata_mut().insert("macaroon", narrowed.ok_or_else(wrong)?);
        }
        for (key, value) in &self.metadata {
            request.metadata_mut().insert(key.clone(), value.clone());
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
        let lifetime = time::Duration::seconds(60);
        let mut credentials =
            Credentials { macaroon: None, lifetime, address: None, metadata: Vec::new() };
        // 2030-01-02 03:03:05.123456789 UTC, a minute before the vector's caveat
        let now = OffsetDateTime::from_unix_timestamp_nanos(1_893_553_385_123_456_789).unwrap();
        let sent = credentials.narrowed(&macaroon, now).unwrap();
        assert_eq!(sent.to_str().unwrap(), case["with_time_before"]);
        credentials.address = Some("127.0.0.1".parse().unwrap());
        let sent = credentials.narrowed(&macaroon, now).unwrap();
        assert_eq!(sent.to_str().unwrap(), case["with_time_before_and_ipaddr"]);
    }
}
