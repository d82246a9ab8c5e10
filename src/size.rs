//! Numbers of bytes as people write them. Knows nothing else.

/// Reads `65536`, `64B`, `64KiB`, `1MiB` or `1GiB`, a space before the unit or none; `None` if it is something else or too large.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}
