//! Ledger: the record of a run, with Arrow schemas, Parquet files, the manifest, and the digest over logical rows.
//!
//! The ledger records what happened. Wall-clock times are in `timing`, outside of every hash, and paths, host names and
//! cache hits are in no table. While a run is in progress each round has a file of its own,
//! `ledger/TABLE/RRRRR-RRRRR.parquet`; at the end they are joined into one file per table.

mod chunk;
mod compare;
mod digest;
mod left_out;
mod lineage;
mod locate;
mod manifest;
mod parts;
mod queue;
mod reader;
mod reference;
pub(crate) mod schema;
mod stream;
mod tables;
mod values;
mod verify;
mod view;
mod writer;

pub use chunk::Chunk;
pub use compare::{Comparison, Difference, OrderDifference, compare, compare_round, compare_rows};
pub use digest::{Chain, chunk_hash, rows_digest};
pub use left_out::LeftOut;
pub use lineage::{Lineage, LineageEntry, keys_of};
pub use manifest::{FileEntry, Input, Manifest, RunKind, RunState, is_being_written, runs_below};
pub use reader::{RoundChunks, read_table};
pub use reference::reference;
pub(crate) use schema::table;
pub use schema::{OLDEST_SCHEMA, SCHEMA_VERSION, Table};
pub use tables::{
    ClientDataRow, EvaluationRow, EventRow, GenerationRow, LOSSES, LineageRow, PopulationRow, RoundRow, TaskRow,
    TimingRow,
};
pub use values::{ColumnValue, EvalSubject, RoundEnd, Split};
pub use verify::{UNFINISHED, verify};
pub use view::{RunTables, TableView};
pub use writer::{LedgerStream, LedgerWriter, write_table};

use std::error::Error;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

/// Error in a run's folder.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The operating system reported an error; finished rounds are not lost.
    #[error("failed to access {path}: {source}{}", advice(source))]
    Io { path: PathBuf, source: std::io::Error },
    /// A Parquet file could not be written or read.
    #[error("failed to read or write the table {path}: {source}{}", advice(source))]
    Parquet { path: PathBuf, source: parquet::errors::ParquetError },
    /// A file has invalid contents.
    #[error("failed to understand {path}: {reason}")]
    Malformed { path: PathBuf, reason: String },
    /// There is no run in the folder.
    #[error("failed to find a run in {path}: it holds no manifest.json")]
    NoRun { path: PathBuf },
    /// The folder of a run cannot be created or written to.
    #[error("failed to make a run's folder at {path}: {source}; choose another --out")]
    Unwritable { path: PathBuf, source: std::io::Error },
    /// The folder holds something that must not be overwritten.
    #[error("failed to start a run in {path}: it already holds {what}; choose another --out, or remove the folder")]
    Occupied { path: PathBuf, what: &'static str },
}

impl LedgerError {
    /// Returns a function that adds the path to an error of the operating system, for `Result::map_err`.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn malformed(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::Malformed { path: path.into(), reason: reason.into() }
    }

    /// Returns the exit code: 1 for failures, 2 for wrong usage.
    pub fn exit_code(&self) -> u8 {
        match self {
            // A full disk is not wrong usage.
            Self::Unwritable { source, .. } if is_out_of_space(source) => 1,
            Self::Occupied { .. } | Self::NoRun { .. } | Self::Unwritable { .. } => 2,
            _ => 1,
        }
    }
}

/// Returns the advice for a full disk, or nothing. Finished rounds are on disk, and a run continues from them.
fn advice(error: &(dyn Error + 'static)) -> &'static str {
    let mut chain = std::iter::successors(Some(error), |&error| error.source());
    let is_full = chain.any(|error| error.downcast_ref::<io::Error>().is_some_and(is_out_of_space));
    if is_full { "; free some space, then `fedreplay resume` continues a run that has begun" } else { "" }
}

/// Whether the disk, or the user's quota, is full.
pub(crate) fn is_out_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}
