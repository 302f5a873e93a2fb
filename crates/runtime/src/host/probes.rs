//! `windlass:host/probes`: grants and trace here, the readings in `windlass-probes`.

use super::{Serving, State, api::windlass::host::probes as wit, blocking};
use crate::tape::calls::{self, HostCall};
use windlass_probes::{self as probes, ProbeError, Probes};
use windlass_types::{
    Denial,
    trace::{TraceDetail, Verdict},
};

impl Serving {
    async fn on_probe<C: HostCall<Returns: 'static, Fails = ProbeError>, W>(
        &self,
        call: C,
        read: impl FnOnce(&Probes) -> Result<C::Returns, ProbeError> + Send + 'static,
        convert: impl FnOnce(C::Returns) -> W,
    ) -> wasmtime::Result<Result<W, wit::Error>> {
        let (serving, function) = (self, C::NAME);
        let name = function.strip_prefix("probes.").unwrap_or(function);
        let detail = TraceDetail::Probe { probe: name.to_owned() };
        let rule = match serving.grants.probe(name) {
            Ok(rule) => rule,
            Err(denial) => {
                let denial = Denial { capability: function.into(), ..denial };
                serving.trace.denied(function, detail, &denial);
                serving.tape.denied(|| call, &denial.missing)?;
                return Ok(Err(wit::Error::Denied(denial.missing)));
            }
        };
        let entry = serving.trace.begin(function, detail, Verdict::Allowed { rule });
        let probes = serving.probes.clone();
        let call = serving.tape.call(|| call);
        let found = serving.tape.pass(call, blocking(move || read(&probes))).await?;
        serving.trace.finish(entry, found.as_ref().err().map(ToString::to_string), |_| {});
        Ok(match found {
            Ok(found) => Ok(convert(found)),
            Err(ProbeError::Unsupported(what)) => Err(wit::Error::Unsupported(what)),
            Err(ProbeError::Other(why)) => Err(wit::Error::Other(why)),
        })
    }
}

type Answer<T> = wasmtime::Result<Result<T, wit::Error>>;

impl wit::Host for State {
    async fn system(&mut self) -> Answer<wit::SystemInfo> {
        self.serving
            .on_probe(calls::ProbesSystem {}, Probes::system_info, |info| wit::SystemInfo {
                hostname: info.hostname,
                kernel_release: info.kernel_release,
                architecture: info.architecture,
                os_id: info.os_id,
                os_version: info.os_version,
                os_name: info.os_name,
                vendor: info.vendor,
                product: info.product,
                serial: info.serial,
                boot_id: info.boot_id,
                uptime_ms: info.uptime_ms,
                time_ms: info.time_ms,
            })
            .await
    }

    async fn cpu(&mut self) -> Answer<wit::CpuInfo> {
        self.serving
            .on_probe(calls::ProbesCpu {}, Probes::cpu, |info| wit::CpuInfo {
                model: info.model,
                online_count: info.online_count,
                load_1m: info.load_1m,
                load_5m: info.load_5m,
                load_15m: info.load_15m,
                user_ms: info.user_ms,
                system_ms: info.system_ms,
                idle_ms: info.idle_ms,
                iowait_ms: info.iowait_ms,
                steal_ms: info.steal_ms,
            })
            .await
    }

    async fn memory(&mut self) -> Answer<wit::MemoryInfo> {
        self.serving
            .on_probe(calls::ProbesMemory {}, Probes::memory, |info| wit::MemoryInfo {
                total_bytes: info.total_bytes,
                available_bytes: info.available_bytes,
                free_bytes: info.free_bytes,
                buffers_bytes: info.buffers_bytes,
                cached_bytes: info.cached_bytes,
                dirty_bytes: info.dirty_bytes,
                swap_total_bytes: info.swap_total_bytes,
                swap_free_bytes: info.swap_free_bytes,
            })
            .await
    }

    async fn pressure(&mut self) -> Answer<wit::PressureInfo> {
        fn line(line: &probes::PressureLine) -> wit::PressureLine {
            wit::PressureLine {
                avg10_percent: line.avg10_percent,
                avg60_percent: line.avg60_percent,
                avg300_percent: line.avg300_percent,
                total_us: line.total_us,
            }
        }
        fn resource(pressure: &probes::ResourcePressure) -> wit::ResourcePressure {
            wit::ResourcePressure {
                some_tasks: line(&pressure.some_tasks),
                all_tasks: pressure.all_tasks.as_ref().map(line),
            }
        }
        self.serving
            .on_probe(calls::ProbesPressure {}, Probes::pressure, |info| wit::PressureInfo {
                cpu: resource(&info.cpu),
                memory: resource(&info.memory),
                io: resource(&info.io),
            })
            .await
    }

    async fn block_devices(&mut self) -> Answer<Vec<wit::BlockDevice>> {
        self.serving
            .on_probe(calls::ProbesBlockDevices {}, Probes::block_devices, |devices| {
                devices.into_iter().map(block_device).collect()
            })
            .await
    }

    async fn mounts(&mut self) -> Answer<Vec<wit::Mount>> {
        self.serving
            .on_probe(calls::ProbesMounts {}, Probes::mounts, |mounts| {
                mounts
                    .into_iter()
                    .map(|mount| wit::Mount {
                        mount_point: mount.mount_point,
                        source: mount.source,
                        fs_type: mount.fs_type,
                        read_only: mount.read_only,
                        size_bytes: mount.size_bytes,
                        available_bytes: mount.available_bytes,
                        inodes_total: mount.inodes_total,
                        inodes_free: mount.inodes_free,
                    })
                    .collect()
            })
            .await
    }

    async fn network(&mut self) -> Answer<Vec<wit::NetworkInterface>> {
        self.serving
            .on_probe(calls::ProbesNetwork {}, Probes::network, |interfaces| {
                interfaces.into_iter().map(network_interface).collect()
            })
            .await
    }

    async fn sensors(&mut self) -> Answer<Vec<wit::Sensor>> {
        self.serving
            .on_probe(calls::ProbesSensors {}, Probes::sensors, |sensors| {
                sensors
                    .into_iter()
                    .map(|sensor| wit::Sensor {
                        chip: sensor.chip,
                        label: sensor.label,
                        value: sensor_value(sensor.value),
                        alarm: sensor.alarm,
                    })
                    .collect()
            })
            .await
    }
}

fn block_device(device: probes::BlockDevice) -> wit::BlockDevice {
    wit::BlockDevice {
        name: device.name,
        size_bytes: device.size_bytes,
        logical_block_bytes: device.logical_block_bytes,
        physical_block_bytes: device.physical_block_bytes,
        rotational: device.rotational,
        read_only: device.read_only,
        removable: device.removable,
        model: device.model,
        vendor: device.vendor,
        serial: device.serial,
        wwn: device.wwn,
        partitions: device.partitions,
        holders: device.holders,
        reads_count: device.reads_count,
        read_bytes: device.read_bytes,
        writes_count: device.writes_count,
        written_bytes: device.written_bytes,
        busy_ms: device.busy_ms,
    }
}

fn network_interface(interface: probes::NetworkInterface) -> wit::NetworkInterface {
    let state = match interface.state {
        probes::LinkState::Up => wit::LinkState::Up,
        probes::LinkState::Down => wit::LinkState::Down,
        probes::LinkState::Dormant => wit::LinkState::Dormant,
        probes::LinkState::LowerLayerDown => wit::LinkState::LowerLayerDown,
        probes::LinkState::NotPresent => wit::LinkState::NotPresent,
        probes::LinkState::Testing => wit::LinkState::Testing,
        probes::LinkState::Unknown => wit::LinkState::Unknown,
    };
    wit::NetworkInterface {
        name: interface.name,
        state,
        mac: interface.mac,
        addresses: interface.addresses,
        mtu_bytes: interface.mtu_bytes,
        speed_mbits: interface.speed_mbits,
        full_duplex: interface.full_duplex,
        rx_bytes: interface.rx_bytes,
        rx_packets: interface.rx_packets,
        rx_errors: interface.rx_errors,
        rx_dropped: interface.rx_dropped,
        tx_bytes: interface.tx_bytes,
        tx_packets: interface.tx_packets,
        tx_errors: interface.tx_errors,
        tx_dropped: interface.tx_dropped,
    }
}

fn sensor_value(value: probes::SensorValue) -> wit::SensorValue {
    match value {
        probes::SensorValue::TemperatureCelsius(celsius) => wit::SensorValue::TemperatureCelsius(celsius),
        probes::SensorValue::FanRpm(rpm) => wit::SensorValue::FanRpm(rpm),
        probes::SensorValue::VoltageVolts(volts) => wit::SensorValue::VoltageVolts(volts),
        probes::SensorValue::CurrentAmperes(amperes) => wit::SensorValue::CurrentAmperes(amperes),
        probes::SensorValue::PowerWatts(watts) => wit::SensorValue::PowerWatts(watts),
    }
}
