//! Documents as text: manifest, trust file, signature.

use std::str::from_utf8;
use windlass_bundle::{
    Grants, Manifest, NodePolicy,
    capability::capabilities,
    manifest::MAX_BYTES,
    signature::{PublicKey, Signature},
    trust::{Trust, Untrusted},
};
use windlass_types::{Digest, Effect};

/// A manifest, or an error within its text. What it asks for is listed, each once, and covers itself;
/// what it does not list is not granted.
pub(crate) fn manifest(bytes: &[u8]) {
    let Ok(text) = from_utf8(bytes) else { return };
    let manifest = match Manifest::parse(text) {
        Ok(manifest) => manifest,
        Err(error) => {
            assert!(error.line >= 1 && error.line <= text.matches('\n').count() + 1, "{error}");
            assert!(error.column >= 1, "{error}");
            return;
        }
    };
    assert!(text.len() <= MAX_BYTES);
    let operations = || manifest.operations.keys().map(String::as_str);
    let asked = capabilities(&manifest, operations());
    assert!(asked.is_sorted() && asked.windows(2).all(|pair| pair[0] != pair[1]));
    assert!(asked.iter().all(|asked| asked.covers(asked)));
    assert_eq!(asked, capabilities(&Manifest::parse(text).expect("it parsed"), operations()));

    let all = Grants::new(&manifest, &NodePolicy::default());
    let reading = Grants::new(&manifest, &NodePolicy { max_effect: Effect::Read, ..NodePolicy::default() });
    for name in manifest.commands.keys().map(String::as_str).chain(["sh", ""]) {
        for args in [&[][..], &["-c".to_owned(), "id".to_owned()], &["\0".to_owned()]] {
            for effect in [Effect::Read, Effect::Change, Effect::Destroy] {
                if let Ok(grant) = all.command(name, args, effect) {
                    assert!(grant.effect <= effect && manifest.commands.contains_key(name));
                    assert!(!grant.paths.is_empty() && grant.paths.iter().all(|path| path.is_absolute()));
                }
                if let Ok(grant) = reading.command(name, args, effect) {
                    assert_eq!(grant.effect, Effect::Read, "a policy takes away");
                }
            }
        }
    }
    for rule in &manifest.files {
        let root = rule.path.root().as_str();
        assert!(root.len() > 1 && root.starts_with('/'), "{root}");
        for path in [format!("{root}/../x"), format!("{root}/x\0"), format!("{root}x/.."), "/".into()] {
            assert!(all.file(&path, rule.access, Effect::Destroy).is_err(), "{path}");
        }
    }
    for watch in manifest.watches.values() {
        assert_eq!(manifest.operation(&watch.operation).effect, Effect::Read);
        assert!(watch.jitter <= watch.every && watch.every.as_secs() >= 1);
    }
    for alert in manifest.alerts.values() {
        assert!(manifest.watches.contains_key(&alert.watch));
    }
}

/// The signature that trust files are asked about: a real one.
const SIGNED: &[u8] = include_bytes!("../signed.json");

fn signed() -> Signature {
    Signature::from_json(SIGNED).expect("a signature")
}

/// A trust file, or an error. Nobody's signature is enough only if the file names that very key.
pub(crate) fn trust(bytes: &[u8]) {
    let Ok(text) = from_utf8(bytes) else { return };
    let Ok(trust) = Trust::parse(text) else { return };
    let signature = signed();
    let statement = signature.statement.clone();
    let verify = |digest: Digest, signatures: &[Signature]| {
        trust.verify(&statement.plugin, statement.version, digest, signatures, statement.signed_ms)
    };
    let digest = statement.digest;
    assert!(verify(digest, &[]).is_err(), "without a signature");
    assert!(verify(Digest::of(b"another"), std::slice::from_ref(&signature)).is_err(), "of another bundle");
    match verify(digest, std::slice::from_ref(&signature)) {
        Ok(names) => {
            assert_eq!(names.len(), 1);
            // TOML may spell a string with escapes.
            assert!(text.contains('\\') || text.contains(&signature.public_key.to_string()));
        }
        Err(Untrusted::TooFew { counted, threshold, .. }) => assert!(counted < threshold),
        Err(_) => {}
    }
    // The same signature many times is one.
    let many = vec![signature.clone(); 3];
    assert_eq!(verify(digest, &many).is_ok(), verify(digest, std::slice::from_ref(&signature)).is_ok());
    let _ = trust.warnings(0);
}

/// A signature reads back as it is written, and none that the fuzzer makes holds, but for the seeds.
pub(crate) fn signature(bytes: &[u8]) {
    let Ok(signature) = Signature::from_json(bytes) else { return };
    let written = signature.to_json();
    let back = Signature::from_json(&written).expect("what is written can be read");
    assert_eq!(back, signature);
    assert_eq!(back.to_json(), written);
    let key: PublicKey = signature.public_key.to_string().parse().expect("a key");
    assert_eq!(key.id(), signature.key());
    let statement = &signature.statement;
    let holds = |digest| signature.verify_over(&statement.plugin, statement.version, digest).is_ok();
    assert!(!holds(Digest::of(bytes)), "a signature over itself");
    // Making one without its key is what Ed25519 forbids.
    assert!(!holds(statement.digest) || signature == signed(), "a forged signature");
}
