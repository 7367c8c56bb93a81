//! Files of tables that are written while their rows come, so that a ledger of any length needs little memory.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;

use super::LedgerError;
use super::chunk::part_name;
use super::chunk::properties;
use super::digest::{BLOCK_ROWS, ChunkHasher, DIGEST_COLUMNS};
use crate::store::{Digest, atomic};

/// Table under construction. At most a block of rows and a row group of compressed columns are in memory. Its file appears when
/// it is finished.
pub(super) struct TableStream {
    table: &'static str,
    folder: PathBuf,
    schema: SchemaRef,
    pending: atomic::Pending,
    writer: ArrowWriter<File>,
    /// Rows that do not fill a block yet.
    open: Vec<RecordBatch>,
    open_rows: usize,
    hasher: ChunkHasher,
}

impl TableStream {
    /// Starts a table in its folder of `ledger`.
    pub fn create(ledger: &Path, table: &'static str, schema: SchemaRef) -> Result<Self, LedgerError> {
        let folder = ledger.join(table);
        let mut pending = atomic::Pending::create(&folder, table).map_err(LedgerError::io(&folder))?;
        let file = pending.file().try_clone().map_err(LedgerError::io(&folder))?;
        let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties(&schema)))
            .map_err(|source| LedgerError::Parquet { path: folder.clone(), source })?;
        let hasher = ChunkHasher::new(table);
        Ok(Self { table, folder, schema, pending, writer, open: vec![], open_rows: 0, hasher })
    }

    /// Adds rows.
    pub fn push(&mut self, rows: &RecordBatch) -> Result<(), LedgerError> {
        let mut first = 0;
        while first < rows.num_rows() {
            // Blocks have the same rows whatever came together, since hashes are taken over them.
            let count = (BLOCK_ROWS - self.open_rows).min(rows.num_rows() - first);
            self.open.push(rows.slice(first, count));
            self.open_rows += count;
            first += count;
            if self.open_rows == BLOCK_ROWS {
                self.write_block()?;
            }
        }
        Ok(())
    }

    fn write_block(&mut self) -> Result<(), LedgerError> {
        let block = match self.open.as_slice() {
            [block] => block.clone(),
            parts => concat_batches(&self.schema, parts).expect("all rows of a table have its schema"),
        };
        self.open.clear();
        self.open_rows = 0;
        self.hasher.push(&block, &DIGEST_COLUMNS);
        self.writer.write(&block).map_err(|source| LedgerError::Parquet { path: self.folder.clone(), source })
    }

    /// Ends a chunk and returns the hash of its rows.
    pub fn end_chunk(&mut self) -> Result<Digest, LedgerError> {
        if self.open_rows > 0 {
            self.write_block()?;
        }
        Ok(std::mem::replace(&mut self.hasher, ChunkHasher::new(self.table)).finish())
    }

    /// Closes the file, which contains these rounds.
    pub fn finish(self, first: u32, last: u32) -> Result<(), LedgerError> {
        let path = self.folder.join(part_name(first, last));
        self.writer.close().map_err(|source| LedgerError::Parquet { path: path.clone(), source })?;
        self.pending.commit(&path).map_err(LedgerError::io(&path))
    }
}
