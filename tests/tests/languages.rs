//! A plugin in each language, from `windlass plugin new` to a typed result of an enrolled node.

use serde_json::Value;
use std::path::{Path, PathBuf};
use windlass_bundle::Package;
use windlass_tests::{Binaries, Grid, GridOptions, Output, bundles::Signer};

/// Tools and crates that the languages need are got once and kept.
fn cache() -> PathBuf {
    let target = Binaries::find().unwrap().program("windlass");
    target.ancestors().nth(2).unwrap().join("authors")
}

fn author(grid: &Grid, dir: &Path, args: &[&str]) -> Output {
    let mut command = grid.windlass_command();
    command.current_dir(dir).args(args).env("XDG_CACHE_HOME", cache());
    // Cargo finds its toolchain and its crates by these.
    for name in ["HOME", "CARGO_HOME", "RUSTUP_HOME"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.env("CARGO_TARGET_DIR", cache().join("cargo"));
    let output = command.output().unwrap();
    Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn from_nothing_to_a_node(language: &str) {
    let dir = tempfile::tempdir().unwrap();
    let signer = Signer::new();
    let options = GridOptions { plugins: Vec::new(), trust: Some(signer.trust()), ..GridOptions::default() };
    let grid = Grid::start(Binaries::find().unwrap(), dir.path(), options).unwrap();
    let name = format!("usage-{language}");
    let windlass = |args: &[&str]| author(&grid, dir.path(), args);

    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/sdk");
    let mut new = vec!["plugin", "new", "--lang", language, &name];
    if language == "rust" {
        new.extend(["--sdk", sdk.to_str().unwrap()]);
    }
    windlass(&new).expect(0);
    let again = windlass(&new);
    assert_eq!(again.code, 1, "{again:#?}");
    assert!(again.stderr.contains("is there already"), "{again:#?}");
    let unbuilt = windlass(&["plugin", "check", &name]).expect(0);
    assert!(!unbuilt.stdout.contains("warning"), "{unbuilt:#?}");
    let early = windlass(&["plugin", "pack", &name]);
    assert!(early.code == 1 && early.stderr.contains("windlass plugin build"), "{early:#?}");
    windlass(&["plugin", "build", &name]).expect(0);
    windlass(&["plugin", "check", &name]).expect(0);
    let tested = windlass(&["plugin", "test", &format!("./{name}")]).expect(0);
    // An answer, an error of the operation's own type, and a denial.
    assert!(tested.stderr.contains("3 cases: 3 ok"), "{tested:#?}");
    let local = windlass(&["plugin", "run", &format!("./{name}"), "disk.usage", "path=/proc", "-o", "json"])
        .expect(0);
    let local = local.json();
    assert_eq!(local["outcome"]["value"]["mounted_on"], "/proc", "{local}");
    // An interpreter has room enough under the limit of the template, which is the default.
    assert!(local["stats"]["memory_peak_bytes"].as_u64().unwrap() < 32 << 20, "{local}");
    types_for_editors(language, &dir.path().join(&name));
    let pack = |file: &str| {
        windlass(&["plugin", "pack", &name, "--file", file]).expect(0);
        std::fs::read(dir.path().join(file)).unwrap()
    };
    assert!(pack("a.tar") == pack("b.tar"), "the same plugin packed twice differs");

    let mut package = Package::open(&dir.path().join("a.tar")).unwrap();
    let signature = signer.sign(&package.bundle).unwrap();
    package.add(signature).unwrap();
    std::fs::write(dir.path().join("signed.tar"), package.to_bytes()).unwrap();
    windlass(&["plugins", "push", "signed.tar"]).expect(0);
    let bundle = format!("{name}@0.1.0");
    windlass(&["plugins", "deploy", &bundle, "--approve", "--yes", "--canary", "0", "--soak", "0s"])
        .expect(0);

    let operation = format!("{name}.disk.usage");
    let usage = |path: &str, code: i32| -> Value {
        let path = format!("path={path}");
        let run = windlass(&["run", &operation, &path, "--on", "n1", "-o", "json"]).expect(code).json();
        run["results"][0]["outcome"].clone()
    };
    let outcome = usage("/proc", 0);
    assert_eq!(outcome["value"]["mounted_on"], "/proc", "{outcome}");
    assert_eq!(outcome["value"]["size_bytes"], 0, "{outcome}");
    let outcome = usage("/", 0);
    let value = &outcome["value"];
    assert!(value["size_bytes"].as_u64().unwrap() >= value["used_bytes"].as_u64().unwrap(), "{outcome}");
    assert!(!value["filesystem"].as_str().unwrap().is_empty(), "{outcome}");
    // The errors of the operation's own type.
    let outcome = usage("/there/is/no/such/place", 3);
    assert_eq!(outcome["status"], "failed", "{outcome}");
    assert!(outcome["error"]["not_found"].is_string(), "{outcome}");
    // What the grammar does not allow is denied, and the plugin passes that on.
    let outcome = usage("--help", 4);
    assert!(outcome["error"]["denied"].is_string(), "{outcome}");
}

/// A build leaves what editors complete from, with the documentation of the WIT.
fn types_for_editors(language: &str, dir: &Path) {
    let (file, name) = match language {
        "python" => ("python/types/wit_world/exports/disk.py", "class FilesystemUsage"),
        "js" => ("js/types/local-usage-js-disk.d.ts", "export interface FilesystemUsage"),
        "c" => ("c/plugin.h", "exports_local_usage_c_disk_filesystem_usage_t"),
        // The SDK's macro makes them.
        _ => return,
    };
    let path = dir.join("target/plugin").join(file);
    let types = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for text in [name, "How full a filesystem is"] {
        assert!(types.contains(text), "no `{text}` in {}", path.display());
    }
}

#[test]
fn rust() {
    from_nothing_to_a_node("rust");
}

#[test]
fn python() {
    from_nothing_to_a_node("python");
}

#[test]
fn javascript() {
    from_nothing_to_a_node("js");
}

#[test]
fn c() {
    from_nothing_to_a_node("c");
}
