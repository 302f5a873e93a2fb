//! One registry, one repository, one set of credentials.

use super::{Reference, RegistryError, credentials};
use crate::{cli::plugin::registry::Registry, exit::Problem};
use anyhow::{Context as _, Result};
use oci_client::{
    Client,
    client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol},
    secrets::RegistryAuth,
};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::io::AsyncWrite;
use windlass_bundle::oci::{IMAGE_TYPE, MAX_DOCUMENT_BYTES};
use windlass_types::Digest;

/// Media type of an image index.
pub const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// Limit for connecting.
const CONNECT: Duration = Duration::from_secs(5);
/// A registry that sends nothing for so long is given up on.
const READ: Duration = Duration::from_secs(60);

/// A session with a registry.
pub struct Session {
    pub client: Client,
    pub place: Reference,
    auth: RegistryAuth,
}

impl Session {
    /// A session for a place; connects at the first request.
    ///
    /// # Errors
    /// If what was given can't be used.
    pub fn new(place: &Reference, options: &Registry) -> Result<Session> {
        if options.plain_http && !place.is_loopback() {
            return Err(Problem::usage(format!("`{}` is not on this machine", place.registry))
                .hint("`--plain-http` would show bundle and password to the network; use TLS")
                .into());
        }
        let mut roots = Vec::new();
        if let Some(path) = &options.registry_ca {
            let data = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
            roots.push(Certificate { encoding: CertificateEncoding::Pem, data });
        }
        let config = ClientConfig {
            protocol: if options.plain_http { ClientProtocol::Http } else { ClientProtocol::Https },
            extra_root_certificates: roots,
            connect_timeout: Some(CONNECT),
            read_timeout: Some(READ),
            user_agent: concat!("windlass/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let client = Client::try_from(config)
            .map_err(|error| Problem::failed("cannot set up the connection").because(error))?;
        Ok(Session { client, place: place.clone(), auth: credentials::of(place, options)? })
    }

    /// To be called first: the library asks for credentials with some requests only.
    pub async fn begin(&self) {
        let registry = self.place.exact(Digest::of(b""));
        self.client.store_auth_if_needed(registry.resolve_registry(), &self.auth).await;
    }

    /// An error of the library about `what`.
    pub fn error(&self, what: &str, error: oci_client::errors::OciDistributionError) -> RegistryError {
        RegistryError::of(&self.place.registry, what, error)
    }

    /// The document that a tag or a digest names.
    pub async fn document(
        &self,
        place: &oci_client::Reference,
        what: &str,
    ) -> Result<Vec<u8>, RegistryError> {
        let found = self.client.pull_manifest_raw(place, &self.auth, &[IMAGE_TYPE, INDEX_TYPE]).await;
        let (bytes, _) = found.map_err(|error| self.error(what, error))?;
        if bytes.len() > MAX_DOCUMENT_BYTES {
            let message = format!("it has {} bytes, and {MAX_DOCUMENT_BYTES} are allowed", bytes.len());
            return Err(RegistryError::Refused { what: what.to_owned(), message });
        }
        Ok(bytes.to_vec())
    }

    /// The same, or none where the registry has none.
    pub async fn document_if_any(
        &self,
        place: &oci_client::Reference,
        what: &str,
    ) -> Result<Option<Vec<u8>>, RegistryError> {
        match self.document(place, what).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(RegistryError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Some bytes by their digest; never more than `size`.
    pub async fn blob(&self, digest: Digest, size: u64, what: &str) -> Result<Vec<u8>, RegistryError> {
        let place = self.place.exact(digest);
        let name = digest.to_string();
        let mut bytes = Bounded { bytes: Vec::new(), most: size };
        let pulled = self.client.pull_blob(&place, name.as_str(), &mut bytes).await;
        let wrong_size = |found| RegistryError::WrongSize { what: what.to_owned(), wanted: size, found };
        let found = bytes.bytes.len() as u64;
        match pulled {
            Ok(()) if found == size => {}
            Ok(()) => return Err(wrong_size(found)),
            Err(oci_client::errors::OciDistributionError::IoError(error))
                if error.get_ref().is_some_and(|inner| inner.is::<TooMany>()) =>
            {
                return Err(wrong_size(size + 1));
            }
            Err(error) => {
                return Err(match self.error(what, error) {
                    // What is missing changes the digest, too.
                    RegistryError::WrongDigest { .. } if found < size => wrong_size(found),
                    error => error,
                });
            }
        }
        let found = Digest::of(&bytes.bytes);
        if found == digest {
            return Ok(bytes.bytes);
        }
        let (wanted, found) = (digest.to_string(), found.to_string());
        Err(RegistryError::WrongDigest { what: what.to_owned(), wanted, found })
    }
}

/// Memory that takes no more than it should.
struct Bounded {
    bytes: Vec<u8>,
    most: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("more bytes than announced")]
struct TooMany;

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, more: &[u8]) -> Poll<io::Result<usize>> {
        if (self.bytes.len() + more.len()) as u64 > self.most {
            return Poll::Ready(Err(io::Error::other(TooMany)));
        }
        self.bytes.extend_from_slice(more);
        Poll::Ready(Ok(more.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
