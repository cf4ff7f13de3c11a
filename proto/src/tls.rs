//! How a client knows its daemon: by the very certificate that the daemon wrote to `tls.cert`.

use std::sync::Arc;

use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    ring, verify_tls12_signature, verify_tls13_signature, WebPkiSupportedAlgorithms,
};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use tonic::transport::{ClientTlsConfig, Endpoint};

/// Why no endpoint can be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file holds something else.
    #[error("no certificate in PEM")]
    NoCertificate,
    /// The address cannot be one.
    #[error("the address cannot be read: {0}")]
    Address(#[from] tonic::transport::Error),
}

/// The endpoint `https://address` that must show one of the certificates in `pem`.
///
/// # Errors
/// When `pem` holds none, or `address` is no `HOST:PORT`.
pub fn endpoint(address: &str, pem: &[u8]) -> Result<Endpoint, TlsError> {
    let verifier = Arc::new(OneCertificate::from_pem(pem)?);
    let tls = ClientTlsConfig::new().domain_name("localhost");
    let endpoint = Endpoint::from_shared(format!("https://{address}"))?;
    Ok(endpoint.tls_config_with_verifier(tls, verifier)?)
}

/// Trusts the certificates of one file and nothing else.
///
/// The daemon's certificate signs itself and is marked as an authority, which the usual check
/// refuses at a server's end. It is compared byte for byte instead; whoever holds its key is our
/// daemon, so names and dates need no look.
#[derive(Debug)]
struct OneCertificate {
    trusted: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl OneCertificate {
    fn from_pem(pem: &[u8]) -> Result<Self, TlsError> {
        let trusted: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let trusted = trusted.ok().filter(|trusted| !trusted.is_empty());
        let algorithms = ring::default_provider().signature_verification_algorithms;
        Ok(Self { trusted: trusted.ok_or(TlsError::NoCertificate)?, algorithms })
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
    ) -> Result<ServerCertVerified, Error> {
        if self.trusted.iter().any(|trusted| trusted == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
