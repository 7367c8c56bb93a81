//! Tables of traces: Parquet or CSV, read cell by cell so that errors name row and column.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::Cursor;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::compute::{cast, concat_batches};
use arrow::csv::reader::{Format, ReaderBuilder};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::error::InputError;
use super::files::input;
use crate::ledger::Input;
use crate::store::{read_up_to, without_panic};

/// [byte] -- Maximum size of a trace, whose columns of text are addressed by 32 bits.
const TRACE_BYTES_MAX: u64 = 1 << 31;

/// Table with all cells as text.
pub(super) struct Table {
    /// For messages.
    name: String,
    columns: BTreeMap<String, StringArray>,
    rows: usize,
}

impl Table {
    /// Reads a table and checks its columns.
    pub(super) fn open(
        file: &Path,
        known: &[&str],
        ignored: &[&str],
        role: &str,
        read: &mut BTreeMap<String, Input>,
    ) -> Result<Self, InputError> {
        let bytes = read_up_to(file, TRACE_BYTES_MAX).map_err(|error| unreadable(file, error))?;
        read.insert(role.to_owned(), input(file.to_owned(), blake3::hash(&bytes)));
        let is_parquet = file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("parquet"));
        // The readers panic on some damaged files, and so does the conversion of what they return.
        let batch = without_panic(|| if is_parquet { parquet(bytes) } else { csv(&bytes) });
        let batch = batch.map_err(|panic| unreadable(file, panic))?.map_err(|error| unreadable(file, error))?;
        let mut columns = BTreeMap::new();
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            let name = field.name();
            if ignored.contains(&name.as_str()) {
                continue;
            }
            if !known.contains(&name.as_str()) {
                let nearest = known.iter().min_by_key(|known| strsim::damerau_levenshtein(known, name));
                let nearest = nearest.map(|known| format!("; did you mean `{known}`?")).unwrap_or_default();
                return Err(unreadable(file, format!("there is no column `{name}`{nearest}")));
            }
            let text = without_panic(|| cast(column, &DataType::Utf8)).map_err(|panic| unreadable(file, panic))?;
            let text = text.map_err(|error| unreadable(file, error))?;
            if columns.insert(name.clone(), text.as_string::<i32>().clone()).is_some() {
                return Err(unreadable(file, format!("column `{name}` stands there twice")));
            }
        }
        Ok(Self { name: file.display().to_string(), columns, rows: batch.num_rows() })
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the file's name, for messages.
    pub(super) fn file(&self) -> &str {
        &self.name
    }

    /// Returns whether there is a column of this name.
    pub(super) fn has(&self, column: &str) -> bool {
        self.columns.contains_key(column)
    }

    /// Returns an error of the whole file.
    pub(super) fn unusable(&self, message: impl Display) -> InputError {
        InputError::Trace { file: self.name.clone(), message: message.to_string() }
    }

    /// Returns an error in a row.
    pub(super) fn fault(&self, row: usize, message: impl Display) -> InputError {
        self.unusable(format_args!("row {}: {message}", row + 1))
    }

    /// Returns a trimmed cell; `None` for a null, an empty cell or a missing column.
    pub(super) fn text(&self, column: &str, row: usize) -> Option<&str> {
        let column = self.columns.get(column)?;
        if column.is_null(row) {
            return None;
        }
        Some(column.value(row).trim()).filter(|text| !text.is_empty())
    }

    pub(super) fn name(&self, column: &str, row: usize) -> Option<String> {
        self.text(column, row).map(str::to_owned)
    }

    /// Returns a number for which `holds`; `range` describes those numbers in the error message.
    pub(super) fn number<T: FromStr>(
        &self,
        column: &str,
        row: usize,
        range: &str,
        holds: impl Fn(&T) -> bool,
    ) -> Result<Option<T>, InputError> {
        let Some(text) = self.text(column, row) else { return Ok(None) };
        match text.parse().ok().filter(holds) {
            Some(number) => Ok(Some(number)),
            None => Err(self.fault(row, format!("{column}: `{text}` is out of range: it must be {range}"))),
        }
    }

    /// Returns a count, which other programs may have written as a float.
    pub(super) fn count(&self, column: &str, row: usize, least: f64) -> Result<Option<u64>, InputError> {
        if let Some(exact) = self.text(column, row).and_then(|text| text.parse::<u64>().ok())
            && exact as f64 >= least
        {
            return Ok(Some(exact));
        }
        let range = format!("a number of at least {least}, below 2^63");
        let number = self.number(column, row, &range, |value: &f64| (least..2f64.powi(63)).contains(value))?;
        Ok(number.map(|value| value.round() as u64))
    }

    pub(super) fn float(&self, column: &str, row: usize, most: f64) -> Result<Option<f64>, InputError> {
        self.number(column, row, &format!("a number from 0 to {most}"), |value: &f64| (0.0..=most).contains(value))
    }
}

/// Returns the error of a file that cannot be read.
fn unreadable(file: &Path, message: impl Display) -> InputError {
    InputError::Trace { file: file.display().to_string(), message: message.to_string() }
}

/// Reads a Parquet file.
fn parquet(bytes: Vec<u8>) -> Result<RecordBatch, Box<dyn std::error::Error>> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes))?;
    let schema = builder.schema().clone();
    let batches = builder.build()?.collect::<Result<Vec<_>, _>>()?;
    Ok(concat_batches(&schema, &batches)?)
}

/// Reads a CSV file with all columns as text; the first line has their names.
fn csv(bytes: &[u8]) -> Result<RecordBatch, Box<dyn std::error::Error>> {
    // Spreadsheets begin their files with a byte order mark.
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let format = Format::default().with_header(true);
    let (inferred, _) = format.infer_schema(Cursor::new(bytes), Some(0))?;
    let fields = inferred.fields().iter().map(|field| Field::new(field.name(), DataType::Utf8, true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let reader = ReaderBuilder::new(schema.clone()).with_format(format).build(Cursor::new(bytes))?;
    let batches = reader.collect::<Result<Vec<_>, _>>()?;
    Ok(concat_batches(&schema, &batches)?)
}
