//! What has no file: asked from the kernel by system calls, or stood in for by a test.

use crate::source::Source;
use nix::ifaddrs::getifaddrs;
use std::{
    fmt::Debug,
    io,
    net::IpAddr,
    time::{SystemTime, UNIX_EPOCH},
};

/// Names from uname(2).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    /// Host name.
    pub hostname: String,
    /// Kernel release.
    pub release: String,
    /// Machine architecture.
    pub machine: String,
}

/// Space of a filesystem, from statvfs(3). Zero where the filesystem does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Space {
    /// Size in bytes.
    pub size_bytes: u64,
    /// Free for ordinary users, in bytes.
    pub available_bytes: u64,
    /// Inodes in all.
    pub inodes_total: u64,
    /// Unused inodes.
    pub inodes_free: u64,
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Name of the interface.
    pub interface: String,
    /// The address.
    pub ip: IpAddr,
    /// Length of the prefix, in bits.
    pub prefix: u32,
}

/// What is not read from files.
pub trait Kernel: Debug + Send + Sync {
    /// What the machine is called.
    fn names(&self) -> Names;

    /// Space of the filesystem at a mount point; none when it can't be told.
    fn space(&self, mount_point: &str) -> Option<Space>;

    /// Addresses of all interfaces, in the order of the kernel.
    ///
    /// # Errors
    /// If the kernel can't be asked.
    fn addresses(&self) -> io::Result<Vec<Address>>;

    /// Time of the node, in milliseconds since 1970-01-01 UTC.
    fn time_ms(&self) -> i64;
}

/// The kernel that this runs on.
#[derive(Debug, Clone, Copy)]
pub struct Live;

impl Kernel for Live {
    fn names(&self) -> Names {
        let names = rustix::system::uname();
        Names {
            hostname: names.nodename().to_string_lossy().into_owned(),
            release: names.release().to_string_lossy().into_owned(),
            machine: names.machine().to_string_lossy().into_owned(),
        }
    }

    fn space(&self, mount_point: &str) -> Option<Space> {
        let space = rustix::fs::statvfs(mount_point).ok()?;
        let unit = if space.f_frsize == 0 { space.f_bsize } else { space.f_frsize };
        Some(Space {
            size_bytes: space.f_blocks.saturating_mul(unit),
            available_bytes: space.f_bavail.saturating_mul(unit),
            inodes_total: space.f_files,
            inodes_free: space.f_ffree,
        })
    }

    fn addresses(&self) -> io::Result<Vec<Address>> {
        Ok(getifaddrs()?
            .filter_map(|found| {
                let (address, mask) = (found.address?, found.netmask?);
                let (ip, prefix) = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
                    (Some(four), _) => {
                        (IpAddr::V4(four.ip()), mask.as_sockaddr_in()?.ip().to_bits().count_ones())
                    }
                    (_, Some(six)) => {
                        (IpAddr::V6(six.ip()), mask.as_sockaddr_in6()?.ip().to_bits().count_ones())
                    }
                    _ => return None,
                };
                Some(Address { interface: found.interface_name, ip, prefix })
            })
            .collect())
    }

    fn time_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}

/// Stands in for the kernel of a captured tree: names from `/proc/sys/kernel`, the time of its
/// capture, and nothing that a tree can't hold.
#[derive(Debug, Clone)]
pub(crate) struct Captured(pub Source);

impl Kernel for Captured {
    fn names(&self) -> Names {
        let line = |name: &str| self.0.line(&format!("proc/sys/kernel/{name}")).unwrap_or_default();
        Names { hostname: line("hostname"), release: line("osrelease"), machine: line("arch") }
    }

    fn space(&self, _: &str) -> Option<Space> {
        None
    }

    fn addresses(&self) -> io::Result<Vec<Address>> {
        Ok(Vec::new())
    }

    fn time_ms(&self) -> i64 {
        let stat = self.0.text("proc/stat").unwrap_or_default();
        let boot: i64 = stat
            .lines()
            .find_map(|line| line.strip_prefix("btime "))
            .and_then(|seconds| seconds.trim().parse().ok())
            .unwrap_or(0);
        let uptime =
            self.0.text("proc/uptime").ok().and_then(|text| crate::system::uptime_ms(&text)).unwrap_or(0);
        boot.saturating_mul(1000).saturating_add_unsigned(uptime)
    }
}
