//! An author's keys, and what they are worth: the real command line on real plugins, no master.

use serde_json::Value;
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Stdio},
};
use windlass_bundle::Package;
use windlass_tests::{Binaries, Output, bundles::variant};

/// A folder with the unsigned package `m.tar`.
struct Site {
    dir: tempfile::TempDir,
    windlass: PathBuf,
}

impl Site {
    fn new() -> Site {
        let binaries = Binaries::find().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let bundle = variant(&binaries, "monitor", "0.1.0", &[]).unwrap();
        fs::write(dir.path().join("m.tar"), Package::new(bundle, vec![]).unwrap().to_bytes()).unwrap();
        Site { dir, windlass: binaries.program("windlass") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(&self.windlass);
        command
            .args(line.split(' '))
            .env_clear()
            .env("HOME", self.dir.path())
            .env("TZ", "UTC")
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, line: &str) -> Output {
        output(&mut self.command(line))
    }

    /// A key that is not encrypted, and the trust file for it.
    fn key(&self, name: &str) -> String {
        self.run(&format!("plugin keygen {name}.key --no-passphrase")).expect(0).stdout
    }
}

fn output(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    Output {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[track_caller]
fn says(output: Output, code: i32, text: &str) -> Output {
    let output = output.expect(code);
    assert!(output.stderr.contains(text) || output.stdout.contains(text), "no {text:?} in {output:#?}");
    output
}

#[test]
fn a_signature_is_added_to_the_package_in_place() {
    let site = Site::new();
    let before = fs::read(site.path("m.tar")).unwrap();
    fs::set_permissions(site.path("m.tar"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::write(site.path("trust.toml"), site.key("release")).unwrap();
    says(
        site.run("plugin verify m.tar --trust trust.toml"),
        1,
        "it has no signature, and one by `release` is needed",
    );
    says(site.run("plugin sign m.tar --key release.key"), 0, "signed monitor 0.1.0");
    assert_eq!(fs::metadata(site.path("m.tar")).unwrap().permissions().mode() & 0o777, 0o640);
    let package = Package::open(&site.path("m.tar")).unwrap();
    assert_eq!(package.signatures().len(), 1);
    assert_eq!(package.bundle.digest, Package::read(&before[..]).unwrap().bundle.digest);
    says(site.run("plugin verify m.tar --trust trust.toml"), 0, "signed by `release`");
    let left: Vec<_> =
        fs::read_dir(site.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        left.iter().all(|name| !name.to_str().unwrap().starts_with('.')),
        "nothing is left over: {left:?}"
    );

    // A byte of the component, and it is no package any more.
    let mut bytes = fs::read(site.path("m.tar")).unwrap();
    let at = bytes.len() - 20_000;
    bytes[at] ^= 1;
    fs::write(site.path("altered.tar"), bytes).unwrap();
    says(site.run("plugin verify altered.tar --trust trust.toml"), 1, "does not have the digest");
    says(site.run("plugin sign altered.tar --key release.key"), 1, "does not have the digest");
}

#[test]
fn each_signature_is_told_what_it_counts_for() {
    let site = Site::new();
    let [first, second, _] = ["first", "second", "stranger"].map(|name| site.key(name));
    for key in ["first", "stranger"] {
        site.run(&format!("plugin sign m.tar --key {key}.key --expires 1y")).expect(0);
    }
    let public = |text: &str| text.lines().find(|line| line.starts_with("public")).unwrap().to_owned();
    let trust = format!(
        "[keys.first]\n{}\n[keys.second]\n{}\n[[rules]]\nplugins = \"mon*\"\nkeys = [\"first\", \"second\"]\nthreshold = 2\n",
        public(&first),
        public(&second)
    );
    fs::write(site.path("trust.toml"), trust).unwrap();
    let verify = "plugin verify m.tar --trust trust.toml";
    let run = says(site.run(verify), 1, "1 of 2 signatures needed");
    assert!(run.stdout.contains("yes, as `first`") && run.stdout.contains("no: the key sha256:"), "{run:#?}");
    let json: Value = site.run(&format!("{verify} -o json")).expect(1).json();
    assert_eq!(json["trusted"], false);
    let counts: Vec<&Value> =
        json["signatures"].as_array().unwrap().iter().map(|one| &one["counts_as"]).collect();
    assert!(counts.contains(&&Value::from("first")) && counts.contains(&&Value::Null), "{json}");

    site.run("plugin sign m.tar --key second.key").expect(0);
    says(site.run(verify), 0, "signed by `first`, `second`");
    assert_eq!(site.run(&format!("{verify} -o json")).expect(0).json()["trusted"], true);
    fs::write(site.path("broken.toml"), "[keys.a]\npublik = 1\n").unwrap();
    says(site.run("plugin verify m.tar --trust broken.toml"), 1, "is no good trust file");
}

#[test]
fn an_encrypted_key_opens_with_its_passphrase_alone() {
    let site = Site::new();
    fs::write(site.path("passphrase"), "correct horse\n").unwrap();
    fs::write(site.path("wrong"), "incorrect horse\n").unwrap();
    site.run("plugin keygen k.key --passphrase-file passphrase").expect(0);
    let sign = "plugin sign m.tar --key k.key";
    says(site.run(sign), 1, "the secret key is encrypted");
    says(
        site.run(&format!("{sign} --passphrase-file wrong")),
        1,
        "the passphrase does not open the secret key",
    );
    assert!(Package::open(&site.path("m.tar")).unwrap().signatures().is_empty());
    site.run(&format!("{sign} --passphrase-file passphrase")).expect(0);
    output(site.command(sign).env("WINDLASS_KEY_PASSPHRASE", "correct horse")).expect(0);
    assert_eq!(Package::open(&site.path("m.tar")).unwrap().signatures().len(), 1, "one for each key");
}

#[test]
fn a_package_tells_what_it_holds() {
    let site = Site::new();
    site.key("k");
    site.run("plugin sign m.tar --key k.key").expect(0);
    let page = site.run("plugin inspect m.tar").expect(0);
    for part in
        ["monitor 0.1.0", "system.read (read, up to 10s)", "func() -> result<", "probes  ", "memory: 16MiB"]
    {
        assert!(page.stdout.contains(part), "no {part:?} in {page:#?}");
    }
    let json = site.run("plugin inspect m.tar -o json").expect(0).json();
    let package = Package::open(&site.path("m.tar")).unwrap();
    assert_eq!(json["digest"], package.bundle.digest.to_string());
    assert_eq!(json["signatures"][0]["key"], package.signatures()[0].key().to_string());
    assert_eq!(json["problem"], Value::Null);
    assert!(json["operations"][0]["docs"].as_str().is_some_and(|docs| !docs.is_empty()), "{json}");
}
