//! Declaration of tables: named columns, each with unit and meaning in its Arrow field metadata; and their cells, values of
//! Rust that have an Arrow type.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, StringArray, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use arrow::record_batch::RecordBatch;

/// Version of all table schemas together. A change of any column increases it, once per version of the program.
///
/// Version 4 is that of fedreplay 0.1.0, and of the development after it, in which times became signed. Version 5 has the error
/// of aggregations, bytes on the wire and energy by phase.
pub const SCHEMA_VERSION: u32 = 5;

/// First version with table `aggregation`.
pub(super) const SCHEMA_WITH_AGGREGATION: u32 = 5;

/// Oldest version whose runs can be read, verified and compared. All later ones have tables of answers and lineage, a
/// certificate, and a hash of the scenario that can be computed again.
pub const OLDEST_SCHEMA: u32 = 3;

/// Row type of a table.
pub trait Table: Sized {
    /// Folder name under `ledger/` (or `timing/`).
    const NAME: &'static str;
    /// Description of a row.
    const MEANING: &'static str;
    /// Returns the columns with their units and meanings.
    fn schema() -> SchemaRef;
    /// Converts rows into columns.
    fn batch(rows: &[Self]) -> RecordBatch;
}

/// Declares a row type and its table in one place: `field: type, "unit", "meaning";`.
macro_rules! table {
    ($(#[doc = $row_meaning:literal])+ $row:ident, $name:literal { $($field:ident: $type:ty, $unit:literal, $meaning:literal;)+ }) => {
        $(#[doc = $row_meaning])+
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $row {
            $(#[doc = concat!("\\[", $unit, "\\] -- ", $meaning)] pub $field: $type,)+
        }

        impl $crate::ledger::Table for $row {
            const NAME: &'static str = $name;
            const MEANING: &'static str = concat!($($row_meaning),+);

            fn schema() -> arrow::datatypes::SchemaRef {
                use $crate::ledger::schema::{Cell, column_type, describe};
                let fields = vec![$(
                    arrow::datatypes::Field::new(
                        stringify!($field),
                        column_type($unit, <$type as Cell>::TYPE),
                        <$type as Cell>::NULLABLE,
                    )
                    .with_metadata(describe($unit, $meaning)),
                )+];
                std::sync::Arc::new(arrow::datatypes::Schema::new(fields))
            }

            fn batch(rows: &[Self]) -> arrow::record_batch::RecordBatch {
                use $crate::ledger::schema::{Cell, column};
                let columns = vec![$(
                    column($unit, <$type as Cell>::array(rows.iter().map(|row| row.$field.clone()).collect())),
                )+];
                arrow::record_batch::RecordBatch::try_new(Self::schema(), columns)
                    .expect("columns are built from the types that the schema is built from")
            }
        }
    };
}

pub(crate) use table;

/// Unit of times.
const TIME: &str = "ns";

/// Returns the type of a column with values of type `of_values`. Times are signed, so that their differences do not wrap around in
/// programs that compute in the columns' types.
pub(crate) fn column_type(unit: &str, of_values: DataType) -> DataType {
    if unit == TIME { DataType::Int64 } else { of_values }
}

/// Returns a column of values in the type of [`column_type`].
pub(crate) fn column(unit: &str, values: ArrayRef) -> ArrayRef {
    if unit == TIME { Arc::new(signed(values.as_primitive())) } else { values }
}

/// Converts times to signed integers, which end after 292 years.
pub(super) fn signed(times: &UInt64Array) -> Int64Array {
    times.unary::<_, Int64Type>(|time| i64::try_from(time).unwrap_or(i64::MAX))
}

/// Returns the metadata of a field.
pub(crate) fn describe(unit: &str, meaning: &str) -> std::collections::HashMap<String, String> {
    [("unit", unit), ("description", meaning)].into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// Value that can be a cell of a table.
pub trait Cell: Sized {
    /// Arrow type of the column.
    const TYPE: DataType;
    /// Whether the column may hold nulls.
    const NULLABLE: bool;
    /// Converts a column of values into an array.
    fn array(values: Vec<Self>) -> ArrayRef;
}

macro_rules! cell {
    ($value:ty, $array:ty, $type:expr) => {
        impl Cell for $value {
            const TYPE: DataType = $type;
            const NULLABLE: bool = false;
            fn array(values: Vec<Self>) -> ArrayRef {
                Arc::new(<$array>::from(values))
            }
        }

        impl Cell for Option<$value> {
            const TYPE: DataType = $type;
            const NULLABLE: bool = true;
            fn array(values: Vec<Self>) -> ArrayRef {
                Arc::new(<$array>::from(values))
            }
        }
    };
}

cell!(u32, UInt32Array, DataType::UInt32);
cell!(u64, UInt64Array, DataType::UInt64);
cell!(f64, Float64Array, DataType::Float64);
cell!(bool, BooleanArray, DataType::Boolean);
cell!(String, StringArray, DataType::Utf8);
cell!(&'static str, StringArray, DataType::Utf8);

#[cfg(test)]
mod tests {
    use arrow::compute::kernels::numeric::sub;

    use super::*;
    use crate::ledger::TaskRow;

    #[test]
    fn a_difference_of_times_may_be_negative() {
        let row = TaskRow { dispatched_at_ns: 3, ended_at_ns: 5, ..TaskRow::default() };
        let rows = TaskRow::batch(&[row]);
        let difference = sub(&rows["dispatched_at_ns"], &rows["ended_at_ns"]).expect("it does not overflow");
        assert_eq!(difference.as_primitive::<Int64Type>().value(0), -2);
    }
}
