//! Whom to believe: an authority by its fingerprint, or by its certificate.

use super::ClientError;
use rustls::{
    CertificateError, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::sync::{Arc, Mutex};
use windlass_identity::{Trust, client_config, read_certificate};
use windlass_types::Fingerprint;

/// What reqwest speaks over it, best first.
const ALPN: [&str; 2] = ["h2", "http/1.1"];

/// TLS that believes this authority.
pub fn config(trust: &Trust) -> Result<rustls::ClientConfig, ClientError> {
    Ok(client_config(trust, None, &ALPN)?)
}

/// The fingerprint of the authority that a master shows: the last certificate of its chain.
///
/// Nothing is believed and nothing is sent: the handshake is broken off as soon as the chain is
/// seen. The person compares the fingerprint with what the master printed.
pub async fn shown_authority(url: &reqwest::Url) -> Result<Fingerprint, ClientError> {
    let look = Arc::new(Look::default());
    // Any trust will do: its verifier is replaced.
    let mut config = client_config(&Trust::Pin(Fingerprint::of(b"")), None, &ALPN)?;
    config.dangerous().set_certificate_verifier(look.clone());
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        .connect_timeout(super::CONNECT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .map_err(ClientError::Setup)?;
    let error = http.get(url.clone()).send().await.err();
    let seen = look.0.lock().expect("no panic while held").take();
    match (seen, error) {
        (Some(certificate), _) => Ok(read_certificate(&certificate)?.fingerprint),
        (None, Some(error)) => Err(ClientError::unreachable(url.as_str().trim_end_matches('/'), error)),
        // The verifier lets no handshake through.
        (None, None) => unreachable!("a request went through without a verified certificate"),
    }
}

/// Remembers the last certificate of the chain and believes nothing.
#[derive(Debug, Default)]
struct Look(Mutex<Option<CertificateDer<'static>>>);

impl ServerCertVerifier for Look {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let last = intermediates.last().unwrap_or(end_entity).clone().into_owned();
        *self.0.lock().expect("no panic while held") = Some(last);
        Err(CertificateError::UnknownIssuer.into())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(CertificateError::UnknownIssuer.into())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
