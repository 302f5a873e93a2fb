//! The operations, against a host that tells what a test makes up.

use super::*;
use windlass_sdk::{fake::Host, probes::ProbeError};

fn machine() -> probes::SystemInfo {
    probes::SystemInfo {
        hostname: "n1".into(),
        kernel_release: "6.1.0-28-amd64".into(),
        architecture: "x86_64".into(),
        os_id: "debian".into(),
        os_version: "12".into(),
        os_name: "Debian GNU/Linux 12 (bookworm)".into(),
        vendor: Some("Example".into()),
        product: None,
        serial: None,
        boot_id: "3f0c".into(),
        uptime_ms: 1000,
        time_ms: -1,
    }
}

fn cpu() -> probes::CpuInfo {
    probes::CpuInfo {
        model: "Example CPU".into(),
        online_count: 2,
        load_1m: 0.5,
        load_5m: 0.25,
        load_15m: 0.125,
        user_ms: 1,
        system_ms: 2,
        idle_ms: 3,
        iowait_ms: 4,
        steal_ms: 5,
    }
}

fn memory() -> probes::MemoryInfo {
    probes::MemoryInfo {
        total_bytes: u64::MAX,
        available_bytes: 7,
        free_bytes: 6,
        buffers_bytes: 5,
        cached_bytes: 4,
        dirty_bytes: 3,
        swap_total_bytes: 2,
        swap_free_bytes: 1,
    }
}

fn waiting(percent: f64) -> probes::PressureLine {
    probes::PressureLine {
        avg10_percent: percent,
        avg60_percent: percent + 1.0,
        avg300_percent: percent + 2.0,
        total_us: 9,
    }
}

#[test]
fn a_kernel_without_pressure_is_none() {
    let host = Host::new().probe("pressure").fails(ProbeError::Unsupported("no PSI".into()));
    let host = host.system(machine()).cpu(cpu()).memory(memory());
    let report = host.run(<Plugin as system::Guest>::read).unwrap();
    assert_eq!(report.pressure, None);
    assert_eq!((report.hostname.as_str(), report.kernel.as_str()), ("n1", "6.1.0-28-amd64"));
    assert_eq!((report.cpu_count, report.load_1m, report.load_15m), (2, 0.5, 0.125));
    assert_eq!((report.memory_total_bytes, report.memory_available_bytes), (u64::MAX, 7));
    assert_eq!((report.swap_total_bytes, report.swap_free_bytes), (2, 1));
}

#[test]
fn pressure_keeps_what_the_kernel_tells() {
    let pressure = probes::PressureInfo {
        cpu: probes::ResourcePressure { some_tasks: waiting(1.0), all_tasks: None },
        memory: probes::ResourcePressure { some_tasks: waiting(10.0), all_tasks: Some(waiting(5.0)) },
        io: probes::ResourcePressure { some_tasks: waiting(20.0), all_tasks: Some(waiting(15.0)) },
    };
    let host = Host::new().pressure(pressure).system(machine()).cpu(cpu()).memory(memory());
    let told = host.run(<Plugin as system::Guest>::read).unwrap().pressure.unwrap();
    assert_eq!((told.cpu.some_avg10_percent, told.cpu.all_avg10_percent), (1.0, None));
    assert_eq!((told.memory.some_avg60_percent, told.memory.all_avg60_percent), (11.0, Some(6.0)));
    assert_eq!((told.io.some_avg300_percent, told.io.all_avg300_percent), (22.0, Some(17.0)));
}

fn device(name: &str, partitions: &[&str]) -> probes::BlockDevice {
    probes::BlockDevice {
        name: name.into(),
        size_bytes: 1 << 40,
        logical_block_bytes: 512,
        physical_block_bytes: 4096,
        rotational: true,
        read_only: false,
        removable: false,
        model: None,
        vendor: None,
        serial: None,
        wwn: None,
        partitions: partitions.iter().map(|name| (*name).to_owned()).collect(),
        holders: vec![],
        reads_count: 1,
        read_bytes: 2,
        writes_count: 3,
        written_bytes: 4,
        busy_ms: 5,
    }
}

fn mount(source: &str, mount_point: &str) -> probes::Mount {
    probes::Mount {
        mount_point: mount_point.into(),
        source: source.into(),
        fs_type: "ext4".into(),
        read_only: false,
        size_bytes: None,
        available_bytes: None,
        inodes_total: None,
        inodes_free: None,
    }
}

#[test]
fn a_disk_knows_what_is_mounted_from_it() {
    let mounts = vec![
        mount("/dev/sda1", "/"),
        mount("/dev/sda10", "/ten"),
        mount("/dev/sdb", "/whole"),
        mount("sda1", "/no-device"),
        mount("tank/data", "/tank"),
        mount("/dev/sda2", "/srv"),
    ];
    let disks = vec![device("sda", &["sda1", "sda2"]), device("sdb", &[]), device("sdc", &["sdc1"])];
    let told = Host::new().mounts(mounts).block_devices(disks).run(<Plugin as disk::Guest>::list).unwrap();
    let mounted: Vec<_> = told.iter().map(|disk| (disk.name.as_str(), disk.mount_points.join(" "))).collect();
    assert_eq!(mounted, [("sda", "/ /srv".into()), ("sdb", "/whole".into()), ("sdc", String::new())]);
}

#[test]
fn interfaces_keep_their_state_and_counters() {
    let eth0 = probes::NetworkInterface {
        name: "eth0".into(),
        state: probes::LinkState::LowerLayerDown,
        mac: Some("52:54:00:12:34:56".into()),
        addresses: vec!["10.0.0.5/24".into()],
        mtu_bytes: 1500,
        speed_mbits: None,
        full_duplex: Some(true),
        rx_bytes: 1,
        rx_packets: 2,
        rx_errors: 3,
        rx_dropped: 4,
        tx_bytes: 5,
        tx_packets: 6,
        tx_errors: 7,
        tx_dropped: 8,
    };
    let told = Host::new().network(vec![eth0]).run(<Plugin as network::Guest>::list).unwrap().remove(0);
    assert_eq!(told.state, network::LinkState::LowerLayerDown);
    let received = (told.rx_bytes, told.rx_packets_count, told.rx_errors_count, told.rx_dropped_count);
    assert_eq!(received, (1, 2, 3, 4));
    let sent = (told.tx_bytes, told.tx_packets_count, told.tx_errors_count, told.tx_dropped_count);
    assert_eq!(sent, (5, 6, 7, 8));
}

#[test]
fn errors_keep_their_kind() {
    let read = |host: Host| host.run(<Plugin as system::Guest>::read).unwrap_err();
    assert_eq!(read(Host::new().probe("pressure").denied("d")), system::Error::Denied("d".into()));
    let mounts = Host::new().probe("mounts").fails(ProbeError::Unsupported("u".into()));
    let unsupported = mounts.run(<Plugin as disk::Guest>::list).unwrap_err();
    assert_eq!(unsupported, disk::Error::Unsupported("u".into()));
    let network = Host::new().probe("network").fails(ProbeError::Other("o".into()));
    let other = network.run(<Plugin as network::Guest>::list).unwrap_err();
    assert_eq!(other, network::Error::Other("o".into()));
}
