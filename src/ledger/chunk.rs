//! Rows that one round adds to the tables, also as columns, and the files of single rounds with their layout: encodings,
//! compression and row groups, on which no digest depends.

use std::fs;
use std::path::Path;

use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::digest::{DIGEST_COLUMNS, chunk_hash};
use super::{
    AggregationRow, EvaluationRow, EventRow, GenerationRow, LedgerError, LineageRow, PopulationRow, RepeatRow,
    RoundRow, Table, TaskRow,
};
use crate::store::{Digest, atomic};

/// Rows that one round adds to the tables.
#[derive(Clone, Debug, Default)]
pub struct Chunk {
    pub events: Vec<EventRow>,
    pub tasks: Vec<TaskRow>,
    pub evaluations: Vec<EvaluationRow>,
    pub generations: Vec<GenerationRow>,
    pub lineage: Vec<LineageRow>,
    pub aggregation: Vec<AggregationRow>,
    /// Row of the round itself; the writer fills in the row counts and digests.
    pub round: RoundRow,
}

impl Chunk {
    /// Writes the numbers of rows into the row of the round.
    pub(super) fn count_rows(&mut self) {
        self.round.event_rows = self.events.len() as u64;
        self.round.task_rows = self.tasks.len() as u64;
        self.round.evaluation_rows = self.evaluations.len() as u64;
        self.round.generation_rows = self.generations.len() as u64;
        self.round.lineage_rows = self.lineage.len() as u64;
        self.round.aggregation_rows = self.aggregation.len() as u64;
    }
}

/// Tables of rounds, in the order in which they enter the digest.
pub(super) const TABLES: [&str; 7] = [
    EventRow::NAME,
    TaskRow::NAME,
    EvaluationRow::NAME,
    GenerationRow::NAME,
    LineageRow::NAME,
    AggregationRow::NAME,
    RoundRow::NAME,
];

/// Returns the column of table `rounds` that counts the rows that a round added to a table; `None` of tables that are not filled
/// by rounds, and of `rounds` itself.
pub(super) fn count_column(table: &str) -> Option<&'static str> {
    match table {
        EventRow::NAME => Some("event_rows"),
        TaskRow::NAME => Some("task_rows"),
        EvaluationRow::NAME => Some("evaluation_rows"),
        GenerationRow::NAME => Some("generation_rows"),
        LineageRow::NAME => Some("lineage_rows"),
        AggregationRow::NAME => Some("aggregation_rows"),
        _ => None,
    }
}

/// Whether a run has a table of this name.
pub fn is_table(name: &str) -> bool {
    [PopulationRow::NAME, RepeatRow::NAME].contains(&name) || TABLES.contains(&name)
}

/// Chunk as columns.
pub(super) struct ChunkBatches {
    pub events: RecordBatch,
    pub tasks: RecordBatch,
    pub evaluations: RecordBatch,
    /// `None` in runs of schema 3.
    pub generations: Option<RecordBatch>,
    /// `None` in runs of schema 3.
    pub lineage: Option<RecordBatch>,
    /// `None` in runs of schemas 3 and 4.
    pub aggregation: Option<RecordBatch>,
    pub round: RecordBatch,
}

impl ChunkBatches {
    pub(super) fn of(chunk: &Chunk) -> Self {
        Self {
            events: EventRow::batch(&chunk.events),
            tasks: TaskRow::batch(&chunk.tasks),
            evaluations: EvaluationRow::batch(&chunk.evaluations),
            generations: Some(GenerationRow::batch(&chunk.generations)),
            lineage: Some(LineageRow::batch(&chunk.lineage)),
            aggregation: Some(AggregationRow::batch(&chunk.aggregation)),
            round: RoundRow::batch(std::slice::from_ref(&chunk.round)),
        }
    }

    /// Returns the existing tables with their names, in the order in which they enter the digest.
    pub(super) fn named(&self) -> impl Iterator<Item = (&'static str, &RecordBatch)> {
        let batches = [
            Some(&self.events),
            Some(&self.tasks),
            Some(&self.evaluations),
            self.generations.as_ref(),
            self.lineage.as_ref(),
            self.aggregation.as_ref(),
            Some(&self.round),
        ];
        TABLES.into_iter().zip(batches).filter_map(|(name, batch)| Some((name, batch?)))
    }
}

/// Returns the hashes of a round's chunks, without the columns that are computed from them.
pub(super) fn chunk_hashes(batches: &ChunkBatches) -> Vec<Digest> {
    batches.named().map(|(table, batch)| chunk_hash(table, batch, &DIGEST_COLUMNS)).collect()
}

pub(super) fn part_name(first: u32, last: u32) -> String {
    format!("{first:05}-{last:05}.parquet")
}

pub(super) fn write_batch(path: &Path, batch: &RecordBatch) -> Result<(), LedgerError> {
    write_parquet(path, batch.schema(), |writer| writer.write(batch))
}

pub(super) fn write_parquet(
    path: &Path,
    schema: arrow::datatypes::SchemaRef,
    fill: impl FnOnce(&mut ArrowWriter<&mut fs::File>) -> Result<(), ParquetError>,
) -> Result<(), LedgerError> {
    atomic::write_with(path, |file| -> Result<(), ParquetError> {
        let properties = properties(&schema);
        let mut writer = ArrowWriter::try_new(file, schema, Some(properties))?;
        fill(&mut writer)?;
        writer.close()?;
        Ok(())
    })
    .map_err(|source| LedgerError::Parquet { path: path.to_owned(), source })
}

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
        ("ns" | "index", DataType::UInt32 | DataType::UInt64 | DataType::Int64) => Some(Encoding::DELTA_BINARY_PACKED),
        ("BLAKE3", _) => Some(Encoding::PLAIN),
        _ => None,
    }
}
