//! The key that stored secrets are encrypted with.
//!
//! It lies in the folder of the authority, which is what a backup has and what another master of the same
//! grid is given: whoever has that folder can become any node anyway. The database, and a copy of it, is
//! of no use without.

use chacha20poly1305::{
    Key as Bytes, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, KeyInit as _, Payload},
};
use std::{fmt, path::Path};
use windlass_identity::{IdentityError, read_private, write_private};
use windlass_types::{Digest, SecretName};
use zeroize::Zeroizing;

const KEY_BYTES: usize = 32;
/// Random, so long that none comes twice (draft-irtf-cfrg-xchacha, 2.1).
const NONCE_BYTES: usize = 24;

/// See the module.
pub struct Key {
    bytes: Zeroizing<[u8; KEY_BYTES]>,
    id: String,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

/// What a stored value belongs to. A row that is put in the place of another can't be opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub name: &'a SecretName,
    pub id: &'a str,
    pub version: u32,
}

impl Place<'_> {
    fn associated(&self) -> Vec<u8> {
        format!("windlass stored secret 1\n{}\n{}\n{}", self.name, self.id, self.version).into_bytes()
    }
}

impl Key {
    /// Make a key in a file, or load the one that is there.
    ///
    /// # Errors
    /// If the file can't be read or written, is open to others, or holds no key.
    pub fn create(path: &Path) -> Result<Key, IdentityError> {
        if let Some(key) = Key::load(path)? {
            return Ok(key);
        }
        let bytes = Zeroizing::new(rand::random::<[u8; KEY_BYTES]>());
        write_private(path, &*bytes)?;
        Ok(Key::new(bytes))
    }

    /// The key in a file; none if there is no such file.
    ///
    /// # Errors
    /// As [`Key::create`].
    pub fn load(path: &Path) -> Result<Option<Key>, IdentityError> {
        let bytes = match read_private(path) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(IdentityError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        match <[u8; KEY_BYTES]>::try_from(&bytes[..]) {
            Ok(bytes) => Ok(Some(Key::new(Zeroizing::new(bytes)))),
            Err(_) => {
                let text = format!("`{}` has {} bytes, not {KEY_BYTES}", path.display(), bytes.len());
                Err(IdentityError::Key(text))
            }
        }
    }

    fn new(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Key {
        // Of a hash of 256 bits over a random key these 64 tell nothing about it.
        let id = Digest::of(&[b"windlass secrets key 1\n", &bytes[..]].concat()).hex()[..16].to_owned();
        Key { bytes, id }
    }

    /// Which key it is.
    pub fn id(&self) -> &str {
        &self.id
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&Bytes::from(*self.bytes))
    }

    pub(super) fn seal(&self, place: Place<'_>, value: &[u8]) -> Option<Vec<u8>> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let payload = Payload { msg: value, aad: &place.associated() };
        let sealed = self.cipher().encrypt(&XNonce::from(nonce), payload).ok()?;
        Some([&nonce[..], &sealed].concat())
    }

    pub(super) fn open(&self, place: Place<'_>, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload { msg: sealed, aad: &place.associated() };
        self.cipher().decrypt(&XNonce::from(*nonce), payload).ok().map(Zeroizing::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_value_opens_in_its_own_place_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets.key");
        assert!(Key::load(&path).unwrap().is_none());
        let key = Key::create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Key::create(&path).unwrap().id(), key.id());
        let (name, other) = ("nas".parse().unwrap(), "bmc".parse().unwrap());
        let place = Place { name: &name, id: "a", version: 1 };
        let sealed = key.seal(place, b"hunter2").unwrap();
        assert_eq!(&key.open(place, &sealed).unwrap()[..], b"hunter2");
        for elsewhere in
            [Place { name: &other, ..place }, Place { id: "b", ..place }, Place { version: 2, ..place }]
        {
            assert!(key.open(elsewhere, &sealed).is_none());
        }
        let another = Key::create(&dir.path().join("another.key")).unwrap();
        assert_ne!(another.id(), key.id());
        assert!(another.open(place, &sealed).is_none());
        assert!(key.open(place, &sealed[..20]).is_none());
        std::fs::write(&path, "short").unwrap();
        assert!(matches!(Key::load(&path), Err(IdentityError::Key(_))));
    }
}
