//! Secrets on their way to one node, for one request.
//!
//! HPKE in base mode (RFC 9180, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305). Each letter has
//! a key of its own, made with the public key of the node: no other node opens it, nor does whoever carries
//! it there or keeps it. Request, job, operation and name are bound to it as associated data: put beside
//! another request it does not open. Who wrote it is not told by HPKE but by the channel it came through.

use crate::{IdentityError, read_private, write_private};
use hpke::{
    Deserializable as _, HpkeError, Kem as _, OpModeR, OpModeS, Serializable as _, aead::ChaCha20Poly1305,
    kdf::HkdfSha256, kem::X25519HkdfSha256, single_shot_open, single_shot_seal,
};
use std::path::Path;
use windlass_types::{JobId, OperationName, RequestId, SecretName};
use zeroize::Zeroizing;

type Kem = X25519HkdfSha256;

/// Bytes of a public and of an encapsulated key.
const KEY_BYTES: usize = 32;
/// Keeps these letters apart from whatever else may be sealed to the same key one day.
const INFO: &[u8] = b"windlass secret 1";

/// Why a secret could not be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The bytes are no key.
    #[error("not an X25519 public key")]
    Key,
    /// It was sealed to another node or for another request, or has been changed.
    #[error("it was not sealed to this node for this request")]
    NotForUs,
    /// It could not be sealed.
    #[error("it could not be sealed")]
    Failed,
}

/// What a secret is sent for.
#[derive(Debug, Clone, Copy)]
pub struct Letter<'a> {
    pub request: RequestId,
    pub job: JobId,
    pub operation: &'a OperationName,
    pub name: &'a SecretName,
}

impl Letter<'_> {
    /// No part holds a line break, so no two letters have the same text.
    fn associated(&self) -> Vec<u8> {
        format!("{}\n{}\n{}\n{}", self.request, self.job, self.operation, self.name).into_bytes()
    }
}

/// The key that secrets for a node are sealed to.
#[derive(Clone, PartialEq, Eq)]
pub struct SealingPublic(<Kem as hpke::Kem>::PublicKey);

impl std::fmt::Debug for SealingPublic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealingPublic")
    }
}

impl SealingPublic {
    /// A key from the wire.
    ///
    /// # Errors
    /// If it is none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SealError> {
        <Kem as hpke::Kem>::PublicKey::from_bytes(bytes).map(SealingPublic).map_err(|_| SealError::Key)
    }

    /// Seal a value.
    ///
    /// # Errors
    /// If the key is one that nothing can be sealed to.
    pub fn seal(&self, letter: Letter<'_>, value: &[u8]) -> Result<Vec<u8>, SealError> {
        let (encapsulated, sealed) = single_shot_seal::<ChaCha20Poly1305, HkdfSha256, Kem, _>(
            &OpModeS::Base,
            &self.0,
            INFO,
            value,
            &letter.associated(),
            &mut rand::rng(),
        )
        .map_err(|_| SealError::Failed)?;
        Ok([&encapsulated.to_bytes()[..], &sealed].concat())
    }
}

/// The key of a node that opens what was sealed to it.
pub struct SealingKey {
    private: <Kem as hpke::Kem>::PrivateKey,
    public: Vec<u8>,
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealingKey")
    }
}

impl SealingKey {
    /// Make a new key.
    pub fn generate() -> Self {
        let (private, _) = Kem::gen_keypair(&mut rand::rng());
        SealingKey::new(private)
    }

    fn new(private: <Kem as hpke::Kem>::PrivateKey) -> Self {
        let public = Kem::sk_to_pk(&private).to_bytes().to_vec();
        SealingKey { private, public }
    }

    /// The key in a file, which is made at the first call.
    ///
    /// # Errors
    /// If the file can't be read or written, is open to group or others, or holds no key.
    pub fn load_or_make(path: &Path) -> Result<Self, IdentityError> {
        match read_private(path) {
            Ok(bytes) => {
                let bytes = Zeroizing::new(bytes);
                let private = <Kem as hpke::Kem>::PrivateKey::from_bytes(&bytes)
                    .map_err(|error| IdentityError::Key(error.to_string()))?;
                Ok(SealingKey::new(private))
            }
            Err(IdentityError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                let key = SealingKey::generate();
                write_private(path, &Zeroizing::new(key.private.to_bytes().to_vec()))?;
                Ok(key)
            }
            Err(error) => Err(error),
        }
    }

    /// The public part, for the wire.
    pub fn public_bytes(&self) -> &[u8] {
        &self.public
    }

    /// Open what was sealed to this key. The memory of the value is wiped when it is dropped.
    ///
    /// # Errors
    /// If it was sealed to another key or for another request, or was changed.
    pub fn open(&self, letter: Letter<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let not_for_us = |_: HpkeError| SealError::NotForUs;
        let (encapsulated, sealed) = sealed.split_at_checked(KEY_BYTES).ok_or(SealError::NotForUs)?;
        let encapsulated = <Kem as hpke::Kem>::EncappedKey::from_bytes(encapsulated).map_err(not_for_us)?;
        single_shot_open::<ChaCha20Poly1305, HkdfSha256, Kem>(
            &OpModeR::Base,
            &self.private,
            &encapsulated,
            INFO,
            sealed,
            &letter.associated(),
        )
        .map(Zeroizing::new)
        .map_err(not_for_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn only_the_node_opens_it_and_only_for_its_request() {
        let (ours, others) = (SealingKey::generate(), SealingKey::generate());
        let public = SealingPublic::from_bytes(ours.public_bytes()).unwrap();
        let (operation, other_operation) =
            ("smb.user.add".parse().unwrap(), "smb.user.remove".parse().unwrap());
        let (name, other_name) = ("nas".parse().unwrap(), "bmc".parse().unwrap());
        let letter =
            Letter { request: RequestId::new(), job: JobId::new(), operation: &operation, name: &name };
        let sealed = public.seal(letter, b"hunter2").unwrap();
        assert_eq!(&ours.open(letter, &sealed).unwrap()[..], b"hunter2");
        assert_ne!(sealed, public.seal(letter, b"hunter2").unwrap(), "no two letters are the same");

        assert_eq!(others.open(letter, &sealed), Err(SealError::NotForUs));
        for other in [
            Letter { request: RequestId::new(), ..letter },
            Letter { job: JobId::new(), ..letter },
            Letter { operation: &other_operation, ..letter },
            Letter { name: &other_name, ..letter },
        ] {
            assert_eq!(ours.open(other, &sealed), Err(SealError::NotForUs));
        }
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            // The highest bit of an X25519 key means nothing (RFC 7748, 5), and is bound nevertheless.
            assert_eq!(ours.open(letter, &changed), Err(SealError::NotForUs), "byte {at}");
            assert_eq!(ours.open(letter, &sealed[..at]), Err(SealError::NotForUs));
        }
        // Keys that every secret would be the same with are refused (RFC 7748, 6.1).
        let weak = SealingPublic::from_bytes(&[0; 32]).and_then(|key| key.seal(letter, b"hunter2"));
        assert!(weak.is_err());
        assert_eq!(SealingPublic::from_bytes(&[1; 31]), Err(SealError::Key));
    }

    #[test]
    fn a_key_is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sealing.key");
        let made = SealingKey::load_or_make(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(SealingKey::load_or_make(&path).unwrap().public_bytes(), made.public_bytes());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(SealingKey::load_or_make(&path), Err(IdentityError::OpenKey { .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "short").unwrap();
        assert!(matches!(SealingKey::load_or_make(&path), Err(IdentityError::Key(_))));
    }
}
