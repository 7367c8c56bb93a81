//! Hashes over logical rows: independent of Parquet, of compression and of how files are cut.
//!
//! A chunk is the rows that one round added to one table. Its hash runs over the columns in schema order, each with its
//! name and its values in row order. Round digests are chained, so the last one names the whole run.

use crate::store::Digest;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type, UInt32Type, UInt64Type};
use arrow::record_batch::RecordBatch;

/// The chain of round digests.
#[derive(Clone, Debug)]
pub struct Chain {
    last: Digest,
}

impl Chain {
    /// Starts from what the run depends on (see [`crate::ledger::LedgerWriter`]).
    pub fn start(genesis: Digest) -> Self {
        Self { last: genesis }
    }

    /// Adds one round: the hashes of its chunks, in table order.
    pub fn push(&mut self, chunks: &[Digest]) -> Digest {
        let mut hasher = blake3::Hasher::new_derive_key("fedreplay round digest v1");
        hasher.update(&self.last.0);
        chunks.iter().for_each(|chunk| {
            hasher.update(&chunk.0);
        });
        self.last = Digest(*hasher.finalize().as_bytes());
        self.last
    }

    /// The digest of everything so far.
    pub fn last(&self) -> Digest {
        self.last
    }
}

/// The hash of one table's rows in one round. Columns named in `except` are left out (a digest cannot contain itself).
pub fn chunk_hash(table: &str, rows: &RecordBatch, except: &[&str]) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key("fedreplay table chunk v1");
    update_text(&mut hasher, table);
    hasher.update(&(rows.num_rows() as u64).to_le_bytes());
    for (field, column) in rows.schema_ref().fields().iter().zip(rows.columns()) {
        if !except.contains(&field.name().as_str()) {
            update_text(&mut hasher, field.name());
            update_column(&mut hasher, column);
        }
    }
    Digest(*hasher.finalize().as_bytes())
}

fn update_text(hasher: &mut blake3::Hasher, text: &str) {
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}

/// One presence byte a value, then the value in little-endian order; text with its length before it.
fn update_column(hasher: &mut blake3::Hasher, column: &ArrayRef) {
    let presence: Vec<u8> = (0..column.len()).map(|row| u8::from(column.is_valid(row))).collect();
    hasher.update(&presence);
    let mut bytes = Vec::with_capacity(column.len() * 8);
    match column.data_type() {
        DataType::UInt32 => {
            column.as_primitive::<UInt32Type>().iter().flatten().for_each(|v| bytes.extend(v.to_le_bytes()))
        }
        DataType::UInt64 => {
            column.as_primitive::<UInt64Type>().iter().flatten().for_each(|v| bytes.extend(v.to_le_bytes()))
        }
        DataType::Float64 => {
            column.as_primitive::<Float64Type>().iter().flatten().for_each(|v| bytes.extend(v.to_bits().to_le_bytes()))
        }
        DataType::Boolean => column.as_boolean().iter().flatten().for_each(|v| bytes.push(u8::from(v))),
        DataType::Utf8 => column.as_string::<i32>().iter().flatten().for_each(|v| {
            bytes.extend((v.len() as u64).to_le_bytes());
            bytes.extend(v.as_bytes());
        }),
        other => unreachable!("no ledger column has the type {other}"),
    }
    hasher.update(&bytes);
}
