//! How columns lie in Parquet files: encodings by what a column holds, compression, row groups. No digest depends on it.

use arrow::datatypes::{DataType, Field, Schema};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

/// Rows a Parquet row group: large enough to compress, small enough to skip.
const ROW_GROUP_ROWS: usize = 1 << 20;
/// The fastest level: the differences that times and numbers are stored as leave little to find.
const ZSTD_LEVEL: i32 = 1;

/// The properties of files with this schema.
pub(super) fn properties(schema: &Schema) -> WriterProperties {
    let level = ZstdLevel::try_new(ZSTD_LEVEL).expect("the level is within zstd's range");
    let builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        // Minima and maxima of row groups let readers skip; those of pages cost more than they spare.
        .set_statistics_enabled(EnabledStatistics::Chunk);
    let columns = schema.fields().iter().filter_map(|field| Some((field, encoding(field)?)));
    columns
        .fold(builder, |builder, (field, encoding)| {
            let column = ColumnPath::from(field.name().as_str());
            builder.set_column_dictionary_enabled(column.clone(), false).set_column_encoding(column, encoding)
        })
        .build()
}

/// How a column is stored that repeats too few of its values for a dictionary, which is what all others have.
fn encoding(field: &Field) -> Option<Encoding> {
    let unit = field.metadata().get("unit").map_or("", String::as_str);
    match (unit, field.data_type()) {
        // Times ascend, and numbers of clients, tasks and rounds are near those of the row before.
        ("ns" | "index", DataType::UInt32 | DataType::UInt64) => Some(Encoding::DELTA_BINARY_PACKED),
        ("BLAKE3", _) => Some(Encoding::PLAIN),
        _ => None,
    }
}
