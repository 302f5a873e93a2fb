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
  record disk { used-bytes: u64, state: string }
  disks: func(pool: option<string>) -> result<list<disk>, string>;
}
world w { export noun; }
";

/// A watch and an alert that are right.
const DISKS: &str = r#"
[operations."noun.disks"]
effect = "read"
[watches.disks]
operation = "noun.disks"
args = { pool = "tank" }
every = "1m"
[alerts.full]
watch = "disks"
when = 'status.exists(d, d.used_bytes > 10 && d.state.startsWith("on"))'
severity = "warning"
summary = "A disk is full."
"#;

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
    let operations = format!(
        "[operations.\"noun.run\"]\neffect = \"change\"\nlocks = [\"pool:{{pool}}\"]\nundo = \"noun.look\"\n{DISKS}"
    );
    let operations = &operations;
    let packed = pack_with(operations).expect("packed");
    assert_eq!(packed.unlisted, ["noun.look"]);
    assert_eq!(packed.operations.len(), 3);
    assert_eq!(packed.operations[2].signature.params[0].docs, "which");
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
        "[operations.\"noun.run\"]\nundo = \"noun.lok\"",
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

/// Watches and alerts that could never work, with what is told.
#[test]
fn watches_and_alerts_fit_what_they_look_at() {
    let mut text = String::new();
    let condition = r#"status.exists(d, d.used_bytes > 10 && d.state.startsWith("on"))"#;
    for (from, to) in [
        ("args = { pool = \"tank\" }", "args = { pol = \"tank\" }"),
        ("args = { pool = \"tank\" }", "args = { pool = 3 }"),
        (condition, "status.exists(d, d.used_bytes > 10"),
        (condition, "state.exists(d, true)"),
        (condition, "true"),
        (condition, "status.exists(d, d.used_byte > 10)"),
        (condition, "status.exists(d, d.state.startswith(\"on\"))"),
        (condition, "status.exists(d, timestamp(d.state) > 0)"),
        (condition, "size(status)"),
        (condition, "status.map(d, d.state)"),
        (condition, "status.all(a, status.all(b, status.all(c, a == b && b == c)))"),
    ] {
        assert!(DISKS.contains(from), "{from}");
        let error = pack_with(&DISKS.replace(from, to)).expect_err(to);
        text.push_str(&format!("{to}\n    {}\n", chain(&error)));
    }
    insta::assert_snapshot!(text);
    for condition in [
        "status.exists_one(d, d.state == \"off\")",
        "size(status) > 3 ? true : false",
        "status[0].state in [\"off\"]",
        "!status.all(d, has(d.state))",
        "status.map(d, {\"any\": d.state})[0].any == \"x\"",
    ] {
        pack_with(
            &DISKS.replace(r#"status.exists(d, d.used_bytes > 10 && d.state.startsWith("on"))"#, condition),
        )
        .expect(condition);
    }
}

/// The dearest alerts there can be cost what reading them costs: nothing is evaluated.
#[test]
fn hostile_alerts_are_cheap() {
    let long = format!("status.all(a, {})", vec!["a == a"; 100].join(" && "));
    let deep = format!("{}status == status{}", "(".repeat(80), ")".repeat(80));
    for when in [long, deep] {
        let mut alerts = DISKS.to_owned();
        for n in 0..127 {
            alerts.push_str(&format!(
                "[alerts.a{n}]\nwatch = \"disks\"\nwhen = '{when}'\nseverity = \"info\"\nsummary = \"s\"\n"
            ));
        }
        let begun = std::time::Instant::now();
        pack_with(&alerts).expect("packed");
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{:?}", begun.elapsed());
    }
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
    let (_, host) = PROVIDED[0];
    files.extend(host.iter().map(|(name, text)| (format!("deps/host/{name}"), *text)));
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), *text)).collect();
    let with = encode_wit(dir(&files).path()).expect("encoded");
    let name = "b".parse().expect("a name");
    assert_eq!(operations(&name, &without), operations(&name, &with));
}

/// A file added to a package of Windlass must be added to [`PROVIDED`] too.
#[test]
fn what_is_provided_is_complete() {
    for (package, texts) in PROVIDED {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit").join(package);
        let mut files: Vec<String> = std::fs::read_dir(dir)
            .expect("readable")
            .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
            .collect();
        let mut known: Vec<&str> = texts.iter().map(|(name, _)| *name).collect();
        files.sort();
        known.sort_unstable();
        assert_eq!(files, known);
    }
}
