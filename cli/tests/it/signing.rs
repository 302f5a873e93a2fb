//! `windlass plugin keygen` and what is refused; the rest needs real plugins (`tests/tests/signing.rs`).

use crate::{fake::*, plugins::package};
use std::os::unix::fs::PermissionsExt as _;
use windlass_bundle::{
    Trust,
    signature::{KeyError, SecretKey},
};

#[tokio::test]
async fn a_key_is_made_for_its_owner_alone() {
    let master = Master::start(Script::default()).await;
    let file = master.home.path().join("release.key");
    let path = file.to_str().unwrap();
    let run = |args: &[&str]| {
        let mut command = master.bare(&[&["plugin", "keygen"], args].concat());
        command.env("WINDLASS_KEY_PASSPHRASE", "correct horse");
        command
    };
    Run::of(&mut master.bare(&["plugin", "keygen", path])).await.expect(2).says("a passphrase is needed");
    assert!(!file.exists());

    let made = Run::of(&mut run(&[path])).await.expect(0).says("wrote the secret key to");
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(SecretKey::from_pem(&text, None).unwrap_err(), KeyError::Encrypted);
    let key = SecretKey::from_pem(&text, Some("correct horse")).unwrap();
    // What is printed is a trust file.
    Trust::parse(&made.stdout).unwrap();
    assert!(
        made.stdout.contains(&key.public().to_string()) && made.stdout.contains("[keys.release]"),
        "{made:#?}"
    );
    assert!(!made.stdout.contains("PRIVATE") && !made.stderr.contains("horse"), "{made:#?}");

    Run::of(&mut run(&[path])).await.expect(1).says("is there already");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "the key is kept");

    let plain = master.home.path().join("plain.key");
    Run::of(&mut run(&[plain.to_str().unwrap(), "--no-passphrase"]))
        .await
        .expect(0)
        .says("not encrypted: whoever reads");
    assert!(SecretKey::from_pem(&std::fs::read_to_string(&plain).unwrap(), None).is_ok());
    assert_eq!(std::fs::metadata(&plain).unwrap().permissions().mode() & 0o777, 0o600);
    Run::of(&mut run(&[master.home.path().join("ä.key").to_str().unwrap()])).await.expect(2).says("--name");
}

#[tokio::test]
async fn what_no_host_would_take_is_not_signed() {
    let master = Master::start(Script::default()).await;
    let key = master.home.path().join("k");
    let file = master.home.path().join("demo.tar");
    std::fs::write(&file, package("0.1.0").to_bytes()).unwrap();
    let keygen = ["plugin", "keygen", key.to_str().unwrap(), "--no-passphrase"];
    Run::of(&mut master.bare(&keygen)).await.expect(0);
    let sign = ["plugin", "sign", file.to_str().unwrap(), "--key", key.to_str().unwrap()];
    Run::of(&mut master.bare(&sign)).await.expect(1).says("is not signed: no host would take it");
    assert_eq!(std::fs::read(&file).unwrap(), package("0.1.0").to_bytes());
    Run::of(&mut master.bare(&[&sign[..], &["--expires", "2020-01-01"]].concat()))
        .await
        .expect(2)
        .says("has passed");
}
