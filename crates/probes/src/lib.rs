//! What a node is and how it does, read from the kernel.
//!
//! [`Probes`] reads files below a root directory, so that tests can give it captured trees, and
//! asks the rest of a [`Kernel`]. Parsers are pure functions over text and live beside the probe
//! they serve; nothing foreign makes them panic.
//!
//! All functions block: call them where that is fine, such as in `spawn_blocking`.
//!
//! Sources: proc(5), sysfs (`Documentation/ABI` of the kernel), uname(2), statvfs(3),
//! getifaddrs(3). There are crates with parsers for `/proc`; the closest one, `procfs`, asserts
//! and slices on what it reads, keeps averages in 32 bits and leaves escapes of mount points in.

mod records;

pub use records::{
    BlockDevice, CpuInfo, Facts, LinkState, MemoryInfo, Mount, NetworkInterface, PressureInfo, PressureLine,
    ResourcePressure, Sensor, SensorValue, SystemInfo,
};
use std::path::{Path, PathBuf};

/// Why a probe has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// This node has no such thing, such as a kernel without pressure information.
    #[error("this node has no {0}")]
    Unsupported(String),
    /// Reading or understanding the source failed; the text names it.
    #[error("{0}")]
    Other(String),
}

/// Reads what a node is and how it does.
#[derive(Debug)]
pub struct Probes {
    root: PathBuf,
}

impl Probes {
    /// Probes of this machine.
    pub fn system() -> Probes {
        Probes::new(Path::new("/"))
    }

    /// Probes of files below a directory.
    pub fn new(root: &Path) -> Probes {
        Probes { root: root.to_owned() }
    }

    fn pending<T>(&self) -> Result<T, ProbeError> {
        Err(ProbeError::Unsupported(format!("probe below {} yet", self.root.display())))
    }

    /// The machine and its system.
    pub fn system_info(&self) -> Result<SystemInfo, ProbeError> {
        self.pending()
    }

    /// Load and use of the processors.
    pub fn cpu(&self) -> Result<CpuInfo, ProbeError> {
        self.pending()
    }

    /// Memory and swap.
    pub fn memory(&self) -> Result<MemoryInfo, ProbeError> {
        self.pending()
    }

    /// Pressure on processors, memory and input/output.
    pub fn pressure(&self) -> Result<PressureInfo, ProbeError> {
        self.pending()
    }

    /// Block devices but for partitions, empty loop devices and RAM disks, sorted by name.
    pub fn block_devices(&self) -> Result<Vec<BlockDevice>, ProbeError> {
        self.pending()
    }

    /// Mounted filesystems in the order of the kernel, without pseudo filesystems such as proc.
    pub fn mounts(&self) -> Result<Vec<Mount>, ProbeError> {
        self.pending()
    }

    /// Network interfaces, sorted by name.
    pub fn network(&self) -> Result<Vec<NetworkInterface>, ProbeError> {
        self.pending()
    }

    /// Sensors, sorted by chip and label. An empty list where the machine has none.
    pub fn sensors(&self) -> Result<Vec<Sensor>, ProbeError> {
        self.pending()
    }

    /// What a master may select nodes by.
    pub fn facts(&self) -> Result<Facts, ProbeError> {
        self.pending()
    }
}
