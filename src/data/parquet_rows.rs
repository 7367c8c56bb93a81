//! Rows of a Parquet file, with one record batch in memory at a time.

use std::sync::Arc;

use super::fields::Fields;
use super::json_value::JsonValue;
use super::parquet_cell::{Cell, cell, plain};
use crate::store::without_panic;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::ChunkReader;

/// Calls `accept` with every row in order.
///
/// # Errors
/// A description of what is wrong with the file. The error of `accept` ends the reading and is returned as it is.
pub(super) fn for_each_row<E>(
    file: impl ChunkReader + 'static,
    mut accept: impl FnMut(Fields) -> Result<(), E>,
) -> Result<Result<(), E>, String> {
    // The reader panics on some damaged files.
    let reader = without_panic(|| ParquetRecordBatchReaderBuilder::try_new(file).and_then(|builder| builder.build()))?;
    let mut reader = reader.map_err(|error| error.to_string())?;
    while let Some(batch) = without_panic(|| reader.next())? {
        let batch = batch.map_err(|error| error.to_string())?;
        let schema = batch.schema();
        let mut columns = Vec::with_capacity(batch.num_columns());
        for (field, column) in schema.fields().iter().zip(batch.columns()) {
            columns.push((Arc::clone(field), plain(column)?));
        }
        for row in 0..batch.num_rows() {
            let mut fields = Fields::default();
            for (field, column) in &columns {
                match cell(column.as_ref(), row)? {
                    Cell::Value(JsonValue::Null) => {}
                    Cell::Value(value) => fields.insert(field.name(), value),
                    Cell::Unreadable(kind) => fields.insert_unreadable(field.name(), kind),
                }
            }
            if let Err(error) = accept(fields) {
                return Ok(Err(error));
            }
        }
    }
    Ok(Ok(()))
}
