//! From what the probes tell to what the operations answer.

use crate::api::{disk, network, system};
use windlass_sdk::probes;

pub(crate) fn system(
    machine: probes::SystemInfo,
    cpu: probes::CpuInfo,
    memory: &probes::MemoryInfo,
    pressure: Option<&probes::PressureInfo>,
) -> system::Report {
    system::Report {
        hostname: machine.hostname,
        os: machine.os_name,
        os_id: machine.os_id,
        os_version: machine.os_version,
        kernel: machine.kernel_release,
        architecture: machine.architecture,
        vendor: machine.vendor,
        product: machine.product,
        serial: machine.serial,
        boot_id: machine.boot_id,
        uptime_ms: machine.uptime_ms,
        time_ms: machine.time_ms,
        cpu_model: cpu.model,
        cpu_count: cpu.online_count,
        load_1m: cpu.load_1m,
        load_5m: cpu.load_5m,
        load_15m: cpu.load_15m,
        memory_total_bytes: memory.total_bytes,
        memory_available_bytes: memory.available_bytes,
        swap_total_bytes: memory.swap_total_bytes,
        swap_free_bytes: memory.swap_free_bytes,
        pressure: pressure.map(|all| system::Pressures {
            cpu: share(&all.cpu),
            memory: share(&all.memory),
            io: share(&all.io),
        }),
    }
}

fn share(pressure: &probes::ResourcePressure) -> system::Pressure {
    let some = &pressure.some_tasks;
    let all = pressure.all_tasks.as_ref();
    system::Pressure {
        some_avg10_percent: some.avg10_percent,
        some_avg60_percent: some.avg60_percent,
        some_avg300_percent: some.avg300_percent,
        all_avg10_percent: all.map(|line| line.avg10_percent),
        all_avg60_percent: all.map(|line| line.avg60_percent),
        all_avg300_percent: all.map(|line| line.avg300_percent),
    }
}

pub(crate) fn disk(device: probes::BlockDevice, mounts: &[probes::Mount]) -> disk::Device {
    let mount_points = mounts
        .iter()
        .filter(|mount| {
            mount.source.strip_prefix("/dev/").is_some_and(|source| {
                source == device.name || device.partitions.iter().any(|partition| partition == source)
            })
        })
        .map(|mount| mount.mount_point.clone())
        .collect();
    disk::Device {
        name: device.name,
        size_bytes: device.size_bytes,
        rotational: device.rotational,
        read_only: device.read_only,
        removable: device.removable,
        vendor: device.vendor,
        model: device.model,
        serial: device.serial,
        wwn: device.wwn,
        logical_block_bytes: device.logical_block_bytes,
        physical_block_bytes: device.physical_block_bytes,
        partitions: device.partitions,
        holders: device.holders,
        mount_points,
        reads_count: device.reads_count,
        read_bytes: device.read_bytes,
        writes_count: device.writes_count,
        written_bytes: device.written_bytes,
        busy_ms: device.busy_ms,
    }
}

pub(crate) fn interface(interface: probes::NetworkInterface) -> network::Device {
    network::Device {
        name: interface.name,
        state: match interface.state {
            probes::LinkState::Up => network::LinkState::Up,
            probes::LinkState::Down => network::LinkState::Down,
            probes::LinkState::Dormant => network::LinkState::Dormant,
            probes::LinkState::LowerLayerDown => network::LinkState::LowerLayerDown,
            probes::LinkState::NotPresent => network::LinkState::NotPresent,
            probes::LinkState::Testing => network::LinkState::Testing,
            probes::LinkState::Unknown => network::LinkState::Unknown,
        },
        mac: interface.mac,
        addresses: interface.addresses,
        mtu_bytes: interface.mtu_bytes,
        speed_mbits: interface.speed_mbits,
        full_duplex: interface.full_duplex,
        rx_bytes: interface.rx_bytes,
        rx_packets_count: interface.rx_packets,
        rx_errors_count: interface.rx_errors,
        rx_dropped_count: interface.rx_dropped,
        tx_bytes: interface.tx_bytes,
        tx_packets_count: interface.tx_packets,
        tx_errors_count: interface.tx_errors,
        tx_dropped_count: interface.tx_dropped,
    }
}
