//! The operations over a runner: which commands they run, how they choose the dialect, and which
//! error each failure becomes.

mod support;

use support::{Playback, capture, failed, printed};
use windlass_bundle::{Grants, Manifest, NodePolicy};
use windlass_plugin_zfs::{
    api::{dataset, dataset::DatasetType, pool},
    dataset as datasets, pool as pools,
    tool::{Failure, Finished},
};
use windlass_types::Effect;

const STATUS: &str = "openzfs-2.3.2/zpool-status-P-p-v-tank__healthy-mirror.txt";

#[test]
fn openzfs_answers_at_once() {
    let runner = Playback::new([printed(&capture(STATUS))]);
    let reports = pools::status(&runner, Some("tank")).unwrap();
    assert_eq!(reports[0].name, "tank");
    assert_eq!(runner.lines(), ["zpool status -v -P -p tank"]);
}

#[test]
fn a_usage_error_leads_to_zfs_fuse() {
    let runner = Playback::new([
        failed(2, &capture("zfs-fuse-0.7.0/zpool-status-openzfs-form__usage.stderr")),
        printed(&capture("zfs-fuse-0.7.0/zpool-status__degraded-offline.txt")),
    ]);
    assert_eq!(pools::status(&runner, None).unwrap()[0].state, pool::State::Degraded);
    assert_eq!(runner.lines(), ["zpool status -v -P -p", "zpool status -v"]);

    let runner = Playback::new([
        failed(2, &capture("zfs-fuse-0.7.0/zpool-list-openzfs-form__usage.stderr")),
        printed(&capture("zfs-fuse-0.7.0/zpool-list__two-pools.txt")),
    ]);
    assert_eq!(pools::list(&runner).unwrap().len(), 2);

    let runner = Playback::new([
        failed(2, &capture("zfs-fuse-0.7.0/zfs-list-openzfs-form__usage.stderr")),
        printed(&capture("zfs-fuse-0.7.0/zfs-get__datasets.txt")),
    ]);
    let found = datasets::list(&runner, None, Some(&[DatasetType::Snapshot])).unwrap();
    assert_eq!(found.len(), 2, "zfs-fuse knows no types, so they are chosen from all");
}

#[test]
fn zfs_fuse_has_no_bookmarks() {
    let usage = || failed(2, &capture("zfs-fuse-0.7.0/zfs-list-openzfs-form__usage.stderr"));
    let error = datasets::list(&Playback::new([usage()]), Some("tank#mark"), None).unwrap_err();
    assert_eq!(error, dataset::Error::NoSuchDataset("tank#mark".into()));
    let all = printed(&capture("zfs-fuse-0.7.0/zfs-get__datasets.txt"));
    let found = datasets::list(&Playback::new([usage(), all]), None, Some(&[DatasetType::Bookmark])).unwrap();
    assert_eq!(found, []);
}

#[test]
fn other_failures_do_not_lead_to_zfs_fuse() {
    for (stderr, error) in [
        (
            capture("openzfs-2.3.2/zpool-status-nosuch__error.stderr"),
            pool::Error::NoSuchPool("nosuch".into()),
        ),
        (
            capture("zfs-fuse-0.7.0/zpool-status-nosuch__error.stderr"),
            pool::Error::NoSuchPool("nosuch".into()),
        ),
    ] {
        let runner = Playback::new([failed(1, &stderr)]);
        assert_eq!(pools::status(&runner, Some("nosuch")).unwrap_err(), error);
        assert_eq!(runner.lines().len(), 1);
    }
    for stderr in [
        "openzfs-2.3.2/zfs-list-H-p-big-nosuch__error.stderr",
        "zfs-fuse-0.7.0/zfs-get-nosuch__datasets.stderr",
    ] {
        let runner = Playback::new([failed(1, &capture(stderr))]);
        let error = datasets::list(&runner, Some("big/nosuch"), None).unwrap_err();
        assert_eq!(error, dataset::Error::NoSuchDataset("big/nosuch".into()));
    }
}

#[test]
fn no_pools_is_an_empty_list() {
    let nothing = || Finished {
        code: Some(0),
        stdout: String::new(),
        stderr: "no pools available\n".into(),
        truncated: false,
    };
    assert_eq!(pools::list(&Playback::new([Ok(nothing())])).unwrap(), []);
    assert_eq!(pools::status(&Playback::new([Ok(nothing())]), None).unwrap(), []);
    assert_eq!(datasets::list(&Playback::new([Ok(nothing())]), None, None).unwrap(), []);
}

fn list_error(answer: Result<Finished, Failure>) -> pool::Error {
    pools::list(&Playback::new([answer])).unwrap_err()
}

#[test]
fn failures_become_typed_errors() {
    use pool::Error;
    assert!(matches!(
        list_error(failed(1, &capture("zfs-fuse-0.7.0/zpool-list__nodaemon.stderr"))),
        Error::NotRunning(_)
    ));
    let unloaded =
        "The ZFS modules are not loaded.\nTry running '/sbin/modprobe zfs' as root to load them.\n";
    assert!(matches!(list_error(failed(1, unloaded)), Error::NotRunning(_)));
    let module = "/dev/zfs and /proc/self/mounts are required.\nTry running 'udevadm trigger' and 'mount -t proc proc /proc' as root.\n";
    assert!(matches!(list_error(failed(1, module)), Error::NotRunning(_)));
    assert!(matches!(
        list_error(failed(1, &capture("zfs-fuse-0.7.0/zpool-list__nonroot.stderr"))),
        Error::PermissionDenied(_)
    ));
    let root = "Permission denied the ZFS utilities must be run as root.\n";
    assert!(matches!(list_error(failed(1, root)), Error::PermissionDenied(_)));
    assert_eq!(
        list_error(Err(Failure::NotInstalled("tried /sbin/zpool".into()))),
        Error::NotInstalled("tried /sbin/zpool".into())
    );
    assert_eq!(list_error(Err(Failure::Denied("rule".into()))), Error::Denied("rule".into()));
    assert_eq!(list_error(Err(Failure::TimedOut(20_000))), Error::TimedOut(20_000));
    assert_eq!(list_error(Err(Failure::Cancelled)), Error::Cancelled);
    assert_eq!(
        list_error(failed(1, "")),
        Error::Other("`zpool` ended with status 1 and said nothing".into())
    );
    let killed = Finished { code: None, stdout: String::new(), stderr: String::new(), truncated: false };
    assert_eq!(list_error(Ok(killed)), Error::Other("`zpool` was ended by a signal".into()));
    let cut = Finished { code: Some(0), stdout: "tank".into(), stderr: String::new(), truncated: true };
    assert!(matches!(list_error(Ok(cut)), Error::Other(text) if text.contains("more than the limit")));
    assert!(
        matches!(list_error(printed("what?\n")), Error::UnexpectedOutput(text) if text.contains("what?"))
    );
}

#[test]
fn two_usage_errors_are_told() {
    let usage = || failed(2, "invalid option 'z'\nusage:\n\tlist\n");
    let error = pools::list(&Playback::new([usage(), usage()])).unwrap_err();
    assert_eq!(error, pool::Error::Other("invalid option 'z'; usage:; list".into()));
}

#[test]
fn names_are_checked_before_anything_runs() {
    let runner = Playback::new([]);
    for name in ["", "-v", "a/b", "0tank", "tank@x", "tank;ls", "tänk", &"x".repeat(256)] {
        assert_eq!(pools::status(&runner, Some(name)).unwrap_err(), pool::Error::InvalidName(name.into()));
    }
    for name in ["", "-r", "/tank", "tank/", "tank//a", "tank@", "tank@a@b", "tank/../x", "tank\n", "tank\tx"]
    {
        assert_eq!(
            datasets::list(&runner, Some(name), None).unwrap_err(),
            dataset::Error::InvalidName(name.into())
        );
    }
    assert_eq!(runner.lines(), [""; 0]);
}

#[test]
fn types_of_datasets() {
    let asked = |under: Option<&str>, types: Option<&[DatasetType]>| {
        let runner = Playback::new([printed("")]);
        datasets::list(&runner, under, types).unwrap();
        let call = runner.calls.borrow().first().cloned().unwrap_or_default();
        let at = call.iter().position(|arg| arg == "-t").map(|at| call[at + 1].clone()).unwrap_or_default();
        (at, call.contains(&"-r".to_owned()))
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
    assert_eq!(asked(None, Some(&[])), (String::new(), false), "nothing is asked, nothing runs");
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
    let usage = || failed(2, "invalid option\n");
    let mut calls: Vec<Vec<String>> = Vec::new();
    let mut keep = |runner: Playback| calls.extend(runner.calls.into_inner());
    let runner = Playback::new([usage(), printed("")]);
    pools::list(&runner).unwrap();
    keep(runner);
    for pool in [None, Some("tank"), Some("a pool.2_x:y-z")] {
        let runner = Playback::new([usage(), printed("")]);
        pools::status(&runner, pool).unwrap();
        keep(runner);
    }
    let all = [DatasetType::Filesystem, DatasetType::Volume, DatasetType::Snapshot, DatasetType::Bookmark];
    for under in [None, Some("tank"), Some("tank/with space/b"), Some("tank/a@daily 2026"), Some("tank#mark")]
    {
        for types in [None, Some(&all[..]), Some(&all[2..3])] {
            let runner = Playback::new([usage(), printed("")]);
            // The name of a bookmark is not asked of zfs-fuse.
            let found = datasets::list(&runner, under, types);
            assert_eq!(found.is_err(), under == Some("tank#mark"));
            keep(runner);
        }
    }
    assert_eq!(calls.len(), 2 + 6 + 30 - 3);
    for call in calls {
        let (program, args) = call.split_first().unwrap();
        if let Err(denial) = grants.command(program, args, Effect::Read) {
            panic!("{call:?}: {denial:?}");
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
