//! Pressure stall information: `/proc/pressure` (Documentation/accounting/psi.rst of the kernel).

use crate::{
    PressureInfo, PressureLine, ProbeError, ResourcePressure,
    source::{Source, finite, malformed},
};

pub(crate) fn read(source: &Source) -> Result<PressureInfo, ProbeError> {
    let resource = |name: &str| {
        let path = format!("proc/pressure/{name}");
        // With `psi=0` the files are there and can't be opened.
        let text = source.text(&path)?;
        parse(&text).ok_or_else(|| malformed(&path, "no line of some tasks"))
    };
    Ok(PressureInfo { cpu: resource("cpu")?, memory: resource("memory")?, io: resource("io")? })
}

fn parse(text: &str) -> Option<ResourcePressure> {
    let line = |name: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        rest.map(parse_line)
    };
    let all_tasks = match line("full") {
        Some(parsed) => Some(parsed?),
        None => None,
    };
    Some(ResourcePressure { some_tasks: line("some")??, all_tasks })
}

/// `avg10=0.00 avg60=0.00 avg300=0.00 total=0`
fn parse_line(line: &str) -> Option<PressureLine> {
    let value = |name: &str| {
        line.split_ascii_whitespace().find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
    };
    Some(PressureLine {
        avg10_percent: finite(value("avg10")?)?,
        avg60_percent: finite(value("avg60")?)?,
        avg300_percent: finite(value("avg300")?)?,
        total_us: value("total")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn older_kernels_have_no_full_line_for_the_processor() {
        let pressure = parse("some avg10=7.24 avg60=2.71 avg300=4.85 total=99750202\n").unwrap();
        let expected = PressureLine {
            avg10_percent: 7.24,
            avg60_percent: 2.71,
            avg300_percent: 4.85,
            total_us: 99_750_202,
        };
        assert_eq!(pressure, ResourcePressure { some_tasks: expected, all_tasks: None });
    }

    #[test]
    fn what_is_not_understood_is_no_pressure() {
        for bad in
            ["", "some", "some ", "some avg10=x avg60=1 avg300=1 total=1", "full avg10=1", "something else"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
        let broken_full = "some avg10=1 avg60=1 avg300=1 total=1\nfull avg10=nan avg60=1 avg300=1 total=1\n";
        assert_eq!(parse(broken_full), None);
    }

    proptest! {
        #[test]
        fn nothing_makes_the_parser_panic(text in any::<String>(), tail in "[a-z0-9=. \n]{0,80}") {
            let _ = parse(&text);
            let _ = parse(&format!("some{tail}"));
            let _ = parse(&format!("some avg10=1 {tail}"));
        }
    }
}
