//! Export of all tables of a run as CSV, with a table that describes their columns.

use std::borrow::Cow;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::csv::WriterBuilder;
use arrow::datatypes::Field;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;

use super::write;
use crate::ledger::{
    AggregationRow, EvaluationRow, EventRow, GenerationRow, LedgerError, LineageRow, PopulationRow, RepeatRow,
    RoundRow, RunTables, Table, TableParts, TaskRow,
};
use crate::results::Bands;
use crate::run::RunError;
use crate::store::atomic;

/// Writes one file per table and `columns.csv` into the folder `out`, and returns the number of rows of all tables. With
/// `for_spreadsheets`, a text that a spreadsheet would compute as a formula has an apostrophe before it.
///
/// # Errors
/// If the tables cannot be read, or a file cannot be written.
pub fn csv(run_folder: &Path, out: &Path, for_spreadsheets: bool) -> Result<u64, RunError> {
    let tables = RunTables::read(run_folder)?;
    let mut written =
        CsvFolder { out, for_spreadsheets, columns: "table,column,type,unit,description\n".into(), rows: 0 };
    written.parts(PopulationRow::NAME, tables.population()?)?;
    written.parts(EventRow::NAME, tables.parts::<EventRow>()?)?;
    written.parts(TaskRow::NAME, tables.parts::<TaskRow>()?)?;
    written.table(RoundRow::NAME, tables.rounds().rows(), [].into_iter())?;
    let evaluations = EvaluationRow::batch(&tables.evaluations()?);
    written.table(EvaluationRow::NAME, &evaluations, [].into_iter())?;
    written.parts(GenerationRow::NAME, tables.parts::<GenerationRow>()?)?;
    written.parts(LineageRow::NAME, tables.parts::<LineageRow>()?)?;
    written.parts(AggregationRow::NAME, tables.parts::<AggregationRow>()?)?;
    if Bands::exist(run_folder) {
        written.parts(RepeatRow::NAME, tables.parts::<RepeatRow>()?)?;
    }
    write(&out.join("columns.csv"), written.columns.as_bytes())?;
    Ok(written.rows)
}

/// Folder of CSV files under construction.
struct CsvFolder<'a> {
    out: &'a Path,
    for_spreadsheets: bool,
    /// Table of all columns.
    columns: String,
    /// Number of the rows of all tables.
    rows: u64,
}

impl CsvFolder<'_> {
    /// Writes the file of a table, of which one part is in memory.
    fn parts(&mut self, table: &str, parts: TableParts) -> Result<(), LedgerError> {
        let none = parts.empty();
        self.table(table, none.rows(), parts.map(|part| Ok(part?.rows().clone())))
    }

    /// Writes the file of a table with these rows.
    fn table(
        &mut self,
        table: &str,
        first: &RecordBatch,
        others: impl Iterator<Item = Result<RecordBatch, LedgerError>>,
    ) -> Result<(), LedgerError> {
        for field in first.schema_ref().fields() {
            let data_type = field.data_type().to_string();
            let cells = [table, field.name(), &data_type, metadata(field, "unit"), metadata(field, "description")];
            self.columns += &(cells.map(quoted).join(",") + "\n");
        }
        let path = self.out.join(format!("{table}.csv"));
        let mut pending = atomic::Pending::create(self.out, table).map_err(LedgerError::io(&path))?;
        let mut writer = WriterBuilder::new().with_header(true).build(BufWriter::new(pending.file()));
        for rows in std::iter::once(Ok(first.clone())).chain(others) {
            let mut rows = rows?;
            self.rows += rows.num_rows() as u64;
            if self.for_spreadsheets {
                rows = without_formulas(&rows);
            }
            writer.write(&rows).map_err(|error| unwritten(&path, error))?;
        }
        writer.into_inner().flush().map_err(LedgerError::io(&path))?;
        pending.commit(&path).map_err(LedgerError::io(&path))
    }
}

/// Returns the error of writing rows to a file.
fn unwritten(path: &Path, error: ArrowError) -> LedgerError {
    match error {
        ArrowError::IoError(_, source) => LedgerError::Io { path: path.to_owned(), source },
        other => LedgerError::malformed(path, other.to_string()),
    }
}

/// Returns an entry of a column's metadata, which is empty if it is missing.
fn metadata<'a>(field: &'a Field, key: &str) -> &'a str {
    field.metadata().get(key).map(String::as_str).unwrap_or_default()
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
