//! The private key of a node.

use crate::error::IdentityError;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use std::{
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};
use windlass_types::Fingerprint;

/// An ECDSA P-256 key, made on the node and kept there.
pub struct NodeKey(KeyPair);

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeKey({})", self.fingerprint())
    }
}

/// Read a file that only its owner may read.
///
/// # Errors
/// If it can't be read, or is open to group or others.
pub fn read_private(path: &Path) -> Result<Vec<u8>, IdentityError> {
    let file_error = |source| IdentityError::File { action: "read", path: path.to_owned(), source };
    let mode = std::fs::metadata(path).map_err(file_error)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::OpenKey { path: path.to_owned(), mode });
    }
    std::fs::read(path).map_err(file_error)
}

/// Write a file of mode 0600, atomically and durably.
///
/// # Errors
/// If it can't be written.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), IdentityError> {
    let temporary = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        // A left-over of an earlier crash must not decide the mode.
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => std::fs::File::open(parent)?.sync_all(),
            _ => Ok(()),
        }
    };
    write().map_err(|source| IdentityError::File { action: "write", path: path.to_owned(), source })
}

impl NodeKey {
    /// Make a new key.
    ///
    /// # Errors
    /// If the system has no randomness to give.
    pub fn generate() -> Result<Self, IdentityError> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map(NodeKey)
            .map_err(|error| IdentityError::Key(error.to_string()))
    }

    /// Read a key from PEM (PKCS#8).
    ///
    /// # Errors
    /// If it is not one.
    pub fn from_pem(pem: &str) -> Result<Self, IdentityError> {
        KeyPair::from_pem(pem).map(NodeKey).map_err(|error| IdentityError::Key(error.to_string()))
    }

    /// Load a key from a file.
    ///
    /// # Errors
    /// If the file can't be read, is open to group or others, or holds no key.
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        Self::from_pem(&String::from_utf8_lossy(&read_private(path)?))
    }

    /// Write the key to a file of mode 0600, atomically.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn save(&self, path: &Path) -> Result<(), IdentityError> {
        write_private(path, self.key_pem().as_bytes())
    }

    /// The key as PEM (PKCS#8).
    pub fn key_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// The SHA-256 of the public key: what people compare.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.0.subject_public_key_info())
    }

    /// A certificate request. Its signature proves possession of the key; it asks for no names,
    /// since the master gives them.
    ///
    /// # Errors
    /// If signing fails.
    pub fn csr_pem(&self) -> Result<String, IdentityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .serialize_request(&self.0)
            .and_then(|request| request.pem())
            .map_err(|error| IdentityError::Key(error.to_string()))
    }

    pub(crate) fn der(&self) -> rustls_pki_types::PrivateKeyDer<'static> {
        rustls_pki_types::PrivateKeyDer::Pkcs8(self.0.serialize_der().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_key_is_private_and_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        let key = NodeKey::generate().unwrap();
        key.save(&path).unwrap();
        key.save(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(NodeKey::load(&path).unwrap().fingerprint(), key.fingerprint());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(NodeKey::load(&path), Err(IdentityError::OpenKey { mode: 0o640, .. })));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
    }
}
