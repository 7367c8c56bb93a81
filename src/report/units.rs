//! Figures for people: bytes, spans of time and losses, each in a fitting unit.

/// A number of bytes with three digits or so.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A span of virtual time as hours, minutes and seconds.
pub fn clock(ns: u64) -> String {
    let seconds = ns / 1_000_000_000;
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// A loss, or a dash.
pub fn loss(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_530_000), "1.5 MB");
        assert_eq!(clock(3_723_000_000_000), "1:02:03");
        assert_eq!(loss(None), "-");
        assert_eq!(loss(Some(1.23456)), "1.2346");
    }
}
