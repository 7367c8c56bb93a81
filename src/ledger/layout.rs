//! Layout of columns in Parquet files: encodings, compression and row groups. No digest depends on it.

use arrow::datatypes::{DataType, Field, Schema};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

/// [rows] -- Rows per Parquet row group: large enough to compress well, small enough to skip.
const ROW_GROUP_ROWS: usize = 1 << 20;
/// Fastest level. Delta-encoded times and numbers leave little for compression to gain.
const ZSTD_LEVEL: i32 = 1;

/// Returns the properties of files with this schema.
pub(super) fn properties(schema: &Schema) -> WriterProperties {
    let level = ZstdLevel::try_new(ZSTD_LEVEL).expect("the level is within zstd's range");
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        // Minima and maxima of row groups let readers skip them; those of pages cost more than they save.
        .set_statistics_enabled(EnabledStatistics::Chunk);
    for field in schema.fields() {
        if let Some(encoding) = encoding(field) {
            let column = ColumnPath::from(field.name().as_str());
            builder = builder.set_column_dictionary_enabled(column.clone(), false);
            builder = builder.set_column_encoding(column, encoding);
        }
    }
    builder.build()
}

/// Returns the encoding of a column whose values repeat too rarely for a dictionary; `None` keeps the dictionary.
fn encoding(field: &Field) -> Option<Encoding> {
    let unit = field.metadata().get("unit").map_or("", String::as_str);
    match (unit, field.data_type()) {
        // Times ascend, and numbers of clients, tasks and rounds are near those of the row before.
        ("ns" | "index", DataType::UInt32 | DataType::UInt64) => Some(Encoding::DELTA_BINARY_PACKED),
        ("BLAKE3", _) => Some(Encoding::PLAIN),
        _ => None,
    }
}
