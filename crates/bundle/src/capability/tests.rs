use super::*;

fn manifest(text: &str) -> Manifest {
    Manifest::parse(&format!("name = \"m\"\nversion = \"0.1.0\"\n{text}")).expect("a manifest")
}

fn shown(manifest: &Manifest, operations: &[&str]) -> Vec<String> {
    capabilities(manifest, operations.iter().copied()).iter().map(ToString::to_string).collect()
}

#[test]
fn everything_a_manifest_asks_for_is_listed() {
    let manifest = manifest(
        r#"
probes = ["cpu"]
state = true
[placeholders]
pool = { chars = "a-c_z", max_length = 9 }
device = { kind = "path", under = ["/dev"] }
[commands.zpool]
path = ["/usr/sbin/zpool", "/sbin/zpool"]
allow = [
    { effect = "read", args = ["list", "[-o {columns}]", "{pool?}"] },
    { effect = "change", args = ["replace", "{pool}", "{device}", "{device}"] },
]
[[files]]
path = "/etc/zfs/**"
access = "read"
[[files]]
path = "/etc/zfs/*.rc"
access = "write"
[operations."pool.list"]
effect = "read"
[watches.pools]
operation = "pool.list"
args = { all = true }
every = "90s"
"#,
    );
    assert_eq!(
        shown(&manifest, &["pool.list", "pool.drop"]),
        [
            "command zpool list [-o {columns}] {pool?} (read; {columns} is a word; {pool} is made of _a-cz of at most 9 bytes)",
            "command zpool replace {pool} {device} {device} (change; {device} is a path beneath /dev; {pool} is made of _a-cz of at most 9 bytes)",
            "file read (read) /etc/zfs/**",
            "file write (destroy) /etc/zfs/*.rc",
            "limit command-output: 16MiB",
            "limit concurrency: 8",
            "limit cpu: 10s",
            "limit memory: 64MiB",
            "limit output: 16MiB",
            "limit processes: 512",
            "operation pool.drop: destroy",
            "operation pool.list: read",
            "probe cpu",
            "program zpool = /usr/sbin/zpool, /sbin/zpool",
            "state",
            "watch pools: pool.list {\"all\":true} every 90s",
        ]
    );
}

#[test]
fn one_path_never_reads_like_two() {
    let ask = |paths: &str| {
        let text = format!("[commands.a]\npath = [{paths}]\nallow = [{{ effect = \"read\", args = [] }}]");
        shown(&manifest(&text), &[]).into_iter().find(|text| text.starts_with("program")).expect("a program")
    };
    assert_eq!(ask(r#""/a", "/b""#), "program a = /a, /b");
    assert_eq!(ask(r#""/a, /b""#), r#"program a = "/a, /b""#);
}

#[test]
fn more_of_the_same_is_not_covered() {
    let ask = |text: &str, operation: &str| {
        capabilities(&manifest(&format!("{text}\n[operations.\"a.b\"]\neffect = \"{operation}\"")), ["a.b"])
    };
    let (less, more) = (ask("", "read"), ask("[limits]\nmemory = \"65MiB\"", "change"));
    let beyond_text = |asked: &[Capability], had: &[Capability]| {
        beyond(asked, had).into_iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(beyond_text(&more, &less), ["limit memory: 65MiB", "operation a.b: change"]);
    assert_eq!(beyond_text(&less, &more), [""; 0]);
    assert_eq!(beyond_text(&less, &[]).len(), less.len());
}

#[test]
fn what_an_operator_did_not_approve_is_denied() {
    use crate::{Approval, Grants, NodePolicy};
    let manifest = manifest(
        "[commands.x]\npath = \"/bin/x\"\nallow = [{ effect = \"change\", args = [\"a\"] }]\n\
         [operations.\"a.b\"]\neffect = \"change\"\n[operations.\"a.c\"]\neffect = \"read\"",
    );
    let approval = Approval::all_of(capabilities(&manifest, ["a.b", "a.c"]));
    let grants = |approval: Approval| Grants::new(&manifest, &NodePolicy::default()).narrowed(approval);
    let args = ["a".to_owned()];
    let all = grants(approval.clone());
    assert!(all.operation("a.b").is_ok() && all.command("x", &args, Effect::Change).is_ok());
    let reading = grants(Approval { max_effect: Effect::Read, ..approval.clone() });
    assert!(reading.operation("a.c").is_ok());
    let denied = reading.operation("a.b").expect_err("denied").missing;
    assert_eq!(
        denied,
        "the effect of the operation is `change` and the operator approved effects up to `read`"
    );
    let denied = reading.command("x", &args, Effect::Change).expect_err("denied").missing;
    assert!(
        denied.ends_with("its effect is `change` and the operator approved effects up to `read`"),
        "{denied}"
    );
    let fewer = grants(Approval { deny_operations: ["a.b".to_owned()].into(), ..approval });
    assert_eq!(
        fewer.operation("a.b").expect_err("denied").missing,
        "the operator did not approve this operation"
    );
    assert!(fewer.operation("a.c").is_ok());
}
