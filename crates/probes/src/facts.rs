//! What a master may select nodes by.

use crate::{
    Facts, ProbeError, cpu,
    kernel::Kernel,
    memory,
    source::Source,
    system::{self, OsRelease},
};

pub(crate) fn read(source: &Source, kernel: &dyn Kernel) -> Result<Facts, ProbeError> {
    let names = kernel.names();
    let os = OsRelease::read(source);
    Ok(Facts {
        os: os.id,
        os_version: os.version,
        kernel: names.release,
        architecture: names.machine,
        cpu_count: cpu::online(source)?,
        memory_bytes: memory::read(source)?.total_bytes,
        hostname: names.hostname,
        virtualization: virtualization(source),
        boot_id: system::boot_id(source)?,
    })
}

/// What this runs in, in the words of systemd-detect-virt(1). A container comes before the machine
/// that it runs on.
fn virtualization(source: &Source) -> String {
    if let Some(container) = source.line("run/systemd/container") {
        return container;
    }
    if source.exists(".dockerenv") {
        return "docker".into();
    }
    if source.exists("run/.containerenv") {
        return "podman".into();
    }
    let firmware: Vec<String> = ["sys_vendor", "product_name", "board_vendor", "bios_vendor"]
        .iter()
        .filter_map(|name| system::dmi(source, name))
        .collect();
    if let Some(known) = from_firmware(&firmware) {
        return known.into();
    }
    if source.line("sys/hypervisor/type").as_deref() == Some("xen") {
        return "xen".into();
    }
    let flags = source.text("proc/cpuinfo").unwrap_or_default();
    if has_hypervisor_flag(&flags) { "vm-other".into() } else { "none".into() }
}

/// The first that fits counts: a machine of Google or Amazon is one of KVM as well.
fn from_firmware(values: &[String]) -> Option<&'static str> {
    const KNOWN: [(&str, &str); 14] = [
        ("KVM", "kvm"),
        ("OpenStack", "kvm"),
        ("KubeVirt", "kvm"),
        ("Amazon EC2", "amazon"),
        ("Google Compute Engine", "google"),
        ("QEMU", "qemu"),
        ("VMware", "vmware"),
        ("VMW", "vmware"),
        ("innotek GmbH", "oracle"),
        ("VirtualBox", "oracle"),
        ("Xen", "xen"),
        ("Bochs", "bochs"),
        ("Parallels", "parallels"),
        ("BHYVE", "bhyve"),
    ];
    let fits = |text: &str| values.iter().any(|value| value.starts_with(text));
    // Microsoft makes machines of its own too.
    if fits("Microsoft Corporation") && fits("Virtual Machine") {
        return Some("microsoft");
    }
    // Amazon's firmware calls itself so on bare metal too; the kind of instance says which it is.
    if values.iter().any(|value| value.ends_with(".metal")) {
        return None;
    }
    KNOWN.iter().find(|(text, _)| fits(text)).map(|(_, name)| *name)
}

/// Every hypervisor on x86 sets this bit for its guests.
fn has_hypervisor_flag(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().find_map(|line| line.strip_prefix("flags")?.split_once(':'));
    flags.is_some_and(|(_, flags)| flags.split_ascii_whitespace().any(|flag| flag == "hypervisor"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firmware_tells_the_machine() {
        let firmware =
            |values: &[&str]| from_firmware(&values.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(firmware(&["QEMU", "Standard PC (Q35 + ICH9, 2009)", "SeaBIOS"]), Some("qemu"));
        assert_eq!(firmware(&["Red Hat", "KVM"]), Some("kvm"));
        assert_eq!(firmware(&["Microsoft Corporation", "Virtual Machine"]), Some("microsoft"));
        assert_eq!(firmware(&["Microsoft Corporation", "Surface Pro"]), None);
        assert_eq!(firmware(&["Amazon EC2", "m5.large"]), Some("amazon"));
        assert_eq!(firmware(&["Amazon EC2", "m5.metal"]), None);
        assert_eq!(firmware(&["Supermicro", "SSG-6049P"]), None);
        assert_eq!(firmware(&[]), None);
    }

    #[test]
    fn a_guest_is_known_by_its_processor() {
        assert!(has_hypervisor_flag("processor: 0\nflags\t\t: fpu vme hypervisor lahf_lm\n"));
        assert!(!has_hypervisor_flag("flags\t\t: fpu vme\nbugs: hypervisor\n"));
        assert!(!has_hypervisor_flag(""));
    }
}
