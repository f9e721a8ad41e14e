//! Sizes, times and counts as people write them, and back.

use std::time::Duration;

/// Binary units first, largest first: what sizes are written out in.
const BYTE_UNITS: [(&str, u64); 15] = [
    ("PiB", 1 << 50),
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("P", 1 << 50),
    ("T", 1 << 40),
    ("G", 1 << 30),
    ("M", 1 << 20),
    ("K", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Largest first, in milliseconds.
const TIME_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Reads a size in bytes: `4096`, `64KiB`, `1MiB`, `512K` (1024 each step), `10MB` (1000 each
/// step). Upper and lower case are the same, and a space before the unit is allowed.
///
/// # Errors
/// What was expected instead, if this is no size or does not fit 64 bits.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    const EXPECTED: &str =
        "a size in whole bytes or with a unit, such as 4096, 64KiB, 512K or 1MiB";
    let (number, unit) = split_unit(text).ok_or(EXPECTED)?;
    let factor = if unit.is_empty() {
        1
    } else {
        BYTE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or(EXPECTED)?.1
    };
    number.checked_mul(factor).ok_or_else(|| "a size that fits 64 bits".to_owned())
}

/// Reads a time: `250ms`, `10s`, `5m`, `2h`, `1d`, or a plain number of seconds.
///
/// # Errors
/// What was expected instead, if this is no time or has more than 2^64 milliseconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "a time such as 250ms, 10s, 5m or 2h; a plain number is seconds";
    let (number, unit) = split_unit(text).ok_or(EXPECTED)?;
    let unit = if unit.is_empty() { "s" } else { unit };
    let factor =
        TIME_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or(EXPECTED)?.1;
    let millis = number.checked_mul(factor).ok_or("a time that fits 64 bits of milliseconds")?;
    Ok(Duration::from_millis(millis))
}

/// Reads a count. Digits may be grouped: `1_000_000`.
///
/// # Errors
/// What was expected instead, if this is no whole number or does not fit 64 bits.
pub fn parse_count(text: &str) -> Result<u64, String> {
    match split_unit(text) {
        Some((number, "")) => Ok(number),
        _ => Err("a whole number, such as 4096 or 1_000_000".to_owned()),
    }
}

/// Writes a size in the largest binary unit that says it exactly; [`parse_bytes`] reads it back.
#[must_use]
pub fn format_bytes(bytes: u64) -> String {
    let exact = |&&(_, factor): &&(&str, u64)| bytes != 0 && bytes.is_multiple_of(factor);
    match BYTE_UNITS[..5].iter().find(exact) {
        Some((unit, factor)) => format!("{}{unit}", bytes / factor),
        None => format!("{bytes}B"),
    }
}

/// Writes a time in the largest unit that says it exactly, down to milliseconds; what is below
/// them is left out. [`parse_duration`] reads it back.
#[must_use]
pub fn format_duration(time: Duration) -> String {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let exact = |&&(_, factor): &&(&str, u64)| millis != 0 && millis.is_multiple_of(factor);
    match TIME_UNITS.iter().find(exact) {
        Some((unit, factor)) => format!("{}{unit}", millis / factor),
        None => "0s".to_owned(),
    }
}

/// Splits `64 KiB` into 64 and `KiB`; `None` without a leading whole number that fits 64 bits.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    if digits.starts_with('_') || digits.ends_with('_') {
        return None;
    }
    Some((digits.replace('_', "").parse().ok()?, unit.trim_start()))
}
