//! Walks a dataset's file and keeps none of its rows: what they come to needs no more memory than one of them.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::error::Category;

use super::columns::Columns;
use super::content::RowKind;
use super::error::DatasetError;
use super::file_form::{BadRows, FileForm, SkippedRow};
use super::row::Row;
use super::rows_in_json::{Each, Reason, Stop, Walker};
use super::source::{Meter, ROW_LIMIT_BYTES, Source};

/// What a file holds beside its rows, which were handed out one by one.
#[derive(Clone, Debug)]
pub struct Walk {
    /// The kind of every row.
    pub kind: RowKind,
    /// The form that the file was found to have.
    pub form: FileForm,
    /// Rows that were left out under [`BadRows::Skip`].
    pub skipped: Vec<SkippedRow>,
    /// BLAKE3 of the file's bytes.
    pub content_hash: blake3::Hash,
}

impl Walk {
    /// Reads the file at `path` as [`Federation::read_columns`] does, but keeps none of its rows: `each` gets every one that
    /// can be used, in the order of the file, with its client and its place among the client's.
    ///
    /// # Errors
    /// As [`Federation::read`]; rows before the error were handed out.
    pub fn columns(
        path: &Path,
        columns: &Columns,
        bad_rows: BadRows,
        each: &mut dyn FnMut(&str, usize, Row),
    ) -> Result<Self, DatasetError> {
        let file = File::open(path).map_err(|source| DatasetError::Unreadable { path: path.to_owned(), source })?;
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
        let mut hasher = blake3::Hasher::new();
        let unreadable = |source| DatasetError::Unreadable { path: path.to_owned(), source };
        let content_hash = hasher.update_reader(file).map_err(unreadable)?.finalize();
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
        let unreadable = |source| DatasetError::Unreadable { path: path.to_owned(), source };
        let meter = Meter::default();
        let mut source = Source::new(reader, meter.clone());
        let form = FileForm::of(source.peek().map_err(unreadable)?);
        let mut walker = Walker::new(bad_rows, columns.clone(), meter, each);
        let parsed = walker.walk(&mut source, form);
        parsed.map_err(|error| located(path, &mut walker, &error))?;
        let content_hash = source.finish().map_err(unreadable)?;
        Self::done(walker, path, form, content_hash)
    }

    fn done(walker: Walker, path: &Path, form: FileForm, content_hash: blake3::Hash) -> Result<Self, DatasetError> {
        let Walker { skipped, kind, .. } = walker;
        // A kind is known from the first row that can be used on.
        let kind = kind.ok_or_else(|| DatasetError::NoClients { path: path.to_owned() })?;
        Ok(Self { kind, form, skipped, content_hash })
    }
}

/// The error with its place: the walker's reason if it stopped, the parser's otherwise.
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
        Category::Io => DatasetError::Unreadable { path, source: std::io::Error::other(error.to_string()) },
        _ => {
            let line = error.line();
            let message = error.to_string();
            let position = format!(" at line {line} column {}", error.column());
            let message = message.strip_suffix(&position).unwrap_or(&message).to_owned();
            DatasetError::Syntax { path, line, column: error.column(), place: walker.place(), message }
        }
    }
}
