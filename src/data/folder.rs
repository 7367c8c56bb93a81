//! The files of a dataset that is a folder, by client.

use std::cmp::Ordering;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::file_form::LOCAL_CLIENT;

/// Endings of files that hold rows.
const ENDINGS: [&str; 6] = ["json", "jsonl", "ndjson", "csv", "tsv", "parquet"];

/// Names of subfolders that are the splits of a dataset, and no clients.
const SPLITS: [&str; 8] = ["train", "training", "test", "testing", "validation", "valid", "val", "dev"];

/// The files of one client, in the order in which their rows are read.
#[derive(Debug, PartialEq)]
pub(super) struct ClientFiles {
    pub id: String,
    pub files: Vec<PathBuf>,
}

/// The reason why a folder is no dataset.
#[derive(Debug)]
pub(super) enum FolderFault {
    Io(io::Error),
    Message(String),
}

impl From<io::Error> for FolderFault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Returns the clients of a folder in the order of their names, with numbers in them in the order of numbers.
///
/// Each file and each subfolder is a client, by its name without endings. Files that are the numbered parts of one table,
/// such as `train-00000-of-00002.parquet`, are one client together. What begins with `.` or `_`, and files of other kinds,
/// are passed over.
pub(super) fn clients_of(folder: &Path) -> Result<Vec<ClientFiles>, FolderFault> {
    let (files, folders) = entries(folder)?;
    let splits: Vec<&str> = folders.iter().map(|path| name(path)).filter(|name| SPLITS.contains(name)).collect();
    if let Some(first) = splits.first() {
        return Err(FolderFault::Message(format!(
            "it holds the splits {} of a dataset, which are no clients; name one of them, such as {}",
            splits.join(", "),
            folder.join(first).display()
        )));
    }
    if folders.is_empty() && !files.is_empty() && files.iter().all(|path| is_part(stem(path))) {
        return Ok(vec![ClientFiles { id: LOCAL_CLIENT.to_owned(), files }]);
    }
    let mut clients = Vec::new();
    for path in files {
        clients.push(ClientFiles { id: stem(&path).to_owned(), files: vec![path] });
    }
    for path in folders {
        let (files, _) = entries(&path)?;
        if !files.is_empty() {
            clients.push(ClientFiles { id: name(&path).to_owned(), files });
        }
    }
    clients.sort_by(|one, other| natural(&one.id, &other.id));
    if clients.is_empty() {
        let endings = ENDINGS.join(", ");
        return Err(FolderFault::Message(format!("it holds no file with rows, which end in {endings}, packed or not")));
    }
    Ok(clients)
}

/// Returns the files with rows and the folders in a folder, each sorted by name.
fn entries(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), FolderFault> {
    let mut files = Vec::new();
    let mut folders = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return Err(FolderFault::Message(format!("the name of {} is no Unicode", path.display())));
        };
        if name.starts_with(['.', '_']) {
            continue;
        }
        if path.is_dir() {
            folders.push(path);
        } else if table_ending(name).is_some() {
            files.push(path);
        }
    }
    files.sort_by(|one, other| natural(name(one), name(other)));
    folders.sort_by(|one, other| natural(name(one), name(other)));
    Ok((files, folders))
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("names were seen to be Unicode")
}

fn stem(path: &Path) -> &str {
    let name = name(path);
    let rest = unpacked(name);
    let length = rest.rfind('.').unwrap_or(rest.len());
    &name[..length]
}

/// Returns the ending of a table's file in small letters, whatever it is packed with; `None` for other files.
pub(super) fn table_ending(name: &str) -> Option<&'static str> {
    let (_, ending) = unpacked(name).rsplit_once('.')?;
    ENDINGS.into_iter().find(|known| known.eq_ignore_ascii_case(ending))
}

/// Returns a name without the ending of gzip or Zstandard.
fn unpacked(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((rest, ending)) if ["gz", "zst", "zstd"].iter().any(|known| known.eq_ignore_ascii_case(ending)) => rest,
        _ => name,
    }
}

/// Returns whether a name ends like that of a numbered part, in `-00000-of-00002`.
fn is_part(stem: &str) -> bool {
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    match stem.rsplit_once("-of-") {
        Some((head, count)) => is_number(count) && head.rsplit_once('-').is_some_and(|(_, number)| is_number(number)),
        None => false,
    }
}

/// Compares two names with the numbers in them by value, so that `client_2` comes before `client_10`.
fn natural(one: &str, other: &str) -> Ordering {
    let mut one_rest = one;
    let mut other_rest = other;
    while !one_rest.is_empty() && !other_rest.is_empty() {
        let (one_piece, one_after) = piece(one_rest);
        let (other_piece, other_after) = piece(other_rest);
        let order = match (one_piece.parse::<u64>(), other_piece.parse::<u64>()) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            _ => one_piece.cmp(other_piece),
        };
        if order != Ordering::Equal {
            return order;
        }
        one_rest = one_after;
        other_rest = other_after;
    }
    one_rest.len().cmp(&other_rest.len()).then(one.cmp(other))
}

/// Splits off the longest beginning that is all digits, or that has none.
fn piece(text: &str) -> (&str, &str) {
    let begins_with_digit = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != begins_with_digit).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(paths: &[&str]) -> Result<Vec<(String, usize)>, String> {
        let folder = tempfile::tempdir().unwrap();
        for path in paths {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        match clients_of(folder.path()) {
            Ok(clients) => Ok(clients.into_iter().map(|client| (client.id, client.files.len())).collect()),
            Err(FolderFault::Message(message)) => Err(message),
            Err(FolderFault::Io(error)) => Err(error.to_string()),
        }
    }

    #[test]
    fn every_file_and_every_folder_is_a_client() {
        let clients = read(&["c_10.jsonl.gz", "c_2.JSON", "c_1/a.csv", "c_1/b.csv", "README.md", ".x.json", "_y.json"]);
        assert_eq!(clients.unwrap(), [("c_1".into(), 2), ("c_2".into(), 1), ("c_10".into(), 1)]);
        let parts = read(&["train-00001-of-00002.parquet", "train-00000-of-00002.parquet"]);
        assert_eq!(parts.unwrap(), [(LOCAL_CLIENT.to_owned(), 2)]);
    }

    #[test]
    fn splits_and_folders_without_rows_are_refused() {
        assert!(read(&["train/a.json", "test/a.json"]).unwrap_err().starts_with("it holds the splits test, train"));
        assert!(read(&["README.md"]).unwrap_err().starts_with("it holds no file with rows"));
    }
}
