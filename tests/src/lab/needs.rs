//! What the machine must have. A lab that can't be had is an error that says what to do, never a test that
//! is left out.

use anyhow::{Result, bail};
use std::{ffi::OsString, path::Path};

/// Programs that a lab is made with, each with its Debian package.
pub const PROGRAMS: [(&str, &str); 6] = [
    ("systemd-nspawn", "systemd-container"),
    ("mmdebstrap", "mmdebstrap"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("dpkg-deb", "dpkg"),
    ("dpkg-shlibdeps", "dpkg-dev"),
];

/// Look at all of it.
///
/// # Errors
/// With everything that is missing, and what to do.
pub fn check() -> Result<()> {
    let kernel = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let overlay = kernel.lines().any(|line| line.ends_with("\toverlay"));
    judge(&Machine {
        root: rustix::process::geteuid().is_root(),
        lacking: PROGRAMS.into_iter().filter(|(program, _)| !exists(program)).collect(),
        fuse: Path::new("/dev/fuse").exists(),
        overlay: overlay || super::tool("modprobe", &["overlay"]).is_ok(),
        groups: super::cgroups::hierarchies().err().map(|error| format!("{error:#}")),
    })
}

/// What was found.
struct Machine {
    root: bool,
    /// Programs that are not there.
    lacking: Vec<(&'static str, &'static str)>,
    fuse: bool,
    overlay: bool,
    /// Why there are no control groups.
    groups: Option<String>,
}

fn judge(machine: &Machine) -> Result<()> {
    let mut missing = Vec::new();
    if !machine.root {
        missing.push("it must run as root: nodes have namespaces and mounts of their own".to_owned());
    }
    for (program, package) in &machine.lacking {
        missing.push(format!("`{program}` is not installed: apt-get install {package}"));
    }
    if !machine.fuse {
        missing.push(
            "there is no /dev/fuse, for zfs-fuse and Gluster: the kernel needs FUSE, a container the device"
                .to_owned(),
        );
    }
    if !machine.overlay {
        missing.push("the kernel has no overlay file system: load the module `overlay`".to_owned());
    }
    missing.extend(machine.groups.clone());
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "a lab can't be started here:\n  - {}\n`cargo xtask lab up` and `cargo xtask test`, run as root, install \
         what is missing of Debian",
        missing.join("\n  - ")
    )
}

fn exists(program: &str) -> bool {
    std::env::split_paths(&search_path()).any(|dir| dir.join(program).is_file())
}

/// The search path, with the folders of an administrator's programs in any case.
pub(super) fn search_path() -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(Into::into);
    std::env::join_paths(std::env::split_paths(&path).chain(more)).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_missing_is_told_at_once_with_what_to_do() {
        let whole = || Machine { root: true, lacking: Vec::new(), fuse: true, overlay: true, groups: None };
        assert!(judge(&whole()).is_ok());
        let poor = Machine {
            root: false,
            lacking: vec![PROGRAMS[0]],
            fuse: false,
            overlay: false,
            groups: Some("no control groups".to_owned()),
        };
        let said = judge(&poor).unwrap_err().to_string();
        for words in [
            "must run as root",
            "`systemd-nspawn` is not installed: apt-get install systemd-container",
            "no /dev/fuse",
            "no overlay",
            "no control groups",
        ] {
            assert!(said.contains(words), "{said}");
        }
        assert!(judge(&Machine { root: false, ..whole() }).is_err());
        assert!(judge(&Machine { fuse: false, ..whole() }).is_err());
    }
}
