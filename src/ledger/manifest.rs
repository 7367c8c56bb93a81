//! `manifest.json`: the inputs of a run, its state, and the hashes of its files.
//!
//! The manifest is part of no hash except its own seal. It may name this machine; the tables may not.

use std::collections::BTreeMap;
use std::fs;
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::exact_path;
use super::left_out::LeftOut;
use super::{LedgerError, OLDEST_SCHEMA, SCHEMA_VERSION};
use crate::store::{Digest, atomic, parse_json, read_limited, read_text_limited};

/// State of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// The run has begun and is not finished: running, killed or failed. `fedreplay resume` continues it.
    Running,
    /// All rounds are in the ledger.
    Done,
}

/// Kind of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunKind {
    /// Virtual time and training.
    Run,
    /// Virtual time only: columns of losses and models are null.
    Plan,
}

/// File or folder that the run read: its path, and the hash of its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    #[serde(with = "exact_path")]
    pub path: PathBuf,
    pub hash: Digest,
}

/// Size and hash of a file of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    pub bytes: u64,
    pub blake3: Digest,
}

/// Contents of `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub schema_version: u32,
    pub fedreplay_version: String,
    pub kind: RunKind,
    pub state: RunState,
    pub name: String,
    pub seed: u64,
    /// Hash of the resolved scenario, with contents in place of paths.
    pub scenario_hash: Digest,
    /// Folder that relative paths in the scenario start from.
    #[serde(with = "exact_path")]
    pub scenario_folder: PathBuf,
    /// By role: `base_model`, `tokenizer`, `chat_template`, `data`, `test_data`.
    pub inputs: BTreeMap<String, Input>,
    /// Rows of the data that take no part, by the role of their file; absent if all do.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<String, LeftOut>,
    /// Number of a plan's repeats; absent without repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeats: Option<u32>,
    /// Hash of the program that made the run.
    pub binary_hash: Digest,
    /// Everything known about the machine's arithmetic.
    pub numerics: serde_json::Value,
    /// Part of it that may change bits, as it enters keys.
    pub numerics_class: String,
    /// Start of the digest chain.
    pub genesis: Digest,
    /// Determinism grade that is claimed: "A", "B" or "C"; a plan, which computes no tensor, has "C".
    pub grade: String,
    pub rounds: u32,
    /// Digest of the whole run; absent until it is done.
    pub digest: Option<Digest>,
    /// Every file of a finished run except this one and `timing/`, by path within the run; of one that is not finished,
    /// the scenario alone.
    pub files: BTreeMap<String, FileEntry>,
    /// Hash of this manifest with this field absent.
    pub seal: Option<Digest>,
}

/// Version of a manifest, which is read first: the other fields depend on it.
#[derive(Deserialize)]
struct Version {
    schema_version: u32,
}

/// File name of the manifest within a run.
const FILE_NAME: &str = "manifest.json";

impl Manifest {
    /// Returns the path of the manifest of the run in `run_folder`.
    pub fn path(run_folder: &Path) -> PathBuf {
        run_folder.join(FILE_NAME)
    }

    /// Returns the folder of the run that contains a path, if there is one. Links and `..` in the path are followed, as far as
    /// its folders exist.
    pub fn folder_around(path: &Path) -> Option<PathBuf> {
        let path = std::path::absolute(path).ok()?;
        let folder = path.ancestors().skip(1).find_map(|folder| folder.canonicalize().ok())?;
        folder.ancestors().find(|folder| Self::is_at(folder)).map(Path::to_owned)
    }

    /// Whether a folder has a manifest of a run, and not one of another program.
    fn is_at(folder: &Path) -> bool {
        let path = Self::path(folder);
        if !fs::symlink_metadata(&path).is_ok_and(|found| found.is_file()) {
            return false;
        }
        let text = read_text_limited(&path);
        text.is_ok_and(|text| parse_json::<Version>(text.as_bytes()).is_ok())
    }

    /// Reads the manifest of the run in `run_folder`.
    ///
    /// # Errors
    /// [`LedgerError::NoRun`] if there is none; and if it cannot be read or has an unknown version.
    pub fn read(run_folder: &Path) -> Result<Self, LedgerError> {
        let path = Self::path(run_folder);
        if fs::symlink_metadata(&path).is_ok_and(|found| !found.is_file()) {
            return Err(LedgerError::malformed(&path, "it is not a plain file"));
        }
        let text = match read_limited(&path) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Err(LedgerError::NoRun { path: run_folder.to_owned() });
            }
            Err(error) => return Err(LedgerError::io(&path)(error)),
            Ok(bytes) => String::from_utf8(bytes).map_err(|error| LedgerError::malformed(&path, error.to_string()))?,
        };
        // An unknown version is reported as such, and not as the first field that does not parse.
        let Version { schema_version } = parsed(&path, &text)?;
        if !(OLDEST_SCHEMA..=SCHEMA_VERSION).contains(&schema_version) {
            let reason = format!(
                "its tables have version {schema_version}, and this program reads {OLDEST_SCHEMA} to {SCHEMA_VERSION}"
            );
            return Err(LedgerError::malformed(&path, reason));
        }
        parsed(&path, &text)
    }

    /// Returns the hash of each input, by role. Unlike paths, hashes mean the same on every machine.
    pub fn inputs_by_hash(&self) -> BTreeMap<String, Digest> {
        self.inputs.iter().map(|(role, input)| (role.clone(), input.hash)).collect()
    }

    /// Seals and writes the manifest.
    pub fn write(&mut self, run_folder: &Path) -> Result<(), LedgerError> {
        self.seal = Some(self.expected_seal());
        let path = Self::path(run_folder);
        atomic::write(&path, self.text().as_bytes()).map_err(LedgerError::io(&path))
    }

    /// Whether the file in `run_folder` has exactly the bytes as which this manifest is written.
    pub(super) fn is_as_written(&self, run_folder: &Path) -> Result<bool, LedgerError> {
        let path = Self::path(run_folder);
        let is_sealed = self.seal == Some(self.expected_seal());
        Ok(is_sealed && read_limited(&path).map_err(LedgerError::io(&path))? == self.text().as_bytes())
    }

    /// Checks that this manifest, read from `run_folder`, and the files that it lists are as they were written.
    ///
    /// # Errors
    /// [`LedgerError::Malformed`] names the first file that is not.
    pub fn check(&self, run_folder: &Path) -> Result<(), LedgerError> {
        if !self.is_as_written(run_folder)? {
            return Err(LedgerError::malformed(Self::path(run_folder), CHANGED));
        }
        for (name, expected) in &self.files {
            let path = run_folder.join(name);
            if FileEntry::of(&path, Some(expected.bytes))? != *expected {
                return Err(LedgerError::malformed(path, CHANGED));
            }
        }
        Ok(())
    }

    /// Checks that the scenario in `run_folder`, whose hash is `identity`, is the one that the run was made from. The hash
    /// of a scenario of an older version is not compared, since scenarios have other fields now.
    ///
    /// # Errors
    /// [`LedgerError::Malformed`] if it is another.
    pub fn check_scenario(&self, run_folder: &Path, identity: Digest) -> Result<(), LedgerError> {
        if self.schema_version == OLDEST_SCHEMA || self.scenario_hash == identity {
            return Ok(());
        }
        let reason = format!("its hash as a scenario is {identity}, that of the run's is {}", self.scenario_hash);
        Err(LedgerError::malformed(run_folder.join("scenario.ron"), reason))
    }

    fn text(&self) -> String {
        serde_json::to_string_pretty(self).expect("a manifest has only text keys") + "\n"
    }

    /// Returns the seal that this manifest should have.
    pub fn expected_seal(&self) -> Digest {
        // The seal is the hash of the compact JSON without the seal, whatever the layout of the file.
        let unsealed = Self { seal: None, ..self.clone() };
        Digest::of(&serde_json::to_vec(&unsealed).expect("a manifest has only text keys"))
    }

    /// Lists the scenario in `run_folder` as the only file; `resume` relies on it.
    pub fn list_scenario(&mut self, run_folder: &Path) -> Result<(), LedgerError> {
        let name = "scenario.ron";
        self.files = BTreeMap::from([(name.to_owned(), FileEntry::of(&run_folder.join(name), None)?)]);
        Ok(())
    }

    /// Hashes every file of the run into `files`.
    pub fn list_files(&mut self, run_folder: &Path) -> Result<(), LedgerError> {
        self.files = files(run_folder, |_| None)?;
        Ok(())
    }
}

/// Message about a file that was changed after the run wrote it.
const CHANGED: &str = "it was changed after the run wrote it; the store keeps what was computed, so the scenario played \
                       into another folder goes on from there";

impl FileEntry {
    /// Returns size and hash of a plain file, or for anything else an entry that no manifest lists. A file that is far longer than the
    /// `expected` bytes is not hashed: a file of holes may have more than can be read in a day.
    fn of(path: &Path, expected: Option<u64>) -> Result<Self, LedgerError> {
        // A link may lead anywhere and a pipe may never end, so neither is read.
        if !fs::symlink_metadata(path).map_err(LedgerError::io(path))?.is_file() {
            return Ok(Self { bytes: 0, blake3: Digest::of(NOT_PLAIN) });
        }
        let mut hasher = blake3::Hasher::new();
        let file = File::open(path).map_err(LedgerError::io(path))?;
        let bytes = file.metadata().map_err(LedgerError::io(path))?.len();
        if expected.is_some_and(|expected| bytes > expected.saturating_add(HASHED_BYTES_MORE)) {
            return Ok(Self { bytes, blake3: Digest::of(TOO_LONG) });
        }
        hasher.update_reader(file).map_err(LedgerError::io(path))?;
        Ok(Self { bytes: hasher.count(), blake3: Digest(*hasher.finalize().as_bytes()) })
    }
}

/// Content that represents anything but a plain file, such as a link or a pipe. No manifest has its hash.
const NOT_PLAIN: &[u8] = b"fedreplay: not a plain file";

/// Content that represents a file that is far longer than its manifest says. No manifest has its hash.
const TOO_LONG: &[u8] = b"fedreplay: far longer than listed";

/// [byte] -- Length beyond the listed one up to which a file is hashed.
const HASHED_BYTES_MORE: u64 = 1 << 28;

/// Parses a part of the manifest.
fn parsed<T: serde::de::DeserializeOwned>(path: &Path, text: &str) -> Result<T, LedgerError> {
    parse_json(text.as_bytes()).map_err(|error| LedgerError::malformed(path, error.to_string()))
}

/// Lists every file of a run that its manifest covers, with size and hash, by path within the run.
///
/// Not covered are the manifest, wall-clock timings, reports (which can be made again), the lock and partial files. Files that are far
/// longer than `expected` says of their names have an entry that no manifest lists.
pub(super) fn files(
    run_folder: &Path,
    expected: impl Fn(&str) -> Option<u64>,
) -> Result<BTreeMap<String, FileEntry>, LedgerError> {
    let mut found = BTreeMap::new();
    let mut folders = vec![run_folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(LedgerError::io(&folder))? {
            let entry = entry.map_err(LedgerError::io(&folder))?;
            let path = entry.path();
            let kind = entry.file_type().map_err(LedgerError::io(&folder))?;
            let within = path.strip_prefix(run_folder).expect("it was found in the run's folder");
            let name = within.to_string_lossy().replace('\\', "/");
            if ["timing", FILE_NAME, "report.html", "lock"].contains(&name.as_str())
                || path.file_name().is_some_and(|file| atomic::is_partial(&file.to_string_lossy()))
            {
                continue;
            }
            if kind.is_dir() {
                folders.push(path);
            } else {
                match FileEntry::of(&path, expected(&name)) {
                    // A run in progress joins its files.
                    Err(LedgerError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
                    entry => drop(found.insert(name, entry?)),
                }
            }
        }
    }
    Ok(found)
}

/// Whether a process is writing to the run's folder now. The lock of a killed process is gone.
pub fn is_being_written(path: &Path) -> bool {
    let Ok(file) = File::open(path.join("lock")) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// Whether a folder of this name is one that a command writes to before its result has a name.
fn is_temporary(name: &str) -> bool {
    let is_replay = name.rsplit_once(".replay.").is_some_and(|(_, process)| process.parse::<u32>().is_ok());
    name.starts_with('.') && (is_replay || atomic::is_partial(name))
}

/// Lists the runs in a folder and up to `depth` levels below it. The folders of a run are not searched, nor those of commands
/// that are at work or were killed, and links are not followed since they may form cycles.
///
/// # Errors
/// If a folder cannot be read.
pub fn runs_below(folder: &Path, depth: u32) -> Result<Vec<PathBuf>, LedgerError> {
    if Manifest::path(folder).exists() {
        return Ok(vec![folder.to_owned()]);
    }
    let mut runs = Vec::new();
    if depth == 0 {
        return Ok(runs);
    }
    for entry in fs::read_dir(folder).map_err(LedgerError::io(folder))? {
        let entry = entry.map_err(LedgerError::io(folder))?;
        let is_temporary = is_temporary(&entry.file_name().to_string_lossy());
        if !is_temporary && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            runs.extend(runs_below(&entry.path(), depth - 1)?);
        }
    }
    Ok(runs)
}
