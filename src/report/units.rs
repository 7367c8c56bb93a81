//! Formatting of numbers for people: bytes, durations, losses and rates, each in a unit of suitable size.

use super::figure::rounded;
use crate::results::Moved;

/// Formats bytes in both directions, and what they were on the wire if that is more.
pub fn moved(moved: &Moved) -> String {
    let messages = format!("{} down, {} up", bytes(moved.down), bytes(moved.up));
    if moved.wire_down <= moved.down && moved.wire_up <= moved.up {
        return messages;
    }
    format!("{messages}; on the wire {} down, {} up", bytes(moved.wire_down), bytes(moved.wire_up))
}

/// Formats grams of CO2.
pub fn carbon(grams: f64) -> String {
    format!("{} g of CO2", figure(grams))
}

/// Formats a number of bytes with one decimal place.
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

/// Formats a virtual time in nanoseconds as hours, minutes and seconds.
pub fn clock(ns: u64) -> String {
    let seconds = ns / 1_000_000_000;
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Formats a virtual time in nanoseconds as the page does: in seconds below a minute, in days from two days on.
pub fn span(ns: u64) -> String {
    let seconds = ns / 1_000_000_000;
    let hours = seconds / 3600;
    match seconds {
        0..60 => format!("{} s", rounded(ns as f64 / 1e9, 4)),
        _ if hours < 48 => clock(ns),
        _ => format!("{} d {}:{:02}", hours / 24, hours % 24, seconds / 60 % 60),
    }
}

/// Cuts a text after this many characters.
pub fn cut(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Formats a loss, or a dash if there is none.
pub fn loss(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"))
}

/// Formats a number of any size with about five significant digits.
pub fn figure(value: f64) -> String {
    // Whole numbers as they are, then fixed notation for ordinary sizes, and exponents for the rest.
    match value.abs() {
        size if size == 0.0 || (size >= 1.0 && size.fract() == 0.0 && size < 1e6) => format!("{value}"),
        size if (1e-3..1e5).contains(&size) => format!("{value:.*}", if size < 10.0 { 4 } else { 2 }),
        _ => format!("{value:.3e}"),
    }
}

/// Formats a rate with about three significant digits.
pub fn rate(value: f64) -> String {
    match value {
        value if !value.is_finite() => "-".into(),
        value if value >= 1e6 => format!("{:.1} M", value / 1e6),
        value if value >= 1e3 => format!("{:.1} k", value / 1e3),
        value if value >= 10.0 => format!("{value:.0}"),
        value => format!("{value:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_530_000), "1.5 MB");
        assert_eq!(clock(3_723_000_000_000), "1:02:03");
        let spans = [0, 2_600_000_000, 59_999_900_000, 2_339_700_000_000, 180_061_000_000_000].map(span);
        assert_eq!(spans, ["0 s", "2.6 s", "60 s", "0:38:59", "2 d 2:01"]);
        assert_eq!(loss(None), "-");
        assert_eq!(loss(Some(1.23456)), "1.2346");
        assert_eq!([0.25, 42.4, 1234.0, 2.5e6, f64::NAN].map(rate), ["0.2", "42", "1.2 k", "2.5 M", "-"]);
        let figures = [0.0, 3.0, 1.23456, 123.456, 1.5e9, 2.5e-7].map(figure);
        assert_eq!(figures, ["0", "3", "1.2346", "123.46", "1.500e9", "2.500e-7"]);
    }
}
