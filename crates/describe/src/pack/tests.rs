use super::*;
use crate::fixture::{FULL, component};

const WIT: &str = r"
package a:b;
interface noun {
  /// Do it.
  ///
  /// pool: which
  run: func(pool: string, parts: list<string>);
  look: func() -> u8;
}
world w { export noun; }
";

fn dir(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(path, text).expect("written");
    }
    dir
}

fn pack_with(operations: &str) -> Result<Packed, PackError> {
    let manifest = format!("name = \"b\"\nversion = \"0.1.0\"\n{operations}");
    pack(manifest.into_bytes(), component(WIT), dir(&[("b.wit", WIT)]).path())
}

fn chain(error: &dyn std::error::Error) -> String {
    let source = error.source().map(|source| format!(": {}", chain(source)));
    format!("{error}{}", source.unwrap_or_default())
}

#[test]
fn a_bundle_is_packed_the_same_twice() {
    let operations = "[operations.\"noun.run\"]\neffect = \"change\"\nlocks = [\"pool:{pool}\"]\n";
    let packed = pack_with(operations).expect("packed");
    assert_eq!(packed.unlisted, ["noun.look"]);
    assert_eq!(packed.operations.len(), 2);
    assert_eq!(packed.operations[1].signature.params[0].docs, "which");
    assert_eq!(packed.bundle.digest, pack_with(operations).expect("packed").bundle.digest);
    let read = check(&packed.bundle).expect("checked");
    assert_eq!(read, (packed.operations, packed.unlisted));
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let mut text = String::new();
    for operations in [
        "[operations.\"noun.rum\"]",
        "[operations.\"verb.x\"]",
        "[operations.\"noun.run\"]\nlocks = [\"{pol}\"]",
        "[operations.\"noun.run\"]\nlocks = [\"{parts}\"]",
        "nonsense = 1",
    ] {
        let error = pack_with(operations).expect_err(operations);
        text.push_str(&format!("{operations}\n    {}\n", chain(&error)));
    }
    let manifest = |name: &str| format!("name = \"{name}\"\nversion = \"0.1.0\"").into_bytes();
    let mut show = |what: &str, result: Result<Packed, PackError>| {
        text.push_str(&format!("{what}\n    {}\n", chain(&result.expect_err(what))));
    };
    let wit = dir(&[("b.wit", WIT)]);
    show("another component", pack(manifest("b"), component(FULL), wit.path()));
    show("not a component", pack(manifest("b"), b"\0asm\x01\0\0\0".into(), wit.path()));
    show("another name", pack(manifest("c"), component(WIT), wit.path()));
    let none = "package a:b; world w {}";
    show("no operations", pack(manifest("b"), component(none), dir(&[("b.wit", none)]).path()));
    insta::assert_snapshot!(text);
}

#[test]
fn wit_that_is_wrong_is_told_with_its_line() {
    let dir = dir(&[("b.wit", "package a:b;\ninterface noun {\n  f: func(x: strin);\n}\n")]);
    let error = encode_wit(dir.path()).expect_err("wrong").to_string();
    assert!(error.contains("strin") && error.contains("b.wit:3"), "{error}");
    let missing = encode_wit(&dir.path().join("none")).expect_err("wrong").to_string();
    assert!(missing.ends_with("it is not a folder"), "{missing}");
}

/// Authors need no copy of the host interface, and may have one.
#[test]
fn the_host_interface_is_found() {
    let plugin = "package a:b; interface noun { f: func(); } \
                  world w { include windlass:host/imports@0.1.0; export noun; }";
    let without = encode_wit(dir(&[("b.wit", plugin)]).path()).expect("encoded");
    let mut files = vec![("b.wit".to_owned(), plugin)];
    files.extend(HOST.iter().map(|(name, text)| (format!("deps/{name}"), *text)));
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), *text)).collect();
    let with = encode_wit(dir(&files).path()).expect("encoded");
    let name = "b".parse().expect("a name");
    assert_eq!(operations(&name, &without), operations(&name, &with));
}

/// A file added to the host interface must be added to [`HOST`] too.
#[test]
fn the_host_interface_is_complete() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/host");
    let mut files: Vec<String> = std::fs::read_dir(dir)
        .expect("readable")
        .map(|entry| format!("host/{}", entry.expect("readable").file_name().to_string_lossy()))
        .collect();
    let mut known: Vec<&str> = HOST.iter().map(|(name, _)| *name).collect();
    files.sort();
    known.sort_unstable();
    assert_eq!(files, known);
}
