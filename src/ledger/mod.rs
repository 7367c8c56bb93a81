//! Ledger: the record of a run, with Arrow schemas, Parquet files, the manifest, and the digest over logical rows.
//!
//! The ledger records what happened. Wall-clock times are in `timing`, outside of every hash, and paths, host names and
//! cache hits are in no table. While a run is in progress, the files `ledger/TABLE/FIRST-LAST.parquet` have up to a hundred
//! rounds each; at the end they are joined into one file per table.

mod aggregation;
mod batches;
mod chunk;
mod compare;
mod digest;
mod exact_path;
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

pub use batches::TableBatches;
pub use chunk::{Chunk, is_table};
pub use compare::{Comparison, Difference, OrderDifference, compare, compare_round, compare_rows, compare_tasks};
pub use digest::{Chain, chunk_hash, rows_digest};
pub(crate) use exact_path::path_as_text;
pub use left_out::LeftOut;
pub use lineage::{Lineage, LineageEntry, LineageError, keys_of};
pub use manifest::{FileEntry, Input, Manifest, RunKind, RunState, is_being_written, runs_below};
pub use reader::{RoundChunks, client_count, read_table, start_hashes};
pub use reference::reference;
pub(crate) use schema::table;
pub use schema::{OLDEST_SCHEMA, SCHEMA_VERSION, Table};
pub use tables::{
    AggregationRow, ClientDataRow, EvaluationRow, EventRow, GenerationRow, LOSSES, LineageRow, PopulationRow,
    RepeatRow, RoundRow, TaskRow, TimingRow,
};
pub use values::{ColumnValue, EvalSubject, RoundEnd, Split};
pub use verify::{UNFINISHED, verify, verify_rows};
pub use view::{RunTables, TableParts, TableView};
pub use writer::{LedgerStream, LedgerWriter, write_table};

use std::error::Error;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

/// Error in a run's folder.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The operating system reported an error; finished rounds are not lost.
    #[error("failed to access {path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    /// A Parquet file could not be written or read.
    #[error("failed to read or write the table {path}: {source}")]
    Parquet { path: PathBuf, source: parquet::errors::ParquetError },
    /// A file has invalid contents.
    #[error("failed to understand {path}: {reason}")]
    Malformed { path: PathBuf, reason: String },
    /// A table has other rows than the run claims.
    #[error("failed to trust the table {path}: {reason}")]
    Incomplete { path: PathBuf, reason: String },
    /// There is no run in the folder.
    #[error("failed to find a run in {path}: it holds no manifest.json")]
    NoRun { path: PathBuf },
    /// The folder of a run cannot be created or written to.
    #[error("failed to make a run's folder at {path}: {source}")]
    Unwritable { path: PathBuf, source: std::io::Error },
    /// The folder holds something that must not be overwritten.
    #[error("failed to start a run in {path}: it already holds {what}")]
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

    /// Returns whether the cause is a full disk, or a full quota. Finished rounds are on disk, and a run continues from them.
    pub fn is_disk_full(&self) -> bool {
        let cause: &(dyn Error + 'static) = match self {
            Self::Io { source, .. } | Self::Unwritable { source, .. } => source,
            Self::Parquet { source, .. } => source,
            _ => return false,
        };
        let mut chain = std::iter::successors(Some(cause), |&error| error.source());
        chain.any(|error| error.downcast_ref::<io::Error>().is_some_and(is_out_of_space))
    }
}

/// Whether the disk, or the user's quota, is full.
fn is_out_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}
