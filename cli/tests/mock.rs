//! A daemon that answers from a script, over TLS with a certificate like fulmend's.

use prost::bytes::{Buf, BufMut};
use prost::Message;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose};
use std::convert::Infallible;
use std::future::Future;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::{http, tokio_stream, Pin, Service};
use tonic::metadata::MetadataMap;
use tonic::server::{Grpc, ServerStreamingService};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

/// A call as it came in.
#[derive(Clone)]
pub struct Call {
    /// /package.Service/Method
    pub path: String,
    pub metadata: MetadataMap,
    bytes: Vec<u8>,
}

impl Call {
    pub fn request<M: Message + Default>(&self) -> M {
        M::decode(self.bytes.as_slice()).unwrap()
    }
}

/// What a call is answered with: messages of a stream, or an error.
pub type Answer = Result<Vec<Vec<u8>>, Status>;
type Script = Arc<dyn Fn(&Call) -> Answer + Send + Sync>;

/// One message as an answer.
pub fn one(message: &impl Message) -> Answer {
    Ok(vec![message.encode_to_vec()])
}

/// A running daemon and its directory.
pub struct Daemon {
    pub directory: TempDir,
    pub calls: Arc<Mutex<Vec<Call>>>,
    pub port: u16,
}

/// The macaroon in the daemon's directory.
pub fn admin_macaroon() -> Vec<u8> {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("vectors/macaroons.json")).unwrap();
    hex::decode(vectors["cases"][0]["macaroon_hex"].as_str().unwrap()).unwrap()
}

/// A certificate and its key in PEM: signed by itself and marked as an authority.
pub fn certificate() -> (String, String) {
    let names = ["localhost", "unix", "127.0.0.1", "::1"].map(String::from);
    let mut params = CertificateParams::new(names).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// Starts a daemon that answers as `script` says.
pub async fn start(script: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Daemon {
    let directory = tempfile::tempdir().unwrap();
    let (cert, key) = certificate();
    std::fs::write(directory.path().join("tls.cert"), &cert).unwrap();
    let macaroons = directory.path().join("data/chain/bitcoin/regtest");
    std::fs::create_dir_all(&macaroons).unwrap();
    std::fs::write(macaroons.join("admin.macaroon"), admin_macaroon()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let calls = Arc::default();
    let service = Playback { script: Arc::new(script), calls: Arc::clone(&calls) };
    let tls = ServerTlsConfig::new().identity(Identity::from_pem(cert, key));
    let server = Server::builder().tls_config(tls).unwrap();
    let incoming = TcpIncoming::from(listener);
    tokio::spawn(async move {
        server.serve_with_incoming_shutdown(service, incoming, std::future::pending()).await
    });
    Daemon { directory, calls, port }
}

/// How fulmen-cli ended.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Daemon {
    /// Runs fulmen-cli against this daemon.
    pub async fn cli(&self, line: &str) -> Ended {
        self.cli_with_input(line, "").await
    }

    /// Runs fulmen-cli against this daemon with `input` on its standard input.
    pub async fn cli_with_input(&self, line: &str, input: &str) -> Ended {
        run(&self.words(line), input).await
    }

    /// A command line against this daemon.
    pub fn words(&self, line: &str) -> Vec<String> {
        let directory = format!("--fulmendir={}", self.directory.path().display());
        let server = format!("--rpcserver=localhost:{}", self.port);
        let words = [directory, server, "--network=regtest".into()].into_iter();
        words.chain(line.split_whitespace().map(str::to_owned)).collect()
    }

    /// The paths called, in order.
    pub fn paths(&self) -> Vec<String> {
        self.calls.lock().unwrap().iter().map(|call| call.path.clone()).collect()
    }

    pub fn call(&self, index: usize) -> Call {
        self.calls.lock().unwrap()[index].clone()
    }
}

/// Runs fulmen-cli.
pub async fn run(words: &[String], input: &str) -> Ended {
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_fulmen-cli"))
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let _ = stdin.write_all(input.as_bytes()).await; // it may have ended without reading
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[derive(Clone)]
struct Playback {
    script: Script,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Service<http::Request<Body>> for Playback {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = Method { path: request.uri().path().to_owned(), playback: self.clone() };
        Box::pin(async move { Ok(Grpc::new(Raw).server_streaming(method, request).await) })
    }
}

struct Method {
    path: String,
    playback: Playback,
}

impl ServerStreamingService<Vec<u8>> for Method {
    type Response = Vec<u8>;
    type ResponseStream = tokio_stream::Iter<std::vec::IntoIter<Result<Vec<u8>, Status>>>;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Vec<u8>>) -> Self::Future {
        let metadata = request.metadata().clone();
        let call = Call { path: self.path.clone(), metadata, bytes: request.into_inner() };
        self.playback.calls.lock().unwrap().push(call.clone());
        std::future::ready((self.playback.script)(&call).map(|messages| {
            let messages: Vec<_> = messages.into_iter().map(Ok).collect();
            Response::new(tokio_stream::iter(messages))
        }))
    }
}

/// Messages as their bytes.
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Raw;
    type Decoder = Raw;
    fn encoder(&mut self) -> Raw {
        Raw
    }
    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn encode(&mut self, item: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn decode(&mut self, input: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; input.remaining()];
        input.copy_to_slice(&mut bytes);
        Ok(Some(bytes))
    }
}
