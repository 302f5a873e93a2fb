//! The root of every node: a Debian, made once by mmdebstrap and kept by a hash of all that goes into it.
//!
//! Nodes run over overlays on it, so it is never written again.

use super::{sweep, tool};
use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    time::Instant,
};

/// Images are kept here.
const IMAGES: &str = "/var/cache/windlass-lab";
/// The release of Debian that nodes run.
const SUITE: &str = "bookworm";

/// What is installed, less what comes along by itself.
const PACKAGES: &[&str] = &[
    "systemd",
    "systemd-sysv",
    "dbus",
    "udev",
    "kmod",
    "adduser",
    "iproute2",
    "iputils-ping",
    "procps",
    "psmisc",
    "ethtool",
    "attr",
    "ca-certificates",
    "zfs-fuse",
    "glusterfs-server",
    "glusterfs-client",
];

/// No recommended packages, nothing to read, and no waiting for the disk.
const OPTIONS: &[&str] = &[
    "--aptopt=Apt::Install-Recommends \"false\"",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=force-unsafe-io",
];

/// Units that have no sense on a node, or fail in a container: none of them has to do with storage.
const MASKED: &[&str] = &[
    "console-getty.service",
    "systemd-logind.service",
    "systemd-pstore.service",
    "systemd-remount-fs.service",
    "systemd-timesyncd.service",
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
    "tmp.mount",
    // The kernel's devices are those of the machine below: nothing there is this node's.
    "systemd-udevd.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udev-trigger.service",
];

/// Links and folders that are removed.
const REMOVED: &[&str] = &[
    "etc/systemd/system/getty.target.wants",
    "etc/systemd/system/timers.target.wants",
    "etc/systemd/system/multi-user.target.wants/e2scrub_reap.service",
    // mmdebstrap copies that of this machine, which no node can reach.
    "etc/resolv.conf",
    // The helper of geo-replication costs glusterd four seconds at its first start.
    "usr/lib/x86_64-linux-gnu/glusterfs/gsyncd",
    "usr/lib/aarch64-linux-gnu/glusterfs/gsyncd",
    "var/lib/dbus/machine-id",
];

/// Files that are written.
const FILES: &[(&str, &str)] = &[
    ("etc/resolv.conf", ""),
    // Made anew at the first boot of each node.
    ("etc/machine-id", ""),
    // Without it bricks can have no extended attributes, and Gluster keeps everything in those.
    ("etc/zfs/zfsrc", "enable-xattr\n"),
    // What is shipped starts a script that adjusts its own score for the out-of-memory killer, which takes a
    // capability that containers have not, and ends when it can't. Stopping it waits for ten seconds.
    (
        "etc/systemd/system/zfs-fuse.service.d/lab.conf",
        "[Service]\n\
         Type=simple\n\
         RemainAfterExit=no\n\
         KillMode=mixed\n\
         TimeoutStopSec=3\n\
         ExecStart=\n\
         ExecStart=/sbin/zfs-fuse -n --pidfile /run/zfs-fuse.pid --no-kstat-mount\n\
         ExecStartPost=/bin/sh -c 'until zpool list >/dev/null 2>&1; do sleep 0.05; done; exec zfs mount -a'\n\
         ExecStop=\n\
         ExecStop=-/sbin/zfs umount -a\n",
    ),
    // Bricks lie in datasets. What is shipped waits a minute before it starts glusterd again, six times.
    (
        "etc/systemd/system/glusterd.service.d/lab.conf",
        "[Unit]\nAfter=zfs-fuse.service\nStartLimitBurst=100\n[Service]\nRestartSec=2\n",
    ),
];

/// An image in use: it is not removed meanwhile.
#[derive(Debug)]
pub struct Image {
    path: PathBuf,
    _used: File,
}

impl Image {
    /// Its root.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The image, which is made if it is not there: that takes one or two minutes and needs Debian's archive.
///
/// # Errors
/// If it can't be made.
pub fn get() -> Result<Image> {
    std::fs::create_dir_all(IMAGES).with_context(|| format!("making `{IMAGES}`"))?;
    let path = Path::new(IMAGES).join(name());
    let lock = File::create(Path::new(IMAGES).join("lock"))?;
    lock.lock_shared().context("waiting for whoever makes an image")?;
    if !path.is_dir() {
        lock.unlock()?;
        lock.lock().context("waiting for other labs to be begun")?;
        if !path.is_dir() {
            make(&path)?;
            remove_others(&path)?;
        }
        lock.unlock()?;
        lock.lock_shared()?;
    }
    Ok(Image { path, _used: lock })
}

/// Changes with anything that changes the image.
fn name() -> String {
    let mut hash = Sha256::new();
    for part in [PACKAGES, OPTIONS, MASKED, REMOVED, &[SUITE]].concat() {
        hash.update(part);
        hash.update([0]);
    }
    for (path, text) in FILES {
        hash.update(format!("{path}\0{text}\0"));
    }
    hex::encode(&hash.finalize()[..8])
}

fn make(path: &Path) -> Result<()> {
    let start = Instant::now();
    eprintln!("making the image of nodes: once, a minute or two");
    let part = path.with_extension("part");
    remove(&part)?;
    let mut args = vec!["--quiet", "--mode=root", "--variant=apt", "--format=directory"];
    let packages = format!("--include={}", PACKAGES.join(","));
    let root = part.to_str().context("the path of images is text")?;
    args.extend(OPTIONS);
    args.extend([packages.as_str(), SUITE, root]);
    tool("mmdebstrap", &args).context("`apt-get update` tells whether Debian's archive can be reached")?;
    for name in REMOVED {
        let victim = part.join(name);
        // Not every release and architecture has all of them.
        let _ = if victim.is_dir() { std::fs::remove_dir_all(victim) } else { std::fs::remove_file(victim) };
    }
    let units = part.join("etc/systemd/system");
    for unit in MASKED {
        link("/dev/null", &units.join(unit))?;
    }
    link("/lib/systemd/system/glusterd.service", &units.join("multi-user.target.wants/glusterd.service"))?;
    for (name, text) in FILES {
        let file = part.join(name);
        std::fs::create_dir_all(file.parent().unwrap_or(&part))?;
        let mut file = File::options().create(true).append(true).open(&file)?;
        if text.is_empty() {
            file.set_len(0)?;
        }
        file.write_all(text.as_bytes())?;
    }
    std::fs::rename(&part, path)?;
    eprintln!("made the image in {:.0} s", start.elapsed().as_secs_f32());
    Ok(())
}

fn link(target: &str, link: &Path) -> Result<()> {
    let _ = std::fs::remove_file(link);
    std::os::unix::fs::symlink(target, link).with_context(|| format!("making `{}`", link.display()))
}

/// Remove images that nobody makes any more, unless a lab still runs on them.
fn remove_others(path: &Path) -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    for entry in std::fs::read_dir(IMAGES)?.flatten() {
        let other = entry.path();
        let used = || mounts.contains(&format!("lowerdir={},", other.display()));
        if other.is_dir() && other != path && !used() {
            remove(&other)?;
        }
    }
    Ok(())
}

/// Also what a killed mmdebstrap left mounted within.
fn remove(image: &Path) -> Result<()> {
    sweep::unmount_below(image)?;
    if image.exists() {
        std::fs::remove_dir_all(image).with_context(|| format!("removing `{}`", image.display()))?;
    }
    Ok(())
}
