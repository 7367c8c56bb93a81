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

/// As much of a text as so many characters.
pub fn cut(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A loss, or a dash.
pub fn loss(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"))
}

/// A number with about five digits that count, whatever its size.
pub fn figure(value: f64) -> String {
    match value.abs() {
        size if size == 0.0 || (size >= 1.0 && size.fract() == 0.0 && size < 1e6) => format!("{value}"),
        size if (1e-3..1e5).contains(&size) => format!("{value:.*}", if size < 10.0 { 4 } else { 2 }),
        _ => format!("{value:.3e}"),
    }
}

/// So many a second: three digits or so.
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
        assert_eq!(loss(None), "-");
        assert_eq!(loss(Some(1.23456)), "1.2346");
        assert_eq!([0.25, 42.4, 1234.0, 2.5e6, f64::NAN].map(rate), ["0.2", "42", "1.2 k", "2.5 M", "-"]);
        let figures = [0.0, 3.0, 1.23456, 123.456, 1.5e9, 2.5e-7].map(figure);
        assert_eq!(figures, ["0", "3", "1.2346", "123.46", "1.500e9", "2.500e-7"]);
    }
}
