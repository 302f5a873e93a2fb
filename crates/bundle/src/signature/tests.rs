#![cfg(feature = "sign")]

use super::*;
use proptest::prelude::*;

fn statement() -> Statement {
    Statement {
        plugin: "demo".parse().expect("a name"),
        version: "1.2.3".parse().expect("a version"),
        digest: Digest::of(b"demo"),
        signed_ms: 1,
        expires_ms: Some(2),
    }
}

#[test]
fn a_signature_reads_back() {
    let signature = SecretKey::generate().sign(statement());
    let back = Signature::from_json(&signature.to_json()).expect("a signature");
    assert_eq!(back, signature);
    let Statement { plugin, version, digest, .. } = statement();
    assert_eq!(back.verify_over(&plugin, version, digest), Ok(()));
    let public: PublicKey = signature.public_key.to_string().parse().expect("a key");
    assert_eq!(public.id(), signature.key());
}

#[test]
fn what_is_signed_has_one_spelling() {
    let text = String::from_utf8(statement().to_bytes()).expect("text");
    let digest = Digest::of(b"demo");
    assert_eq!(
        text,
        format!("windlass-signature-1\nplugin demo\nversion 1.2.3\ndigest {digest}\nsigned 1\nexpires 2\n")
    );
}

#[test]
fn secret_keys_open_with_their_passphrase_only() {
    let key = SecretKey::generate();
    let plain = key.to_pem(None).expect("encoded");
    let public = |text: &str, passphrase| SecretKey::from_pem(text, passphrase).map(|key| key.public());
    assert_eq!(public(plain.as_ref(), None), Ok(key.public()));
    assert_eq!(public("junk", None), Err(KeyError::Malformed));
    assert_eq!(public(&plain.as_ref()[..60], None), Err(KeyError::Malformed));
    let sealed = key.to_pem(Some("correct horse")).expect("encrypted");
    assert!(sealed.as_ref().starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
    assert_eq!(public(sealed.as_ref(), Some("correct horse")), Ok(key.public()));
    assert_eq!(public(sealed.as_ref(), Some("wrong horse")), Err(KeyError::WrongPassphrase));
    assert_eq!(public(sealed.as_ref(), None), Err(KeyError::Encrypted));
    assert!(!format!("{key:?}").contains(plain.as_ref().lines().nth(1).expect("a line")));
}

#[test]
fn keys_that_verify_anything_are_refused() {
    // The neutral element of the curve: of small order.
    let mut weak = [0; 32];
    weak[0] = 1;
    let text = format!("{KEY_PREFIX}{}", BASE64.encode(weak));
    assert_eq!(text.parse::<PublicKey>(), Err(PublicKeyError));
}

proptest! {
    #[test]
    fn a_changed_signature_does_not_hold(at in 0usize..64, bit in 0u8..8) {
        let mut signature = SecretKey::generate().sign(statement());
        signature.signature[at] ^= 1 << bit;
        let Statement { plugin, version, digest, .. } = statement();
        prop_assert!(signature.verify_over(&plugin, version, digest).is_err());
    }

    #[test]
    fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = Signature::from_json(&bytes);
    }
}
