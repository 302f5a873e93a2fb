//! What the node is and how it does, read from the kernel by the host itself.
//!
//! Each function is granted by its own name in the manifest: `probes = ["cpu", "block-devices"]`. Each
//! fails with [`Error::Denied`] where it is not granted, and with [`Error::Unsupported`] where this node
//! has no such thing.

use crate::{__bindings::windlass::host::probes as wit, Error, host::probes as host};

pub use wit::{
    BlockDevice, CpuInfo, Error as ProbeError, LinkState, MemoryInfo, Mount, NetworkInterface, PressureInfo,
    PressureLine, ResourcePressure, Sensor, SensorValue, SystemInfo,
};

macro_rules! probes {
    ($($(#[doc = $doc:literal])+ $name:ident: $answer:ty;)+) => {$(
        $(#[doc = $doc])+
        ///
        /// # Errors
        /// If the probe is denied, or has no answer here.
        pub fn $name() -> Result<$answer, Error> {
            host::$name().map_err(Error::from)
        }
    )+};
}

probes! {
    /// The machine and its system.
    system: SystemInfo;
    /// Load and use of the processors.
    cpu: CpuInfo;
    /// Memory and swap.
    memory: MemoryInfo;
    /// Pressure on processors, memory and input/output.
    pressure: PressureInfo;
    /// Block devices but for partitions, empty loop devices and RAM disks, sorted by name.
    block_devices: Vec<BlockDevice>;
    /// Mounted filesystems in the order of the kernel, without pseudo filesystems such as proc.
    mounts: Vec<Mount>;
    /// Network interfaces, sorted by name.
    network: Vec<NetworkInterface>;
    /// Sensors, sorted by chip and label. An empty list where the machine has none.
    sensors: Vec<Sensor>;
}
