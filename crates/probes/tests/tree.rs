//! All probes over captured trees: `tree` is a storage server, `bare` a board with an old kernel
//! and little else. Their numbers come from real machines, their names and serials do not.

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
};
use windlass_probes::{Address, Kernel, Names, ProbeError, Probes, Space};

fn tree(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// A kernel that answers for the storage server.
#[derive(Debug)]
struct Server {
    spaces: BTreeMap<&'static str, Space>,
}

impl Server {
    fn new() -> Server {
        let space = |size_bytes, inodes_total| Space {
            size_bytes,
            available_bytes: size_bytes / 2,
            inodes_total,
            inodes_free: inodes_total / 4,
        };
        let spaces = [
            ("/", space(480_000_000_000, 1_000_000)),
            ("/run", space(4096, 512)),
            ("/tank", space(18_000_000_000_000, 40)),
            ("/tank/with blank", space(0, 0)),
            ("/mnt/image", space(4_194_304, 0)),
            ("/mnt/stacked", space(1000, 0)),
        ];
        Server { spaces: spaces.into() }
    }
}

impl Kernel for Server {
    fn names(&self) -> Names {
        Names { hostname: "store-07".into(), release: "6.1.0-28-amd64".into(), machine: "x86_64".into() }
    }

    fn space(&self, mount_point: &str) -> Option<Space> {
        assert!(!mount_point.contains("volume") && !mount_point.contains("share"), "{mount_point} may hang");
        self.spaces.get(mount_point).copied()
    }

    fn addresses(&self) -> io::Result<Vec<Address>> {
        let address = |interface: &str, ip: &str, prefix| Address {
            interface: interface.into(),
            ip: ip.parse::<IpAddr>().unwrap(),
            prefix,
        };
        Ok(vec![
            address("lo", "127.0.0.1", 8),
            address("bond0", "10.0.0.7", 24),
            address("lo", "::1", 128),
            address("bond0", "fe80::ec4:7aff:fe00:1", 64),
        ])
    }

    fn time_ms(&self) -> i64 {
        1_767_231_423_410
    }
}

fn server() -> Probes {
    Probes::with_kernel(&tree("tree"), Box::new(Server::new()))
}

#[test]
fn a_storage_server() {
    let probes = server();
    insta::assert_json_snapshot!("server_system", probes.system_info().unwrap());
    insta::assert_json_snapshot!("server_cpu", probes.cpu().unwrap());
    insta::assert_json_snapshot!("server_memory", probes.memory().unwrap());
    insta::assert_json_snapshot!("server_pressure", probes.pressure().unwrap());
    insta::assert_json_snapshot!("server_block_devices", probes.block_devices().unwrap());
    insta::assert_json_snapshot!("server_mounts", probes.mounts().unwrap());
    insta::assert_json_snapshot!("server_network", probes.network().unwrap());
    insta::assert_json_snapshot!("server_sensors", probes.sensors().unwrap());
    insta::assert_json_snapshot!("server_facts", probes.facts().unwrap());
}

#[test]
fn a_board_with_an_old_kernel() {
    let probes = Probes::new(&tree("bare"));
    insta::assert_json_snapshot!("bare_system", probes.system_info().unwrap());
    insta::assert_json_snapshot!("bare_cpu", probes.cpu().unwrap());
    insta::assert_json_snapshot!("bare_memory", probes.memory().unwrap());
    insta::assert_json_snapshot!("bare_mounts", probes.mounts().unwrap());
    insta::assert_json_snapshot!("bare_facts", probes.facts().unwrap());
    assert_eq!(probes.pressure().unwrap_err(), ProbeError::Unsupported("`/proc/pressure/cpu`".into()));
    assert_eq!(probes.block_devices().unwrap(), []);
    assert_eq!(probes.network().unwrap(), []);
    assert_eq!(probes.sensors().unwrap(), []);
}

#[test]
fn a_captured_tree_answers_for_its_own_kernel() {
    let probes = Probes::new(&tree("tree"));
    let (alone, answered) = (probes.system_info().unwrap(), server().system_info().unwrap());
    assert_eq!(alone, answered, "names and time come from the tree");
    assert!(probes.mounts().unwrap().iter().all(|mount| mount.size_bytes.is_none()));
}

#[test]
fn an_empty_tree_is_no_reason_to_panic() {
    let empty = tempfile::tempdir().unwrap();
    let probes = Probes::new(empty.path());
    assert!(matches!(probes.system_info(), Err(ProbeError::Unsupported(_))));
    assert!(matches!(probes.cpu(), Err(ProbeError::Unsupported(_))));
    assert!(matches!(probes.memory(), Err(ProbeError::Unsupported(_))));
    assert!(matches!(probes.pressure(), Err(ProbeError::Unsupported(_))));
    assert!(matches!(probes.mounts(), Err(ProbeError::Unsupported(_))));
    assert!(matches!(probes.facts(), Err(ProbeError::Unsupported(_))));
    assert_eq!(probes.block_devices().unwrap(), []);
    assert_eq!(probes.network().unwrap(), []);
    assert_eq!(probes.sensors().unwrap(), []);
}

#[test]
fn a_file_that_is_not_understood_is_named() {
    let copy = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = copy.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("proc/self/mountinfo", "1 1 179:1 / / rw - ext4 /dev/root rw\nrubbish\n");
    write("proc/meminfo", "MemTotal: 1 kB\n");
    write("sys/block/sda/size", "1\n");
    write("sys/block/sda/stat", "1 2 3\n");
    write("sys/class/net/eth0/operstate", "up\n");
    write("sys/class/net/eth0/statistics/rx_bytes", "-\n");
    let probes = Probes::new(copy.path());
    let messages = [
        probes.mounts().unwrap_err(),
        probes.memory().unwrap_err(),
        probes.block_devices().unwrap_err(),
        probes.network().unwrap_err(),
    ];
    insta::assert_snapshot!(messages.map(|error| error.to_string()).join("\n"), @r"
    `/proc/self/mountinfo` is not as expected: line 2
    `/proc/meminfo` is not as expected: no `MemFree`
    `/sys/block/sda/stat` is not as expected: not eleven numbers
    `/sys/class/net/eth0/statistics/rx_bytes` is not as expected: not a number
    ");
}

/// This machine, whatever it is: all answers make sense together.
#[test]
fn this_machine() {
    let probes = Probes::system();
    let (system, facts) = (probes.system_info().unwrap(), probes.facts().unwrap());
    assert_eq!((&system.hostname, &system.boot_id), (&facts.hostname, &facts.boot_id));
    assert!(system.uptime_ms > 0 && system.time_ms > 1_700_000_000_000);
    assert_eq!(system.boot_id.len(), 36);

    let cpu = probes.cpu().unwrap();
    assert!(cpu.online_count >= 1 && cpu.online_count == facts.cpu_count);
    assert!(cpu.user_ms > 0 && cpu.idle_ms > 0);

    let memory = probes.memory().unwrap();
    assert!(memory.available_bytes <= memory.total_bytes && memory.total_bytes == facts.memory_bytes);

    let mounts = probes.mounts().unwrap();
    let root = mounts.iter().rfind(|mount| mount.mount_point == "/").unwrap();
    assert!(root.size_bytes > root.available_bytes);
    assert!(mounts.iter().all(|mount| mount.fs_type != "proc"));

    let network = probes.network().unwrap();
    let loopback = network.iter().find(|interface| interface.name == "lo").unwrap();
    assert!(loopback.addresses.iter().any(|address| address == "127.0.0.1/8"));
    assert_eq!(loopback.mac, None);

    for device in probes.block_devices().unwrap() {
        assert!(
            device.logical_block_bytes >= 512 && device.physical_block_bytes >= device.logical_block_bytes
        );
    }
    probes.sensors().unwrap();
    match probes.pressure() {
        Ok(_) | Err(ProbeError::Unsupported(_)) => {}
        Err(error) => panic!("{error}"),
    }
}
