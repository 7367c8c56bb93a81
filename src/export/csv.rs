//! Export of all tables of a run as CSV, with a table that describes their columns.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::csv::WriterBuilder;
use arrow::datatypes::Field;
use arrow::record_batch::RecordBatch;

use super::write;
use crate::ledger::{
    EvaluationRow, EventRow, GenerationRow, LedgerError, LineageRow, PopulationRow, RoundRow, RunTables, Table, TaskRow,
};
use crate::run::RunError;

/// Writes one file per table and `columns.csv` into the folder `out`, and returns the number of rows of all tables. With
/// `for_spreadsheets`, a text that a spreadsheet would compute as a formula has an apostrophe before it.
///
/// # Errors
/// If the tables cannot be read, or a file cannot be written.
pub fn csv(run_folder: &Path, out: &Path, for_spreadsheets: bool) -> Result<u64, RunError> {
    let tables = RunTables::read(run_folder)?;
    let evaluations = EvaluationRow::batch(&tables.evaluations()?);
    let population = tables.population()?;
    let events = tables.events()?;
    let tasks = tables.tasks()?;
    let generations = tables.generations()?;
    let lineage = tables.lineage()?;
    let all = [
        (PopulationRow::NAME, population.rows()),
        (EventRow::NAME, events.rows()),
        (TaskRow::NAME, tasks.rows()),
        (RoundRow::NAME, tables.rounds().rows()),
        (EvaluationRow::NAME, &evaluations),
        (GenerationRow::NAME, generations.rows()),
        (LineageRow::NAME, lineage.rows()),
    ];
    for (name, rows) in all {
        let path = out.join(format!("{name}.csv"));
        match for_spreadsheets {
            true => write_rows(&path, &without_formulas(rows))?,
            false => write_rows(&path, rows)?,
        }
    }
    let mut columns = String::from("table,column,type,unit,description\n");
    for (table, rows) in all {
        for field in rows.schema_ref().fields() {
            let data_type = field.data_type().to_string();
            let cells = [table, field.name(), &data_type, metadata(field, "unit"), metadata(field, "description")];
            columns += &(cells.map(quoted).join(",") + "\n");
        }
    }
    write(&out.join("columns.csv"), columns.as_bytes())?;
    Ok(all.iter().map(|(_, rows)| rows.num_rows() as u64).sum())
}

/// Returns an entry of a column's metadata, which is empty if it is missing.
fn metadata<'a>(field: &'a Field, key: &str) -> &'a str {
    field.metadata().get(key).map(String::as_str).unwrap_or_default()
}

fn write_rows(path: &Path, rows: &RecordBatch) -> Result<(), LedgerError> {
    let mut bytes = Vec::new();
    let mut writer = WriterBuilder::new().with_header(true).build(&mut bytes);
    writer.write(rows).map_err(|error| LedgerError::malformed(path, error.to_string()))?;
    drop(writer);
    write(path, &bytes)
}

/// Returns rows in which no text begins as a formula does. Numbers stay as they are.
fn without_formulas(rows: &RecordBatch) -> RecordBatch {
    let columns = rows.columns().iter().map(|column| match column.as_string_opt::<i32>() {
        Some(texts) => Arc::new(texts.iter().map(|text| text.map(harmless)).collect::<StringArray>()) as ArrayRef,
        None => column.clone(),
    });
    RecordBatch::try_new(rows.schema(), columns.collect()).expect("the columns have the types of before")
}

/// Returns a text that no spreadsheet takes for a formula.
fn harmless(text: &str) -> Cow<'_, str> {
    match text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => Cow::Owned(format!("'{text}")),
        false => Cow::Borrowed(text),
    }
}

/// Quotes a cell according to RFC 4180.
fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;

    use super::*;

    #[test]
    fn texts_that_a_spreadsheet_would_compute_have_an_apostrophe() {
        let texts = ["=1+2", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "user-1", "", "'=1"];
        let rows = RecordBatch::try_from_iter([
            ("text", Arc::new(StringArray::from_iter_values(texts)) as ArrayRef),
            ("number", Arc::new(Int64Array::from_iter_values(-4..5)) as ArrayRef),
        ]);
        let rows = rows.expect("two columns");
        let shown = without_formulas(&rows);
        let expected = ["'=1+2", "'+1", "'-1", "'@SUM(A1)", "'\tx", "'\rx", "user-1", "", "'=1"];
        assert_eq!(shown.column(0).as_string::<i32>(), &StringArray::from_iter_values(expected));
        assert_eq!(shown.column(1), rows.column(1));
    }
}
