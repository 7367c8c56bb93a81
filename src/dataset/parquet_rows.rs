//! Rows of a Parquet file as JSON objects. Columns of text, numbers and booleans are read; others are left out.

use std::fs::File;
use std::path::Path;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int32Type, Int64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value};

/// Calls `accept` with every row in order, with one record batch in memory at a time.
///
/// # Errors
/// A description of what is wrong with the file, or the error of `accept`.
pub fn for_each_row(path: &Path, mut accept: impl FnMut(Value) -> Result<(), String>) -> Result<(), String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|builder| builder.build());
    for batch in reader.map_err(|error| error.to_string())? {
        let batch = batch.map_err(|error| error.to_string())?;
        let schema = batch.schema();
        for row in 0..batch.num_rows() {
            let mut fields = Map::new();
            for (field, column) in schema.fields().iter().zip(batch.columns()) {
                if let Some(value) = cell(column.as_ref(), row) {
                    fields.insert(field.name().clone(), value);
                }
            }
            accept(Value::Object(fields))?;
        }
    }
    Ok(())
}

/// Returns the value of a column in one row, or `None` if it is null or of a type that is not read.
fn cell(column: &dyn Array, row: usize) -> Option<Value> {
    if column.is_null(row) {
        return None;
    }
    Some(match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::LargeUtf8 => column.as_string::<i64>().value(row).into(),
        DataType::Utf8View => column.as_string_view().value(row).into(),
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::Float32 => column.as_primitive::<Float32Type>().value(row).into(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).into(),
        _ => return None,
    })
}
