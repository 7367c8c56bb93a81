//! Aligned columns and small curves in plain text, without color or terminal control.

use unicode_width::UnicodeWidthStr;

use super::say;

/// Alignment of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// Rows under a heading, in columns as wide as their widest cell.
pub struct TextTable {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl TextTable {
    /// Creates a table without rows.
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: vec![] }
    }

    /// Adds a row, which must have one cell per column.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let row: Vec<String> = cells.into_iter().collect();
        assert_eq!(row.len(), self.columns.len(), "a row has a cell for each column");
        self.rows.push(row);
    }

    /// Prints heading and rows, each after `indent`.
    pub fn print(&self, indent: &str) {
        for line in self.lines() {
            say!("{indent}{line}");
        }
    }

    /// Formats heading and rows.
    fn lines(&self) -> Vec<String> {
        let heading: Vec<String> = self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        // Widths in columns of the terminal, in which an East Asian character takes two.
        let mut widths: Vec<usize> = heading.iter().map(|name| name.width()).collect();
        for row in &self.rows {
            for (width, text) in widths.iter_mut().zip(row) {
                *width = text.width().max(*width);
            }
        }
        let mut lines = vec![self.line(&heading, &widths)];
        lines.extend(self.rows.iter().map(|row| self.line(row, &widths)));
        lines
    }

    /// Formats one row in columns of these widths.
    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let mut cells = Vec::new();
        for ((text, (_, align)), width) in row.iter().zip(&self.columns).zip(widths) {
            let space = " ".repeat(width.saturating_sub(text.width()));
            cells.push(match align {
                Align::Left => format!("{text}{space}"),
                Align::Right => format!("{space}{text}"),
            });
        }
        cells.join("  ").trim_end().to_owned()
    }
}

/// Bars of one eighth to eight eighths of a line's height.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Returns a curve as at most `width` bars, scaled to the range of the values. A longer curve is averaged over equal
/// parts.
pub fn sparkline(values: &[f64], width: usize) -> String {
    let count = values.len().min(width);
    let mut means = Vec::with_capacity(count);
    for at in 0..count {
        // Consecutive parts whose lengths differ by at most one; together they cover every value once.
        let part = &values[at * values.len() / count..(at + 1) * values.len() / count];
        means.push(part.iter().sum::<f64>() / part.len() as f64);
    }
    let least = means.iter().copied().fold(f64::INFINITY, f64::min);
    let most = means.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut bars = String::new();
    for mean in means {
        // A constant curve is drawn at the bottom.
        let share = if most > least { (mean - least) / (most - least) } else { 0.0 };
        bars.push(BARS[(share * 7.0).round() as usize]);
    }
    bars
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = TextTable::new(&[("name", Align::Left), ("loss", Align::Right)]);
        table.row(["a".into(), "1.25".into()]);
        table.row(["größer".into(), "10.5".into()]);
        table.row(["模型".into(), String::new()]);
        assert_eq!(table.lines(), ["name    loss", "a       1.25", "größer  10.5", "模型"]);
    }

    #[test]
    fn a_curve_goes_from_its_least_to_its_greatest_value() {
        assert_eq!(sparkline(&[0.0, 1.0, 2.0, 7.0], 10), "▁▂▃█");
        assert_eq!(sparkline(&[0.0, 0.0, 7.0, 7.0], 2), "▁█");
        assert_eq!(sparkline(&[3.0, 3.0], 5), "▁▁");
        assert_eq!(sparkline(&[], 5), "");
    }
}
