use super::*;

const MANIFEST: &str = r#"
name = "zfs"
version = "1.0.0"
probes = ["cpu"]
state = true

[placeholders]
pool = "name"

[commands.zpool]
path = ["/sbin/zpool"]
[[commands.zpool.allow]]
effect = "destroy"
args = ["{word*}", "--any"]
[[commands.zpool.allow]]
effect = "read"
args = ["list", "-H", "{pool?}"]
[[commands.zpool.allow]]
effect = "change"
args = ["scrub", "{pool}"]
[[commands.zpool.allow]]
effect = "destroy"
args = ["destroy", "{pool}"]
[commands."zpool.old"]
path = "/sbin/zpool.old"
allow = [{ effect = "read", args = [] }]

[[files]]
path = "/etc/zfs/**"
access = "read"
[[files]]
path = "/etc/zfs/*.rc"
access = "write"
effect = "change"
[[files]]
path = "/etc/zfs/cache/**"
access = "write"
[[files]]
path = "/var/lib/zfs/cache/**"
access = "write"
[[files]]
path = "/var/lib/zfs/**"
access = "write"

[operations."pool.list"]
effect = "read"
[operations."pool.scrub"]
effect = "change"
"#;

fn grants(policy: &str) -> Grants {
    let manifest = Manifest::parse(MANIFEST).expect("a manifest");
    Grants::new(&manifest, &toml::from_str(policy).expect("a policy"))
}

fn command(grants: &Grants, line: &str, operation: Effect) -> Result<(String, Effect), String> {
    let mut words = line.split(' ').map(str::to_owned);
    let program = words.next().expect("a program");
    let args: Vec<String> = words.collect();
    grants.command(&program, &args, operation).map(|grant| (grant.rule, grant.effect)).map_err(|denial| {
        assert_eq!(denial.capability, "commands.run");
        denial.missing
    })
}

#[test]
fn the_first_rule_within_the_effect_answers() {
    let grants = grants("");
    let ok = |rule: &str, effect| Ok((rule.to_owned(), effect));
    assert_eq!(command(&grants, "zpool list -H", Effect::Read), ok("commands.zpool.allow[1]", Effect::Read));
    assert_eq!(
        command(&grants, "zpool list -H tank", Effect::Destroy),
        ok("commands.zpool.allow[1]", Effect::Read)
    );
    assert_eq!(
        command(&grants, "zpool scrub tank", Effect::Change),
        ok("commands.zpool.allow[2]", Effect::Change)
    );
    assert_eq!(
        command(&grants, "zpool destroy tank", Effect::Destroy),
        ok("commands.zpool.allow[3]", Effect::Destroy)
    );
    let grant = grants.command("zpool", &["list".into(), "-H".into()], Effect::Read).expect("allowed");
    assert_eq!(grant.paths, [PathBuf::from("/sbin/zpool")]);
    let empty = grants.command("zpool.old", &[], Effect::Read).expect("allowed");
    assert_eq!(empty.rule, "commands.\"zpool.old\".allow[0]");
}

/// Every way to be denied, with the words the operator gets.
#[test]
fn denials_say_what_is_missing() {
    let mut text = String::new();
    let mut show = |policy: &str, denial: Option<Denial>| {
        let denial = denial.expect("denied");
        let policy = if policy.is_empty() { String::new() } else { format!("    with {policy}\n") };
        text.push_str(&format!("{denial}\n{policy}\n"));
    };
    let run = |policy: &str, line: &str, operation| {
        let mut words = line.split(' ').map(str::to_owned);
        let program = words.next().expect("a program");
        grants(policy).command(&program, &words.collect::<Vec<_>>(), operation).err()
    };
    for (policy, line, operation) in [
        ("", "zpol list", Effect::Read),
        ("", "sh -c id", Effect::Destroy),
        ("", "a\nb x\ty", Effect::Destroy),
        ("", "zpool list -H -tank", Effect::Read),
        ("", "zpool list", Effect::Read),
        ("", "zpool list -H a b", Effect::Read),
        ("", "zpool export tank", Effect::Destroy),
        ("", "zpool scrub tank", Effect::Read),
        ("", "zpool destroy tank", Effect::Change),
        ("max_effect = \"read\"", "zpool scrub tank", Effect::Destroy),
        ("max_effect = \"read\"", "zpool scrub tank", Effect::Read),
        ("deny_commands = [\"zpool\"]", "zpool list -H", Effect::Read),
    ] {
        show(policy, run(policy, line, operation));
    }
    show("", grants("").command("zpool", &vec!["a".to_owned(); 5000], Effect::Read).err());
    show("", grants("").command("zpool", &["list\0".to_owned()], Effect::Read).err());
    for (policy, path, access, operation) in [
        ("", "etc/zfs", Access::Read, Effect::Read),
        ("", "/etc/zfs/../shadow", Access::Read, Effect::Read),
        ("", "/etc/zfs//a", Access::Read, Effect::Read),
        ("", "/etc/zfsx/a", Access::Read, Effect::Read),
        ("", "/etc/shadow", Access::Read, Effect::Read),
        ("", "/etc/zfs/a.txt", Access::Write, Effect::Destroy),
        ("", "/etc/zfs/a.rc", Access::Write, Effect::Read),
        ("", "/etc/zfs/cache/a", Access::Write, Effect::Change),
        ("", "/etc/zfs/cache", Access::Write, Effect::Destroy),
        ("max_effect = \"read\"", "/etc/zfs/a.rc", Access::Write, Effect::Destroy),
        ("deny_paths = [\"/etc/zfs/keys\"]", "/etc/zfs/keys/a", Access::Read, Effect::Read),
        ("deny_paths = [\"/etc\"]", "/etc/zfs/a", Access::Read, Effect::Read),
    ] {
        show(policy, grants(policy).file(path, access, operation).err());
    }
    show("", grants("").probe("memory").err());
    show("deny_probes = [\"cpu\"]", grants("deny_probes = [\"cpu\"]").probe("cpu").err());
    show("deny_state = true", grants("deny_state = true").state().err());
    show("max_effect = \"read\"", grants("max_effect = \"read\"").operation("pool.scrub").err());
    show("max_effect = \"change\"", grants("max_effect = \"change\"").operation("pool.forget").err());
    show(
        "deny_operations = [\"pool.list\"]",
        grants("deny_operations = [\"pool.list\"]").operation("pool.list").err(),
    );
    insta::assert_snapshot!(text);
}

#[test]
fn files_are_opened_beneath_the_literal_root() {
    let grants = grants("deny_paths = [\"/etc/zfs/keys\"]");
    let file = |path: &str, access| {
        let grant = grants.file(path, access, Effect::Destroy).expect(path);
        (grant.root.display().to_string(), grant.relative.display().to_string(), grant.rule, grant.effect)
    };
    let expect =
        |root: &str, relative: &str, rule: &str, effect| (root.into(), relative.into(), rule.into(), effect);
    assert_eq!(file("/etc/zfs", Access::Read), expect("/etc/zfs", "", "files[0]", Effect::Read));
    assert_eq!(file("/etc/zfs/a/b", Access::Read), expect("/etc/zfs", "a/b", "files[0]", Effect::Read));
    assert_eq!(file("/etc/zfs/a.rc", Access::Write), expect("/etc/zfs", "a.rc", "files[1]", Effect::Change));
    assert_eq!(
        file("/etc/zfs/cache/x", Access::Write),
        expect("/etc/zfs/cache", "x", "files[2]", Effect::Destroy)
    );
    assert_eq!(file("/etc/zfs/keysx", Access::Read).2, "files[0]");
    // A directory's own entry is written through the rule for the directory above it.
    assert_eq!(
        file("/var/lib/zfs/cache", Access::Write),
        expect("/var/lib/zfs", "cache", "files[4]", Effect::Destroy)
    );
}

#[test]
fn probes_state_and_operations() {
    let open = grants("");
    assert_eq!(open.probe("cpu").expect("granted"), "probes.cpu");
    assert_eq!(open.state().expect("granted"), "state");
    assert_eq!(open.operation("pool.list").expect("granted").effect, Effect::Read);
    assert_eq!(open.operation("never.listed").expect("granted").effect, Effect::Destroy);
    assert_eq!(grants("max_effect = \"read\"").operation("pool.list").expect("granted").effect, Effect::Read);
}

#[test]
fn a_policy_has_no_unknown_keys_and_names_what_exists() {
    assert!(toml::from_str::<NodePolicy>("deny_comands = []").is_err());
    assert!(toml::from_str::<NodePolicy>("deny_paths = [\"etc\"]").is_err());
    assert!(toml::from_str::<NodePolicy>("max_effect = \"none\"").is_err());
    let policy: NodePolicy =
        toml::from_str("deny_commands = [\"zpool\", \"zpol\"]\ndeny_probes = [\"cpus\"]").expect("a policy");
    assert_eq!(
        policy.without_effect(&Manifest::parse(MANIFEST).expect("a manifest")),
        [
            "`deny_commands` names `zpol`, which plugin `zfs` does not ask for; did you mean `zpool`?",
            "`deny_probes` names `cpus`, which plugin `zfs` does not ask for; did you mean `cpu`?",
        ]
    );
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 2048, ..Default::default() })]

    /// A policy only takes away, and the effect of a grant is never past the operation's.
    #[test]
    fn a_policy_only_takes_away(
        args in proptest::collection::vec("list|-H|tank|scrub|destroy|--any|-f", 0..4),
        operation in proptest::sample::select(vec![Effect::Read, Effect::Change, Effect::Destroy]),
        policy in proptest::sample::select(vec![
            "max_effect = \"read\"", "max_effect = \"change\"", "deny_commands = [\"zpool\"]", "deny_state = true",
        ]),
    ) {
        let open = grants("").command("zpool", &args, operation);
        let limited = grants(policy);
        let most = limited.policy.max_effect;
        let limited = limited.command("zpool", &args, operation);
        if let Ok(grant) = &open {
            proptest::prop_assert!(grant.effect <= operation);
        }
        if let Ok(grant) = &limited {
            proptest::prop_assert!(grant.effect <= most);
            // Where the open one found a rule, this is the same or one of a lesser effect.
            let Ok(open) = open else { panic!("allowed by a policy alone") };
            proptest::prop_assert!(grant.effect <= open.effect || grant.rule == open.rule);
        }
    }

    /// No path leaves the granted directories, however it is spelled.
    #[test]
    fn no_path_gets_out(path in "(/etc/zfs|/etc|/|)((/|\\.|\\.\\.|a|zfs|\\*|\0|é){0,6})") {
        if let Ok(grant) = grants("").file(&path, Access::Read, Effect::Read) {
            proptest::prop_assert!(path == "/etc/zfs" || path.starts_with("/etc/zfs/"));
            let plain = grant.relative.components().all(|part| matches!(part, std::path::Component::Normal(_)));
            proptest::prop_assert!(plain && grant.root == std::path::Path::new("/etc/zfs"));
        }
    }
}
