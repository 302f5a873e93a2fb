use super::*;

const FULL: &str = r#"
name = "zfs"
version = "1.4.0"
description = "Pools and datasets."
probes = ["block-devices", "mounts"]
state = true

[limits]
memory = "32MiB"
cpu = "2s"
output = "1MiB"
command_output = "4MiB"
concurrency = 4

[placeholders]
pool = { kind = "name", max_length = 255 }
device = { kind = "path", under = ["/dev"] }
dataset = { chars = "a-zA-Z0-9_./@-", max_length = 255 }
columns = { kind = "list", items = ["name", "size"] }

[commands.zpool]
path = ["/usr/sbin/zpool", "/sbin/zpool"]
[[commands.zpool.allow]]
effect = "read"
args = ["list", "-H", "-p", "[-o {columns}]", "{pool?}"]
[[commands.zpool.allow]]
effect = "change"
args = ["replace", "{pool}", "{device}", "{device}"]
[[commands.zpool.allow]]
args = ["destroy", "{pool}"]

[commands.zfs]
path = "/usr/sbin/zfs"
allow = [{ effect = "read", args = ["list", "{dataset*}"] }]

[[files]]
path = "/etc/zfs/**"
access = "read"
[[files]]
path = "/etc/zfs/zed.d/*.rc"
access = "write"
effect = "change"

[operations."pool.list"]
effect = "read"
timeout = "10s"
idempotent = true
[operations."pool.replace"]
effect = "change"
timeout = "2m"
locks = ["pool:{pool}", "zfs"]
"#;

#[test]
fn a_full_manifest() {
    let manifest = Manifest::parse(FULL).expect("valid");
    assert_eq!(manifest.name.as_str(), "zfs");
    assert_eq!(manifest.version, Version { major: 1, minor: 4, patch: 0 });
    assert_eq!(
        manifest.limits,
        Limits {
            memory_bytes: 32 << 20,
            cpu_ms: 2000,
            output_bytes: 1 << 20,
            command_output_bytes: 4 << 20,
            concurrency: 4
        }
    );
    let zpool = &manifest.commands["zpool"];
    assert_eq!(zpool.paths, [PathBuf::from("/usr/sbin/zpool"), PathBuf::from("/sbin/zpool")]);
    assert_eq!(
        zpool.allow.iter().map(|rule| rule.effect).collect::<Vec<_>>(),
        [Effect::Read, Effect::Change, Effect::Destroy]
    );
    assert_eq!(manifest.commands["zfs"].paths, [PathBuf::from("/usr/sbin/zfs")]);
    assert_eq!(manifest.files[0].effect, Effect::Read);
    assert_eq!(manifest.probes, [ProbeName::BlockDevices, ProbeName::Mounts].into());
    assert!(manifest.state);
    let replace = manifest.operation("pool.replace");
    assert_eq!((replace.effect, replace.timeout), (Effect::Change, Duration::from_secs(120)));
    assert_eq!(replace.locks, ["pool:{pool}", "zfs"]);
    assert_eq!(lock_params("pool:{pool}/{disk}"), Ok(vec!["pool", "disk"]));
}

#[test]
fn a_small_manifest_and_its_defaults() {
    let manifest = Manifest::parse("name = \"m\"\nversion = \"0.1.0\"\n").expect("valid");
    assert_eq!(manifest.limits, Limits::default());
    assert!(manifest.commands.is_empty() && manifest.files.is_empty() && !manifest.state);
    let unlisted = manifest.operation("disk.list");
    assert_eq!(
        (unlisted.effect, unlisted.timeout.as_secs(), unlisted.idempotent),
        (Effect::Destroy, 60, false)
    );
}

/// Each mistake with the message it gives. Where `FULL` is changed, both texts are given.
#[test]
fn mistakes_are_told_with_their_place() {
    let head = "name = \"m\"\nversion = \"0.1.0\"\n";
    let change = |from: &str, to: &str| {
        assert!(FULL.contains(from), "{from}");
        (format!("{from}  ->  {to}"), FULL.replacen(from, to, 1))
    };
    let add = |text: &str| (text.to_owned(), format!("{head}{text}\n"));
    let cases = [
        ("(nothing)".to_owned(), String::new()),
        ("name = 3".to_owned(), "name = 3\n".to_owned()),
        ("name = \"m\n".to_owned(), "name = \"m\n".to_owned()),
        change("name = \"zfs\"", "name = \"ZFS\""),
        change("1.4.0", "1.4"),
        change("1.4.0", "1.04.0"),
        change("description =", "descripton ="),
        change("[limits]", "[limit]"),
        change("[limits]", "[wholly_unknown]"),
        change("memory = \"32MiB\"", "memory = \"32MB\""),
        change("memory = \"32MiB\"", "memory = 32"),
        change("memory = \"32MiB\"", "memory = \"32GiB\""),
        change("memory = \"32MiB\"", "memory = \"99999999999999999999MiB\""),
        change("memory = \"32MiB\"", "memory = \"99999999999GiB\""),
        change("cpu = \"2s\"", "cpu = \"2 s\""),
        change("cpu = \"2s\"", "cpu = \"0s\""),
        change("concurrency = 4", "concurrency = 0"),
        change("\"block-devices\"", "\"block-device\""),
        change("state = true", "state = 1"),
        change("kind = \"name\"", "kind = \"names\""),
        change("kind = \"name\"", "kind = \"name\", chars = \"a-z\""),
        change("kind = \"name\"", "kind = \"name\", under = [\"/dev\"]"),
        change("under = [\"/dev\"]", "under = [\"dev\"]"),
        change("a-zA-Z0-9_./@-", "z-a"),
        change("a-zA-Z0-9_./@-", ""),
        change("items = [\"name\", \"size\"]", "items = [\"name\", \"name\"]"),
        change("items = [\"name\", \"size\"]", "items = []"),
        change("items = [\"name\", \"size\"]", "items = [\"-x\"]"),
        change("max_length = 255", "max_length = 0"),
        change("columns = {", "column = {"),
        change("\"/usr/sbin/zpool\",", "\"zpool\","),
        change("\"/usr/sbin/zpool\",", "\"/usr/../bin/sh\","),
        change("path = [\"/usr/sbin/zpool\", \"/sbin/zpool\"]", "path = []"),
        change("path = [\"/usr/sbin/zpool\", \"/sbin/zpool\"]", ""),
        change("effect = \"change\"\nargs", "effect = \"chnage\"\nargs"),
        change("effect = \"change\"\nargs", "efect = \"change\"\nargs"),
        change("[-o {columns}]", "[-o {columns}"),
        change("\"-H\", \"-p\"", "\"-H -p\""),
        change("[\"list\", \"{dataset*}\"]", "\"list\""),
        change("[\"list\", \"{dataset*}\"]", "[\"list\", 3]"),
        change("/etc/zfs/**", "etc/zfs/**"),
        change("/etc/zfs/**", "/etc/../zfs"),
        change("/etc/zfs/**", "/**"),
        change("/etc/zfs/**", "/hosts"),
        change("/etc/zfs/**", "/etc/**/x"),
        change("/etc/zfs/**", "/etc/{a,b}"),
        change("access = \"read\"", "access = \"rw\""),
        change("access = \"read\"", "access = \"read\"\neffect = \"change\""),
        change("access = \"write\"\neffect = \"change\"", "access = \"write\"\neffect = \"read\""),
        change("[operations.\"pool.list\"]", "[operations.pool.list]"),
        change("[operations.\"pool.list\"]", "[operations.\"zfs.pool.list\"]"),
        change("timeout = \"2m\"", "timeout = \"2 minutes\""),
        change("timeout = \"2m\"", "time_out = \"2m\""),
        change("\"pool:{pool}\"", "\"pool:{pool\""),
        change("\"pool:{pool}\"", "\"\""),
        add("[commands.x]\npath = \"/bin/x\""),
        add("[commands.x]\npath = \"/bin/x\"\nallow = []"),
        add("[commands.\"a b\"]\npath = \"/bin/x\"\nallow = [{ args = [] }]"),
        add("[commands.x]\npath = \"/bin/x\"\nallow = [{ effect = \"read\" }]"),
        add(
            "[placeholders.x]\none_of = [\"-f\"]\n[commands.y]\npath = \"/bin/y\"\nallow = [{ args = [\"{x}\"] }]",
        ),
        add("[placeholders]\nX = \"name\""),
        add("files = 3"),
        add("[[files]]\naccess = \"read\""),
    ];
    let mut text = String::new();
    for (what, manifest) in cases {
        let error = Manifest::parse(&manifest).err().unwrap_or_else(|| panic!("accepted: {what}"));
        text.push_str(&format!("{what}\n    {error}\n\n"));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn the_place_is_that_of_the_value() {
    let error = Manifest::parse(&FULL.replace("\"2m\"", "\"2y\"")).expect_err("no such unit");
    let line = FULL.lines().position(|line| line.contains("\"2m\"")).expect("there") + 1;
    assert_eq!((error.line, error.column), (line, 11));
    assert_eq!(error.key, "operations.\"pool.replace\".timeout");
}

#[test]
fn a_huge_manifest_is_refused_before_it_is_read() {
    let text = format!("# {}\n{FULL}", "x".repeat(MAX_BYTES));
    assert!(Manifest::parse(&text).expect_err("too large").message.contains("larger than 1MiB"));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 2048, ..Default::default() })]

    /// A valid manifest with a piece cut out, doubled or replaced: a manifest or an error, never a panic,
    /// and the place is within the text.
    #[test]
    fn a_damaged_manifest_never_panics(
        from in 0..FULL.len(),
        len in 0..40usize,
        insert in "[\\[\\]{}=\"'.,a-z0-9\n\\\\é|?*+/-]{0,8}",
    ) {
        let to = (from + len).min(FULL.len());
        let text = format!("{}{insert}{}", &FULL[..from], &FULL[to..]);
        if let Err(error) = Manifest::parse(&text) {
            proptest::prop_assert!(error.line >= 1 && error.line <= text.matches('\n').count() + 1);
            let _ = error.to_string();
        }
    }

    #[test]
    fn versions_have_one_spelling(text in "[0-9]{1,3}(\\.[0-9]{1,3}){1,3}") {
        if let Ok(version) = text.parse::<Version>() {
            proptest::prop_assert_eq!(version.to_string(), text);
        }
    }
}

/// A fuzz target as well as a test: `cargo bolero test` runs it with coverage.
#[test]
fn fuzz_manifest() {
    bolero::check!().for_each(|bytes: &[u8]| {
        if let Ok(text) = std::str::from_utf8(bytes) {
            let _ = Manifest::parse(text).map_err(|error| error.to_string());
        }
    });
}

/// The examples of the reference are valid, and its tables name what there is.
#[test]
fn the_reference_is_right() {
    let reference = include_str!("../../../../docs/plugin-manifest.md");
    let examples: Vec<&str> =
        reference.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(examples.len(), 3);
    for example in &examples[..2] {
        Manifest::parse(example).unwrap_or_else(|error| panic!("{error}\n{example}"));
    }
    let policy: toml::Table = toml::from_str(examples[2]).expect("TOML");
    let policy = policy["plugins"]["zfs"]["policy"].clone();
    policy.try_into::<crate::NodePolicy>().expect("a policy");
    let named = |word: &str| assert!(reference.contains(&format!("`{word}`")), "{word}");
    crate::grammar::KINDS.iter().for_each(|kind| named(kind));
    ProbeName::ALL.iter().for_each(|(probe, _)| named(probe));
}
