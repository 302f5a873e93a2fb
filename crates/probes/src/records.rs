//! The records of `wit/host/probes.wit`, one to one, with the same names in snake_case.

use serde::{Deserialize, Serialize};

/// The machine and its system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SystemInfo {
    /// Host name, from uname(2).
    pub hostname: String,
    /// Kernel release, such as `6.1.0-28-amd64`.
    pub kernel_release: String,
    /// Machine architecture, such as `x86_64`.
    pub architecture: String,
    /// Identifier of the system, such as `debian`, from os-release(5).
    pub os_id: String,
    /// Version of the system, such as `12`; empty where os-release has none.
    pub os_version: String,
    /// Name for people, such as `Debian GNU/Linux 12 (bookworm)`.
    pub os_name: String,
    /// Vendor of the machine from DMI, where known.
    pub vendor: Option<String>,
    /// Product name from DMI, where known.
    pub product: Option<String>,
    /// Serial number from DMI, where readable.
    pub serial: Option<String>,
    /// Random id of this boot.
    pub boot_id: String,
    /// Time since boot, in milliseconds.
    pub uptime_ms: u64,
    /// Time of the node, in milliseconds since 1970-01-01 UTC.
    pub time_ms: i64,
}

/// Load and use of the processors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuInfo {
    /// Model name of the first processor; empty where the kernel gives none.
    pub model: String,
    /// Processors that are online.
    pub online_count: u32,
    /// Tasks running or waiting, averaged over one minute.
    pub load_1m: f64,
    /// The same over five minutes.
    pub load_5m: f64,
    /// The same over fifteen minutes.
    pub load_15m: f64,
    /// Time of all processors in user mode (with nice) since boot, in milliseconds.
    pub user_ms: u64,
    /// In kernel mode (with interrupts).
    pub system_ms: u64,
    /// Idle.
    pub idle_ms: u64,
    /// Waiting for input or output.
    pub iowait_ms: u64,
    /// Taken by the hypervisor.
    pub steal_ms: u64,
}

/// Memory, from `/proc/meminfo`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryInfo {
    /// Usable memory in bytes.
    pub total_bytes: u64,
    /// What new work could use without swapping, in bytes.
    pub available_bytes: u64,
    /// Unused memory in bytes.
    pub free_bytes: u64,
    /// Block cache in bytes.
    pub buffers_bytes: u64,
    /// Page cache in bytes.
    pub cached_bytes: u64,
    /// Waiting to be written to disk, in bytes.
    pub dirty_bytes: u64,
    /// Swap space in bytes.
    pub swap_total_bytes: u64,
    /// Unused swap space in bytes.
    pub swap_free_bytes: u64,
}

/// One line of a pressure file: the share of time in which tasks waited.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PressureLine {
    /// Percent over the last 10 seconds.
    pub avg10_percent: f64,
    /// Percent over the last 60 seconds.
    pub avg60_percent: f64,
    /// Percent over the last 300 seconds.
    pub avg300_percent: f64,
    /// Waiting time since boot, in microseconds.
    pub total_us: u64,
}

/// Pressure of one resource, from `/proc/pressure`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourcePressure {
    /// Some tasks waited.
    pub some_tasks: PressureLine,
    /// All tasks waited; the kernel gives none for the processor on older versions.
    pub all_tasks: Option<PressureLine>,
}

/// Pressure on processors, memory and input/output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PressureInfo {
    /// Processors.
    pub cpu: ResourcePressure,
    /// Memory.
    pub memory: ResourcePressure,
    /// Input and output.
    pub io: ResourcePressure,
}

/// A block device that is not a partition, from `/sys/block`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockDevice {
    /// Kernel name, such as `sda`.
    pub name: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Smallest unit of a request, in bytes.
    pub logical_block_bytes: u32,
    /// Unit of the medium, in bytes.
    pub physical_block_bytes: u32,
    /// True for a spinning disk, as the kernel believes.
    pub rotational: bool,
    /// True when it may not be written.
    pub read_only: bool,
    /// True for a medium that can be taken out.
    pub removable: bool,
    /// Model, where known.
    pub model: Option<String>,
    /// Vendor, where known.
    pub vendor: Option<String>,
    /// Serial number, where known.
    pub serial: Option<String>,
    /// World wide name, where known.
    pub wwn: Option<String>,
    /// Kernel names of its partitions.
    pub partitions: Vec<String>,
    /// Kernel names of devices built upon it, such as `dm-0` or `md0`.
    pub holders: Vec<String>,
    /// Requests read since boot.
    pub reads_count: u64,
    /// Bytes read since boot.
    pub read_bytes: u64,
    /// Requests written since boot.
    pub writes_count: u64,
    /// Bytes written since boot.
    pub written_bytes: u64,
    /// Time in which it had requests under way since boot, in milliseconds.
    pub busy_ms: u64,
}

/// A mounted filesystem, from `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Where it is mounted.
    pub mount_point: String,
    /// What is mounted, such as `/dev/sda1` or `tank/data`.
    pub source: String,
    /// Type, such as `ext4`.
    pub fs_type: String,
    /// True when it may not be written.
    pub read_only: bool,
    /// Size in bytes; none where the filesystem did not say.
    pub size_bytes: Option<u64>,
    /// Free for ordinary users, in bytes.
    pub available_bytes: Option<u64>,
    /// Inodes in all.
    pub inodes_total: Option<u64>,
    /// Unused inodes.
    pub inodes_free: Option<u64>,
}

/// State of a network interface (RFC 2863).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// Ready to pass packets.
    Up,
    /// Not.
    Down,
    /// Waiting for an event, such as authentication.
    Dormant,
    /// A lower layer is down.
    LowerLayerDown,
    /// A part is missing, such as a module.
    NotPresent,
    /// In test mode.
    Testing,
    /// The driver does not say.
    Unknown,
}

/// A network interface, from `/sys/class/net`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkInterface {
    /// Name, such as `eth0`.
    pub name: String,
    /// State of the link.
    pub state: LinkState,
    /// Hardware address, such as `52:54:00:12:34:56`; none where there is none.
    pub mac: Option<String>,
    /// Addresses with prefix length, such as `10.0.0.5/24`.
    pub addresses: Vec<String>,
    /// Largest packet, in bytes.
    pub mtu_bytes: u32,
    /// Speed in megabits a second, where the driver says.
    pub speed_mbits: Option<u32>,
    /// True for full duplex, where the driver says.
    pub full_duplex: Option<bool>,
    /// Bytes received since boot.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Receive errors.
    pub rx_errors: u64,
    /// Received packets dropped.
    pub rx_dropped: u64,
    /// Bytes sent since boot.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Send errors.
    pub tx_errors: u64,
    /// Packets to send dropped.
    pub tx_dropped: u64,
}

/// What a sensor measures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SensorValue {
    /// Temperature in degrees Celsius.
    TemperatureCelsius(f64),
    /// Fan speed in turns a minute.
    FanRpm(u32),
    /// Voltage in volts.
    VoltageVolts(f64),
    /// Electric current in amperes.
    CurrentAmperes(f64),
    /// Power in watts.
    PowerWatts(f64),
}

/// One reading of a sensor chip, from `/sys/class/hwmon`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sensor {
    /// Name of the chip, such as `coretemp`.
    pub chip: String,
    /// Label of the reading, or its file's name, such as `temp1`.
    pub label: String,
    /// The reading.
    pub value: SensorValue,
    /// The chip raises its alarm.
    pub alarm: bool,
}

/// What a master may select nodes by: what seldom changes while the node is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Identifier of the system, such as `debian`.
    pub os: String,
    /// Version of the system, such as `12`; empty where the system has none.
    pub os_version: String,
    /// Kernel release, such as `6.1.0-28-amd64`.
    pub kernel: String,
    /// Machine architecture, such as `x86_64`.
    pub architecture: String,
    /// Processors that are online.
    pub cpu_count: u32,
    /// Usable memory in bytes.
    pub memory_bytes: u64,
    /// Host name.
    pub hostname: String,
    /// Kind of virtual machine or container, such as `kvm` or `docker`; `none` on bare metal as
    /// far as can be told.
    #[serde(rename = "virtual")]
    pub virtualization: String,
    /// Random id of this boot.
    pub boot_id: String,
}
