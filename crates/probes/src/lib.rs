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

mod block;
mod cpu;
mod facts;
mod kernel;
mod memory;
mod mounts;
mod network;
mod pressure;
mod records;
mod sensors;
mod source;
mod system;

pub use kernel::{Address, Kernel, Live, Names, Space};
pub use records::{
    BlockDevice, CpuInfo, Facts, LinkState, MemoryInfo, Mount, NetworkInterface, PressureInfo, PressureLine,
    ResourcePressure, Sensor, SensorValue, SystemInfo,
};
use source::Source;
use std::path::Path;

/// Why a probe has no answer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
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
    source: Source,
    kernel: Box<dyn Kernel>,
}

impl Probes {
    /// Probes of this machine.
    pub fn system() -> Probes {
        Probes::with_kernel(Path::new("/"), Box::new(Live))
    }

    /// Probes of files captured below a directory. What is not in files (space of filesystems,
    /// addresses of interfaces) is unknown there.
    pub fn new(root: &Path) -> Probes {
        Probes::with_kernel(root, Box::new(kernel::Captured(Source::new(root))))
    }

    /// Probes of files below a directory, and of this for the rest.
    pub fn with_kernel(root: &Path, kernel: Box<dyn Kernel>) -> Probes {
        Probes { source: Source::new(root), kernel }
    }

    /// The machine and its system.
    ///
    /// # Errors
    /// As all probes: if this node has no such thing, or a source can't be read or understood.
    pub fn system_info(&self) -> Result<SystemInfo, ProbeError> {
        system::read(&self.source, &*self.kernel)
    }

    /// Load and use of the processors.
    ///
    /// # Errors
    /// As [`Probes::system_info`].
    pub fn cpu(&self) -> Result<CpuInfo, ProbeError> {
        cpu::read(&self.source)
    }

    /// Memory and swap.
    ///
    /// # Errors
    /// As [`Probes::system_info`].
    pub fn memory(&self) -> Result<MemoryInfo, ProbeError> {
        memory::read(&self.source)
    }

    /// Pressure on processors, memory and input/output.
    ///
    /// # Errors
    /// As [`Probes::system_info`]; unsupported where the kernel counts no pressure.
    pub fn pressure(&self) -> Result<PressureInfo, ProbeError> {
        pressure::read(&self.source)
    }

    /// Block devices but for partitions, empty loop devices and RAM disks, sorted by name.
    ///
    /// # Errors
    /// As [`Probes::system_info`].
    pub fn block_devices(&self) -> Result<Vec<BlockDevice>, ProbeError> {
        block::read(&self.source)
    }

    /// Mounted filesystems in the order of the kernel, without pseudo filesystems such as proc.
    /// Those of a network are not asked for their space: they might never answer.
    ///
    /// # Errors
    /// As [`Probes::system_info`].
    pub fn mounts(&self) -> Result<Vec<Mount>, ProbeError> {
        mounts::read(&self.source, &*self.kernel)
    }

    /// Network interfaces, sorted by name.
    ///
    /// # Errors
    /// As [`Probes::system_info`].
    pub fn network(&self) -> Result<Vec<NetworkInterface>, ProbeError> {
        network::read(&self.source, &*self.kernel)
    }

    /// Sensors, sorted by chip and label. An empty list where the machine has none.
    ///
    /// # Errors
    /// As [`Probes::system_info`].
    pub fn sensors(&self) -> Result<Vec<Sensor>, ProbeError> {
        sensors::read(&self.source)
    }

    /// What a master may select nodes by.
    ///
    /// # Errors
    /// As [`Probes::system_info`].
    pub fn facts(&self) -> Result<Facts, ProbeError> {
        facts::read(&self.source, &*self.kernel)
    }
}
