//! Sensors: `/sys/class/hwmon` (Documentation/hwmon/sysfs-interface.rst of the kernel).

use crate::{ProbeError, Sensor, SensorValue, source::Source};
use std::collections::HashMap;

/// Files beside a reading that say it is out of its limits.
const ALARMS: [&str; 8] =
    ["alarm", "min_alarm", "max_alarm", "crit_alarm", "lcrit_alarm", "emergency_alarm", "cap_alarm", "fault"];

pub(crate) fn read(source: &Source) -> Result<Vec<Sensor>, ProbeError> {
    let mut chips = Vec::new();
    for directory in source.names("sys/class/hwmon")? {
        let base = format!("sys/class/hwmon/{directory}");
        // Old drivers put all into the directory of the device.
        let old = format!("{base}/device");
        let base = if source.exists(&format!("{base}/name")) { base } else { old };
        if let Some(name) = source.line(&format!("{base}/name")) {
            chips.push((directory, base, name));
        }
    }
    let mut same: HashMap<&str, usize> = HashMap::new();
    for (_, _, name) in &chips {
        *same.entry(name).or_default() += 1;
    }
    let mut sensors = Vec::new();
    for (directory, base, name) in &chips {
        // A node has one `drivetemp` for each disk. The name of the device tells them apart.
        let chip = if same.get(name.as_str()).is_some_and(|count| *count > 1) {
            let device = source.link_name(&format!("sys/class/hwmon/{directory}/device"));
            format!("{name}-{}", device.as_ref().unwrap_or(directory))
        } else {
            name.clone()
        };
        for file in source.names(base)? {
            sensors.extend(reading(source, &chip, base, &file));
        }
    }
    sensors.sort_by(|a, b| (&a.chip, &a.label).cmp(&(&b.chip, &b.label)));
    Ok(sensors)
}

/// One reading. None for other files, and where the sensor gives an error.
fn reading(source: &Source, chip: &str, base: &str, file: &str) -> Option<Sensor> {
    let (channel, kind) = parse_name(file)?;
    // Some chips give power as an average only.
    if file.ends_with("_average") && source.exists(&format!("{base}/{channel}_input")) {
        return None;
    }
    let raw: i64 = source.number(&format!("{base}/{file}"))?;
    Some(Sensor {
        chip: chip.to_owned(),
        label: source.line(&format!("{base}/{channel}_label")).unwrap_or_else(|| channel.to_owned()),
        value: kind.value(raw)?,
        alarm: ALARMS.iter().any(|alarm| source.flag(&format!("{base}/{channel}_{alarm}"))),
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Temperature,
    Fan,
    Voltage,
    Current,
    Power,
}

impl Kind {
    /// From the unit of the kernel: thousandths, or millionths of a watt.
    fn value(self, raw: i64) -> Option<SensorValue> {
        let thousandths = raw as f64 / 1e3;
        Some(match self {
            Kind::Temperature => SensorValue::TemperatureCelsius(thousandths),
            Kind::Fan => SensorValue::FanRpm(u32::try_from(raw).ok()?),
            Kind::Voltage => SensorValue::VoltageVolts(thousandths),
            Kind::Current => SensorValue::CurrentAmperes(thousandths),
            Kind::Power => SensorValue::PowerWatts(raw as f64 / 1e6),
        })
    }
}

/// `temp1_input` → (`temp1`, temperature).
fn parse_name(file: &str) -> Option<(&str, Kind)> {
    let (channel, rest) = file.split_once('_')?;
    let digits = channel.find(|c: char| c.is_ascii_digit())?;
    let (name, number) = channel.split_at_checked(digits)?;
    let kind = match (name, rest) {
        ("temp", "input") => Kind::Temperature,
        ("fan", "input") => Kind::Fan,
        ("in", "input") => Kind::Voltage,
        ("curr", "input") => Kind::Current,
        ("power", "input" | "average") => Kind::Power,
        _ => return None,
    };
    number.bytes().all(|digit| digit.is_ascii_digit()).then_some((channel, kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_readings_are_understood() {
        assert_eq!(parse_name("temp1_input"), Some(("temp1", Kind::Temperature)));
        assert_eq!(parse_name("in0_input"), Some(("in0", Kind::Voltage)));
        assert_eq!(parse_name("power12_average"), Some(("power12", Kind::Power)));
        for other in
            ["temp1_max", "temp_input", "tempx_input", "temp1", "name", "", "humidity1_input", "temp1x_input"]
        {
            assert_eq!(parse_name(other), None, "{other}");
        }
    }

    #[test]
    fn units_are_those_of_people() {
        assert_eq!(Kind::Temperature.value(-40_500), Some(SensorValue::TemperatureCelsius(-40.5)));
        assert_eq!(Kind::Power.value(125_500_000), Some(SensorValue::PowerWatts(125.5)));
        assert_eq!(Kind::Fan.value(-1), None);
    }

    proptest! {
        #[test]
        fn nothing_makes_the_parsers_panic(text in any::<String>(), name in "[a-z]{0,5}[0-9é]{0,12}_[a-z]{0,8}", raw in any::<i64>()) {
            let _ = parse_name(&text);
            let _ = parse_name(&name);
            for kind in [Kind::Temperature, Kind::Fan, Kind::Voltage, Kind::Current, Kind::Power] {
                let _ = kind.value(raw);
            }
        }
    }
}
