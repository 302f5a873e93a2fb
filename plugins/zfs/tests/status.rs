//! `zpool status` of all versions, from captures and from texts made after zpool_main.c for
//! situations that are hard to hold still.

mod support;

use support::{all, capture};
use windlass_plugin_zfs::{
    api::pool::{ScanKind, ScanState, State, StatusReport, Vdev, VdevClass, VdevKind},
    parse::pool_status,
};

fn only(text: &str) -> StatusReport {
    let mut pools = pool_status(text).unwrap();
    assert_eq!(pools.len(), 1);
    pools.remove(0)
}

fn fuse(situation: &str) -> StatusReport {
    only(&capture(&format!("zfs-fuse-0.7.0/zpool-status__{situation}.txt")))
}

/// The tree as one line a vdev: depth, class, name, kind, state, errors, notes.
fn tree(report: &StatusReport) -> String {
    let line = |vdev: &Vdev| {
        let errors = vdev.errors.as_ref().map_or("-".to_owned(), |errors| {
            let about = if errors.approximate { "~" } else { "" };
            format!("{about}{}/{}/{}", errors.read_errors, errors.write_errors, errors.checksum_errors)
        });
        let parent = vdev.parent_id.map_or("-".to_owned(), |id| id.to_string());
        let was = vdev.was_path.as_ref().map(|path| format!(" was {path}")).unwrap_or_default();
        format!(
            "{:indent$}{} {parent}<{} {:?} {:?} {:?} {errors}{was} {:?}\n",
            "",
            vdev.id,
            vdev.name,
            vdev.class,
            vdev.kind,
            vdev.state,
            vdev.notes,
            indent = vdev.depth as usize * 2
        )
    };
    report.vdevs.iter().map(line).collect()
}

fn vdev<'r>(report: &'r StatusReport, name: &str) -> &'r Vdev {
    report.vdevs.iter().find(|vdev| vdev.name == name).unwrap_or_else(|| panic!("no vdev {name}"))
}

#[test]
fn every_capture_is_understood() {
    for (file, text) in all("zpool-status") {
        let pools = pool_status(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
        for pool in &pools {
            assert!(!matches!(pool.state, State::Other(_)), "{file}: {:?}", pool.state);
            assert_eq!(pool.vdevs[0].kind, VdevKind::Root, "{file}");
            assert_eq!(pool.vdevs[0].name, pool.name, "{file}");
            for vdev in &pool.vdevs {
                assert!(!matches!(vdev.state, State::Other(_)), "{file}: {vdev:?}");
                assert_ne!(vdev.kind, VdevKind::Other, "{file}: {vdev:?}");
                assert_eq!(vdev.errors.is_none(), vdev.class == VdevClass::Spare, "{file}: {vdev:?}");
                assert_eq!(vdev.parent_id.is_none(), vdev.id == 0, "{file}: {vdev:?}");
                assert!(vdev.parent_id.is_none_or(|parent| parent < vdev.id), "{file}: {vdev:?}");
            }
            assert_eq!(pool.healthy, pool.problems.is_empty(), "{file}");
            let healthy =
                ["healthy-mirror", "raidz2-", "resilvered", "scrub-"].iter().any(|word| file.contains(word));
            if healthy {
                assert_eq!(pool.problems, [""; 0], "{file}");
            }
        }
    }
}

#[test]
fn no_pools_is_an_empty_list() {
    for text in [
        capture("zfs-fuse-0.7.0/zpool-status__nopools.txt"),
        capture("openzfs-2.3.2/zpool-status__nopools.txt"),
        String::new(),
    ] {
        assert_eq!(pool_status(&text).unwrap(), []);
    }
}

#[test]
fn an_offline_disk_degrades_the_pool() {
    for (text, disk) in [
        (capture("zfs-fuse-0.7.0/zpool-status__degraded-offline.txt"), "/disks/d2"),
        (
            capture("openzfs-2.1.11/zpool-status-P-p-v-tank__degraded-offline.txt"),
            "/dev/disk/by-id/virtio-LABVD2-part1",
        ),
        (
            capture("openzfs-2.3.2/zpool-status-P-p-v-tank__degraded-offline.txt"),
            "/dev/disk/by-id/virtio-LABVD2-part1",
        ),
    ] {
        let report = only(&text);
        assert_eq!(report.state, State::Degraded);
        assert!(!report.healthy);
        assert_eq!(vdev(&report, disk).state, State::Offline);
        assert_eq!(vdev(&report, "mirror-0").state, State::Degraded);
        let status = "One or more devices has been taken offline by the administrator. Sufficient replicas \
                      exist for the pool to continue functioning in a degraded state.";
        assert_eq!(report.status_text.as_deref(), Some(status));
        assert_eq!(
            report.action_text.as_deref(),
            Some("Online the device using 'zpool online' or replace the device with 'zpool replace'.")
        );
        assert_eq!(report.problems, ["the pool is degraded", status, &format!("{disk} is offline")]);
    }
}

#[test]
fn classes_hang_on_the_pool() {
    let report = only(&capture("openzfs-2.3.2/zpool-status-P-p-v-big__raidz2-spare-log-cache.txt"));
    insta::assert_snapshot!(tree(&report));
    let report = fuse("raidz2-log-cache-spare");
    insta::assert_snapshot!(tree(&report));
}

#[test]
fn a_spare_in_use_is_a_group_and_a_problem() {
    let report = fuse("spare-in-use");
    insta::assert_snapshot!(tree(&report));
    assert!(
        report.problems.iter().any(|problem| problem == "/disks/d11 is a spare in use, currently in use")
    );
}

#[test]
fn an_online_pool_with_checksum_errors_is_not_healthy() {
    let report = fuse("checksum-errors");
    assert_eq!(report.state, State::Online);
    assert!(!report.healthy);
    assert_eq!(report.message_id.as_deref(), Some("ZFS-8000-9P"));
    assert_eq!(report.see_url.as_deref(), Some("http://www.sun.com/msg/ZFS-8000-9P"));
    let disk = vdev(&report, "/disks/d2");
    let errors = disk.errors.as_ref().unwrap();
    assert!(errors.checksum_errors > 0);
    assert!(disk.notes[0].ends_with("repaired"), "{:?}", disk.notes);
    assert_eq!(report.scans.len(), 1);
    assert_eq!((report.scans[0].kind, report.scans[0].state), (ScanKind::Scrub, ScanState::Finished));
    assert_eq!(report.scans[0].errors_count, Some(0));
}

#[test]
fn counters_alone_make_a_pool_unhealthy() {
    // What remains of an error after the status text is gone.
    let text = capture("openzfs-2.3.2/zpool-status-P-p-v-tank__healthy-mirror.txt")
        .replace("LABVD2-part1  ONLINE       0     0     0", "LABVD2-part1  ONLINE       0     0     7");
    let report = only(&text);
    assert_eq!(
        report.problems,
        ["/dev/disk/by-id/virtio-LABVD2-part1: 0 read, 0 write and 7 checksum errors"]
    );
}

#[test]
fn rounded_counters_say_so_and_large_exact_ones_do_not() {
    let with = |counter: &str| {
        let text = capture("openzfs-2.3.2/zpool-status-P-p-v-tank__healthy-mirror.txt").replace(
            "LABVD2-part1  ONLINE       0     0     0",
            &format!("LABVD2-part1  ONLINE       0     0 {counter}"),
        );
        let report = only(&text);
        let errors = vdev(&report, "/dev/disk/by-id/virtio-LABVD2-part1").errors.unwrap();
        (errors.checksum_errors, errors.approximate)
    };
    assert_eq!(with("1.42K"), (1454, true));
    assert_eq!(with("18446744073709551615"), (u64::MAX, false));
}

#[test]
fn damaged_files_are_listed() {
    let report = fuse("permanent-errors");
    assert_eq!(report.state, State::Online);
    assert!(!report.healthy);
    let errors = &report.data_errors;
    assert_eq!(errors.known_count, Some(errors.paths.len() as u64));
    assert_eq!(errors.paths_omitted_count, 0);
    assert_eq!(errors.paths.first().map(String::as_str), Some("<metadata>:<0x1b>"));
    assert!(errors.paths.iter().any(|path| path.ends_with("/with space")), "{:?}", errors.paths);
    assert!(report.problems.iter().any(|problem| problem.ends_with("damaged files or objects")));
    assert!(report.problems.iter().any(|problem| problem.starts_with("the last scrub left ")));

    let text = capture("zfs-fuse-0.7.0/zpool-status__permanent-errors-without-v.txt");
    let pools = pool_status(&text).unwrap();
    let without = pools.iter().find(|pool| pool.name == "one").unwrap();
    assert!(without.data_errors.known_count.unwrap() > 0);
    assert!(without.data_errors.text.ends_with("data errors, use '-v' for a list"));
}

#[test]
fn a_long_list_of_damaged_files_is_cut_and_counted() {
    let mut text = String::from(
        "  pool: t\n state: ONLINE\nconfig:\n\n\tNAME  STATE     READ WRITE CKSUM\n\tt     ONLINE       0     0     0\n\n\
         errors: Permanent errors have been detected in the following files:\n\n",
    );
    for number in 0..1500 {
        text.push_str(&format!("        /t/  pool: {number}\n"));
    }
    text.push_str("\n  pool: u\n state: ONLINE\nerrors: No known data errors\n");
    let pools = pool_status(&text).unwrap();
    assert_eq!(pools.len(), 2);
    let errors = &pools[0].data_errors;
    assert_eq!((errors.paths.len(), errors.paths_omitted_count, errors.known_count), (1000, 500, Some(1500)));
    assert_eq!(errors.paths[0], "/t/  pool: 0");
    assert!(pools[1].healthy, "{:?}", pools[1].problems);
}

#[test]
fn missing_disks_tell_where_they_were() {
    let report = fuse("missing-device");
    let disk = report.vdevs.iter().find(|vdev| vdev.state == State::Unavailable).unwrap();
    assert_eq!(disk.was_path.as_deref(), Some("/disks/d16"));
    assert_eq!(disk.notes, [""; 0]);
    assert_eq!(disk.kind, VdevKind::Leaf);

    // This one leaves the pool online.
    let report = fuse("corrupt-label");
    assert_eq!(report.state, State::Online);
    assert!(!report.healthy);
}

#[test]
fn a_pool_without_its_disks() {
    let report = fuse("unavailable");
    assert_eq!(report.state, State::Unavailable);
    assert_eq!(vdev(&report, "mirror-0").notes, ["insufficient replicas"]);
    assert!(
        report.problems.contains(&"/disks/d1 is unavailable, cannot open".to_owned()),
        "{:?}",
        report.problems
    );
    assert_eq!(report.data_errors.known_count, None);
}

#[test]
fn a_disk_being_replaced() {
    let report = fuse("replacing-running");
    insta::assert_snapshot!(tree(&report));
    assert_eq!(report.state, State::Online);
    assert!(report.problems.contains(&"replacing-1: a disk is being replaced".to_owned()));
    let scan = &report.scans[0];
    assert_eq!((scan.kind, scan.state), (ScanKind::Resilver, ScanState::Running));
    assert!(scan.done_percent.unwrap() > 0.0);
    assert_eq!(scan.remaining_seconds, Some(0));
}

#[test]
fn scrubs_of_zfs_fuse() {
    let running = fuse("scrub-running");
    assert_eq!((running.scans[0].kind, running.scans[0].state), (ScanKind::Scrub, ScanState::Running));
    assert!(running.healthy);
    let stopped = fuse("scrub-stopped");
    assert_eq!(stopped.scans[0].state, ScanState::Canceled);
    assert!(fuse("healthy-mirror").scans.is_empty());
}

#[test]
fn several_pools_in_one_text() {
    let text = capture("zfs-fuse-0.7.0/zpool-status__all-pools.txt");
    let pools = pool_status(&text).unwrap();
    let names: Vec<&str> = pools.iter().map(|pool| pool.name.as_str()).collect();
    assert_eq!(names, ["big", "corr", "gone", "miss", "one", "tank"]);
    assert!(pools[2].healthy);
}

/// A pool with this `scan:` section and these rows beneath the pool's own.
fn made(scan: &str, rows: &str) -> StatusReport {
    only(&format!(
        "  pool: tank\n state: ONLINE\n{scan}config:\n\n\tNAME                  STATE     READ WRITE CKSUM\n\
         \ttank                  ONLINE       0     0     0\n{rows}\nerrors: No known data errors\n"
    ))
}

#[test]
fn scans_of_openzfs() {
    let scan = |text: &str| {
        let mut scans = made(text, "").scans;
        assert_eq!(scans.len(), 1, "{text}");
        scans.remove(0)
    };
    let mib = |number: f64| Some((number * 1048576.0).round() as u64);

    // 2.1
    let running = scan(
        "  scan: scrub in progress since Sun Nov 22 20:00:00 2026\n\t60.7M scanned at 60.7M/s, 30.4M issued at 30.4M/s, 60.7M total\n\
         \t12.5M repaired, 50.03% done, 1 days 02:03:04 to go\n",
    );
    assert_eq!((running.kind, running.state), (ScanKind::Scrub, ScanState::Running));
    assert_eq!(running.scanned_bytes, mib(60.7));
    assert_eq!(running.issued_bytes, mib(30.4));
    assert_eq!(running.total_bytes, mib(60.7));
    assert_eq!(running.repaired_bytes, mib(12.5));
    assert_eq!(running.done_percent, Some(50.03));
    assert_eq!(running.remaining_seconds, Some(86_400 + 2 * 3600 + 3 * 60 + 4));
    assert_eq!(running.errors_count, None);

    // 2.2 and newer
    let running = scan(
        "  scan: resilver in progress since Sun Nov 22 20:00:00 2026\n\t60.5M / 60.6M scanned at 30.2M/s, 31.0M / 60.4M issued at 15.5M/s\n\
         \t0B resilvered, 51.32% done, no estimated completion time\n",
    );
    assert_eq!((running.kind, running.state), (ScanKind::Resilver, ScanState::Running));
    assert_eq!((running.scanned_bytes, running.issued_bytes), (mib(60.5), mib(31.0)));
    assert_eq!(running.total_bytes, mib(60.4));
    assert_eq!((running.repaired_bytes, running.remaining_seconds), (Some(0), None));

    let paused = scan(
        "  scan: scrub paused since Sun Nov 22 20:00:00 2026\n\tscrub started on Sun Nov 22 19:00:00 2026\n\
         \t60.5M / 60.6M scanned, 31.0M / 60.4M issued\n\t0B repaired, 51.32% done\n",
    );
    assert_eq!((paused.state, paused.done_percent), (ScanState::Paused, Some(51.32)));

    let finished =
        scan("  scan: scrub repaired 31.0M in 1 days 00:00:05 with 3 errors on Sun Nov 22 20:00:00 2026\n");
    assert_eq!(
        (finished.state, finished.repaired_bytes, finished.errors_count),
        (ScanState::Finished, mib(31.0), Some(3))
    );
    assert_eq!((finished.done_percent, finished.remaining_seconds), (None, None));

    let rebuilt = scan(
        "  scan: resilvered (draid1:3d:5c:1s-0) 4.50G in 00:01:02 with 0 errors on Sun Nov 22 20:00:00 2026\n",
    );
    assert_eq!((rebuilt.kind, rebuilt.state), (ScanKind::Resilver, ScanState::Finished));
    assert_eq!(rebuilt.vdev.as_deref(), Some("draid1:3d:5c:1s-0"));
    assert_eq!(rebuilt.repaired_bytes, Some(4_831_838_208));

    let rebuilding = scan(
        "  scan: resilver (mirror-0) in progress since Sun Nov 22 20:00:00 2026\n\t1G / 2G scanned, 1G / 2G issued\n\t1G resilvered, 50.00% done, 00:00:10 to go\n",
    );
    assert_eq!((rebuilding.vdev.as_deref(), rebuilding.state), (Some("mirror-0"), ScanState::Running));

    let canceled = scan("  scan: scrub canceled on Sun Nov 22 20:00:00 2026\n");
    assert_eq!((canceled.state, canceled.repaired_bytes), (ScanState::Canceled, None));

    let errors = scan(
        "  scan: error scrub in progress since Sun Nov 22 20:00:00 2026\n\t12.00% done, issued I/O for 5 error blocks\n",
    );
    assert_eq!(
        (errors.kind, errors.state, errors.done_percent),
        (ScanKind::ErrorScrub, ScanState::Running, Some(12.0))
    );

    assert!(made("  scan: none requested\n", "").scans.is_empty());
    assert!(
        !made("  scan: scrub repaired 0B in 00:00:05 with 3 errors on Sun Nov 22 20:00:00 2026\n", "")
            .healthy
    );
}

#[test]
fn two_scans_are_both_told() {
    let report = made(
        "  scan: scrub repaired 0B in 00:00:05 with 0 errors on Sun Nov 22 20:00:00 2026\n  scan: resilvered (mirror-0) 1G in 00:00:05 with 0 errors on Sun Nov 22 21:00:00 2026\n",
        "",
    );
    let kinds: Vec<ScanKind> = report.scans.iter().map(|scan| scan.kind).collect();
    assert_eq!(kinds, [ScanKind::Scrub, ScanKind::Resilver]);
}

#[test]
fn notes_and_kinds_of_newer_vdevs() {
    let report = made(
        "remove: Removal of vdev 1 copied 40.5M in 0h0m, completed on Sun Nov 22 20:00:00 2026\n\t1.02K memory used for removed device mappings\n\
         expand: expansion of raidz1-0 in progress since Sun Nov 22 20:00:00 2026\n\t46.1M / 240M copied at 7.69M/s, 19.21% done, 00:00:25 to go\n\
         checkpoint: created Sun Nov 22 20:00:00 2026, consumes 1.5M\n",
        "\t  raidz1-0            DEGRADED     0     0     0\n\
         \t    /dev/with  space  FAULTED      3     1     0  too many errors\n\
         \t    /dev/sdb1         ONLINE       0     0     0  block size: 512B configured, 4096B native  (resilvering)\n\
         \t    spare-2           DEGRADED     0     0     0\n\
         \t      replacing-0     DEGRADED     0     0     0\n\
         \t        1234567890    UNAVAIL      0     0     0  was /dev/disk/by id/x-part1\n\
         \t        /dev/sdd1     ONLINE       0     0     0  (awaiting resilver)\n\
         \t      draid2-0-0      ONLINE       0     0     0\n\
         \t  draid2:4d:8c:1s-1   ONLINE       0     0     0\n\
         \t    /dev/sde1         REMOVED      0     0     0\n\
         \tspecial\t\n\
         \t  mirror-2            ONLINE       0     0     0\n\
         \t    /dev/sdf1         ONLINE       0     0     0\n\
         \tdedup\t\n\
         \t  /dev/sdg1           ONLINE       0     0     0\n\
         \tspares\n\
         \t  draid2-0-0          INUSE     currently in use\n\
         \t  /dev/sdh1           AVAIL\n\
         \t  /dev/sdi1           UNAVAIL   cannot open\n",
    );
    insta::assert_snapshot!(tree(&report));
    assert!(
        report.remove_text.as_deref().unwrap().ends_with("1.02K memory used for removed device mappings")
    );
    assert!(report.expand_text.as_deref().unwrap().starts_with("expansion of raidz1-0 in progress"));
    assert_eq!(report.checkpoint_text.as_deref(), Some("created Sun Nov 22 20:00:00 2026, consumes 1.5M"));
    insta::assert_debug_snapshot!(report.problems);
}

#[test]
fn features_that_are_not_enabled_are_no_problem() {
    let report = made(
        "status: Some supported and requested features are not enabled on the pool.\n\tThe pool can still be used, but some features are unavailable.\naction: Enable all features using 'zpool upgrade'. Once this is done,\n\tthe pool may no longer be accessible by software that does not support\n\tthe features. See zpool-features(7) for details.\n",
        "",
    );
    assert!(report.healthy, "{:?}", report.problems);
    assert!(report.status_text.is_some());
}

#[test]
fn data_errors_that_can_not_be_read_are_told() {
    let text = "  pool: t\n state: ONLINE\nconfig:\n\n\tNAME  STATE     READ WRITE CKSUM\n\tt     ONLINE       0     0     0\n\n\
                errors: List of errors unavailable (insufficient privileges)\n";
    let report = only(text);
    assert_eq!(report.data_errors.known_count, None);
    assert!(!report.healthy);
}

#[test]
fn what_is_no_status_is_an_error() {
    for text in ["pool 'tank' is healthy\n", "  pool: tank\n", "usage: zpool\n\tfoo"] {
        match pool_status(text) {
            Err(_) => {}
            Ok(pools) => assert_eq!(pools, [], "{text}"),
        }
    }
    assert!(pool_status("  pool: tank\n").is_err());
    let row = "  pool: t\n state: ONLINE\nconfig:\n\n\tNAME  STATE     READ WRITE CKSUM\n\talone\n";
    let error = pool_status(row).unwrap_err().to_string();
    assert_eq!(error, "a vdev without a state in `alone`");
}
