//! Durations and sizes as operators write them: `100ms`, `1s`, `10y`, `8GiB`.

use std::time::Duration;

use super::mistake::Mistake;

/// Milliseconds of each unit, largest first. A year has 365 days, as in every Kubernetes tool.
const DURATIONS: [(&str, u64); 6] =
    [("y", 365 * 86_400_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Bytes of each unit, largest first.
const SIZES: [(&str, u64); 5] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("", 1)];

/// Reads a whole number and a unit: `ms`, `s`, `m`, `h`, `d` or `y`.
///
/// # Errors
/// Anything else: a bare number, a fraction, more than fits.
pub fn duration(text: &str) -> Result<Duration, Mistake> {
    scaled(text, &DURATIONS).map(Duration::from_millis).ok_or_else(|| {
        Mistake::new(format!("`{text}` is not a duration")).hint("write e.g. `100ms`, `10s`, `24h`, `1y`")
    })
}

/// Reads a number of bytes, bare or in `KiB`, `MiB`, `GiB`, `TiB`.
///
/// # Errors
/// Anything else: a fraction, a decimal unit, more than fits.
pub fn bytes(text: &str) -> Result<u64, Mistake> {
    scaled(text, &SIZES).ok_or_else(|| {
        Mistake::new(format!("`{text}` is not a size")).hint("write e.g. `8GiB`, `512MiB` or a number of bytes")
    })
}

/// The shortest form [`duration`] reads back to the same value.
pub fn show_duration(d: Duration) -> String {
    show(u64::try_from(d.as_millis()).unwrap_or(u64::MAX), &DURATIONS, "s")
}

/// The shortest form [`bytes`] reads back to the same value.
pub fn show_bytes(n: u64) -> String {
    show(n, &SIZES, "")
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

fn show(n: u64, units: &[(&str, u64)], zero: &str) -> String {
    match units.iter().find(|(_, scale)| n >= *scale && n.is_multiple_of(*scale)) {
        Some((name, scale)) => format!("{}{name}", n / scale),
        None => format!("0{zero}"),
    }
}
