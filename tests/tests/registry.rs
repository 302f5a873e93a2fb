//! Bundles in a real registry: pushed, pulled, damaged there, and brought to a master.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use windlass_bundle::{Bundle, Package, Part, oci::SignatureImage};
use windlass_tests::{
    Binaries, Grid, GridOptions, Output,
    bundles::{Signer, variant},
    registry::{Registry, RegistryOptions, USER},
};

/// A folder with packages, a home for the command line, and a registry.
struct Site {
    dir: tempfile::TempDir,
    registry: Registry,
    windlass: PathBuf,
}

fn bundle(version: &str) -> Bundle {
    variant(&Binaries::find().unwrap(), "monitor", version, &[]).unwrap()
}

impl Site {
    fn new(options: &RegistryOptions) -> Site {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::start(dir.path(), options).unwrap();
        Site { registry, windlass: Binaries::find().unwrap().program("windlass"), dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.windlass);
        command.args(args).env_clear().env("HOME", self.dir.path()).current_dir(self.dir.path());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        output(&mut self.command(args))
    }

    /// Write a package and push it.
    fn push(&self, package: &Package, to: &str, more: &[&str]) -> Output {
        fs::write(self.path("pushed.tar"), package.to_bytes()).unwrap();
        self.run(
            &[&["plugin", "push", "pushed.tar", &self.registry.place(to), "--plain-http"], more].concat(),
        )
    }

    fn pull(&self, from: &str) -> Output {
        self.run(&["plugin", "pull", &self.registry.place(from), "pulled.tar", "--plain-http"])
    }

    fn pulled(&self) -> Vec<u8> {
        fs::read(self.path("pulled.tar")).unwrap()
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
fn says(output: Output, code: i32, text: &str) {
    let output = output.expect(code);
    assert!(output.stderr.contains(text), "no {text:?} in {output:#?}");
}

fn signed(bundle: Bundle, signers: &[&Signer]) -> Package {
    let signatures = signers.iter().map(|signer| signer.sign(&bundle).unwrap()).collect();
    Package::new(bundle, signatures).unwrap()
}

#[test]
fn what_is_pushed_comes_back_byte_for_byte() {
    let site = Site::new(&RegistryOptions::default());
    let [first, second, third] = [Signer::new(), Signer::new(), Signer::new()];
    let package = signed(bundle("0.1.0"), &[&first, &second]);
    let digest = package.bundle.digest;

    let pushed = site.push(&package, "plugins/monitor", &[]).expect(0);
    let exact = format!("plugins/monitor@{digest}");
    assert_eq!(pushed.stdout, format!("{}\n", site.registry.place(&exact)));
    assert_eq!(site.registry.tag("plugins/monitor", "0.1.0"), Some(digest), "the registry names it as we do");
    for from in ["plugins/monitor:0.1.0", &exact, &format!("plugins/monitor:0.1.0@{digest}")] {
        site.pull(from).expect(0);
        assert_eq!(site.pulled(), package.to_bytes(), "{from}");
        fs::remove_file(site.path("pulled.tar")).unwrap();
    }

    // Pushing again changes nothing; a signature that is added later joins the others.
    site.push(&package, "plugins/monitor", &[]).expect(0);
    let mut all = package.clone();
    let more = signed(bundle("0.1.0"), &[&third]);
    all.add(more.signatures()[0].clone()).unwrap();
    site.push(&more, "plugins/monitor", &[]).expect(0);
    site.pull("plugins/monitor:0.1.0").expect(0);
    assert_eq!(site.pulled(), all.to_bytes());

    // Without a signature.
    let bare = signed(bundle("0.2.0"), &[]);
    site.push(&bare, "plugins/monitor", &[]).expect(0);
    site.pull("plugins/monitor:0.2.0").expect(0);
    assert_eq!(site.pulled(), bare.to_bytes());
}

#[test]
fn a_tag_is_one_bundle() {
    let site = Site::new(&RegistryOptions::default());
    let [old, new] = ["0.1.0", "0.2.0"].map(|version| signed(bundle(version), &[]));
    site.push(&old, "monitor:stable", &[]).expect(0);
    says(site.push(&new, "monitor:stable", &[]), 1, "the tag `stable` names another bundle");
    assert_eq!(site.registry.tag("monitor", "stable"), Some(old.bundle.digest));
    site.push(&new, "monitor:stable", &["--move-tag"]).expect(0);
    let wanted = format!("monitor:stable@{}", old.bundle.digest);
    says(site.pull(&wanted), 1, "the tag `stable` names");
    assert!(!site.path("pulled.tar").exists());
    // By digest alone it is still there.
    site.pull(&format!("monitor@{}", old.bundle.digest)).expect(0);
    assert_eq!(site.pulled(), old.to_bytes());
    says(site.push(&old, &format!("monitor@{}", new.bundle.digest), &[]), 1, "and it should be");
    says(site.pull("monitor:0.9.0"), 1, "the registry has no");
    says(site.pull("nothing:0.1.0"), 1, "the registry has no");
    says(site.pull("monitor"), 1, "give a tag");
}

#[test]
fn nothing_that_a_registry_serves_is_believed() {
    let site = Site::new(&RegistryOptions::default());
    let signer = Signer::new();
    let package = signed(bundle("0.1.0"), &[&signer]);
    site.push(&package, "monitor", &[]).expect(0);
    let image = package.bundle.image();
    let artifact = SignatureImage::of(&package.signatures()[0], &image);
    let flip = |bytes: &mut Vec<u8>| *bytes.last_mut().unwrap() ^= 1;
    let cut = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2);
    let grow = |bytes: &mut Vec<u8>| bytes.extend([0; 10_000]);
    type Damage<'a> = &'a dyn Fn(&mut Vec<u8>);
    let cases: [(&str, windlass_types::Digest, Damage<'_>, &str); 8] = [
        (
            "a byte of the component",
            image.layer(Part::Component).digest,
            &flip,
            "`component.wasm` with the digest",
        ),
        (
            "half the component",
            image.layer(Part::Component).digest,
            &cut,
            "bytes of `component.wasm`, and it has",
        ),
        (
            "a longer component",
            image.layer(Part::Component).digest,
            &grow,
            "bytes of `component.wasm`, and it has",
        ),
        (
            "a byte of the manifest",
            image.layer(Part::Manifest).digest,
            &flip,
            "`plugin.toml` with the digest",
        ),
        ("half the WIT", image.layer(Part::Wit).digest, &cut, "bytes of `wit.wasm`, and it has"),
        ("the configuration", image.config_layer().digest, &flip, "the configuration with the digest"),
        ("the image", image.digest(), &|bytes| bytes.extend(b" "), "with the digest"),
        ("a signature", windlass_types::Digest::of(artifact.layer()), &flip, "the signature"),
    ];
    for (what, digest, damage, message) in cases {
        let file = site.registry.blob(digest);
        let good = fs::read(&file).unwrap();
        let mut bad = good.clone();
        damage(&mut bad);
        fs::write(&file, bad).unwrap();
        // By digest: of a tag's own target nothing is known beforehand.
        let run = site.pull(&format!("monitor@{}", package.bundle.digest));
        assert_eq!(run.code, 1, "{what}: {run:#?}");
        assert!(
            run.stderr.contains(message) && run.stderr.contains("hint: nothing was kept"),
            "{what}: {run:#?}"
        );
        assert!(!site.path("pulled.tar").exists(), "{what}");
        fs::write(&file, good).unwrap();
    }
    let file = site.registry.blob(image.layer(Part::Wit).digest);
    let good = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    says(site.pull("monitor:0.1.0"), 1, "the registry has no `wit.wasm`");
    fs::write(&file, good).unwrap();
    site.pull("monitor:0.1.0").expect(0);
    assert_eq!(site.pulled(), package.to_bytes());
}

#[test]
fn a_registry_that_is_down_is_told() {
    let site = Site::new(&RegistryOptions::default());
    let package = signed(bundle("0.1.0"), &[]);
    site.push(&package, "monitor", &[]).expect(0);
    let Site { dir, registry, windlass } = site;
    let place = registry.place("monitor:0.1.0");
    drop(registry);
    let run = |args: &[&str]| {
        output(Command::new(&windlass).args(args).env_clear().env("HOME", dir.path()).current_dir(dir.path()))
    };
    let pull = run(&["plugin", "pull", &place, "--plain-http"]);
    says(pull.clone(), 1, "cannot reach the registry `127.0.0.1:");
    says(pull, 1, "connection refused");
    says(run(&["plugin", "push", "pushed.tar", &place, "--plain-http"]), 1, "connection refused");
    says(run(&["plugin", "pull", "oci://registry.example/x:1", "--plain-http"]), 2, "is not on this machine");
}

#[test]
fn passwords_come_from_where_nobody_looks() {
    let site = Site::new(&RegistryOptions { login: true, tls: None });
    fs::write(site.path("m.tar"), signed(bundle("0.1.0"), &[]).to_bytes()).unwrap();
    let place = site.registry.place("monitor");
    let push = ["plugin", "push", "m.tar", place.as_str(), "--plain-http"];
    let denied = site.run(&push);
    says(denied.clone(), 4, "does not allow it");
    says(denied, 4, "hint: log in with `docker login`");

    let with = |user: &str, password: &str| {
        let mut command = site.command(&push);
        command.env("WINDLASS_REGISTRY_USER", user).env("WINDLASS_REGISTRY_PASSWORD", password);
        output(&mut command)
    };
    says(with(USER.0, "wrong"), 4, "does not allow it");
    says(with(USER.0, ""), 2, "no password");
    with(USER.0, USER.1).expect(0);

    fs::write(site.path("password"), format!("{}\n", USER.1)).unwrap();
    let file = ["--registry-user", USER.0, "--registry-password-file", "password"];
    site.run(&[&push[..], &file].concat()).expect(0);

    // What `docker login` stores: base64 of `ci:secret`.
    fs::create_dir(site.path(".docker")).unwrap();
    let login = format!("{{\"auths\":{{\"{}\":{{\"auth\":\"Y2k6c2VjcmV0\"}}}}}}", site.registry.address());
    fs::write(site.path(".docker/config.json"), login).unwrap();
    site.run(&push).expect(0);
    site.pull("monitor:0.1.0").expect(0);
}

#[test]
fn a_registry_shows_a_certificate_that_is_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| dir.path().join(name));
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into(), "localhost".into()]).unwrap();
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let site = Site::new(&RegistryOptions { login: false, tls: Some((certificate.clone(), key)) });
    fs::write(site.path("m.tar"), signed(bundle("0.1.0"), &[]).to_bytes()).unwrap();
    let place = site.registry.place("monitor");
    let push = ["plugin", "push", "m.tar", place.as_str()];
    says(site.run(&push), 1, "cannot reach the registry");
    site.run(&[&push[..], &["--registry-ca", path(&certificate)]].concat()).expect(0);
    assert!(site.registry.tag("monitor", "0.1.0").is_some());
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_bundle_goes_from_a_registry_to_a_master() {
    let site = Site::new(&RegistryOptions::default());
    let signer = Signer::new();
    let package = signed(bundle("0.2.0"), &[&signer]);
    site.push(&package, "monitor", &[]).expect(0);
    let grid = Grid::start_master(
        Binaries::find().unwrap(),
        &site.path("."),
        GridOptions { hosts: vec![], plugins: vec![], ..GridOptions::default() },
    )
    .unwrap();
    let place = site.registry.place("monitor:0.2.0");
    let pushed = grid.windlass(&["plugins", "push", &place, "--plain-http"]).expect(0);
    assert_eq!(pushed.stdout, format!("{}\n", package.bundle.digest));
    let back = site.path("back.tar");
    grid.windlass(&["plugins", "export", "monitor@0.2.0", path(&back)]).expect(0);
    assert_eq!(fs::read(&back).unwrap(), package.to_bytes());

    // The same difference, whether the master finds it or the command line.
    let new = site.path("new.tar");
    let changes = [("probes = [\"system\", ", "probes = ["), ("memory = \"16MiB\"", "memory = \"32MiB\"")];
    let next = variant(&Binaries::find().unwrap(), "monitor", "0.3.0", &changes).unwrap();
    signer.package(next, site.dir.path()).map(|file| fs::rename(file, &new)).unwrap().unwrap();
    let here = grid.windlass(&["plugins", "diff", "monitor@0.2.0", path(&new)]).expect(0);
    assert!(here.stdout.contains("- system") && here.stdout.contains("memory raised to 32MiB"), "{here:#?}");
    grid.windlass(&["plugins", "push", path(&new)]).expect(0);
    let there = grid.windlass(&["plugins", "diff", "monitor@0.2.0", "monitor@0.3.0"]).expect(0);
    assert_eq!(here.stdout, there.stdout);
    let asks = grid.windlass(&["plugins", "show", "monitor@0.3.0"]).expect(0);
    assert!(asks.stdout.contains("memory: 32MiB") && asks.stdout.contains("not approved"), "{asks:#?}");
    let list = grid.windlass(&["plugins", "list", "-o", "json"]).expect(0).json();
    assert_eq!(list[0]["versions"], serde_json::json!(["0.3.0", "0.2.0"]));
}
