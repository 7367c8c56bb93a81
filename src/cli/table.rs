//! Aligned columns and small curves in plain text: nothing here needs colour, or a terminal.

use unicode_width::UnicodeWidthStr;

use super::output::say;

/// How a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// Rows under a heading, printed as wide as they need.
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: vec![] }
    }

    /// Adds a row of as many cells as there are columns.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let row: Vec<String> = cells.into_iter().collect();
        assert_eq!(row.len(), self.columns.len(), "a row has a cell for each column");
        self.rows.push(row);
    }

    /// Prints heading and rows, each behind `indent`.
    pub fn print(&self, indent: &str) {
        self.lines().iter().for_each(|line| say!("{indent}{line}"));
    }

    fn lines(&self) -> Vec<String> {
        let heading: Vec<String> = self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let all = || std::iter::once(&heading).chain(&self.rows);
        let widths: Vec<usize> =
            (0..self.columns.len()).map(|at| all().map(|row| row[at].width()).max().unwrap_or(0)).collect();
        let cell = |at: usize, text: &str| {
            let space = " ".repeat(widths[at].saturating_sub(text.width()));
            match self.columns[at].1 {
                Align::Left => format!("{text}{space}"),
                Align::Right => format!("{space}{text}"),
            }
        };
        let line = |row: &Vec<String>| {
            let cells: Vec<String> = row.iter().enumerate().map(|(at, text)| cell(at, text)).collect();
            cells.join("  ").trim_end().to_owned()
        };
        all().map(line).collect()
    }
}

/// Eighths of a line's height.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A curve as at most `width` bars, the least value lowest; longer ones are averaged in equal parts.
pub fn sparkline(values: &[f64], width: usize) -> String {
    let count = values.len().min(width);
    let part = |at: usize| {
        let part = &values[at * values.len() / count..(at + 1) * values.len() / count];
        part.iter().sum::<f64>() / part.len() as f64
    };
    let means: Vec<f64> = (0..count).map(part).collect();
    let least = means.iter().copied().fold(f64::INFINITY, f64::min);
    let most = means.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let bar = |value: f64| {
        let share = if most > least { (value - least) / (most - least) } else { 0.0 };
        BARS[(share * 7.0).round() as usize]
    };
    means.into_iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&[("name", Align::Left), ("loss", Align::Right)]);
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
