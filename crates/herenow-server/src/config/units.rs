//! Durations and sizes as people write them: one whole number and its unit, such as `30s` or
//! `64KiB`.

use std::time::Duration;

/// Units of time by name, in microseconds.
const TIME_UNITS: [(&str, u64); 6] = [
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("m", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
];

/// Units of size by name; `KiB` counts in 1,024s and `kB` in 1,000s, and upper or lower case is the
/// same.
const SIZE_UNITS: [(&str, u64); 7] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("b", 1),
];

/// Reads a duration such as `50us`, `250ms`, `30s`, `5m`, `2h` or `1d`; `None` for anything else.
///
/// A bare number is refused: whether it was meant as seconds or milliseconds cannot be known.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_number(text)?;
    let (_, factor) = TIME_UNITS.iter().find(|(name, _)| *name == unit)?;
    Some(Duration::from_micros(number.checked_mul(*factor)?))
}

/// Reads a size such as `512`, `512B`, `64KiB` or `10MB` in bytes; `None` for anything else.
pub(crate) fn parse_size(text: &str) -> Option<usize> {
    let (number, unit) = split_number(text)?;
    let unit = unit.to_ascii_lowercase();
    let factor = match unit.as_str() {
        "" => 1,
        unit => SIZE_UNITS.iter().find(|(name, _)| *name == unit)?.1,
    };
    usize::try_from(number.checked_mul(factor)?).ok()
}

/// Writes a duration in the largest unit that leaves a whole number, so that it reads back the
/// same.
pub(crate) fn show_duration(duration: Duration) -> String {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let whole = TIME_UNITS
        .iter()
        .rev()
        .find(|(_, factor)| micros != 0 && micros.is_multiple_of(*factor));
    match whole {
        Some((name, factor)) => format!("{}{name}", micros / factor),
        None => "0s".to_owned(),
    }
}

/// Writes a size in the largest unit that leaves a whole number, so that it reads back the same.
pub(crate) fn show_size(bytes: usize) -> String {
    const BINARY: [(&str, usize); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    const DECIMAL: [(&str, usize); 2] = [("MB", 1_000_000), ("kB", 1_000)];
    let mut units = BINARY.iter().chain(&DECIMAL);
    match units.find(|(_, factor)| bytes != 0 && bytes.is_multiple_of(*factor)) {
        Some((name, factor)) => format!("{}{name}", bytes / factor),
        None => format!("{bytes}B"),
    }
}

/// Splits `30 s` into 30 and `s`; underscores in the number are allowed, as in TOML.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '_')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number = number.replace('_', "").parse().ok()?;
    Some((number, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_read_back() {
        for (text, micros) in [
            ("50us", 50),
            ("250ms", 250_000),
            ("30s", 30_000_000),
            ("5 m", 300_000_000),
            ("0s", 0),
        ] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(duration, Duration::from_micros(micros), "{text}");
            assert_eq!(parse_duration(&show_duration(duration)), Some(duration));
        }
        for wrong in [
            "30",
            "s",
            "",
            "-1s",
            "1.5s",
            "30 sec",
            "99999999999999999999d",
            "30s30s",
        ] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_read_in_both_kinds_of_unit_and_read_back() {
        for (text, bytes) in [
            ("512", 512),
            ("512B", 512),
            ("64KiB", 65_536),
            ("10MB", 10_000_000),
            ("8_000 kb", 8_000_000),
        ] {
            let size = parse_size(text).unwrap();
            assert_eq!(size, bytes, "{text}");
            assert_eq!(parse_size(&show_size(size)), Some(size));
        }
        for wrong in ["", "KiB", "1TB", "1.5MiB", "-1"] {
            assert_eq!(parse_size(wrong), None, "{wrong}");
        }
    }
}
