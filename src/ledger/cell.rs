//! Conversion of Rust values into columns: their Arrow type, and whether they may be null.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, StringArray, UInt32Array, UInt64Array};
use arrow::datatypes::DataType;

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
