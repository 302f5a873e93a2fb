//! Network interfaces: `/sys/class/net` (Documentation/ABI/testing/sysfs-class-net) and
//! getifaddrs(3).

use crate::{
    LinkState, NetworkInterface, ProbeError,
    kernel::{Address, Kernel},
    source::{Source, malformed},
};

pub(crate) fn read(source: &Source, kernel: &dyn Kernel) -> Result<Vec<NetworkInterface>, ProbeError> {
    let addresses =
        kernel.addresses().map_err(|error| ProbeError::Other(format!("asking for addresses: {error}")))?;
    let mut interfaces = Vec::new();
    for name in source.names("sys/class/net")? {
        interfaces.extend(interface(source, name, &addresses)?);
    }
    Ok(interfaces)
}

/// None for what is no interface (`bonding_masters` is a file) or went away meanwhile.
fn interface(
    source: &Source,
    name: String,
    addresses: &[Address],
) -> Result<Option<NetworkInterface>, ProbeError> {
    let at = |file: &str| format!("sys/class/net/{name}/{file}");
    let Some(state) = source.line(&at("operstate")) else { return Ok(None) };
    let count = |counter: &str| {
        let path = at(&format!("statistics/{counter}"));
        match source.number(&path) {
            Some(number) => Ok(number),
            // It went away meanwhile; the next probe will not list it.
            None if !source.exists(&path) => Ok(0),
            None => Err(malformed(&path, "not a number")),
        }
    };
    let own = addresses.iter().filter(|address| address.interface == name);
    Ok(Some(NetworkInterface {
        state: parse_state(&state),
        mac: source.line(&at("address")).filter(|mac| has_address(mac)),
        addresses: own.map(|address| format!("{}/{}", address.ip, address.prefix)).collect(),
        mtu_bytes: source.number(&at("mtu")).unwrap_or(0),
        speed_mbits: source.line(&at("speed")).and_then(|speed| parse_speed(&speed)),
        full_duplex: source.line(&at("duplex")).and_then(|duplex| parse_duplex(&duplex)),
        rx_bytes: count("rx_bytes")?,
        rx_packets: count("rx_packets")?,
        rx_errors: count("rx_errors")?,
        rx_dropped: count("rx_dropped")?,
        tx_bytes: count("tx_bytes")?,
        tx_packets: count("tx_packets")?,
        tx_errors: count("tx_errors")?,
        tx_dropped: count("tx_dropped")?,
        name,
    }))
}

fn parse_state(state: &str) -> LinkState {
    match state {
        "up" => LinkState::Up,
        "down" => LinkState::Down,
        "dormant" => LinkState::Dormant,
        "lowerlayerdown" => LinkState::LowerLayerDown,
        "notpresent" => LinkState::NotPresent,
        "testing" => LinkState::Testing,
        _ => LinkState::Unknown,
    }
}

/// The loopback interface has an address of zeros.
fn has_address(mac: &str) -> bool {
    mac.chars().any(|c| !matches!(c, '0' | ':'))
}

/// A driver that does not know says -1, as a signed or as an unsigned number, or 0.
fn parse_speed(speed: &str) -> Option<u32> {
    speed.parse().ok().filter(|speed| !matches!(*speed, 0 | u32::MAX))
}

fn parse_duplex(duplex: &str) -> Option<bool> {
    match duplex {
        "full" => Some(true),
        "half" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_driver_does_not_know_is_none() {
        assert_eq!(
            ["10000", "-1", "4294967295", "0", "x", ""].map(parse_speed),
            [Some(10_000), None, None, None, None, None]
        );
        assert_eq!(["full", "half", "unknown"].map(parse_duplex), [Some(true), Some(false), None]);
        assert_eq!(["52:54:00:12:34:56", "00:00:00:00:00:00", ""].map(has_address), [true, false, false]);
        assert_eq!(parse_state("of mind"), LinkState::Unknown);
    }
}
