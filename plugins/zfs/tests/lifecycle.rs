//! `dataset.create` and `dataset.remove` against a scripted host, and what the manifest lets them do.

use windlass_bundle::{Grants, Manifest, NodePolicy};
use windlass_plugin_zfs::{
    Plugin,
    api::dataset::{Error, Guest, Storage},
};
use windlass_sdk::fake::{Call, Host};
use windlass_types::Effect;

const GET: [&str; 6] =
    ["get", "-H", "-p", "-o", "property,value,source", "type,mounted,mountpoint,windlass:run"];
const GONE: &str = "cannot open 'tank/a': dataset does not exist\n";
const TAKEN: &str = "cannot create 'tank/a': dataset already exists\n";
const BUSY: &str = "cannot destroy 'tank/a': dataset is busy\n";

fn create(run: Option<&str>) -> Result<(), Error> {
    Plugin::create("tank/a".into(), Storage::Compressed, Some(1 << 30), None, run.map(str::to_owned))
}

fn remove() -> Result<(), Error> {
    Plugin::remove("tank/a".into(), "r1".into())
}

fn owner(mounted: &str, run: &str, source: &str) -> String {
    format!(
        "type\tfilesystem\t-\nmounted\t{mounted}\t-\nmountpoint\t/tank/a\tdefault\nwindlass:run\t{run}\t{source}\n"
    )
}

/// A host that is asked whose `tank/a` is.
fn asked(host: Host, answer: &str) -> Host {
    host.command("zfs", GET.into_iter().chain(["tank/a"])).prints(answer)
}

/// A host whose `tank/a` was made by `r1`, without children, and with these entries.
fn holding(entries: &str) -> Host {
    asked(Host::new(), &owner("yes", "r1", "local"))
        .command("zfs", ["list", "-H", "-r", "-t", "all", "-o", "name", "tank/a"])
        .prints("tank/a\n")
        .command("find", ["/tank/a", "-mindepth", "1", "-maxdepth", "2", "-printf", r"%y %P\0"])
        .prints(entries)
}

fn destroyed(host: Host) -> Host {
    host.command("zfs", ["destroy", "tank/a"])
}

#[test]
fn storage_limits_and_run_are_properties() {
    let args = ["create", "-o", "compression=on", "-o", "dedup=off", "-o", "quota=1073741824"];
    let host = Host::new().command("zfs", args.into_iter().chain(["-o", "windlass:run=r1", "tank/a"]));
    assert_eq!(host.run(|| create(Some("r1"))), Ok(()));
    let host = Host::new().command(
        "zfs",
        ["create", "-o", "compression=off", "-o", "dedup=on", "-o", "reservation=7", "tank/a"],
    );
    let made = host.run(|| Plugin::create("tank/a".into(), Storage::Deduplicated, None, Some(7), None));
    assert_eq!(made, Ok(()));
}

#[test]
fn only_the_same_run_may_ask_again() {
    let taken = |run, answer: &str| {
        asked(Host::new().any_command().complains(TAKEN).exits(1), answer).run(|| create(run))
    };
    let exists = Err(Error::AlreadyExists("tank/a".into()));
    assert_eq!(taken(Some("r1"), &owner("yes", "r1", "local")), Ok(()));
    assert_eq!(taken(Some("r2"), &owner("yes", "r1", "local")), exists);
    assert_eq!(taken(Some("r1"), &owner("yes", "r1", "inherited from tank")), exists);
    assert_eq!(taken(None, &owner("yes", "-", "-")), exists);
}

#[test]
fn a_missing_parent_is_named() {
    let host = Host::new().any_command().complains("cannot create 'tank/a': no such pool 'tank'\n").exits(1);
    assert_eq!(host.run(|| create(None)), Err(Error::NoSuchDataset("tank".into())));
}

#[test]
fn what_is_empty_is_destroyed() {
    for entries in ["", "d brick\0", "d brick\0d brick/.glusterfs\0"] {
        assert_eq!(destroyed(holding(entries)).run(remove), Ok(()), "{entries:?}");
    }
}

#[test]
fn what_holds_something_is_left_alone() {
    for (entries, named) in [
        ("f file\0", "file"),
        ("f brick\0", "brick"),
        ("d .glusterfs\0", ".glusterfs"),
        ("d brick\0d brick/brick\0", "brick/brick"),
        ("d brick\0d brick/.glusterfs\0f brick/data\0", "brick/data"),
        ("l brick\0", "brick"),
        ("f a\nd brick\0", "a\nd brick"),
    ] {
        let left = holding(entries).run(remove);
        assert_eq!(left, Err(Error::NotEmpty(format!("tank/a: {named}"))), "{entries:?}");
    }
    let host = asked(Host::new(), &owner("yes", "r1", "local")).any_command().prints("tank/a\ntank/a@s\n");
    assert_eq!(host.run(remove), Err(Error::NotEmpty("tank/a@s".into())));
}

#[test]
fn what_another_made_is_left_alone() {
    let volume = owner("-", "r1", "local").replace("filesystem", "volume");
    for answer in [
        owner("yes", "r2", "local"),
        owner("yes", "r1", "inherited from tank"),
        owner("yes", "r1", "received"),
        owner("yes", "-", "-"),
        volume,
    ] {
        let left = asked(Host::new(), &answer).run(remove);
        assert_eq!(left, Err(Error::NotOwned("tank/a".into())), "{answer}");
    }
}

#[test]
fn what_is_gone_is_removed_unless_its_pool_is_gone_too() {
    let gone = || Host::new().any_command().complains(GONE).exits(1).any_command();
    assert_eq!(gone().prints(owner("yes", "-", "-")).run(remove), Ok(()));
    assert_eq!(gone().complains(GONE).exits(1).run(remove), Err(Error::NoSuchDataset("tank".into())));
}

#[test]
fn what_is_not_mounted_is_mounted_to_look() {
    let before = asked(Host::new(), &owner("no", "r1", "local")).any_command().prints("tank/a\n");
    let mounted = |host: Host| asked(host.command("zfs", ["mount", "tank/a"]), &owner("yes", "r1", "local"));
    let found = mounted(before).any_command().prints("f file\0").run(remove);
    assert_eq!(found, Err(Error::NotEmpty("tank/a: file".into())));
}

#[test]
fn busy_is_tried_again() {
    let busy = |host| destroyed(host).complains(BUSY).exits(1);
    assert_eq!(destroyed(busy(busy(holding("")))).run(remove), Ok(()));
    let all = (0..20).fold(holding(""), |host, _| busy(host));
    assert_eq!(all.run(remove), Err(Error::Busy(BUSY.trim().into())));
    let cancelled = busy(holding("")).cancelled_after(0).run(remove);
    assert_eq!(cancelled, Err(Error::Cancelled));
}

#[test]
fn arguments_are_checked_before_anything_runs() {
    for name in ["tank", "", "-r", "tank/a@s", "tank/a#b", "tank/a%b", "tank//a", "tank/a\n"] {
        let made = Host::new().run(|| Plugin::create(name.into(), Storage::Normal, None, None, None));
        assert_eq!(made, Err(Error::InvalidName(name.into())));
        let removed = Host::new().run(|| Plugin::remove(name.into(), "r1".into()));
        assert_eq!(removed, Err(Error::InvalidName(name.into())));
    }
    for run in ["", "-", ".x", "a b", "a:b", "é", &"x".repeat(65)] {
        assert_eq!(Host::new().run(|| create(Some(run))), Err(Error::InvalidRun(run.into())));
    }
}

#[test]
fn the_manifest_grants_no_more_than_is_run() {
    let manifest = Manifest::parse(include_str!("../plugin.toml")).unwrap();
    assert_eq!(manifest.operation("dataset.create").effect, Effect::Change);
    assert_eq!(manifest.operation("dataset.remove").effect, Effect::Destroy);
    let grants = Grants::new(&manifest, &NodePolicy::default());
    let allowed = |program: &str, args: &[String], effect| grants.command(program, args, effect).is_ok();
    let taken = Host::new().any_command().complains(TAKEN).exits(1);
    let again = asked(taken, &owner("no", "r1", "local")).any_command();
    let runs = [
        (again.record(|| create(Some("r1"))).1, Effect::Change),
        (destroyed(holding("")).record(remove).1, Effect::Destroy),
    ];
    for (record, effect) in runs {
        for call in record.calls {
            let Call::Run(command) = call else { panic!("`{call}` is no command") };
            assert!(command.timeout_ms.is_some(), "{command:?}");
            assert!(allowed(&command.program, &command.args, effect), "{command:?}");
        }
    }
    for args in [
        ["destroy", "-r", "tank/a"].as_slice(),
        &["destroy", "tank/a@s"],
        &["destroy", "tank/a", "tank/b"],
        &["create", "-o", "mountpoint=/etc", "tank/a"],
        &["get", "all", "tank/a"],
    ] {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        assert!(!allowed("zfs", &args, Effect::Destroy), "{args:?}");
    }
    let find = ["/tank/a", "-delete"].map(str::to_owned);
    assert!(!allowed("find", &find, Effect::Destroy));
}
