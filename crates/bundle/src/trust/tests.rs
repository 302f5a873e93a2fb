#![cfg(feature = "sign")]

use super::*;
use crate::signature::{SecretKey, Statement};

const NOW: i64 = 1_800_000_000_000;

struct World {
    keys: Vec<SecretKey>,
    trust: Trust,
}

fn name(text: &str) -> PluginName {
    text.parse().expect("a name")
}

fn version(text: &str) -> Version {
    text.parse().expect("a version")
}

/// `KEY0`, `KEY1`, … in the text stand for public keys.
fn world(text: &str) -> World {
    let keys: Vec<SecretKey> = (0..4).map(|_| SecretKey::generate()).collect();
    let mut text = text.to_owned();
    for (index, key) in keys.iter().enumerate() {
        text = text.replace(&format!("KEY{index}"), &key.public().to_string());
    }
    World { keys, trust: Trust::parse(&text).expect("a trust file") }
}

impl World {
    fn sign(&self, key: usize, plugin: &str, at: &str, expires_ms: Option<i64>) -> Signature {
        let (plugin, version) = (name(plugin), version(at));
        let digest = Digest::of(format!("{plugin} {at}").as_bytes());
        let statement = Statement { plugin, version, digest, signed_ms: NOW, expires_ms };
        self.keys[key].sign(statement)
    }

    fn verify(&self, plugin: &str, at: &str, signatures: &[Signature]) -> Result<String, String> {
        let digest = Digest::of(format!("{plugin} {at}").as_bytes());
        let verified = self.trust.verify(&name(plugin), version(at), digest, signatures, NOW);
        verified.map(|keys| keys.join(" ")).map_err(|error| error.to_string())
    }
}

const TEXT: &str = r#"
[keys.release]
public = "KEY0"
[keys.ops]
public = "KEY1"
expires = 2020-01-01T00:00:00Z
[keys.lost]
public = "KEY2"
revoked = true
[keys.second]
public = "KEY3"

[[rules]]
plugins = "*"
keys = ["release", "ops", "lost"]
[[rules]]
plugins = "zfs"
keys = ["release", "second"]
threshold = 2
minimum_version = "0.2.0"
[[rules]]
plugins = "zf*"
keys = ["second"]
"#;

#[test]
fn signatures_count_by_the_closest_rule() {
    let world = world(TEXT);
    let by = |key, plugin: &str| world.sign(key, plugin, "1.0.0", None);
    assert_eq!(world.verify("demo", "1.0.0", &[by(0, "demo")]), Ok("release".into()));
    assert_eq!(world.verify("zfx", "1.0.0", &[by(3, "zfx")]), Ok("second".into()));
    let not_his = world.verify("zfx", "1.0.0", &[by(0, "zfx")]).expect_err("refused");
    assert!(not_his.contains("the key `release` does not count for this plugin"), "{not_his}");
    let zfs = [by(0, "zfs"), by(3, "zfs")];
    assert_eq!(world.verify("zfs", "1.0.0", &zfs), Ok("release second".into()));
    for signatures in [&zfs[..1], &[zfs[0].clone(), zfs[0].clone()]] {
        let few = world.verify("zfs", "1.0.0", signatures).expect_err("refused");
        assert!(few.starts_with("1 of 2 signatures needed"), "{few}");
    }
    let none = world.verify("zfs", "1.0.0", &[]).expect_err("refused");
    assert_eq!(none, "it has no signature, and 2 by `release`, `second` are needed");
}

#[test]
fn what_has_ended_or_was_revoked_does_not_count() {
    let world = world(TEXT);
    for (key, why) in [(1, "the key `ops` has expired"), (2, "the key `lost` has been revoked")] {
        let error = world.verify("demo", "1.0.0", &[world.sign(key, "demo", "1.0.0", None)]);
        assert!(error.as_ref().is_err_and(|error| error.ends_with(why)), "{error:?}");
    }
    let soon = world.sign(0, "demo", "1.0.0", Some(NOW + 1));
    assert!(world.verify("demo", "1.0.0", &[soon]).is_ok());
    let past = world.sign(0, "demo", "1.0.0", Some(NOW));
    assert!(
        world
            .verify("demo", "1.0.0", &[past])
            .expect_err("refused")
            .contains("the signature by `release` has expired")
    );
    let old = [world.sign(0, "zfs", "0.1.9", None), world.sign(3, "zfs", "0.1.9", None)];
    assert!(world.verify("zfs", "0.1.9", &old).expect_err("refused").contains("minimum_version"));
    let digest = Digest::of(b"demo 1.0.0");
    let revoking = format!("{TEXT}\n[revoked]\ndigests = [\"{digest}\"]\n");
    let revoking = super::tests::world(&revoking);
    let signed = revoking.sign(0, "demo", "1.0.0", None);
    assert!(revoking.verify("demo", "1.0.0", &[signed]).expect_err("refused").contains("revokes"));
}

#[test]
fn a_signature_counts_for_what_it_is_over_and_nothing_else() {
    let world = world(TEXT);
    let stranger = super::tests::world(TEXT);
    let unknown = world.verify("demo", "1.0.0", &[stranger.sign(0, "demo", "1.0.0", None)]);
    assert!(unknown.expect_err("refused").contains("is unknown"));
    for other in [world.sign(0, "demo", "1.0.1", None), world.sign(0, "dema", "1.0.0", None)] {
        assert!(world.verify("demo", "1.0.0", &[other]).expect_err("refused").contains("is about dem"));
    }
    // The statement altered after signing: longer life, another digest.
    let signed = world.sign(0, "demo", "1.0.0", Some(NOW - 1));
    let text = String::from_utf8(signed.to_json()).expect("text");
    let forged = text.replace(&(NOW - 1).to_string(), &(NOW + 1).to_string());
    let forged = Signature::from_json(forged.as_bytes()).expect("a signature");
    assert!(
        world.verify("demo", "1.0.0", &[forged]).expect_err("refused").contains("does not fit its statement")
    );
    assert!(
        Trust::default().verify(&name("demo"), version("1.0.0"), Digest::of(b"x"), &[signed], NOW)
            == Err(Untrusted::NoRule(name("demo")))
    );
}

#[test]
fn mistakes_have_a_place() {
    let key = SecretKey::generate().public();
    let error =
        |text: &str| Trust::parse(&text.replace("KEY", &key.to_string())).expect_err("refused").to_string();
    let good = "[keys.a]\npublic = \"KEY\"\n";
    let rule = |rule: &str| error(&format!("{good}[[rules]]\n{rule}"));
    assert!(
        error("[keys.a]\npublic = \"ed25519:AAAA\"")
            .starts_with("2:10: `keys.a.public`: expected a public key")
    );
    assert!(error(&format!("{good}[keys.b]\npublic = \"KEY\"")).contains("is the same key as `a`"));
    assert!(error(&format!("{good}expires = 2020-01-01")).contains("expected a date and time"));
    assert!(rule("plugins = \"*\"\nkeys = [\"b\"]").contains("there is no key `b`"));
    assert!(rule("plugins = \"Z*\"\nkeys = [\"a\"]").contains("`rules[0].plugins`"));
    assert!(rule("plugins = \"*\"\nkeys = []").contains("is empty"));
    assert!(rule("plugins = \"*\"\nkeys = [\"a\"]\nthreshold = 2").contains("from 1 to 1"));
    assert!(rule("plugins = \"*\"\nkeys = [\"a\"]\ntreshold = 1").contains("did you mean `threshold`"));
    assert!(
        rule("plugins = \"*\"\nkeys = [\"a\"]\n[[rules]]\nplugins = \"*\"\nkeys = [\"a\"]")
            .contains("another rule")
    );
    assert!(error("[revoked]\ndigests = [\"md5:1\"]").contains("revoked.digests[0]"));
}

#[test]
fn warnings_tell_what_can_not_work() {
    let world = world(TEXT);
    let warnings = world.trust.warnings(NOW).join("\n");
    assert_eq!(warnings, "the key `ops` has expired");
    assert_eq!(Trust::default().warnings(NOW), ["it has no rule, so no bundle is trusted"]);
    let ended = super::tests::world(
        "[keys.a]\npublic = \"KEY0\"\nexpires = 2020-01-01T00:00:00+02:00\n[[rules]]\nplugins = \"*\"\nkeys = [\"a\"]",
    );
    assert_eq!(ended.trust.warnings(NOW).len(), 2);
    assert_eq!(ended.trust.keys["a"].expires_ms, Some(1_577_829_600_000));
}
