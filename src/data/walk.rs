//! Streaming access to a dataset file: rows go to a callback one at a time, and none is kept in memory.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde_json::error::Category;

use super::columns::Columns;
use super::content::RowKind;
use super::error::DatasetError;
use super::file_form::{BadRows, FileForm, SkippedRow};
use super::row::Row;
use super::rows_in_json::{Each, Reason, Stop, Walker};
use super::source::{Meter, ROW_LIMIT_BYTES, Source};

/// The properties of a dataset file that are known after all of its rows went to the callback.
#[derive(Clone, Debug)]
pub struct Walk {
    /// The kind of every row.
    pub kind: RowKind,
    /// The layout that was detected.
    pub form: FileForm,
    /// Rows that were left out under [`BadRows::Skip`].
    pub skipped: Vec<SkippedRow>,
    /// BLAKE3 of the file's bytes.
    pub content_hash: blake3::Hash,
}

impl Walk {
    /// Reads the file at `path` as [`super::Federation::read_columns`] does, without keeping its rows.
    ///
    /// Each usable row is passed to `each`, in the order of the file, with the client's id and the row's index among
    /// the usable rows of that client.
    ///
    /// # Errors
    /// As [`super::Federation::read`]. Rows before the error have already been passed on.
    pub fn columns(
        path: &Path,
        columns: &Columns,
        bad_rows: BadRows,
        each: &mut dyn FnMut(&str, usize, Row),
    ) -> Result<Self, DatasetError> {
        let file = File::open(path).map_err(|source| unreadable(path, source))?;
        if path.extension().is_some_and(|extension| extension == "parquet") {
            return Self::parquet(file, path, columns, bad_rows, each);
        }
        Self::rows(file, path, columns, bad_rows, each)
    }

    fn parquet(
        file: File,
        path: &Path,
        columns: &Columns,
        bad_rows: BadRows,
        each: Each,
    ) -> Result<Self, DatasetError> {
        // The Parquet reader seeks, so the hash needs a pass of its own over the file.
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(file).map_err(|source| unreadable(path, source))?;
        let content_hash = hasher.finalize();
        let mut walker = Walker::new(bad_rows, columns.clone(), Meter::default(), each);
        let parsed = walker.walk_parquet(path);
        parsed.map_err(|error| located(path, &mut walker, &error))?;
        Self::done(walker, path, FileForm::Parquet, content_hash)
    }

    pub(super) fn rows(
        reader: impl Read,
        path: &Path,
        columns: &Columns,
        bad_rows: BadRows,
        each: Each,
    ) -> Result<Self, DatasetError> {
        // The source counts bytes and lines in `meter`; the walker resets the meter at the start of each row.
        let meter = Meter::default();
        let mut source = Source::new(reader, meter.clone());
        let head = source.peek().map_err(|source| unreadable(path, source))?;
        let form = FileForm::of(head);
        let mut walker = Walker::new(bad_rows, columns.clone(), meter, each);
        let parsed = walker.walk(&mut source, form);
        parsed.map_err(|error| located(path, &mut walker, &error))?;
        let content_hash = source.finish().map_err(|source| unreadable(path, source))?;
        Self::done(walker, path, form, content_hash)
    }

    fn done(walker: Walker, path: &Path, form: FileForm, content_hash: blake3::Hash) -> Result<Self, DatasetError> {
        let Walker { skipped, kind, .. } = walker;
        // The first usable row determines the kind, so a file without a kind has no usable row.
        let kind = kind.ok_or_else(|| DatasetError::NoClients { path: path.to_owned() })?;
        Ok(Self { kind, form, skipped, content_hash })
    }
}

fn unreadable(path: &Path, source: io::Error) -> DatasetError {
    DatasetError::Unreadable { path: path.to_owned(), source }
}

/// Returns the error with its place in the file: the walker's reason if it stopped, the parser's message otherwise.
fn located(path: &Path, walker: &mut Walker, error: &serde_json::Error) -> DatasetError {
    let path = path.to_owned();
    if let Some(Stop { line, reason }) = walker.stopped.take() {
        return match reason {
            Reason::BadRow { client, row, fault } => DatasetError::BadRow { path, line, client, row, fault },
            Reason::EmptyClient { client } => DatasetError::EmptyClient { path, line, client },
            Reason::DuplicateClient { client } => DatasetError::DuplicateClient { path, line, client },
        };
    }
    match error.classify() {
        Category::Io if walker.meter.is_over() => {
            DatasetError::RowTooLarge { path, place: walker.place(), limit_bytes: ROW_LIMIT_BYTES }
        }
        Category::Io => DatasetError::Unreadable { path, source: io::Error::other(error.to_string()) },
        _ => {
            // serde_json ends its message with the position, which our message names at another place.
            let line = error.line();
            let message = error.to_string();
            let position = format!(" at line {line} column {}", error.column());
            let message = message.strip_suffix(&position).unwrap_or(&message).to_owned();
            DatasetError::Syntax { path, line, column: error.column(), place: walker.place(), message }
        }
    }
}
