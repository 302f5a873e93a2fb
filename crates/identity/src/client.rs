//! TLS towards a master.

use crate::{certificate::spki_fingerprint, error::IdentityError, key::NodeKey, provider};
use arc_swap::ArcSwap;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        ResolvesClientCert, Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls13_signature},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tonic::transport::{Channel, Endpoint};
use windlass_types::Fingerprint;

/// Which masters to believe.
#[derive(Debug, Clone)]
pub enum Trust {
    /// The authority whose public key has this SHA-256. The master sends its authority's
    /// certificate along, so the fingerprint is all a new node or operator needs.
    Pin(Fingerprint),
    /// These authorities.
    Authorities(Vec<CertificateDer<'static>>),
}

/// The certificate and key a client shows. It can be swapped while connections are open; new
/// connections show the new one.
#[derive(Debug)]
pub struct ClientIdentity(ArcSwap<CertifiedKey>);

impl ClientIdentity {
    /// Put certificate and key together.
    ///
    /// # Errors
    /// If they do not belong together.
    pub fn new(chain_pem: &str, key: &NodeKey) -> Result<Arc<Self>, IdentityError> {
        Ok(Arc::new(ClientIdentity(ArcSwap::new(certified(chain_pem, key)?))))
    }
    /// Show another certificate from the next connection on.
    ///
    /// # Errors
    /// If certificate and key do not belong together.
    pub fn set(&self, chain_pem: &str, key: &NodeKey) -> Result<(), IdentityError> {
        self.0.store(certified(chain_pem, key)?);
        Ok(())
    }
}

pub(crate) fn certified(chain_pem: &str, key: &NodeKey) -> Result<Arc<CertifiedKey>, IdentityError> {
    let chain = crate::certificate::certificates_from_pem(chain_pem)?;
    Ok(Arc::new(CertifiedKey::from_der(chain, key.der(), &provider())?))
}

impl ResolvesClientCert for ClientIdentity {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
    fn has_certs(&self) -> bool {
        true
    }
}

/// TLS configuration of a client.
///
/// `alpn` is `["h2"]` for gRPC; for HTTP name what the HTTP client speaks.
///
/// # Errors
/// If an authority is not a certificate.
pub fn client_config(
    trust: &Trust,
    identity: Option<Arc<ClientIdentity>>,
    alpn: &[&str],
) -> Result<ClientConfig, IdentityError> {
    let builder =
        ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13])?;
    let builder = match trust {
        Trust::Authorities(certificates) => builder.with_root_certificates(roots(certificates)?),
        Trust::Pin(pin) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(PinVerifier { pin: *pin, provider: provider() })),
    };
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(identity),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    config.resumption = Resumption::disabled();
    Ok(config)
}

pub(crate) fn roots(certificates: &[CertificateDer<'static>]) -> Result<RootCertStore, IdentityError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.clone())?;
    }
    Ok(roots)
}

/// Believes a chain that ends in the pinned authority, and checks everything else about it
/// (signature, validity, name) as usual.
#[derive(Debug)]
struct PinVerifier {
    pin: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let authority = intermediates
            .iter()
            .find(|certificate| {
                spki_fingerprint(certificate).is_ok_and(|fingerprint| fingerprint == self.pin)
            })
            .ok_or(CertificateError::UnknownIssuer)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// How a [`channel`] behaves.
#[derive(Debug, Clone)]
pub struct ChannelOptions {
    /// Dial this address instead of looking up the host name; the name is still the one checked.
    pub dial: Option<SocketAddr>,
    /// Limit for connecting and for the handshake, each.
    pub connect_timeout: Duration,
    /// HTTP/2 ping when idle this long; finds dead connections below the application's heartbeat.
    pub keep_alive: Duration,
    /// Bytes that may be under way: of one stream, and of all together. HTTP/2's own 64 KiB unless told.
    pub windows: Option<(u32, u32)>,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        ChannelOptions {
            dial: None,
            connect_timeout: Duration::from_secs(5),
            keep_alive: Duration::from_secs(20),
            windows: None,
        }
    }
}

/// A gRPC channel to `address` (`host:port`). It connects at the first call.
///
/// # Errors
/// If the address is not `host:port`.
pub fn channel(
    address: &str,
    config: Arc<ClientConfig>,
    options: &ChannelOptions,
) -> Result<Channel, IdentityError> {
    let bad = || IdentityError::Address(address.to_owned());
    let (host, port) = address.rsplit_once(':').ok_or_else(bad)?;
    let port: u16 = port.parse().map_err(|_| bad())?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host.clone()).map_err(|_| bad())?;
    let connector = tokio_rustls::TlsConnector::from(config);
    let ChannelOptions { dial, connect_timeout, keep_alive, windows } = options.clone();
    let connect = tower::service_fn(move |_uri: http::Uri| {
        let (connector, name, host) = (connector.clone(), name.clone(), host.clone());
        async move {
            let late = |what: &str| {
                std::io::Error::new(std::io::ErrorKind::TimedOut, format!("{what} took too long"))
            };
            let dialled = async {
                match dial {
                    Some(address) => tokio::net::TcpStream::connect(address).await,
                    None => tokio::net::TcpStream::connect((host.as_str(), port)).await,
                }
            };
            let tcp =
                tokio::time::timeout(connect_timeout, dialled).await.map_err(|_| late("connecting"))??;
            tcp.set_nodelay(true)?;
            let tls = tokio::time::timeout(connect_timeout, connector.connect(name, tcp))
                .await
                .map_err(|_| late("the tls handshake"))??;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(tls))
        }
    });
    // The scheme is `http` since the connector brings TLS; with `https` tonic would add its own.
    Ok(Endpoint::from_shared(format!("http://windlass:{port}"))
        .map_err(|_| bad())?
        .http2_keep_alive_interval(keep_alive)
        .keep_alive_timeout(connect_timeout)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(windows.map(|(stream, _)| stream))
        .initial_connection_window_size(windows.map(|(_, connection)| connection))
        .connect_with_connector_lazy(connect))
}
