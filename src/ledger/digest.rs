//! Hashes over logical rows, independent of Parquet, of compression and of the division into files.
//!
//! A chunk is the rows that one round added to one table. Its hash covers blocks of rows, and in each block the columns in
//! schema order, each with its name and its values in row order. Round digests are chained, so the last one identifies the
//! whole run.

use crate::store::Digest;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Float64Type, Int64Type, UInt32Type, UInt64Type};
use arrow::record_batch::RecordBatch;

/// Chain of round digests.
#[derive(Clone, Debug)]
pub struct Chain {
    last: Digest,
}

impl Chain {
    /// Starts from what the run depends on (see [`crate::ledger::LedgerWriter`]).
    pub fn start(genesis: Digest) -> Self {
        Self { last: genesis }
    }

    /// Adds one round by the digest of its rows.
    pub fn push(&mut self, rows: Digest) -> Digest {
        self.last = joined("fedreplay round digest v2", &[self.last, rows]);
        self.last
    }

    /// Adds one round as schema 3 did: by the hashes of its chunks, in table order.
    pub(super) fn push_chunks(&mut self, chunks: &[Digest]) -> Digest {
        let all: Vec<Digest> = std::iter::once(self.last).chain(chunks.iter().copied()).collect();
        self.last = joined("fedreplay round digest v1", &all);
        self.last
    }

    /// Returns the digest of everything so far.
    pub fn last(&self) -> Digest {
        self.last
    }
}

/// Returns the digest of a round's rows, or of the population, from the hashes of its chunks in table order.
pub fn rows_digest(chunks: &[Digest]) -> Digest {
    joined("fedreplay rows digest v1", chunks)
}

/// Returns the hash of several digests under a name for their use.
fn joined(kind: &str, parts: &[Digest]) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key(kind);
    for part in parts {
        hasher.update(&part.0);
    }
    Digest::from(hasher.finalize())
}

/// Columns that no chunk's hash can contain, since they are computed from it.
pub const DIGEST_COLUMNS: [&str; 2] = ["rows_digest", "digest"];

/// Columns that are hashed only in blocks where a row has a value, so that the digests of other runs are those from before they were added.
const HASHED_IF_FILLED: [&str; 4] = ["kept_rank", "rank_before", "rank_after", "carbon_ug"];

/// [rows] -- Rows that are hashed together, so that a round of any size can be hashed while it is written.
pub const BLOCK_ROWS: usize = 1 << 16;

/// Hasher of one table's rows in one round, block by block. Every block but the last has [`BLOCK_ROWS`] rows.
pub struct ChunkHasher {
    hasher: blake3::Hasher,
    rows: u64,
}

impl ChunkHasher {
    /// Creates a hasher without rows.
    pub fn new(table: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("fedreplay table chunk v2");
        update_text(&mut hasher, table);
        Self { hasher, rows: 0 }
    }

    /// Adds a block. Columns named in `except` are left out (a digest cannot contain itself).
    pub fn push(&mut self, block: &RecordBatch, except: &[&str]) {
        self.rows += block.num_rows() as u64;
        for (field, column) in block.schema_ref().fields().iter().zip(block.columns()) {
            let name = field.name().as_str();
            let is_left_out = HASHED_IF_FILLED.contains(&name) && column.null_count() == column.len();
            if !(is_left_out || except.contains(&name)) {
                update_text(&mut self.hasher, name);
                update_column(&mut self.hasher, column);
            }
        }
    }

    /// Returns the hash of all blocks and of the number of rows.
    pub fn finish(mut self) -> Digest {
        self.hasher.update(&self.rows.to_le_bytes());
        Digest::from(self.hasher.finalize())
    }
}

/// Returns the hash of one table's rows in one round, as `ChunkHasher` computes it.
pub fn chunk_hash(table: &str, rows: &RecordBatch, except: &[&str]) -> Digest {
    let mut hasher = ChunkHasher::new(table);
    for first in (0..rows.num_rows()).step_by(BLOCK_ROWS) {
        hasher.push(&rows.slice(first, BLOCK_ROWS.min(rows.num_rows() - first)), except);
    }
    hasher.finish()
}

fn update_text(hasher: &mut blake3::Hasher, text: &str) {
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}

/// Hashes a column: one presence byte per row, then the values that are not null, numbers in little-endian order and texts
/// preceded by their length.
fn update_column(hasher: &mut blake3::Hasher, column: &ArrayRef) {
    // All presence bytes first, then all values: a null and a zero have different hashes.
    let presence = match column.null_count() {
        0 => vec![1; column.len()],
        _ => (0..column.len()).map(|row| u8::from(column.is_valid(row))).collect(),
    };
    hasher.update(&presence);
    hasher.update(&match column.data_type() {
        DataType::UInt32 => numbers::<UInt32Type, 4>(column, u32::to_le_bytes),
        DataType::UInt64 => numbers::<UInt64Type, 8>(column, u64::to_le_bytes),
        // The same bytes as of the unsigned times of older versions.
        DataType::Int64 => numbers::<Int64Type, 8>(column, i64::to_le_bytes),
        DataType::Float64 => numbers::<Float64Type, 8>(column, |value| value.to_bits().to_le_bytes()),
        DataType::Boolean => column.as_boolean().iter().flatten().map(u8::from).collect(),
        DataType::Utf8 => texts(column),
        other => unreachable!("no ledger column has the type {other}"),
    });
}

/// Returns the values that are not null, each as `BYTES` bytes.
fn numbers<T: ArrowPrimitiveType, const BYTES: usize>(
    column: &ArrayRef,
    bytes_of: impl Fn(T::Native) -> [u8; BYTES],
) -> Vec<u8> {
    let column = column.as_primitive::<T>();
    let mut bytes = vec![0; BYTES * (column.len() - column.null_count())];
    let places = bytes.chunks_exact_mut(BYTES);
    if column.null_count() == 0 {
        // There may be millions of events. Without nulls the compiler turns this loop into a single copy.
        places.zip(column.values()).for_each(|(place, &value)| place.copy_from_slice(&bytes_of(value)));
    } else {
        places.zip(column.iter().flatten()).for_each(|(place, value)| place.copy_from_slice(&bytes_of(value)));
    }
    bytes
}

fn texts(column: &ArrayRef) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(column.len() * 16);
    for text in column.as_string::<i32>().iter().flatten() {
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Table, TaskRow};

    /// The rows without the columns of ranks.
    fn without_ranks(rows: &RecordBatch) -> RecordBatch {
        let is_other = |name: &str| !HASHED_IF_FILLED.contains(&name);
        let schema = rows.schema();
        let kept: Vec<usize> = (0..rows.num_columns()).filter(|&place| is_other(schema.field(place).name())).collect();
        rows.project(&kept).expect("columns of the table")
    }

    #[test]
    fn columns_that_were_added_later_count_where_they_have_values() {
        let hash = |ranks: [Option<u32>; 2]| {
            let rows = ranks.map(|rank_after| TaskRow { rank_after, ..TaskRow::default() });
            let batch = TaskRow::batch(&rows);
            (chunk_hash("tasks", &batch, &[]), chunk_hash("tasks", &without_ranks(&batch), &[]))
        };
        let (none, plain) = hash([None, None]);
        assert_eq!(none, plain);
        let filled = [[Some(2), None], [None, Some(2)], [Some(2), Some(2)], [Some(0), None]];
        let mut seen = vec![none];
        for ranks in filled {
            let (found, without) = hash(ranks);
            assert_eq!(without, plain);
            assert!(!seen.contains(&found), "{ranks:?}");
            seen.push(found);
        }
    }
}
