//! Scores as a table: a row a model, a column a benchmark, published figures beside measured ones.

use std::fmt::Write;

use super::published::{Published, Setting};

/// One measured number, as the paper's tables show it.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// The column, as in the paper's tables.
    pub column: String,
    /// The number; none where it could not be had.
    pub value: Option<f64>,
    /// Why there is no number, or what is missing from it: judgements that failed, for example. Empty if nothing is.
    pub remark: String,
}

impl Cell {
    /// A number from which nothing is missing.
    pub fn new(column: impl Into<String>, value: Option<f64>) -> Self {
        Self { column: column.into(), value, remark: String::new() }
    }
}

/// One model.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The run, method or model.
    pub name: String,
    /// What the figures of this row are comparable to, if they are.
    pub published_as: Option<Setting>,
    pub cells: Vec<Cell>,
}

/// The table; columns stand in the order in which the rows first name them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    pub rows: Vec<Row>,
}

/// What marks a figure that was not measured here.
const MARK: &str = "*";

impl Table {
    /// Takes the cells of a model in: a row of its name is continued. Where a row has what the published average is of,
    /// the average stands behind it.
    pub fn add(&mut self, row: Row) {
        let Row { name, published_as, cells } = row;
        let place = self.rows.iter().position(|known| known.name == name).unwrap_or(self.rows.len());
        if place == self.rows.len() {
            self.rows.push(Row { name, published_as, cells: vec![] });
        }
        let mine = &mut self.rows[place].cells;
        mine.extend(cells);
        mine.retain(|cell| cell.column != AVERAGE);
        let behind = mine.iter().rposition(|cell| AVERAGED.contains(&cell.column.as_str()));
        if let (Some(place), Some(mean)) = (behind, average(mine)) {
            mine.insert(place + 1, mean);
        }
    }

    /// Whether nothing was measured.
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

    /// For people: aligned columns, published figures in brackets with a mark, remarks below.
    pub fn to_text(&self) -> String {
        let columns = self.columns();
        let mut lines = vec![[&["model"][..], &columns].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()];
        let mut notes = Vec::new();
        for row in &self.rows {
            let cells = columns.iter().map(|column| row.cell(column, &mut notes));
            lines.push([row.name.clone()].into_iter().chain(cells).collect());
        }
        let mut text = aligned(&lines);
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

    /// For programs: a line a cell, full precision, empty where there is nothing.
    ///
    /// # Panics
    /// Never: a `String` takes all bytes.
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

impl Row {
    /// The paper's figure for a cell of this row, if it has one.
    pub fn published(&self, column: &str) -> Option<&'static Published> {
        Published::find(self.published_as?, column)
    }

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

/// Cells in columns, the first to the left and numbers to the right.
fn aligned(lines: &[Vec<String>]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    text
}

/// The columns whose mean is the published average over open-ended benchmarks.
const AVERAGED: [&str; 3] = ["MT-Bench", "Vicuna", "Ref-GPT4 Chatbot"];

/// The column of the average.
const AVERAGE: &str = "Average";

/// The published average over open-ended benchmarks, where a row has all three of them.
pub(super) fn average(cells: &[Cell]) -> Option<Cell> {
    let value = |column: &&str| cells.iter().find(|cell| cell.column == **column)?.value;
    let values: Option<Vec<f64>> = AVERAGED.iter().map(value).collect();
    let mean = values.map(|values| values.iter().sum::<f64>() / values.len() as f64)?;
    Some(Cell::new(AVERAGE, Some(mean)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let cell = |column: &str, value, remark: &str| Cell { remark: remark.into(), ..Cell::new(column, value) };
        let published_as = Some(Setting { dataset: "Fed-Aya", method: "FedAvg" });
        Table {
            rows: vec![
                Row {
                    name: "runs/aya".into(),
                    published_as,
                    cells: vec![cell("Ref-GPT4 Aya", Some(4.876), ""), cell("MMLU", None, "no files")],
                },
                Row { name: "base".into(), published_as: None, cells: vec![cell("MMLU", Some(25.0), "")] },
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
        let cell = |column: &str, value| Cell::new(column, Some(value));
        let mut table = Table::default();
        for cells in [
            vec![cell("MT-Bench", 4.0)],
            vec![cell("Vicuna", 6.0)],
            vec![cell("Ref-GPT4 Chatbot", 5.0)],
            vec![cell("MMLU", 25.0)],
        ] {
            table.add(Row { name: "a".into(), published_as: None, cells: cells.clone() });
            table.add(Row { name: "b".into(), published_as: None, cells });
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
        let mut cells = vec![Cell::new("MT-Bench", Some(4.0)), Cell::new("Vicuna", Some(6.0))];
        assert_eq!(average(&cells), None);
        cells.push(Cell::new("Ref-GPT4 Chatbot", Some(5.0)));
        assert_eq!(average(&cells).unwrap().value, Some(5.0));
    }
}
