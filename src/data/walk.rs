//! Streaming access to a dataset: rows go to a callback one at a time, and none is kept in memory.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use super::columns::Columns;
use super::content::RowKind;
use super::error::{DatasetError, SkippedRow};
use super::file_form::{BadRows, FileForm};
use super::folder::{ClientFiles, FolderFault, clients_of, table_ending};
use super::intake::{Each, Halt, Intake};
use super::parquet_rows::for_each_row;
use super::row::Row;
use super::rows_in_csv::walk_csv;
use super::rows_in_json::walk_json;
use super::rows_in_lines::walk_lines;
use super::scanner::{ROW_LIMIT_BYTES, ScanError};
use super::source::{FileContent, Source};

/// The properties of a dataset that are known after all of its rows went to the callback.
#[derive(Clone, Debug)]
pub struct Walk {
    /// The kind of every row.
    pub kind: RowKind,
    /// The layout that was detected.
    pub form: FileForm,
    /// Rows that were left out under [`BadRows::Skip`].
    pub skipped: Vec<SkippedRow>,
    /// Clients that were left out under [`BadRows::Skip`], since they have no usable row.
    pub empty_clients: Vec<String>,
    /// BLAKE3 of the file's bytes; of a folder, of the names and hashes of its files.
    pub content_hash: blake3::Hash,
}

impl Walk {
    /// Reads the file or folder at `path` as [`super::Federation::read_columns`] does, without keeping its rows.
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
        let mut intake = Intake::new(bad_rows, columns.clone(), each);
        if path.is_dir() {
            let content_hash = walk_folder(&mut intake, path)?;
            return Self::done(intake, path, FileForm::Folder, content_hash);
        }
        let (form, content_hash) = walk_file(&mut intake, path, Scope::Dataset)?;
        Self::done(intake, path, form, content_hash)
    }

    pub(super) fn rows(
        reader: impl Read,
        path: &Path,
        columns: &Columns,
        bad_rows: BadRows,
        each: Each,
    ) -> Result<Self, DatasetError> {
        let mut intake = Intake::new(bad_rows, columns.clone(), each);
        let (form, content_hash) = walk_reader(&mut intake, reader, path, Scope::Dataset)?;
        Self::done(intake, path, form, content_hash)
    }

    fn done(intake: Intake, path: &Path, form: FileForm, content_hash: blake3::Hash) -> Result<Self, DatasetError> {
        let Intake { skipped, empty_clients, kind, .. } = intake;
        // The first usable row determines the kind, so a file without a kind has no usable row.
        let kind = kind.ok_or_else(|| DatasetError::NoClients {
            path: path.to_owned(),
            first: skipped.first().cloned().map(Box::new),
        })?;
        Ok(Self { kind, form, skipped, empty_clients, content_hash })
    }
}

/// Whether a file is a dataset, or only the rows of the client that is open.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Dataset,
    Client,
}

/// Reads every file of a folder. Returns the hash of all of them.
fn walk_folder(intake: &mut Intake, folder: &Path) -> Result<blake3::Hash, DatasetError> {
    let clients = clients_of(folder).map_err(|fault| match fault {
        FolderFault::Io(source) => unreadable(folder, source),
        FolderFault::Message(message) => {
            DatasetError::Damaged { path: folder.to_owned(), place: String::new(), message }
        }
    })?;
    let mut hasher = blake3::Hasher::new_derive_key("fedreplay dataset folder v1");
    for ClientFiles { id, files } in clients {
        let mut failed = None;
        let walked = intake.client(&id, None, |intake| {
            for file in &files {
                match walk_file(intake, file, Scope::Client) {
                    Ok((_, hash)) => add_file(&mut hasher, folder, file, hash),
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                }
            }
            Ok(())
        });
        if let Some(error) = failed {
            return Err(error);
        }
        let place = intake.place();
        walked.map_err(|halt| located(folder, place, halt))?;
    }
    Ok(hasher.finalize())
}

fn add_file(hasher: &mut blake3::Hasher, folder: &Path, file: &Path, hash: blake3::Hash) {
    let name = file.strip_prefix(folder).unwrap_or(file).to_string_lossy();
    hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes()).update(hash.as_bytes());
}

fn walk_file(intake: &mut Intake, path: &Path, scope: Scope) -> Result<(FileForm, blake3::Hash), DatasetError> {
    let mut file = File::open(path).map_err(|source| unreadable(path, source))?;
    let mut head = Vec::new();
    file.by_ref().take(4).read_to_end(&mut head).map_err(|source| unreadable(path, source))?;
    if head != b"PAR1" {
        return walk_reader(intake, head.as_slice().chain(file), path, scope);
    }
    let rows = file.try_clone().map_err(|source| unreadable(path, source))?;
    in_scope(intake, scope, |intake| {
        let rows = for_each_row(rows, |fields| intake.accept(None, Ok(fields)));
        rows.map_err(Halt::Damaged)?
    })
    .map_err(|halt| located(path, intake.place(), halt))?;
    // The Parquet reader seeks, so the hash needs a pass of its own over the file.
    let mut hasher = blake3::Hasher::new();
    file.rewind().and_then(|()| hasher.update_reader(&mut file)).map_err(|source| unreadable(path, source))?;
    Ok((FileForm::Parquet, hasher.finalize()))
}

fn walk_reader(
    intake: &mut Intake,
    reader: impl Read,
    path: &Path,
    scope: Scope,
) -> Result<(FileForm, blake3::Hash), DatasetError> {
    let mut source = Source::new(reader).map_err(|source| unreadable(path, source))?;
    let content = source.content().map_err(|source| unreadable(path, source))?;
    let (form, walked) = walk_content(intake, content, path, scope);
    walked.map_err(|halt| located(path, intake.place(), halt))?;
    let content_hash = source.finish().map_err(|source| unreadable(path, source))?;
    Ok((form, content_hash))
}

fn walk_content(intake: &mut Intake, content: FileContent, path: &Path, scope: Scope) -> (FileForm, Result<(), Halt>) {
    let text = match content {
        FileContent::Parquet(bytes) => {
            let walked = in_scope(intake, scope, |intake| {
                let rows = for_each_row(bytes::Bytes::from(bytes), |fields| intake.accept(None, Ok(fields)));
                rows.map_err(Halt::Damaged)?
            });
            return (FileForm::Parquet, walked);
        }
        FileContent::Text(text) => text,
    };
    let delimiter = match path.file_name().and_then(|name| name.to_str()).and_then(table_ending) {
        Some("csv") => Some(b','),
        Some("tsv") => Some(b'\t'),
        _ => None,
    };
    if let Some(delimiter) = delimiter {
        return (FileForm::Csv, in_scope(intake, scope, |intake| walk_csv(intake, text, delimiter)));
    }
    let form = FileForm::of(text.head(), intake.instruction_column());
    let is_of_one_client = matches!(form, FileForm::Array | FileForm::Wrapped | FileForm::Lines | FileForm::Columns);
    if scope == Scope::Client && !is_of_one_client {
        let message = "it holds clients, and in a folder every file is the rows of one client".to_owned();
        return (form, Err(Halt::Damaged(message)));
    }
    let walked = match form {
        FileForm::Lines => in_scope(intake, scope, |intake| walk_lines(intake, text)),
        form if is_of_one_client => in_scope(intake, scope, |intake| walk_json(intake, text, form)),
        form => walk_json(intake, text, form),
    };
    (form, walked)
}

/// Reads rows into the client that is open, or into the only one of a pooled file.
fn in_scope(intake: &mut Intake, scope: Scope, read: impl FnOnce(&mut Intake) -> Result<(), Halt>) -> Result<(), Halt> {
    match scope {
        Scope::Dataset => intake.single_client(read),
        Scope::Client => read(intake),
    }
}

fn unreadable(path: &Path, source: io::Error) -> DatasetError {
    DatasetError::Unreadable { path: path.to_owned(), source }
}

/// Returns the error of a halt with its place in the file; `place` names the client and the row.
fn located(path: &Path, place: String, halt: Halt) -> DatasetError {
    let path = path.to_owned();
    match halt {
        Halt::Scan(ScanError::Io(source)) => DatasetError::Unreadable { path, source },
        Halt::Scan(ScanError::TooLarge) => {
            DatasetError::RowTooLarge { path, place, limit_bytes: ROW_LIMIT_BYTES as u64 }
        }
        Halt::Scan(ScanError::Syntax { place: at, message }) => {
            DatasetError::Syntax { path, line: at.line, column: at.column, place, message }
        }
        Halt::Damaged(message) => DatasetError::Damaged { path, place, message },
        Halt::BadRow { line, client, row, fault } => {
            DatasetError::BadRow { path, row: Box::new(SkippedRow { client, row, line, fault }) }
        }
        Halt::EmptyClient { line, client } => DatasetError::EmptyClient { path, line, client },
        Halt::DuplicateClient { line, client } => DatasetError::DuplicateClient { path, line, client },
        Halt::Splits(names) => DatasetError::Splits { path, names },
    }
}
