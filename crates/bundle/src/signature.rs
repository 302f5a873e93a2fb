//! Signatures over bundles: Ed25519 (RFC 8032) over a statement in a fixed form.
//!
//! A statement names plugin, version and digest, so that a signature can be judged by rules about
//! plugins without having the bundle, and when it was made and when it ends. What is signed is a
//! text with one fact a line ([`Statement::to_bytes`]), built from parsed values: there is one
//! spelling, and nothing to canonicalise.

#[cfg(feature = "sign")]
mod secret;
#[cfg(test)]
mod tests;

#[cfg(feature = "sign")]
pub use secret::{KeyError, SecretKey};

use crate::version::Version;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use windlass_types::{Digest, PluginName};

/// Largest signature document, in bytes.
pub const MAX_BYTES: usize = 4096;
const FORMAT: u32 = 1;
const KEY_PREFIX: &str = "ed25519:";

/// What a signature says: this digest is that version of this plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    pub plugin: PluginName,
    pub version: Version,
    /// Digest of the bundle.
    pub digest: Digest,
    /// When it was made, in milliseconds since 1970-01-01 UTC, by the signer's clock.
    pub signed_ms: i64,
    /// From when on it no longer counts.
    pub expires_ms: Option<i64>,
}

impl Statement {
    /// The bytes that are signed.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Statement { plugin, version, digest, signed_ms, expires_ms } = self;
        let expires = expires_ms.map_or_else(|| "never".to_owned(), |ms| ms.to_string());
        format!(
            "windlass-signature-{FORMAT}\nplugin {plugin}\nversion {version}\ndigest {digest}\n\
             signed {signed_ms}\nexpires {expires}\n"
        )
        .into_bytes()
    }
}

/// A public key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

/// A text that is no public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a public key: `ed25519:` and 32 bytes in base64, as `windlass plugin keygen` prints it")]
pub struct PublicKeyError;

impl PublicKey {
    /// Names the key: SHA-256 over its 32 bytes.
    pub fn id(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{KEY_PREFIX}{}", BASE64.encode(self.0.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = PublicKeyError;
    fn from_str(text: &str) -> Result<Self, PublicKeyError> {
        let encoded = text.strip_prefix(KEY_PREFIX).ok_or(PublicKeyError)?;
        let bytes = BASE64.decode(encoded).map_err(|_| PublicKeyError)?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| PublicKeyError)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| PublicKeyError)?;
        // A key of small order would "verify" almost anything.
        if key.is_weak() { Err(PublicKeyError) } else { Ok(PublicKey(key)) }
    }
}

/// A signature, read. That it exists does not mean that it is valid: see [`Signature::verify_over`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    pub statement: Statement,
    pub public_key: PublicKey,
    signature: [u8; 64],
}

/// Why a signature is no good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not a signature document.
    #[error("the signature can not be read: {0}")]
    Malformed(String),
    /// Made by another key, or over another statement.
    #[error("the signature by {key} does not fit its statement")]
    Invalid { key: Digest },
    /// About something else.
    #[error("the signature by {key} is about {plugin} {version} ({digest})")]
    OtherBundle { key: Digest, plugin: PluginName, version: Version, digest: Digest },
}

/// The document.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    windlass_signature: u32,
    plugin: PluginName,
    version: String,
    digest: Digest,
    signed_ms: i64,
    expires_ms: Option<i64>,
    public_key: String,
    signature: String,
}

impl Signature {
    /// Check that the key made this signature over its statement, and that the statement is about
    /// this bundle. Whether the key is trusted, or the signature has expired, is another question.
    ///
    /// # Errors
    /// If it is not so.
    pub fn verify_over(
        &self,
        plugin: &PluginName,
        version: Version,
        digest: Digest,
    ) -> Result<(), SignatureError> {
        let statement = &self.statement;
        if statement.digest != digest || statement.plugin != *plugin || statement.version != version {
            return Err(SignatureError::OtherBundle {
                key: self.key(),
                plugin: statement.plugin.clone(),
                version: statement.version,
                digest: statement.digest,
            });
        }
        self.public_key
            .0
            .verify_strict(&statement.to_bytes(), &ed25519_dalek::Signature::from_bytes(&self.signature))
            .map_err(|_| SignatureError::Invalid { key: self.key() })
    }

    /// Id of its key.
    pub fn key(&self) -> Digest {
        self.public_key.id()
    }

    /// As a JSON document. The same signature gives the same bytes.
    pub fn to_json(&self) -> Vec<u8> {
        let Statement { plugin, version, digest, signed_ms, expires_ms } = self.statement.clone();
        let document = Document {
            windlass_signature: FORMAT,
            plugin,
            version: version.to_string(),
            digest,
            signed_ms,
            expires_ms,
            public_key: self.public_key.to_string(),
            signature: BASE64.encode(self.signature),
        };
        // Text and numbers: this can't fail.
        serde_json::to_vec(&document).unwrap_or_default()
    }

    /// Read a JSON document.
    ///
    /// # Errors
    /// If it is none of a signature.
    pub fn from_json(bytes: &[u8]) -> Result<Signature, SignatureError> {
        let malformed = SignatureError::Malformed;
        if bytes.len() > MAX_BYTES {
            return Err(malformed(format!("it is larger than {MAX_BYTES} bytes")));
        }
        let document: Document =
            serde_json::from_slice(bytes).map_err(|error| malformed(crate::oci::clip(&error.to_string())))?;
        if document.windlass_signature != FORMAT {
            return Err(malformed(format!("format {} is not known", document.windlass_signature)));
        }
        let version = document.version.parse::<Version>().map_err(|error| malformed(error.to_string()))?;
        let public_key =
            document.public_key.parse::<PublicKey>().map_err(|error| malformed(error.to_string()))?;
        let signature = BASE64
            .decode(&document.signature)
            .ok()
            .and_then(|bytes| <[u8; 64]>::try_from(bytes).ok())
            .ok_or_else(|| malformed("`signature` is not 64 bytes in base64".into()))?;
        let Document { plugin, digest, signed_ms, expires_ms, .. } = document;
        let statement = Statement { plugin, version, digest, signed_ms, expires_ms };
        Ok(Signature { statement, public_key, signature })
    }
}
