//! Block devices: `/sys/block` (Documentation/ABI/stable/sysfs-block, Documentation/block/stat.rst).

use crate::{
    BlockDevice, ProbeError,
    source::{Source, malformed},
};

/// Sizes and counts of sectors in sysfs use this unit, whatever the device does.
const SECTOR_BYTES: u64 = 512;

pub(crate) fn read(source: &Source) -> Result<Vec<BlockDevice>, ProbeError> {
    let mut devices = Vec::new();
    for name in source.names("sys/block")? {
        if name.starts_with("ram") || name.starts_with("zram") {
            continue;
        }
        devices.extend(device(source, name)?);
    }
    Ok(devices)
}

/// None for what is not worth a line, and for what was taken away while it was looked at.
fn device(source: &Source, name: String) -> Result<Option<BlockDevice>, ProbeError> {
    let at = |file: &str| format!("sys/block/{name}/{file}");
    let Some(size) = source.number::<u64>(&at("size")) else { return Ok(None) };
    // The paths of a multipath NVMe namespace are hidden: they have no device file.
    if (size == 0 && name.starts_with("loop")) || source.flag(&at("hidden")) {
        return Ok(None);
    }
    let Ok(stat) = source.text(&at("stat")) else { return Ok(None) };
    let stat = Stat::parse(&stat).ok_or_else(|| malformed(&at("stat"), "not eleven numbers"))?;
    let (partitions, holders) = parts(source, &name)?;
    let logical_block_bytes = source.number(&at("queue/logical_block_size")).unwrap_or(512);
    Ok(Some(BlockDevice {
        size_bytes: size.saturating_mul(SECTOR_BYTES),
        logical_block_bytes,
        physical_block_bytes: source.number(&at("queue/physical_block_size")).unwrap_or(logical_block_bytes),
        rotational: source.flag(&at("queue/rotational")),
        read_only: source.flag(&at("ro")),
        removable: source.flag(&at("removable")),
        model: source.line(&at("device/model")),
        // On a virtio or PCI bus it is a number.
        vendor: source.line(&at("device/vendor")).filter(|vendor| !vendor.starts_with("0x")),
        serial: serial(source, &name),
        wwn: source.line(&at("wwid")).or_else(|| source.line(&at("device/wwid"))),
        partitions,
        holders,
        reads_count: stat.reads,
        read_bytes: stat.sectors_read.saturating_mul(SECTOR_BYTES),
        writes_count: stat.writes,
        written_bytes: stat.sectors_written.saturating_mul(SECTOR_BYTES),
        busy_ms: stat.busy_ms,
        name,
    }))
}

/// Virtio, then NVMe and MMC, then SCSI and ATA.
fn serial(source: &Source, name: &str) -> Option<String> {
    let at = |file: &str| format!("sys/block/{name}/{file}");
    source
        .line(&at("serial"))
        .or_else(|| source.line(&at("device/serial")))
        .or_else(|| parse_unit_serial(&source.bytes(&at("device/vpd_pg80")).ok()?))
}

/// Partitions by number, and what is built upon them or upon the whole device.
fn parts(source: &Source, name: &str) -> Result<(Vec<String>, Vec<String>), ProbeError> {
    let mut partitions: Vec<(u32, String)> = Vec::new();
    let mut holders = source.names(&format!("sys/block/{name}/holders"))?;
    for part in source.names(&format!("sys/block/{name}"))? {
        if let Some(number) = source.number(&format!("sys/block/{name}/{part}/partition")) {
            holders.extend(source.names(&format!("sys/block/{name}/{part}/holders"))?);
            partitions.push((number, part));
        }
    }
    partitions.sort_unstable();
    holders.sort_unstable();
    holders.dedup();
    Ok((partitions.into_iter().map(|(_, part)| part).collect(), holders))
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    reads: u64,
    sectors_read: u64,
    writes: u64,
    sectors_written: u64,
    busy_ms: u64,
}

impl Stat {
    /// Eleven numbers, on newer kernels more.
    fn parse(text: &str) -> Option<Stat> {
        let fields: Vec<u64> =
            text.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        match fields[..] {
            [reads, _, sectors_read, _, writes, _, sectors_written, _, _, busy_ms, _, ..] => {
                Some(Stat { reads, sectors_read, writes, sectors_written, busy_ms })
            }
            _ => None,
        }
    }
}

/// SCSI vital product data page 0x80, unit serial number (SPC-4, 7.8.15): two bytes of kind and
/// page, two bytes of length, then text padded with blanks.
fn parse_unit_serial(page: &[u8]) -> Option<String> {
    let (head, rest) = page.split_first_chunk::<4>()?;
    let [_, 0x80, high, low] = *head else { return None };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let text = rest.get(..length.min(rest.len()))?;
    let text = String::from_utf8_lossy(text);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c.is_control());
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn counters_are_taken_by_place() {
        let text = "  461585    37402 22063098   683636    36911   108875 25256520   112353        1    54000   \
                    799537    15954       58  2783144     3273     2955      274\n";
        let expected = Stat {
            reads: 461_585,
            sectors_read: 22_063_098,
            writes: 36_911,
            sectors_written: 25_256_520,
            busy_ms: 54_000,
        };
        assert_eq!(Stat::parse(text), Some(expected));
        for bad in ["", "1 2 3 4 5 6 7 8 9 10", "1 2 3 4 5 6 7 8 9 10 x"] {
            assert_eq!(Stat::parse(bad), None);
        }
    }

    #[test]
    fn the_serial_is_cut_out_of_its_page() {
        assert_eq!(parse_unit_serial(b"\x00\x80\x00\x08    ZL2A").as_deref(), Some("ZL2A"));
        assert_eq!(parse_unit_serial(b"\x00\x80\x00\x04ZL2AXX").as_deref(), Some("ZL2A"));
        assert_eq!(parse_unit_serial(b"\x00\x80\xff\xffshort").as_deref(), Some("short"));
        for bad in [&b""[..], b"\x00\x80\x00", b"\x00\x83\x00\x04ZL2A", b"\x00\x80\x00\x02  "] {
            assert_eq!(parse_unit_serial(bad), None);
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_the_parsers_panic(text in any::<String>(), numbers in "[0-9 ]{0,80}", page in any::<Vec<u8>>()) {
            let _ = Stat::parse(&text);
            let _ = Stat::parse(&numbers);
            let _ = parse_unit_serial(&page);
            let _ = parse_unit_serial(&[&[0, 0x80], page.as_slice()].concat());
        }
    }
}
