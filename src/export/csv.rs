//! Export of all tables of a run as CSV, with a table that describes their columns.

use std::path::Path;

use arrow::csv::WriterBuilder;
use arrow::datatypes::Field;
use arrow::record_batch::RecordBatch;

use super::write;
use crate::ledger::{
    EvaluationRow, EventRow, GenerationRow, LedgerError, LineageRow, PopulationRow, RoundRow, RunTables, Table, TaskRow,
};
use crate::run::RunError;

/// Writes one file per table and `columns.csv` into the folder `out`, and returns the number of rows of all tables.
///
/// # Errors
/// If the tables cannot be read, or a file cannot be written.
pub fn csv(run_folder: &Path, out: &Path) -> Result<u64, RunError> {
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
        write_rows(&out.join(format!("{name}.csv")), rows)?;
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

/// Quotes a cell according to RFC 4180.
fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}
