//! Whatever happens, a node runs a complete, verified version: the old one or the new one.

use crate::{
    common::{
        Session,
        blobs::Delivery,
        plugin::{Does, plugin, plugin_with},
        site::{Program, Site, files, install, kinds, listed, until},
        within,
    },
    install::value,
};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::{
    mem::MaybeUninit,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};
use windlass_bundle::{Bundle, Part, oci::LAYERS};
use windlass_proto::v1::host_message::Kind;
use windlass_types::Digest;

fn version(session: &Session) -> String {
    let inventory = session.hello.inventory.as_ref().unwrap();
    listed(inventory, "demo").map(|plugin| plugin.version.clone()).unwrap_or_default()
}

fn ledger(site: &Site) -> serde_json::Value {
    let text = std::fs::read_to_string(site.state("bundles/ledger.json")).unwrap_or_else(|_| "{}".into());
    serde_json::from_str(&text).unwrap()
}

/// Every blob that has its name is what its name says.
fn blobs_are_whole(site: &Site) {
    let dir = site.state("bundles/blobs/sha256");
    for name in files(&dir).iter().filter(|name| !name.contains('.')) {
        assert_eq!(Digest::of(&std::fs::read(dir.join(name)).unwrap()).hex(), *name);
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    std::fs::set_permissions(to, std::fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

async fn with_one(site: &Site) -> Bundle {
    let (host, plugins) = site.start().await;
    let mut session = site.master.session().await;
    let one = plugin("demo", "0.1.0", Does::Answer(1));
    session.want(1, &[site.offer(&one, "d1")]).await;
    session.active(&one).await;
    host.stop().await;
    drop(plugins);
    one
}

/// Kills a program right after a change to the files of some folders.
struct Killer(std::thread::JoinHandle<usize>);

impl Killer {
    /// After the `step`th change, or not at all once `stop` is there.
    fn start(folders: &[PathBuf], step: usize, program: &Program, stop: PathBuf) -> Killer {
        let fd = inotify::init(CreateFlags::CLOEXEC).unwrap();
        for folder in folders {
            let what =
                WatchFlags::CREATE | WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::DELETE;
            inotify::add_watch(&fd, folder, what).unwrap();
        }
        inotify::add_watch(&fd, stop.parent().unwrap(), WatchFlags::CREATE).unwrap();
        let kill = program.killer();
        Killer(std::thread::spawn(move || {
            let mut buffer = [MaybeUninit::uninit(); 16 << 10];
            let mut reader = inotify::Reader::new(&fd, &mut buffer);
            let mut seen = 0;
            while !stop.exists() {
                reader.next().unwrap();
                seen += 1;
                if seen == step {
                    kill();
                }
            }
            seen
        }))
    }

    /// How many changes it saw.
    fn end(self, stop: &Path) -> usize {
        std::fs::write(stop, "").unwrap();
        self.0.join().unwrap()
    }
}

/// An update is killed at its first change of a file, then from the same beginning at the second, and
/// so on until it is through.
#[tokio::test(flavor = "multi_thread")]
async fn an_update_can_be_killed_at_every_step() {
    let site = Site::new().await;
    with_one(&site).await;
    let two = plugin("demo", "0.2.0", Does::Answer(2));
    let offer = site.offer(&two, "d2");
    let (state, base) = (site.path("state"), site.path("base"));
    std::fs::rename(&state, &base).unwrap();
    let mut versions = Vec::new();
    for step in 1.. {
        if state.exists() {
            std::fs::remove_dir_all(&state).unwrap();
        }
        copy(&base, &state);
        let host = site.spawn();
        let mut session = site.master.session().await;
        assert_eq!(version(&session), "0.1.0");
        let folders = ["bundles", "bundles/blobs/sha256", "compiled"].map(|folder| state.join(folder));
        let stop = site.path("stops").join(step.to_string());
        std::fs::create_dir_all(stop.parent().unwrap()).unwrap();
        let killer = Killer::start(&folders, step, &host, stop.clone());
        session.want(2, std::slice::from_ref(&offer)).await;
        // Until the session is cut by the end of the host, or all is done and swept.
        let through = loop {
            let Some(message) = within("the next word", session.rx.recv()).await else { break false };
            let Some(Kind::Inventory(inventory)) = message.kind else { continue };
            let digest = two.digest.to_string();
            if install(&inventory, "demo").is_some_and(|i| i.stage == "active" && i.digest == digest) {
                break true;
            }
        };
        let seen = killer.end(&stop);
        host.kill();
        blobs_are_whole(&site);
        let current = ledger(&site)["plugins"]["demo"]["current"]["version"].clone();
        let host = site.spawn();
        let mut session = site.master.session().await;
        // What it runs before a master said a word.
        assert_eq!(version(&session), current, "killed at step {step}");
        versions.push(version(&session));
        session.want(2, std::slice::from_ref(&offer)).await;
        session.active(&two).await;
        assert_eq!(value(&session.call("demo.op.answer").await), 2);
        host.kill();
        if through && seen < step {
            break;
        }
    }
    assert!(versions.len() > 15, "only {} steps were seen", versions.len());
    assert_eq!((versions[0].as_str(), versions.last().unwrap().as_str()), ("0.1.0", "0.2.0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_was_killed_goes_on_and_a_torn_part_is_fetched_anew() {
    let site = Site::new().await;
    with_one(&site).await;
    let large = plugin_with("demo", "0.2.0", Does::Answer(2), "", 700_000);
    let offer = site.offer(&large, "d2");
    let component = large.image().layer(Part::Component).digest.hex();
    let part = site.state("bundles/blobs/sha256").join(format!("{component}.part"));
    for (delivered, torn) in [(300_000, false), (500_000, true)] {
        site.master.shared.blobs.delivery.send_replace(Delivery::Stop(delivered));
        let host = site.spawn();
        let session = site.master.session().await;
        assert_eq!(version(&session), "0.1.0");
        session.want(2, std::slice::from_ref(&offer)).await;
        until("the part is written", || {
            std::fs::metadata(&part).ok().filter(|part| part.len() == delivered as u64).map(drop)
        })
        .await;
        host.kill();
        if torn {
            // As a power cut leaves it: the length is there, the last bytes are not.
            let mut content = std::fs::read(&part).unwrap();
            content[490_000..].fill(0);
            std::fs::write(&part, content).unwrap();
        }
    }
    site.master.shared.blobs.delivery.send_replace(Delivery::Whole);
    let _host = site.spawn();
    // It goes on by itself: the set is on disk.
    let mut session = site.master.session().await;
    session.active(&large).await;
    assert_eq!(value(&session.call("demo.op.answer").await), 2);
    assert_eq!(site.master.shared.blobs.offsets(&large, Part::Component), [0, 300_000, 500_000, 0]);
}

/// A compiler that waits as long as a file is there, and for as long as its host lives.
fn slow_helper(site: &mut Site) -> (PathBuf, PathBuf) {
    let (hold, waits, script) = (site.path("hold"), site.path("waits"), site.path("slow-compile"));
    let text = format!(
        "#!/bin/sh\nwhile [ -e '{}' ] && kill -0 $PPID; do : > '{}'; /bin/sleep 0.01; done\nexec '{}'\n",
        hold.display(),
        waits.display(),
        site.helper.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    site.helper = script;
    (hold, waits)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_while_it_compiles_costs_nothing_but_time() {
    let mut site = Site::new().await;
    let (hold, waits) = slow_helper(&mut site);
    with_one(&site).await;
    let two = plugin("demo", "0.2.0", Does::Answer(2));
    let offer = site.offer(&two, "d2");
    std::fs::write(&hold, "").unwrap();
    let host = site.spawn();
    let mut session = site.master.session().await;
    session.want(2, std::slice::from_ref(&offer)).await;
    until("it compiles", || waits.exists().then_some(())).await;
    assert_eq!(value(&session.call("demo.op.answer").await), 1, "meanwhile the old version works");
    host.kill();
    assert!(files(&site.state("compiled")).iter().any(|name| name.starts_with(".new-")));
    std::fs::remove_file(&hold).unwrap();
    // The master has nothing any more: all parts are here.
    for part in LAYERS {
        site.master.shared.blobs.remove(&two.image().layer(part).digest.to_string());
    }
    let _host = site.spawn();
    let mut session = site.master.session().await;
    session.active(&two).await;
    assert_eq!(value(&session.call("demo.op.answer").await), 2);
    until("what the compiler left is gone", || {
        (!files(&site.state("compiled")).iter().any(|name| name.starts_with(".new-"))).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_ends_the_host_while_it_is_tried_is_given_up() {
    let site = Site::new().await;
    with_one(&site).await;
    let endless = plugin("demo", "0.2.0", Does::SpinAtOnce);
    let offer = site.offer(&endless, "d2");
    for times in 1..=3 {
        let host = site.spawn();
        let session = site.master.session().await;
        assert_eq!(version(&session), "0.1.0");
        session.want(2, std::slice::from_ref(&offer)).await;
        until("it is tried", || (ledger(&site)["plugins"]["demo"]["trying"]["times"] == times).then_some(()))
            .await;
        host.kill();
    }
    let _host = site.spawn();
    let mut session = site.master.session().await;
    let inventory = session.problem("demo", "failed", "the host ended 3 times").await;
    assert_eq!(kinds(&inventory), ["installed", "failed"]);
    assert_eq!(value(&session.call("demo.op.answer").await), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_disk_is_mended_from_the_master() {
    let site = Site::new().await;
    let one = with_one(&site).await;
    let blob = |part: Part| site.state("bundles/blobs/sha256").join(one.image().layer(part).digest.hex());
    for part in LAYERS {
        std::fs::write(blob(part), b"damaged").unwrap();
    }
    for name in files(&site.state("compiled")) {
        std::fs::write(site.state("compiled").join(name), b"damaged").unwrap();
    }
    let (host, plugins) = site.start().await;
    let mut session = site.master.session().await;
    session.active(&one).await;
    assert_eq!(value(&session.call("demo.op.answer").await), 1);
    blobs_are_whole(&site);
    host.stop().await;
    drop(plugins);
    // A ledger that can't be read is set aside, and what is wanted is installed from what is here.
    std::fs::write(site.state("bundles/ledger.json"), b"{").unwrap();
    let asked = site.master.shared.blobs.asked.borrow().len();
    let (host, _plugins) = site.start().await;
    let mut session = site.master.session().await;
    session.active(&one).await;
    assert_eq!(site.master.shared.blobs.asked.borrow().len(), asked);
    assert!(site.state("bundles/ledger.damaged").exists());
    host.stop().await;
}

/// A small file system of its own. Dropping it unmounts it.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// None where this user may not mount.
    fn new(at: &Path, options: &str) -> Option<SmallDisk> {
        std::fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(at)
            .status()
            .is_ok_and(|status| status.success());
        if !mounted {
            eprintln!("not tested: this user may not mount a small file system");
        }
        mounted.then(|| SmallDisk(at.to_owned()))
    }

    /// Take all room that is left.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_an_install_and_nothing_else() {
    let mut site = Site::new().await;
    site.tables = "[bundles]\nkeep_free = \"0B\"\n".into();
    let (hold, waits) = slow_helper(&mut site);
    let Some(disk) = SmallDisk::new(&site.state("bundles"), "size=3m,mode=700") else { return };
    let (host, plugins) = site.start().await;
    let mut session = site.master.session().await;
    let one = plugin("demo", "0.1.0", Does::Answer(1));
    session.want(1, &[site.offer(&one, "d1")]).await;
    session.active(&one).await;
    let blobs = site.state("bundles/blobs/sha256");
    let parts = || files(&blobs).into_iter().filter(|name| name.ends_with(".part")).count();

    // Known beforehand: nothing is begun.
    let huge = plugin_with("demo", "0.2.0", Does::Answer(2), "", 5_000_000);
    session.want(2, &[site.offer(&huge, "d2")]).await;
    session.problem("demo", "fetching", "no room in").await;
    assert_eq!(parts(), 0);

    // While it is fetched.
    let large = plugin_with("demo", "0.3.0", Does::Answer(3), "", 1_000_000);
    site.master.shared.blobs.delivery.send_replace(Delivery::Stop(400_000));
    session.want(3, &[site.offer(&large, "d3")]).await;
    until("half of it is here", || (parts() == 1).then_some(())).await;
    let component = blobs.join(format!("{}.part", large.image().layer(Part::Component).digest.hex()));
    until("half of it is here", || {
        std::fs::metadata(&component).ok().filter(|part| part.len() == 400_000).map(drop)
    })
    .await;
    let filler = disk.fill();
    site.master.shared.blobs.delivery.send_replace(Delivery::Whole);
    session.problem("demo", "fetching", "No space left on device").await;
    assert_eq!(parts(), 0, "the half gives its room back");
    assert_eq!(value(&session.call("demo.op.answer").await), 1);
    std::fs::write(&hold, "").unwrap();
    std::fs::remove_file(&filler).unwrap();

    // When it is to be written down.
    until("it compiles", || waits.exists().then_some(())).await;
    let filler = disk.fill();
    std::fs::remove_file(&hold).unwrap();
    session.problem("demo", "fetching", "ledger.json").await;
    assert_eq!(listed(&plugins_now(&plugins), "demo").unwrap().version, "0.1.0");
    assert!(!files(&site.state("bundles")).iter().any(|name| name.ends_with(".new")));
    std::fs::remove_file(&filler).unwrap();
    session.active(&large).await;
    assert_eq!(value(&session.call("demo.op.answer").await), 3);
    host.stop().await;
}

fn plugins_now(plugins: &windlass_host::plugins::Plugins) -> windlass_proto::v1::Inventory {
    windlass_host::engine::Catalogue::inventory(plugins)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_keeps_no_failing_version_running() {
    let mut site = Site::new().await;
    site.tables = "[bundles]\nkeep_free = \"0B\"\nfailure_budget = 2\n".into();
    let Some(disk) = SmallDisk::new(&site.state("bundles"), "size=3m,mode=700") else { return };
    let (host, plugins) = site.start().await;
    let mut session = site.master.session().await;
    let (one, two) = (plugin("demo", "0.1.0", Does::Answer(1)), plugin("demo", "0.2.0", Does::Trap));
    session.want(1, &[site.offer(&one, "d1")]).await;
    session.active(&one).await;
    session.want(2, &[site.offer(&two, "d2")]).await;
    session.active(&two).await;
    let filler = disk.fill();
    session.call("demo.op.answer").await;
    session.call("demo.op.answer").await;
    assert_eq!(value(&session.call("demo.op.answer").await), 1);
    assert_eq!(ledger(&site)["plugins"]["demo"]["current"]["version"], "0.2.0", "it could not be written");
    std::fs::remove_file(&filler).unwrap();
    until("it is written", || {
        (ledger(&site)["plugins"]["demo"]["current"]["version"] == "0.1.0").then_some(())
    })
    .await;
    host.stop().await;
    drop(plugins);
    let (host, _plugins) = site.start().await;
    let session = site.master.session().await;
    assert_eq!(version(&session), "0.1.0");
    host.stop().await;
}
