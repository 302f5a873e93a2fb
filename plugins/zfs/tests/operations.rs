//! The operations against a scripted host: which commands they run, how they choose the dialect, and
//! which error each failure becomes.

mod support;

use support::capture;
use windlass_bundle::{Grants, Manifest, NodePolicy};
use windlass_plugin_zfs::{
    Plugin,
    api::{
        dataset::{self, DatasetType},
        pool::{self, Guest as _},
    },
};
use windlass_sdk::{
    CommandError,
    fake::{Call, Host, Record},
};
use windlass_types::Effect;

const POOL_COLUMNS: &str = "name,size,allocated,free,capacity,dedupratio,fragmentation,health,guid,altroot";
const FUSE_POOL_COLUMNS: &str = "name,size,allocated,free,capacity,dedupratio,health,guid,altroot";

fn pools() -> Result<Vec<pool::Summary>, pool::Error> {
    <Plugin as pool::Guest>::list()
}

fn status(name: Option<&str>) -> Result<Vec<pool::StatusReport>, pool::Error> {
    Plugin::status(name.map(str::to_owned))
}

fn datasets(
    under: Option<&str>,
    types: Option<&[DatasetType]>,
) -> Result<Vec<dataset::Summary>, dataset::Error> {
    <Plugin as dataset::Guest>::list(under.map(str::to_owned), types.map(<[DatasetType]>::to_vec))
}

/// A host that is asked for one command, whatever its arguments.
fn once() -> Host {
    Host::new().any_command()
}

/// A tool that does not know the arguments, and then one that does.
fn usage_then(stderr: &str) -> Host {
    once().complains(stderr).exits(2).any_command()
}

const NO_SUCH_OPTION: &str = "invalid option 'z'\nusage:\n\tlist\n";

#[test]
fn openzfs_answers_at_once() {
    let text = capture("openzfs-2.3.2/zpool-status-P-p-v-tank__healthy-mirror.txt");
    let host = Host::new().command("zpool", ["status", "-v", "-P", "-p", "tank"]).prints(text);
    assert_eq!(host.run(|| status(Some("tank"))).unwrap()[0].name, "tank");

    let host = Host::new().command("zpool", ["list", "-H", "-p", "-o", POOL_COLUMNS]);
    assert_eq!(host.run(pools), Ok(vec![]));
}

#[test]
fn a_usage_error_leads_to_zfs_fuse() {
    let host = Host::new()
        .command("zpool", ["status", "-v", "-P", "-p"])
        .complains(capture("zfs-fuse-0.7.0/zpool-status-openzfs-form__usage.stderr"))
        .exits(2)
        .command("zpool", ["status", "-v"])
        .prints(capture("zfs-fuse-0.7.0/zpool-status__degraded-offline.txt"));
    assert_eq!(host.run(|| status(None)).unwrap()[0].state, pool::State::Degraded);

    let host = Host::new()
        .command("zpool", ["list", "-H", "-p", "-o", POOL_COLUMNS])
        .complains(capture("zfs-fuse-0.7.0/zpool-list-openzfs-form__usage.stderr"))
        .exits(2)
        .command("zpool", ["list", "-H", "-o", FUSE_POOL_COLUMNS])
        .prints(capture("zfs-fuse-0.7.0/zpool-list__two-pools.txt"));
    assert_eq!(host.run(pools).unwrap().len(), 2);

    let host = usage_then(&capture("zfs-fuse-0.7.0/zfs-list-openzfs-form__usage.stderr"))
        .prints(capture("zfs-fuse-0.7.0/zfs-get__datasets.txt"));
    let found = host.run(|| datasets(None, Some(&[DatasetType::Snapshot]))).unwrap();
    assert_eq!(found.len(), 2, "zfs-fuse knows no types, so they are chosen from all");
}

#[test]
fn zfs_fuse_has_no_bookmarks() {
    let usage = capture("zfs-fuse-0.7.0/zfs-list-openzfs-form__usage.stderr");
    let error = once().complains(&usage).exits(2).run(|| datasets(Some("tank#mark"), None)).unwrap_err();
    assert_eq!(error, dataset::Error::NoSuchDataset("tank#mark".into()));
    let all = usage_then(&usage).prints(capture("zfs-fuse-0.7.0/zfs-get__datasets.txt"));
    assert_eq!(all.run(|| datasets(None, Some(&[DatasetType::Bookmark]))), Ok(vec![]));
}

/// A second command would be one more than these hosts expect.
#[test]
fn other_failures_do_not_lead_to_zfs_fuse() {
    for stderr in [
        "openzfs-2.3.2/zpool-status-nosuch__error.stderr",
        "zfs-fuse-0.7.0/zpool-status-nosuch__error.stderr",
    ] {
        let host = once().complains(capture(stderr)).exits(1);
        assert_eq!(host.run(|| status(Some("nosuch"))), Err(pool::Error::NoSuchPool("nosuch".into())));
    }
    for stderr in [
        "openzfs-2.3.2/zfs-list-H-p-big-nosuch__error.stderr",
        "zfs-fuse-0.7.0/zfs-get-nosuch__datasets.stderr",
    ] {
        let host = once().complains(capture(stderr)).exits(1);
        let error = host.run(|| datasets(Some("big/nosuch"), None)).unwrap_err();
        assert_eq!(error, dataset::Error::NoSuchDataset("big/nosuch".into()));
    }
}

#[test]
fn no_pools_is_an_empty_list() {
    let nothing = || once().complains("no pools available\n");
    assert_eq!(nothing().run(pools), Ok(vec![]));
    assert_eq!(nothing().run(|| status(None)), Ok(vec![]));
    assert_eq!(nothing().run(|| datasets(None, None)), Ok(vec![]));
}

/// What becomes of a failure of `zpool list`.
fn list_error(host: Host) -> pool::Error {
    host.run(pools).unwrap_err()
}

#[test]
fn failures_become_typed_errors() {
    use pool::Error;
    let failed = |stderr: &str| list_error(once().complains(stderr).exits(1));
    assert!(matches!(failed(&capture("zfs-fuse-0.7.0/zpool-list__nodaemon.stderr")), Error::NotRunning(_)));
    let unloaded =
        "The ZFS modules are not loaded.\nTry running '/sbin/modprobe zfs' as root to load them.\n";
    assert!(matches!(failed(unloaded), Error::NotRunning(_)));
    let module = "/dev/zfs and /proc/self/mounts are required.\nTry running 'udevadm trigger' and 'mount -t proc proc /proc' as root.\n";
    assert!(matches!(failed(module), Error::NotRunning(_)));
    assert!(matches!(
        failed(&capture("zfs-fuse-0.7.0/zpool-list__nonroot.stderr")),
        Error::PermissionDenied(_)
    ));
    let root = "Permission denied the ZFS utilities must be run as root.\n";
    assert!(matches!(failed(root), Error::PermissionDenied(_)));
    let missing = CommandError::NotFound("tried /sbin/zpool".into());
    assert_eq!(list_error(once().fails(missing)), Error::NotInstalled("tried /sbin/zpool".into()));
    assert_eq!(list_error(once().denied("rule")), Error::Denied("rule".into()));
    assert_eq!(list_error(once().fails(CommandError::TimedOut(20_000))), Error::TimedOut(20_000));
    assert_eq!(list_error(once().fails(CommandError::Cancelled)), Error::Cancelled);
    let silent = format!("`zpool list -H -p -o {POOL_COLUMNS}` ended with status 1");
    assert_eq!(failed(""), Error::Other(silent));
    let killed = format!("`zpool list -H -p -o {POOL_COLUMNS}` was ended by signal 9");
    assert_eq!(list_error(once().killed(9)), Error::Other(killed));
    let cut = list_error(once().prints("tank").truncated());
    assert!(matches!(cut, Error::Other(text) if text.contains("more than the limit")));
    let strange = list_error(once().prints("what?\n"));
    assert!(matches!(strange, Error::UnexpectedOutput(text) if text.contains("what?")));
}

#[test]
fn two_usage_errors_are_told() {
    let error = list_error(usage_then(NO_SUCH_OPTION).complains(NO_SUCH_OPTION).exits(2));
    assert_eq!(error, pool::Error::Other("invalid option 'z'; usage:; list".into()));
}

#[test]
fn names_are_checked_before_anything_runs() {
    for name in ["", "-v", "a/b", "0tank", "tank@x", "tank;ls", "tänk", &"x".repeat(256)] {
        let error = Host::new().run(|| status(Some(name))).unwrap_err();
        assert_eq!(error, pool::Error::InvalidName(name.into()));
    }
    for name in ["", "-r", "/tank", "tank/", "tank//a", "tank@", "tank@a@b", "tank/../x", "tank\n", "tank\tx"]
    {
        let error = Host::new().run(|| datasets(Some(name), None)).unwrap_err();
        assert_eq!(error, dataset::Error::InvalidName(name.into()));
    }
}

/// The command lines that were run, as programs with arguments.
fn commands(record: Record) -> Vec<(String, Vec<String>)> {
    let calls = record.calls.into_iter().map(|call| match call {
        Call::Run(command) => {
            assert!(command.timeout_ms.is_some(), "every call needs a limit: {command:?}");
            (command.program, command.args)
        }
        other => panic!("`{other}` is no command"),
    });
    calls.collect()
}

#[test]
fn types_of_datasets() {
    let asked = |under: Option<&str>, types: Option<&[DatasetType]>| {
        let (found, record) = once().record(|| datasets(under, types));
        found.unwrap();
        let (_, args) = commands(record).remove(0);
        let at = args.iter().position(|arg| arg == "-t").unwrap();
        (args[at + 1].clone(), args.contains(&"-r".to_owned()))
    };
    use DatasetType::{Bookmark, Filesystem, Snapshot};
    assert_eq!(asked(None, None), ("filesystem,volume".into(), false));
    assert_eq!(asked(Some("tank/a"), None), ("filesystem,volume".into(), true));
    assert_eq!(asked(Some("tank@a"), None), ("snapshot".into(), false));
    assert_eq!(asked(Some("tank#a"), None), ("bookmark".into(), false));
    assert_eq!(
        asked(None, Some(&[Bookmark, Filesystem, Filesystem, Snapshot])),
        ("filesystem,snapshot,bookmark".into(), false)
    );
    let nothing = Host::new().run(|| datasets(None, Some(&[])));
    assert_eq!(nothing, Ok(vec![]), "nothing is asked, nothing runs");
}

/// Every command line that the operations can make is granted by plugin.toml during a `read`, and
/// none that differs.
#[test]
fn the_manifest_grants_what_is_run() {
    let text = include_str!("../plugin.toml");
    let manifest = Manifest::parse(text).unwrap();
    for operation in ["pool.list", "pool.status", "dataset.list"] {
        assert_eq!(manifest.operation(operation).effect, Effect::Read);
    }
    let grants = Grants::new(&manifest, &NodePolicy::default());
    let mut calls = commands(usage_then(NO_SUCH_OPTION).record(pools).1);
    for pool in [None, Some("tank"), Some("a pool.2_x:y-z")] {
        calls.extend(commands(usage_then(NO_SUCH_OPTION).record(|| status(pool)).1));
    }
    let all = [DatasetType::Filesystem, DatasetType::Volume, DatasetType::Snapshot, DatasetType::Bookmark];
    for under in [None, Some("tank"), Some("tank/with space/b"), Some("tank/a@daily 2026"), Some("tank#mark")]
    {
        for types in [None, Some(&all[..]), Some(&all[2..3])] {
            // The name of a bookmark is not asked of zfs-fuse.
            let asked_twice = under != Some("tank#mark");
            let once = once().complains(NO_SUCH_OPTION).exits(2);
            let host = if asked_twice { once.any_command() } else { once };
            let (found, record) = host.record(|| datasets(under, types));
            assert_eq!(found.is_ok(), asked_twice);
            calls.extend(commands(record));
        }
    }
    assert_eq!(calls.len(), 2 + 6 + 30 - 3);
    for (program, args) in calls {
        if let Err(denial) = grants.command(&program, &args, Effect::Read) {
            panic!("{program} {args:?}: {denial:?}");
        }
    }
    for call in [
        ["zpool", "destroy", "tank"].as_slice(),
        &["zpool", "status", "-v", "-x"],
        &["zpool", "status", "-v", "tank", "5"],
        &["zfs", "list"],
        &["zfs", "get", "all"],
        &["zpool", "status", "-v", "-P", "-p", "--evil"],
    ] {
        let args: Vec<String> = call[1..].iter().map(|arg| (*arg).to_owned()).collect();
        assert!(grants.command(call[0], &args, Effect::Read).is_err(), "{call:?}");
    }
}
