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
processes = 64
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
undo = "pool.detach"

[watches.pools]
operation = "pool.list"
args = { names = ["tank"], deep = 18446744073709551615, since = -1.5 }
every = "1m"
jitter = "30s"
[watches.all]
operation = "pool.list"
every = "10s"

[alerts.pool-degraded]
watch = "pools"
when = 'status.exists(p, p.health != "online")'
for = "5m"
severity = "critical"
summary = "A pool is not healthy."
description = "Look at\nits status."
[alerts.none]
watch = "all"
when = "size(status) == 0"
severity = "info"
summary = "No pool."
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
            processes: 64,
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
    assert_eq!(replace.undo.as_deref(), Some("pool.detach"));
    let watch = &manifest.watches["pools"];
    assert_eq!(watch.operation, "pool.list");
    assert_eq!((watch.every, watch.jitter), (Duration::from_secs(60), Duration::from_secs(30)));
    assert_eq!(
        serde_json::to_string(&watch.args).expect("JSON"),
        r#"{"deep":18446744073709551615,"names":["tank"],"since":-1.5}"#
    );
    assert_eq!(manifest.watches["all"].jitter, Duration::from_secs(1));
    let alert = &manifest.alerts["pool-degraded"];
    assert_eq!((alert.watch.as_str(), alert.severity), ("pools", Severity::Critical));
    assert_eq!(alert.hold, Duration::from_secs(300));
    assert_eq!(alert.description, "Look at\nits status.");
    assert_eq!(manifest.alerts["none"].hold, Duration::ZERO);
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
        change("undo = \"pool.detach\"", "undo = \"detach\""),
        change("undo = \"pool.detach\"", "undo = \"pool.replace\""),
        change("timeout = \"10s\"", "timeout = \"10s\"\nundo = \"pool.detach\""),
        change("operation = \"pool.list\"\nargs", "operation = \"list\"\nargs"),
        change("operation = \"pool.list\"\nargs", "operation = \"pool.lst\"\nargs"),
        change("operation = \"pool.list\"\nargs", "operation = \"pool.replace\"\nargs"),
        change("operation = \"pool.list\"\nargs", "operaton = \"pool.list\"\nargs"),
        change("args = { names", "args = [3] # { names"),
        change("-1.5", "2026-01-01"),
        change("18446744073709551615", "18446744073709551616"),
        change("every = \"1m\"", "every = \"0s\""),
        change("every = \"1m\"", "every = \"8760h\""),
        change("every = \"1m\"", ""),
        change("jitter = \"30s\"", "jitter = \"2m\""),
        change("[watches.pools]", "[watches.Pools]"),
        change("watch = \"pools\"", "watch = \"pool\""),
        change("watch = \"pools\"", ""),
        change("when = \"size(status) == 0\"", "when = \" \""),
        change("for = \"5m\"", "for = \"5\""),
        change("severity = \"critical\"", "severity = \"crit\""),
        change("severity = \"critical\"", ""),
        change("summary = \"No pool.\"", "summary = \"No\\npool.\""),
        change("summary = \"No pool.\"", "sumary = \"No pool.\""),
        change("Look at\\nits", "Look at\\u0007its"),
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

/// More of anything than a manifest may have: refused, and soon.
#[test]
fn there_is_a_limit_to_everything() {
    let head = "name = \"m\"\nversion = \"0.1.0\"\n";
    let each = |count: usize, one: &dyn Fn(usize) -> String| (0..count).map(one).collect::<String>();
    let strings = |count| each(count, &|n| format!("\"v{n}\","));
    let using = |placeholder: &str| {
        format!(
            "[placeholders]\nx = {placeholder}\n[commands.c]\npath = \"/c\"\nallow = [{{ args = [\"{{x}}\"] }}]\n"
        )
    };
    let tokens = "\"a|b|c|d|e|f|g|h|i|j\",".repeat(12);
    for (what, text) in [
        ("commands", each(65, &|n| format!("[commands.c{n}]\npath = \"/c\"\nallow = [{{ args = [] }}]\n"))),
        ("paths", format!("[commands.c]\npath = [{}]\nallow = [{{ args = [] }}]", "\"/c\",".repeat(17))),
        (
            "rules of one program",
            format!("[commands.c]\npath = \"/c\"\n{}", "[[commands.c.allow]]\nargs = []\n".repeat(513)),
        ),
        (
            "rules together",
            each(2, &|n| {
                let rules = format!("[[commands.c{n}.allow]]\nargs = []\n").repeat(300);
                format!("[commands.c{n}]\npath = \"/c\"\n{rules}")
            }),
        ),
        (
            "tokens together",
            format!(
                "[commands.c]\npath = \"/c\"\n{}",
                format!("[[commands.c.allow]]\nargs = [{tokens}]\n").repeat(40)
            ),
        ),
        ("placeholders", format!("[placeholders]\n{}", each(257, &|n| format!("p{n} = \"name\"\n")))),
        ("one_of", using(&format!("{{ one_of = [{}] }}", strings(513)))),
        ("items", using(&format!("{{ kind = \"list\", items = [{}] }}", strings(513)))),
        ("keys", using(&format!("{{ kind = \"property\", keys = [{}] }}", strings(513)))),
        ("under", using(&format!("{{ kind = \"path\", under = [{}] }}", "\"/a\",".repeat(513)))),
        ("files", "[[files]]\npath = \"/a/b\"\naccess = \"read\"\n".repeat(257)),
        ("probes", format!("probes = [{}]", "\"cpu\",".repeat(9))),
        ("operations", format!("[operations]\n{}", each(513, &|n| format!("\"a.b{n}\" = {{}}\n")))),
        ("locks", format!("[operations.\"a.b\"]\nlocks = [{}]", "\"x\",".repeat(17))),
        (
            "watches",
            format!(
                "operations.\"a.b\".effect = \"read\"\n{}",
                each(65, &|n| format!("[watches.w{n}]\noperation = \"a.b\"\nevery = \"1m\"\n"))
            ),
        ),
        (
            "alerts",
            each(129, &|n| {
                format!(
                    "[alerts.a{n}]\nwatch = \"w\"\nwhen = \"true\"\nseverity = \"info\"\nsummary = \"s\"\n"
                )
            }),
        ),
    ] {
        let error = Manifest::parse(&format!("{head}{text}")).expect_err(what);
        let told = error.message.contains("are allowed") || error.message.contains("have more than");
        assert!(told, "{what}: {error}");
    }
}

/// What a megabyte can do to a parser: nest, or repeat what is compared with all before it.
#[test]
fn a_hostile_manifest_is_refused_in_no_time() {
    let begun = std::time::Instant::now();
    let dotted = vec!["a"; 79].join(".");
    let quoted = |count: usize| (0..count).map(|n| format!("\"{n:x}\",")).collect::<String>();
    for text in [
        format!("args = {}1{}", "[".repeat(400_000), "]".repeat(400_000)),
        format!("args = {}1{}", "{a=".repeat(200_000), "}".repeat(200_000)),
        format!("{}a = 1", "a.".repeat(400_000)),
        format!("[{}a]", "a.".repeat(400_000)),
        // Both limits of the parser at once: tables in tables with long dotted keys.
        format!("x = {}1{}", format!("{{{dotted} = ").repeat(78), "}".repeat(78)),
        format!("placeholders.x.one_of = [{}]", quoted(120_000)),
        format!("probes = [{}]", quoted(120_000)),
        (0..60_000).map(|n| format!("a{n} = 1\n")).collect(),
        (0..60_000).map(|n| format!("[a{n}]\n")).collect(),
        (0..60_000).map(|n| format!("[operations.\"a.b{n}\"]\n")).collect(),
        "[[files]]\n".repeat(90_000),
    ] {
        let text: String = text.chars().take(MAX_BYTES).collect();
        // The stack of a thread as tokio has them, and less.
        let parsed = std::thread::Builder::new()
            .stack_size(1 << 20)
            .spawn(move || Manifest::parse(&text).map(drop))
            .expect("a thread");
        assert!(parsed.join().expect("no panic").is_err());
    }
    // A second or two without optimisation.
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
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

/// The examples of the reference are valid, and its tables name what there is.
#[test]
fn the_reference_is_right() {
    let reference = include_str!("../../../../docs/plugin-manifest.md");
    let examples: Vec<&str> =
        reference.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let (manifests, others): (Vec<&str>, Vec<&str>) =
        examples.into_iter().partition(|example| example.starts_with("name = "));
    assert_eq!(manifests.len(), 2);
    for example in manifests {
        Manifest::parse(example).unwrap_or_else(|error| panic!("{error}\n{example}"));
    }
    let policy = others.into_iter().find(|example| example.contains("policy")).expect("a policy");
    let policy: toml::Table = toml::from_str(policy).expect("TOML");
    let policy = policy["plugins"]["zfs"]["policy"].clone();
    policy.try_into::<crate::NodePolicy>().expect("a policy");
    let named = |word: &str| assert!(reference.contains(&format!("`{word}`")), "{word}");
    crate::grammar::KINDS.iter().for_each(|kind| named(kind));
    ProbeName::ALL.iter().for_each(|(probe, _)| named(probe));
}
