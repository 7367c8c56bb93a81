//! The table of scores: one row per model, one column per benchmark, published scores next to measured ones.

use std::fmt::Write;

/// A measured score in a column of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct BenchmarkCell {
    /// Name of the column, as in the paper's tables.
    pub column: String,
    /// The score. `None` if there is none.
    pub value: Option<f64>,
    /// Why there is no score, or what it leaves out, such as failed judgments. Empty if the score is complete.
    pub remark: String,
}

impl BenchmarkCell {
    /// Builds a cell without a remark.
    pub fn new(column: impl Into<String>, value: Option<f64>) -> Self {
        Self { column: column.into(), value, remark: String::new() }
    }
}

/// The scores of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct BenchmarkTableRow {
    /// Name of the run, method or model.
    pub name: String,
    /// The published setting that this row is comparable to, if any.
    pub published_as: Option<Setting>,
    pub cells: Vec<BenchmarkCell>,
}

/// A table of scores. Columns are in the order in which the rows first name them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BenchmarkTable {
    pub rows: Vec<BenchmarkTableRow>,
}

/// The mark of published scores.
const MARK: &str = "*";

impl BenchmarkTable {
    /// Adds a row, or its cells to the row of the same name. If the row has all scores of the published average, the
    /// average follows the last of them.
    pub fn add(&mut self, row: BenchmarkTableRow) {
        let BenchmarkTableRow { name, published_as, cells } = row;
        let place = self.rows.iter().position(|known| known.name == name).unwrap_or(self.rows.len());
        if place == self.rows.len() {
            self.rows.push(BenchmarkTableRow { name, published_as, cells: vec![] });
        }
        let cells_of_row = &mut self.rows[place].cells;
        cells_of_row.extend(cells);
        // The average is computed again from all cells, and moves behind the last column that it averages.
        cells_of_row.retain(|cell| cell.column != AVERAGE);
        let last_averaged = cells_of_row.iter().rposition(|cell| AVERAGED.contains(&cell.column.as_str()));
        if let (Some(place), Some(mean)) = (last_averaged, average(cells_of_row)) {
            cells_of_row.insert(place + 1, mean);
        }
    }

    /// Returns whether the table has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn columns(&self) -> Vec<&str> {
        let mut columns = Vec::new();
        for cell in self.rows.iter().flat_map(|row| &row.cells) {
            if !columns.contains(&cell.column.as_str()) {
                columns.push(&cell.column);
            }
        }
        columns
    }

    /// Formats the table for people: aligned columns, published scores in parentheses with a mark, remarks below.
    pub fn to_text(&self) -> String {
        let columns = self.columns();
        let mut head = vec!["model".to_owned()];
        head.extend(columns.iter().map(|&column| column.to_owned()));
        let mut lines = vec![head];
        let mut notes = Vec::new();
        for row in &self.rows {
            let mut line = vec![row.name.clone()];
            line.extend(columns.iter().map(|column| row.cell(column, &mut notes)));
            lines.push(line);
        }
        let mut text = aligned(&lines);
        // The mark is explained once, above all remarks.
        if text.contains(&format!("{MARK})")) {
            notes.insert(
                0,
                format!("{MARK} from the published summary of FedLLM-Bench, judged by GPT-4, not measured here"),
            );
        }
        for note in notes {
            let _ = writeln!(text, "{note}");
        }
        text
    }

    /// Formats the table as CSV: one line per cell, in full precision. Missing values are empty.
    ///
    /// # Panics
    /// Never: writing to memory does not fail.
    pub fn to_csv(&self) -> String {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let written = "a vector takes all bytes";
        writer.write_record(["model", "column", "measured", "published", "remark"]).expect(written);
        for row in &self.rows {
            for cell in &row.cells {
                let measured = cell.value.map_or(String::new(), |value| value.to_string());
                let published = row.published(&cell.column).map_or("", |published| published.figure);
                let cells = [row.name.as_str(), &cell.column, &measured, published, &cell.remark];
                writer.write_record(cells).expect(written);
            }
        }
        String::from_utf8(writer.into_inner().expect(written)).expect("all cells are text")
    }
}

impl BenchmarkTableRow {
    /// Returns the published score for a cell of this row, if there is one.
    pub fn published(&self, column: &str) -> Option<&'static PublishedScores> {
        PublishedScores::find(self.published_as?, column)
    }

    /// Formats a cell and appends its remark to `notes`.
    fn cell(&self, column: &str, notes: &mut Vec<String>) -> String {
        let Some(cell) = self.cells.iter().find(|cell| cell.column == column) else {
            return "-".into();
        };
        if !cell.remark.is_empty() {
            notes.push(format!("{}, {column}: {}", self.name, cell.remark));
        }
        let measured = cell.value.map_or("-".into(), |value| format!("{value:.2}"));
        match self.published(column) {
            Some(published) => format!("{measured} ({}{MARK})", published.figure),
            None => measured,
        }
    }
}

/// Pads cells to columns, the first column to the left and the others to the right.
fn aligned(lines: &[Vec<String>]) -> String {
    let mut widths = vec![0; lines[0].len()];
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for line in lines {
        let mut cells = Vec::with_capacity(line.len());
        for (column, (cell, &width)) in line.iter().zip(&widths).enumerate() {
            cells.push(if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") });
        }
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    text
}

/// The columns whose mean is the published average over open-ended benchmarks.
const AVERAGED: [&str; 3] = ["MT-Bench", "Vicuna", "Ref-GPT4 Chatbot"];

/// The column of the average.
const AVERAGE: &str = "Average";

/// Returns the published average over open-ended benchmarks, if a row has the scores of all three.
pub(super) fn average(cells: &[BenchmarkCell]) -> Option<BenchmarkCell> {
    let mut values = Vec::with_capacity(AVERAGED.len());
    for column in AVERAGED {
        let cell = cells.iter().find(|cell| cell.column == column)?;
        values.push(cell.value?);
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    Some(BenchmarkCell::new(AVERAGE, Some(mean)))
}

/// A setting of the paper: data and method, by the paper's names. Its model was Llama-2-7B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    pub dataset: &'static str,
    pub method: &'static str,
}

/// A published score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PublishedScores {
    /// Name of the training data in the paper.
    pub dataset: &'static str,
    /// Name of the method in the paper.
    pub method: &'static str,
    /// Column of the table.
    pub column: &'static str,
    /// The score as printed. Some are ranges.
    pub figure: &'static str,
}

const fn published(
    dataset: &'static str,
    method: &'static str,
    column: &'static str,
    figure: &'static str,
) -> PublishedScores {
    PublishedScores { dataset, method, column, figure }
}

/// All published scores.
pub const PUBLISHED: [PublishedScores; 11] = [
    published("Fed-ChatbotIT", "Local", "Average", "5.00"),
    published("Fed-ChatbotIT", "FedAvg", "Average", "5.51"),
    published("Fed-WildChat", "Local", "Ref-GPT4 WildChat", "4.50"),
    published("Fed-WildChat", "FedAvg", "Ref-GPT4 WildChat", "5.88"),
    published("Fed-Aya", "Local", "Ref-GPT4 Aya", "4.2-4.7"),
    published("Fed-Aya", "FedAvg", "Ref-GPT4 Aya", "4.90"),
    published("Fed-Aya", "FedProx", "Ref-GPT4 Aya", "4.92"),
    published("Fed-Aya", "SCAFFOLD", "Ref-GPT4 Aya", "4.97"),
    published("Fed-WildChat", "FedAvg", "MT-1", "4.6875"),
    published("Fed-WildChat", "FedDP-0.1", "MT-1", "4.5375"),
    published("Fed-WildChat", "Local", "MT-1", "4.0875"),
];

impl PublishedScores {
    /// Returns the score for a cell of the table, if one was published.
    pub fn find(setting: Setting, column: &str) -> Option<&'static Self> {
        let wanted = (setting.dataset, setting.method, column);
        PUBLISHED.iter().find(|known| (known.dataset, known.method, known.column) == wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> BenchmarkTable {
        let cell = |column: &str, value, remark: &str| BenchmarkCell {
            remark: remark.into(),
            ..BenchmarkCell::new(column, value)
        };
        let published_as = Some(Setting { dataset: "Fed-Aya", method: "FedAvg" });
        BenchmarkTable {
            rows: vec![
                BenchmarkTableRow {
                    name: "runs/aya".into(),
                    published_as,
                    cells: vec![cell("Ref-GPT4 Aya", Some(4.876), ""), cell("MMLU", None, "no files")],
                },
                BenchmarkTableRow {
                    name: "base".into(),
                    published_as: None,
                    cells: vec![cell("MMLU", Some(25.0), "")],
                },
            ],
        }
    }

    #[test]
    fn published_figures_stand_beside_measured_ones_and_are_marked() {
        let expected = "\
model     Ref-GPT4 Aya   MMLU
runs/aya  4.88 (4.90*)      -
base                 -  25.00
* from the published summary of FedLLM-Bench, judged by GPT-4, not measured here
runs/aya, MMLU: no files
";
        assert_eq!(table().to_text(), expected);
    }

    #[test]
    fn rows_grow_benchmark_by_benchmark_and_the_average_follows_what_it_is_of() {
        let cell = |column: &str, value| BenchmarkCell::new(column, Some(value));
        let mut table = BenchmarkTable::default();
        for cells in [
            vec![cell("MT-Bench", 4.0)],
            vec![cell("Vicuna", 6.0)],
            vec![cell("Ref-GPT4 Chatbot", 5.0)],
            vec![cell("MMLU", 25.0)],
        ] {
            table.add(BenchmarkTableRow { name: "a".into(), published_as: None, cells: cells.clone() });
            table.add(BenchmarkTableRow { name: "b".into(), published_as: None, cells });
        }
        let expected = "\
model  MT-Bench  Vicuna  Ref-GPT4 Chatbot  Average   MMLU
a          4.00    6.00              5.00     5.00  25.00
b          4.00    6.00              5.00     5.00  25.00
";
        assert_eq!(table.to_text(), expected);
    }

    #[test]
    fn the_csv_keeps_full_precision() {
        let expected = "\
model,column,measured,published,remark
runs/aya,Ref-GPT4 Aya,4.876,4.90,
runs/aya,MMLU,,,no files
base,MMLU,25,,
";
        assert_eq!(table().to_csv(), expected);
    }

    #[test]
    fn an_average_needs_all_of_its_columns() {
        let mut cells = vec![BenchmarkCell::new("MT-Bench", Some(4.0)), BenchmarkCell::new("Vicuna", Some(6.0))];
        assert_eq!(average(&cells), None);
        cells.push(BenchmarkCell::new("Ref-GPT4 Chatbot", Some(5.0)));
        assert_eq!(average(&cells).unwrap().value, Some(5.0));
    }
}
