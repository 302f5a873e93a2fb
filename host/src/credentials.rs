//! Key and certificate of this node, and the authority it trusts.
//!
//! The key is made here, has mode 0600 and never leaves: what goes over the wire is a request signed
//! with it. The same key is used for renewals and for enrolling anew after the certificate ended, so
//! the fingerprint an operator compared stays true for the life of the node's state folder.

use crate::{
    config::{Authority, Config},
    files,
    journal::now_ms,
};
use rustls::{pki_types::UnixTime, server::WebPkiClientVerifier};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use windlass_identity::{
    CertificateFacts, IdentityError, NodeIdentity, NodeKey, SealingKey, Trust, certificates_from_pem,
    read_certificate, spki_fingerprint,
};

/// Why credentials are no good.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A file can't be read or written.
    #[error("cannot {action} `{}`", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A certificate that this node must not use.
    #[error("the certificate {0}")]
    Unusable(String),
}

/// The files of the state folder.
#[derive(Debug, Clone)]
pub struct Credentials {
    key_path: PathBuf,
    certificate_path: PathBuf,
    authority_path: PathBuf,
    sealing_path: PathBuf,
    trust: Trust,
}

/// A certificate with what it says.
#[derive(Debug, Clone)]
pub struct Certificate {
    pub chain_pem: String,
    pub facts: CertificateFacts,
    pub node: NodeIdentity,
}

impl Certificate {
    /// True when it has ended.
    pub fn is_expired(&self) -> bool {
        self.facts.not_after_ms <= now_ms()
    }

    /// How long until two thirds of its time have passed: when to renew it.
    pub fn renew_in(&self) -> Duration {
        let CertificateFacts { not_before_ms, not_after_ms, .. } = self.facts;
        let lifetime = not_after_ms.saturating_sub(not_before_ms).max(0);
        let due = not_before_ms.saturating_add(lifetime / 3 * 2);
        Duration::from_millis(u64::try_from(due.saturating_sub(now_ms())).unwrap_or(0))
    }
}

impl Credentials {
    /// Of the node that `config` describes.
    ///
    /// # Errors
    /// If the authority's file can't be read.
    pub fn new(config: &Config) -> Result<Self, CredentialError> {
        Ok(Credentials {
            key_path: config.state_dir.join("node.key"),
            certificate_path: config.state_dir.join("node.crt"),
            authority_path: config.state_dir.join("ca.crt"),
            sealing_path: config.state_dir.join("sealing.key"),
            trust: trust(&config.authority)?,
        })
    }

    /// The key that opens the secrets of this node; made at the first call. It outlives every certificate,
    /// so that what was accepted before a renewal can be opened after it.
    ///
    /// # Errors
    /// If it can't be used or made.
    pub fn sealing_key(&self) -> Result<SealingKey, CredentialError> {
        Ok(SealingKey::load_or_make(&self.sealing_path)?)
    }

    /// Which masters to believe.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Where the key is.
    pub fn key_path(&self) -> &Path {
        &self.key_path
    }

    /// The key, if there is one.
    ///
    /// # Errors
    /// If it is there and can't be used.
    pub fn load_key(&self) -> Result<Option<NodeKey>, CredentialError> {
        match NodeKey::load(&self.key_path) {
            Ok(key) => Ok(Some(key)),
            Err(IdentityError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The key; made at the first call on a node.
    ///
    /// # Errors
    /// If it can't be used or made.
    pub fn key(&self) -> Result<NodeKey, CredentialError> {
        if let Some(key) = self.load_key()? {
            return Ok(key);
        }
        if let Some(folder) = self.key_path.parent() {
            files::private_dir(folder).map_err(|source| CredentialError::File {
                action: "make",
                path: folder.to_owned(),
                source,
            })?;
        }
        let key = NodeKey::generate()?;
        key.save(&self.key_path)?;
        tracing::info!(fingerprint = %key.fingerprint(), "made the key of this node");
        Ok(key)
    }

    /// The stored certificate, if there is one and it belongs to `key`. It may have expired.
    ///
    /// # Errors
    /// If it is there and can't be used.
    pub fn certificate(&self, key: &NodeKey) -> Result<Option<Certificate>, CredentialError> {
        let chain_pem = match std::fs::read_to_string(&self.certificate_path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                let path = self.certificate_path.clone();
                return Err(CredentialError::File { action: "read", path, source });
            }
        };
        certificate(&chain_pem, key).map(Some)
    }

    /// Check a certificate that a master sent, and keep it.
    ///
    /// # Errors
    /// If it is not for this node's key, not from the trusted authority, or can't be written.
    pub fn store(
        &self,
        chain_pem: &str,
        ca_pem: &str,
        key: &NodeKey,
    ) -> Result<Certificate, CredentialError> {
        let certificate = certificate(chain_pem, key)?;
        self.verify(chain_pem, ca_pem)?;
        let write =
            |path: &Path, text: &str| {
                files::write_atomically(path, text.as_bytes(), 0o600).map_err(|source| {
                    CredentialError::File { action: "write", path: path.to_owned(), source }
                })
            };
        write(&self.authority_path, ca_pem)?;
        write(&self.certificate_path, chain_pem)?;
        Ok(certificate)
    }

    /// Forget the certificate: the node will ask for a new one.
    ///
    /// # Errors
    /// If it can't be removed.
    pub fn forget(&self) -> Result<(), CredentialError> {
        match std::fs::remove_file(&self.certificate_path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                let path = self.certificate_path.clone();
                Err(CredentialError::File { action: "remove", path, source })
            }
            _ => Ok(()),
        }
    }

    /// The chain must end in the trusted authority.
    fn verify(&self, chain_pem: &str, ca_pem: &str) -> Result<(), CredentialError> {
        let chain = certificates_from_pem(chain_pem)?;
        let sent = certificates_from_pem(ca_pem)?;
        let authorities = match &self.trust {
            Trust::Authorities(authorities) => authorities.clone(),
            Trust::Pin(pin) => sent
                .iter()
                .chain(&chain)
                .filter(|der| spki_fingerprint(der).is_ok_and(|fingerprint| fingerprint == *pin))
                .cloned()
                .collect(),
        };
        let unusable = |what: String| CredentialError::Unusable(what);
        let mut roots = rustls::RootCertStore::empty();
        for authority in &authorities {
            roots.add(authority.clone()).map_err(|error| unusable(format!("of the authority: {error}")))?;
        }
        if roots.is_empty() {
            return Err(unusable("does not come with the authority that this host trusts".into()));
        }
        let Some((leaf, rest)) = chain.split_first() else {
            return Err(unusable("is missing".into()));
        };
        let between: Vec<_> = rest.iter().chain(&sent).cloned().collect();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| unusable(error.to_string()))?
            .verify_client_cert(leaf, &between, UnixTime::now())
            .map_err(|error| unusable(format!("is not from the authority that this host trusts: {error}")))?;
        Ok(())
    }
}

/// The trust that a configuration asks for.
///
/// # Errors
/// If the authority's file can't be read or holds no certificate.
pub fn trust(authority: &Authority) -> Result<Trust, CredentialError> {
    match authority {
        Authority::Fingerprint(fingerprint) => Ok(Trust::Pin(*fingerprint)),
        Authority::File(path) => {
            let pem = std::fs::read_to_string(path).map_err(|source| CredentialError::File {
                action: "read",
                path: path.clone(),
                source,
            })?;
            Ok(Trust::Authorities(certificates_from_pem(&pem)?))
        }
    }
}

fn certificate(chain_pem: &str, key: &NodeKey) -> Result<Certificate, CredentialError> {
    let chain = certificates_from_pem(chain_pem)?;
    let Some(leaf) = chain.first() else {
        return Err(CredentialError::Unusable("is missing".into()));
    };
    let facts = read_certificate(leaf)?;
    if facts.fingerprint != key.fingerprint() {
        return Err(CredentialError::Unusable(format!(
            "is for the key {}, and this node's key is {}",
            facts.fingerprint,
            key.fingerprint()
        )));
    }
    let node = facts.node.ok_or_else(|| CredentialError::Unusable("names no node".into()))?;
    Ok(Certificate { chain_pem: chain_pem.to_owned(), facts, node })
}
