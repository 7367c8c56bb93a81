//! Rows of a Parquet file, with one record batch in memory at a time. Cells become JSON values, with the text that Python's `str`
//! gives dates and decimals.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::take;
use arrow::datatypes::{
    ArrowTimestampType, DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Float16Type,
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType, Time32SecondType,
    Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::temporal_conversions::as_datetime;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::ChunkReader;
use serde_json::Value;

use super::fields::Fields;
use super::json_value::{JsonValue, set};
use crate::store::without_panic;

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
            columns.push((Arc::clone(field), without_panic(|| plain(column))??));
        }
        for row in 0..batch.num_rows() {
            let mut fields = Fields::default();
            for (field, column) in &columns {
                match without_panic(|| cell(column.as_ref(), row))?? {
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

/// A cell: a value, or a type that has none in JSON.
enum Cell {
    Value(JsonValue),
    /// Name of the type.
    Unreadable(String),
}

/// Returns a column with its dictionary resolved, if it has one.
fn plain(column: &ArrayRef) -> Result<ArrayRef, String> {
    match column.as_any_dictionary_opt() {
        Some(dictionary) => take(dictionary.values(), dictionary.keys(), None).map_err(|error| error.to_string()),
        None => Ok(column.clone()),
    }
}

/// Returns the value of a column in one row. Null and NaN, by which pandas marks missing values, are null.
fn cell(column: &dyn Array, row: usize) -> Result<Cell, String> {
    if column.is_null(row) {
        return Ok(Cell::Value(JsonValue::Null));
    }
    let value = match column.data_type() {
        DataType::Null => Value::Null,
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::LargeUtf8 => column.as_string::<i64>().value(row).into(),
        DataType::Utf8View => column.as_string_view().value(row).into(),
        DataType::Boolean => column.as_boolean().value(row).into(),
        DataType::Int8 => column.as_primitive::<Int8Type>().value(row).into(),
        DataType::Int16 => column.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::UInt8 => column.as_primitive::<UInt8Type>().value(row).into(),
        DataType::UInt16 => column.as_primitive::<UInt16Type>().value(row).into(),
        DataType::UInt32 => column.as_primitive::<UInt32Type>().value(row).into(),
        DataType::UInt64 => column.as_primitive::<UInt64Type>().value(row).into(),
        DataType::Float16 => column.as_primitive::<Float16Type>().value(row).to_f64().into(),
        DataType::Float32 => column.as_primitive::<Float32Type>().value(row).into(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).into(),
        DataType::Decimal32(_, scale) => {
            decimal_text(column.as_primitive::<Decimal32Type>().value(row).into(), *scale).into()
        }
        DataType::Decimal64(_, scale) => {
            decimal_text(column.as_primitive::<Decimal64Type>().value(row).into(), *scale).into()
        }
        DataType::Decimal128(_, scale) => {
            decimal_text(column.as_primitive::<Decimal128Type>().value(row), *scale).into()
        }
        DataType::List(_) => return list(&column.as_list::<i32>().value(row)),
        DataType::LargeList(_) => return list(&column.as_list::<i64>().value(row)),
        DataType::FixedSizeList(..) => return list(&column.as_fixed_size_list().value(row)),
        DataType::Struct(_) => return object(column, row),
        DataType::Map(..) => return entries(column, row),
        other => match time_text(column, row) {
            Some(text) => text.into(),
            None => return Ok(Cell::Unreadable(other.to_string())),
        },
    };
    Ok(Cell::Value(value.into()))
}

/// Converts the elements of a list.
fn list(elements: &ArrayRef) -> Result<Cell, String> {
    let elements = plain(elements)?;
    let mut values = Vec::with_capacity(elements.len());
    for place in 0..elements.len() {
        match cell(elements.as_ref(), place)? {
            Cell::Value(value) => values.push(value),
            unreadable @ Cell::Unreadable(_) => return Ok(unreadable),
        }
    }
    Ok(Cell::Value(JsonValue::List(values)))
}

/// Converts a struct. Fields that are null are left out: the column has them because another row does.
fn object(column: &dyn Array, row: usize) -> Result<Cell, String> {
    let column = column.as_struct();
    let mut object = Vec::new();
    for (field, values) in column.fields().iter().zip(column.columns()) {
        match cell(plain(values)?.as_ref(), row)? {
            Cell::Value(JsonValue::Null) => {}
            Cell::Value(value) => set(&mut object, field.name().clone(), value),
            unreadable @ Cell::Unreadable(_) => return Ok(unreadable),
        }
    }
    Ok(Cell::Value(JsonValue::Object(object)))
}

/// Converts a map whose keys are text.
fn entries(column: &dyn Array, row: usize) -> Result<Cell, String> {
    let entries = column.as_map().value(row);
    let keys = plain(entries.column(0))?;
    let values = plain(entries.column(1))?;
    let mut object = Vec::new();
    for place in 0..entries.len() {
        let Cell::Value(JsonValue::Text(key)) = cell(keys.as_ref(), place)? else {
            return Ok(Cell::Unreadable(column.data_type().to_string()));
        };
        match cell(values.as_ref(), place)? {
            Cell::Value(value) => set(&mut object, key, value),
            unreadable @ Cell::Unreadable(_) => return Ok(unreadable),
        }
    }
    Ok(Cell::Value(JsonValue::Object(object)))
}

/// Returns `unscaled * 10^-scale` as Python writes a `Decimal`: with an exponent for large scales of small numbers only.
fn decimal_text(unscaled: i128, scale: i8) -> String {
    let sign = if unscaled < 0 { "-" } else { "" };
    let digits = unscaled.unsigned_abs().to_string();
    let exponent = -i32::from(scale);
    let leading = digits.len() as i32 - 1 + exponent;
    if exponent <= 0 && leading >= -6 {
        let scale = usize::from(scale.unsigned_abs());
        let padded = format!("{digits:0>width$}", width = scale + 1);
        let (whole, fraction) = padded.split_at(padded.len() - scale);
        let point = if fraction.is_empty() { "" } else { "." };
        return format!("{sign}{whole}{point}{fraction}");
    }
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    let exponent_sign = if leading < 0 { '-' } else { '+' };
    format!("{sign}{first}{point}{rest}E{exponent_sign}{}", leading.abs())
}

/// Returns a date, a time or a timestamp as text, or `None` if the column has another type or a named time zone.
fn time_text(column: &dyn Array, row: usize) -> Option<String> {
    const NANOSECONDS: i64 = 1_000_000_000;
    match column.data_type() {
        DataType::Date32 => {
            let days = column.as_primitive::<Date32Type>().value(row);
            Some(as_datetime::<Date32Type>(days.into())?.format("%Y-%m-%d").to_string())
        }
        DataType::Date64 => {
            let milliseconds = column.as_primitive::<Date64Type>().value(row);
            Some(as_datetime::<Date64Type>(milliseconds)?.format("%Y-%m-%d").to_string())
        }
        DataType::Time32(TimeUnit::Second) => {
            clock(i64::from(column.as_primitive::<Time32SecondType>().value(row)).checked_mul(NANOSECONDS)?)
        }
        DataType::Time32(TimeUnit::Millisecond) => {
            clock(i64::from(column.as_primitive::<Time32MillisecondType>().value(row)).checked_mul(1_000_000)?)
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            clock(column.as_primitive::<Time64MicrosecondType>().value(row).checked_mul(1_000)?)
        }
        DataType::Time64(TimeUnit::Nanosecond) => clock(column.as_primitive::<Time64NanosecondType>().value(row)),
        DataType::Timestamp(TimeUnit::Second, zone) => {
            timestamp::<TimestampSecondType>(column, row, zone.as_deref(), 1)
        }
        DataType::Timestamp(TimeUnit::Millisecond, zone) => {
            timestamp::<TimestampMillisecondType>(column, row, zone.as_deref(), 1_000)
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            timestamp::<TimestampMicrosecondType>(column, row, zone.as_deref(), 1_000_000)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            timestamp::<TimestampNanosecondType>(column, row, zone.as_deref(), NANOSECONDS)
        }
        _ => None,
    }
}

/// Returns a time of day, given in nanoseconds since midnight.
fn clock(nanoseconds: i64) -> Option<String> {
    let time = as_datetime::<TimestampNanosecondType>(nanoseconds)?;
    Some(time.format("%H:%M:%S").to_string() + &fraction(nanoseconds.rem_euclid(1_000_000_000)))
}

/// Returns a timestamp of `per_second` ticks per second, in local time of its zone and with the zone's offset.
fn timestamp<T: ArrowTimestampType>(
    column: &dyn Array,
    row: usize,
    zone: Option<&str>,
    per_second: i64,
) -> Option<String> {
    let ticks = column.as_primitive::<T>().value(row);
    let offset = match zone {
        None => None,
        Some("UTC" | "Etc/UTC" | "Z") => Some(0),
        Some(zone) => Some(offset_seconds(zone)?),
    };
    let local = ticks.checked_add(offset.unwrap_or(0).checked_mul(per_second)?)?;
    let mut text = as_datetime::<T>(local)?.format("%Y-%m-%d %H:%M:%S").to_string();
    text += &fraction(ticks.rem_euclid(per_second) * (1_000_000_000 / per_second));
    if let Some(offset) = offset {
        let sign = if offset < 0 { '-' } else { '+' };
        text += &format!("{sign}{:02}:{:02}", offset.abs() / 3_600, offset.abs() / 60 % 60);
    }
    Some(text)
}

/// Returns the fraction of a second: nothing, six digits, or nine where microseconds are not enough.
fn fraction(nanoseconds: i64) -> String {
    match nanoseconds {
        0 => String::new(),
        n if n % 1_000 == 0 => format!(".{:06}", n / 1_000),
        n => format!(".{n:09}"),
    }
}

/// Reads an offset such as `+02:00`, in seconds.
fn offset_seconds(zone: &str) -> Option<i64> {
    let (sign, clock) = match zone.as_bytes().first()? {
        b'+' => (1, &zone[1..]),
        b'-' => (-1, &zone[1..]),
        _ => return None,
    };
    let (hours, minutes) = clock.split_once(':')?;
    let hours: i64 = hours.parse().ok()?;
    let minutes: i64 = minutes.parse().ok()?;
    Some(sign * (hours * 3_600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        BinaryArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array, Time64MicrosecondArray,
        TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
    };

    use super::super::fields::scalar_text;
    use super::*;

    fn text(column: impl Array + 'static) -> String {
        let column = plain(&(Arc::new(column) as ArrayRef)).unwrap();
        match cell(column.as_ref(), 0).unwrap() {
            Cell::Value(value) => scalar_text(&value).unwrap(),
            Cell::Unreadable(kind) => format!("unreadable {kind}"),
        }
    }

    fn decimal(unscaled: i128, scale: i8) -> Decimal128Array {
        Decimal128Array::from(vec![unscaled]).with_precision_and_scale(20, scale).unwrap()
    }

    /// Values of pyarrow 26.0.1: `str(array.to_pylist()[0])`.
    #[test]
    fn cells_have_the_text_of_pyarrow() {
        assert_eq!(text(Float32Array::from(vec![7.8])), "7.800000190734863");
        assert_eq!(text(TimestampMicrosecondArray::from(vec![1_767_323_045_000_500])), "2026-01-02 03:04:05.000500");
        assert_eq!(text(TimestampNanosecondArray::from(vec![1])), "1970-01-01 00:00:00.000000001");
        assert_eq!(text(TimestampMillisecondArray::from(vec![1_500])), "1970-01-01 00:00:01.500000");
        assert_eq!(text(TimestampMicrosecondArray::from(vec![0]).with_timezone("UTC")), "1970-01-01 00:00:00+00:00");
        assert_eq!(text(TimestampMicrosecondArray::from(vec![0]).with_timezone("+02:00")), "1970-01-01 02:00:00+02:00");
        assert_eq!(text(Date32Array::from(vec![20_455])), "2026-01-02");
        assert_eq!(text(Time64MicrosecondArray::from(vec![5])), "00:00:00.000005");
        assert_eq!(text(decimal(780, 2)), "7.80");
        assert_eq!(text(decimal(-5, 2)), "-0.05");
        assert_eq!(text(decimal(1, 8)), "1E-8");
        assert_eq!(text(decimal(0, 8)), "0E-8");
        let dictionary: DictionaryArray<Int32Type> = ["7 and 8"].into_iter().collect();
        assert_eq!(text(dictionary), "7 and 8");
        assert_eq!(text(BinaryArray::from(vec![&b"7"[..]])), "unreadable Binary");
        let named_zone = TimestampMicrosecondArray::from(vec![0]).with_timezone("Europe/Berlin");
        assert!(text(named_zone).starts_with("unreadable Timestamp("));
    }
}
