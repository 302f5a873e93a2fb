//! Secret keys: PKCS#8 (RFC 5958) in PEM, encrypted with a passphrase (PBES2: scrypt and AES-256)
//! unless that is not wanted. OpenSSL reads both.

use super::{PublicKey, Signature, Statement};
use ed25519_dalek::{
    Signer as _, SigningKey,
    pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _},
};
use pkcs8::LineEnding;

const ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
const PLAIN: &str = "-----BEGIN PRIVATE KEY-----";

/// A secret key. Never printed, wiped from memory when dropped.
pub struct SecretKey(SigningKey);

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretKey(of {})", self.public())
    }
}

/// Why a secret key can not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a key.
    #[error("expected an Ed25519 secret key (PKCS#8 in PEM)")]
    Malformed,
    /// Encrypted, and no passphrase was given.
    #[error("the secret key is encrypted: its passphrase is needed")]
    Encrypted,
    /// The passphrase does not open it.
    #[error("the passphrase does not open the secret key")]
    WrongPassphrase,
    /// It could not be written.
    #[error("the secret key can not be encoded")]
    Encode,
}

impl SecretKey {
    /// A new one, from the system's random numbers.
    pub fn generate() -> SecretKey {
        SecretKey(SigningKey::generate(&mut rand_core::OsRng))
    }

    /// Its public key.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// As text for a file.
    ///
    /// # Errors
    /// If encryption fails.
    pub fn to_pem(&self, passphrase: Option<&str>) -> Result<impl AsRef<str> + use<>, KeyError> {
        match passphrase {
            Some(passphrase) => self.0.to_pkcs8_encrypted_pem(rand_core::OsRng, passphrase, LineEnding::LF),
            None => self.0.to_pkcs8_pem(LineEnding::LF),
        }
        .map_err(|_| KeyError::Encode)
    }

    /// Read the text of a file.
    ///
    /// # Errors
    /// If it is no key, or the passphrase does not open it.
    pub fn from_pem(text: &str, passphrase: Option<&str>) -> Result<SecretKey, KeyError> {
        let text = text.trim_start();
        if text.starts_with(ENCRYPTED) {
            let passphrase = passphrase.ok_or(KeyError::Encrypted)?;
            let key = SigningKey::from_pkcs8_encrypted_pem(text, passphrase);
            return key.map(SecretKey).map_err(|_| KeyError::WrongPassphrase);
        }
        if !text.starts_with(PLAIN) {
            return Err(KeyError::Malformed);
        }
        SigningKey::from_pkcs8_pem(text).map(SecretKey).map_err(|_| KeyError::Malformed)
    }

    /// Sign a statement.
    pub fn sign(&self, statement: Statement) -> Signature {
        let signature = self.0.sign(&statement.to_bytes()).to_bytes();
        Signature { statement, public_key: self.public(), signature }
    }
}
