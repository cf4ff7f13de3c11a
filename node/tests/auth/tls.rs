//! The certificate: what is in it, that it is kept, and that a client can connect with it.

use fulmen_node::auth::tls::{load_or_make, make, Names};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};
use tempfile::tempdir;
use x509_parser::prelude::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn names() -> Names {
    Names {
        host: "alice".into(),
        ips: ["10.1.2.3".parse::<IpAddr>().unwrap()].into(),
        domains: vec!["node.example".into()],
    }
}

#[test]
fn it_is_as_lnd_makes_it() {
    let made = make(&names(), SystemTime::now()).unwrap();
    let (_, pem) = parse_x509_pem(made.cert.as_bytes()).unwrap();
    let cert = pem.parse_x509().unwrap();
    let spki = cert.public_key();
    let curve = spki.algorithm.parameters.as_ref().unwrap().as_oid().unwrap();
    assert_eq!(curve.to_id_string(), "1.2.840.10045.3.1.7"); // P-256
    assert_eq!(cert.subject(), cert.issuer());
    assert!(cert.is_ca());
    let usage = cert.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && usage.key_encipherment() && usage.key_cert_sign());
    assert!(cert.extended_key_usage().unwrap().unwrap().value.server_auth);
    let validity = cert.validity().not_after.timestamp() - cert.validity().not_before.timestamp();
    assert_eq!(validity, 14 * 30 * 24 * 60 * 60);
    let san = cert.subject_alternative_name().unwrap().unwrap().value;
    let found: Vec<String> = san
        .general_names
        .iter()
        .map(|name| match name {
            GeneralName::DNSName(name) => (*name).to_owned(),
            GeneralName::IPAddress(ip) => match <[u8; 4]>::try_from(*ip) {
                Ok(ip) => IpAddr::from(ip).to_string(),
                Err(_) => IpAddr::from(<[u8; 16]>::try_from(*ip).unwrap()).to_string(),
            },
            other => panic!("{other:?}"),
        })
        .collect();
    let names = ["localhost", "unix", "unixpacket", "bufconn", "alice", "node.example"];
    assert_eq!(found, [&names[..], &["10.1.2.3", "127.0.0.1", "::1"]].concat());
}

#[test]
fn it_is_kept_until_it_expires() {
    let dir = tempdir().unwrap();
    let (cert, key) = (dir.path().join("a/tls.cert"), dir.path().join("a/tls.key"));
    let now = SystemTime::now();
    let load = |now| load_or_make(&cert, &key, &names(), now);
    let first = load(now).unwrap();
    assert!(load(now + 419 * DAY).unwrap() == first);
    let next = load(now + 421 * DAY).unwrap();
    assert!(next != first);
    assert!(load(now + 500 * DAY).unwrap() == next);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&cert), mode(&key)), (0o644, 0o600));
    }

    let refused = || load(now).err().unwrap().to_string();
    std::fs::write(&cert, &first.cert).unwrap();
    assert!(refused().contains("belongs to another certificate"), "{}", refused());
    std::fs::write(&cert, "nonsense").unwrap();
    assert!(refused().contains("no certificate in PEM"), "{}", refused());
    std::fs::remove_file(&cert).unwrap();
    assert!(refused().contains("tls.cert"), "{}", refused());
    assert_eq!(std::fs::read_to_string(&key).unwrap(), next.key, "a user's key was replaced");
}

#[tokio::test]
async fn a_client_with_the_file_connects_and_one_with_another_does_not() {
    let made = make(&Names::of_this_machine(&[], &[]), SystemTime::now()).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let identity = tonic::transport::Identity::from_pem(&made.cert, &made.key);
    let server = tonic::transport::Server::builder()
        .tls_config(tonic::transport::ServerTlsConfig::new().identity(identity))
        .unwrap()
        .add_routes(tonic::service::Routes::default())
        .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener));
    let server = tokio::spawn(server);
    let endpoint = |pem: &str| fulmen_proto::tls::endpoint(&address, pem.as_bytes()).unwrap();
    endpoint(&made.cert).connect().await.expect("refused with the right certificate");
    let other = make(&names(), SystemTime::now()).unwrap();
    endpoint(&other.cert).connect().await.expect_err("connected with another certificate");
    server.abort();
}
