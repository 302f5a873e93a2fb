//! TLS of a listener.

use crate::{
    certificate::{CertificateFacts, read_certificate},
    client::{certified, roots},
    error::IdentityError,
    key::NodeKey,
    provider,
};
use arc_swap::ArcSwap;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    server::{
        ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::{fmt::Debug, sync::Arc};

/// Why a peer with a valid certificate is turned away during the handshake. The peer sees only a
/// TLS alert: refuse here what must not get further, and explain the rest at the first call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerRefused {
    /// Alert `certificate_revoked`.
    Revoked,
    /// Alert `certificate_unknown`.
    Unknown,
}

/// Asked about each client certificate that our authority signed and that is in its time.
pub trait PeerCheck: Send + Sync + Debug {
    /// Let it in, or not. Runs during the handshake: it must not block.
    ///
    /// # Errors
    /// With the reason to turn the peer away.
    fn check(&self, peer: &CertificateFacts) -> Result<(), PeerRefused>;
}

/// TLS of a listener. Clones share the certificate.
#[derive(Debug, Clone)]
pub struct ServerTls {
    certificate: Arc<SwappableCertificate>,
    config: Arc<ServerConfig>,
}

impl ServerTls {
    /// TLS that proves the server only.
    ///
    /// # Errors
    /// If chain and key do not belong together.
    pub fn server_only(chain_pem: &str, key: &NodeKey, alpn: &[&str]) -> Result<Self, IdentityError> {
        Self::build(chain_pem, key, None, alpn)
    }

    /// TLS in which both sides prove themselves: clients with a certificate of `authorities` that
    /// `check` lets in.
    ///
    /// # Errors
    /// If chain and key do not belong together, or an authority is no certificate.
    pub fn mutual(
        chain_pem: &str,
        key: &NodeKey,
        authorities: &[CertificateDer<'static>],
        check: Arc<dyn PeerCheck>,
        alpn: &[&str],
    ) -> Result<Self, IdentityError> {
        let webpki = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(authorities)?), provider())
            .build()
            .map_err(|error| IdentityError::Certificate(error.to_string()))?;
        Self::build(chain_pem, key, Some(Arc::new(CheckedVerifier { webpki, check })), alpn)
    }

    fn build(
        chain_pem: &str,
        key: &NodeKey,
        verifier: Option<Arc<CheckedVerifier>>,
        alpn: &[&str],
    ) -> Result<Self, IdentityError> {
        let certificate = Arc::new(SwappableCertificate(ArcSwap::new(certified(chain_pem, key)?)));
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?;
        let mut config = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        }
        .with_cert_resolver(certificate.clone());
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        // A resumed session takes the client's chain from the ticket and skips the verifier.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(ServerTls { certificate, config: Arc::new(config) })
    }

    /// Show another certificate from the next connection on.
    ///
    /// # Errors
    /// If chain and key do not belong together.
    pub fn set_certificate(&self, chain_pem: &str, key: &NodeKey) -> Result<(), IdentityError> {
        self.certificate.0.store(certified(chain_pem, key)?);
        Ok(())
    }

    pub(crate) fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        self.config.clone().into()
    }
}

#[derive(Debug)]
struct SwappableCertificate(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for SwappableCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

#[derive(Debug)]
struct CheckedVerifier {
    webpki: Arc<dyn ClientCertVerifier>,
    check: Arc<dyn PeerCheck>,
}

impl ClientCertVerifier for CheckedVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Our hosts have one certificate and need no hint.
        &[]
    }
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.webpki.verify_client_cert(end_entity, intermediates, now)?;
        let facts = read_certificate(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        match self.check.check(&facts) {
            Ok(()) => Ok(verified),
            Err(PeerRefused::Revoked) => Err(CertificateError::Revoked.into()),
            Err(PeerRefused::Unknown) => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls12_signature(message, certificate, signed)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls13_signature(message, certificate, signed)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}
