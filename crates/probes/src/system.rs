//! The machine and its system: os-release(5), DMI, device tree, uptime.

use crate::{
    ProbeError, SystemInfo,
    kernel::Kernel,
    source::{Source, finite, malformed},
};
use std::collections::BTreeMap;

/// What makers leave in DMI where a value should be.
const PLACEHOLDERS: [&str; 10] = [
    "to be filled by o.e.m.",
    "default string",
    "not specified",
    "not applicable",
    "not available",
    "system manufacturer",
    "system product name",
    "system serial number",
    "none",
    "unknown",
];

pub(crate) fn read(source: &Source, kernel: &dyn Kernel) -> Result<SystemInfo, ProbeError> {
    let names = kernel.names();
    let os = OsRelease::read(source);
    let uptime = source.text("proc/uptime")?;
    Ok(SystemInfo {
        hostname: names.hostname,
        kernel_release: names.release,
        architecture: names.machine,
        os_id: os.id,
        os_version: os.version,
        os_name: os.name,
        vendor: dmi(source, "sys_vendor"),
        product: dmi(source, "product_name").or_else(|| source.line("proc/device-tree/model")),
        serial: dmi(source, "product_serial").or_else(|| source.line("proc/device-tree/serial-number")),
        boot_id: boot_id(source)?,
        uptime_ms: uptime_ms(&uptime).ok_or_else(|| malformed("proc/uptime", "no time"))?,
        time_ms: kernel.time_ms(),
    })
}

/// A value from DMI that says something.
pub(crate) fn dmi(source: &Source, name: &str) -> Option<String> {
    let value = source.line(&format!("sys/class/dmi/id/{name}"))?;
    (!PLACEHOLDERS.contains(&value.to_lowercase().as_str())).then_some(value)
}

pub(crate) fn boot_id(source: &Source) -> Result<String, ProbeError> {
    Ok(source.text("proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// The first number of `/proc/uptime` (proc_uptime(5)), which has two decimals.
pub(crate) fn uptime_ms(text: &str) -> Option<u64> {
    let seconds = finite(text.split_ascii_whitespace().next()?).filter(|seconds| *seconds >= 0.0)?;
    // A cast of a number out of range gives the largest.
    Some((seconds * 1000.0).round() as u64)
}

/// What the system calls itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OsRelease {
    pub id: String,
    pub version: String,
    pub name: String,
}

impl OsRelease {
    pub fn read(source: &Source) -> OsRelease {
        let text = source.text("etc/os-release").or_else(|_| source.text("usr/lib/os-release"));
        OsRelease::parse(&text.unwrap_or_default())
    }

    /// The defaults are those of os-release(5).
    fn parse(text: &str) -> OsRelease {
        let mut values = assignments(text);
        let mut take = |key: &str| values.remove(key).filter(|value| !value.is_empty());
        let name = take("PRETTY_NAME").or_else(|| take("NAME")).unwrap_or_else(|| "Linux".into());
        OsRelease {
            id: take("ID").unwrap_or_else(|| "linux".into()),
            version: take("VERSION_ID").unwrap_or_default(),
            name,
        }
    }
}

/// `NAME=value` lines as a shell would read them; the last of a name counts.
fn assignments(text: &str) -> BTreeMap<&str, String> {
    text.lines()
        .filter_map(|line| {
            let (name, value) = line.trim().split_once('=')?;
            (!name.starts_with('#')).then(|| (name, unquote(value)))
        })
        .collect()
}

fn unquote(value: &str) -> String {
    let mut plain = String::new();
    let mut quote = None;
    let mut letters = value.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', None) => plain.extend(letters.next()),
            ('\\', Some('"')) => match letters.next() {
                Some(escaped @ ('"' | '\\' | '$' | '`')) => plain.push(escaped),
                Some(other) => plain.extend(['\\', other]),
                None => plain.push('\\'),
            },
            ('"' | '\'', None) => quote = Some(letter),
            (end, Some(begin)) if end == begin => quote = None,
            // A blank outside of quotes ends the value.
            (blank, None) if blank.is_whitespace() => break,
            _ => plain.push(letter),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quotes_are_read_as_by_a_shell() {
        let cases = [
            ("debian", "debian"),
            ("\"Debian GNU/Linux 12 (bookworm)\"", "Debian GNU/Linux 12 (bookworm)"),
            ("'single \\ \"quoted\"'", "single \\ \"quoted\""),
            (r#""an \"escaped\" \$ \n""#, r#"an "escaped" $ \n"#),
            (r"a\ b c", "a b"),
            ("\"unfinished", "unfinished"),
            ("", ""),
        ];
        for (quoted, plain) in cases {
            assert_eq!(unquote(quoted), plain);
        }
    }

    #[test]
    fn a_system_without_a_name_is_linux() {
        let none = OsRelease { id: "linux".into(), version: String::new(), name: "Linux".into() };
        assert_eq!(OsRelease::parse(""), none);
        assert_eq!(OsRelease::parse("# ID=x\nID=\nnonsense\n"), none);
    }

    #[test]
    fn uptime_is_the_first_number() {
        assert_eq!(uptime_ms("5823.41 9120.04\n"), Some(5_823_410));
        for bad in ["", "nan 1", "inf 1", "-1 1", "x"] {
            assert_eq!(uptime_ms(bad), None);
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_the_parsers_panic(text in any::<String>()) {
            let _ = OsRelease::parse(&text);
            let _ = OsRelease::parse(&format!("ID={text}"));
            let _ = uptime_ms(&text);
        }
    }
}
