//! Scores as a table: a row a model, a column a benchmark, published figures beside measured ones.

use std::fmt::Write;

use super::published::Published;

/// One measured number.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// The column, as in the paper's tables.
    pub column: String,
    /// The number; none where it could not be had.
    pub value: Option<f64>,
    /// [digits] Digits after the point.
    pub digits: usize,
    /// Why there is no number, or what is missing from it: judgements that failed, for example. Empty if nothing is.
    pub remark: String,
}

/// One model.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The run, method or model.
    pub name: String,
    /// What the figures of this row are comparable to: data and method, as the paper names them.
    pub published_as: Option<(String, String)>,
    pub figures: Vec<Figure>,
}

/// The table; columns stand in the order in which the rows first name them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    pub rows: Vec<Row>,
}

/// What marks a figure that was not measured here.
const MARK: &str = "*";

impl Table {
    fn columns(&self) -> Vec<&str> {
        let mut columns = Vec::new();
        for figure in self.rows.iter().flat_map(|row| &row.figures) {
            if !columns.contains(&figure.column.as_str()) {
                columns.push(&figure.column);
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
            notes.insert(0, format!("{MARK} from the published summary of FedLLM-Bench, not measured here"));
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
            for figure in &row.figures {
                let measured = figure.value.map_or(String::new(), |value| value.to_string());
                let published = row.published(&figure.column).map_or("", |published| published.figure);
                let cells = [row.name.as_str(), &figure.column, &measured, published, &figure.remark];
                writer.write_record(cells).expect(written);
            }
        }
        String::from_utf8(writer.into_inner().expect(written)).expect("all cells are text")
    }
}

impl Row {
    fn published(&self, column: &str) -> Option<&'static Published> {
        let (dataset, method) = self.published_as.as_ref()?;
        Published::find(dataset, method, column)
    }

    fn cell(&self, column: &str, notes: &mut Vec<String>) -> String {
        let Some(figure) = self.figures.iter().find(|figure| figure.column == column) else {
            return "-".into();
        };
        if !figure.remark.is_empty() {
            notes.push(format!("{}, {column}: {}", self.name, figure.remark));
        }
        let measured = figure.value.map_or("-".into(), |value| format!("{value:.*}", figure.digits));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let figure = |column: &str, value, remark: &str| Figure {
            column: column.into(),
            value,
            digits: 2,
            remark: remark.into(),
        };
        let published_as = Some(("fed-aya".into(), "fedavg".into()));
        Table {
            rows: vec![
                Row {
                    name: "runs/aya".into(),
                    published_as,
                    figures: vec![figure("Ref-GPT4 Aya", Some(4.876), ""), figure("MMLU", None, "no files")],
                },
                Row { name: "base".into(), published_as: None, figures: vec![figure("MMLU", Some(25.0), "")] },
            ],
        }
    }

    #[test]
    fn published_figures_stand_beside_measured_ones_and_are_marked() {
        let expected = "\
model     Ref-GPT4 Aya   MMLU
runs/aya  4.88 (4.90*)      -
base                 -  25.00
* from the published summary of FedLLM-Bench, not measured here
runs/aya, MMLU: no files
";
        assert_eq!(table().to_text(), expected);
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
}
