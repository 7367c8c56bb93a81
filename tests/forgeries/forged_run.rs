//! Copy of a run that a forger changes, and what he computes again to cover the traces.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, StringArray, UInt32Array, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt32Type, UInt64Type};
use arrow::record_batch::RecordBatch;
use fedreplay::Scenario;
use fedreplay::ledger::{Chain, Lineage, Manifest, RunKind, chunk_hash, read_table, rows_digest};
use fedreplay::run::{Certificate, PlanDetail};
use fedreplay::store::{Digest, Recipe, key_of};
use parquet::arrow::ArrowWriter;
use serde_json::Value;

/// Tables that rounds add rows to, in the order in which they enter the digest.
pub const TABLES_OF_ROUNDS: [&str; 7] =
    ["events", "tasks", "evaluations", "generations", "lineage", "aggregation", "rounds"];

/// What the forger computes again after a change.
#[derive(Clone, Copy, PartialEq)]
pub enum Redone {
    Nothing,
    /// Sizes and hashes of files in the manifest, and its seal.
    Files,
    /// Also the digests of all rounds, and the digest in manifest and certificate.
    All,
}

impl Redone {
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Files => "file hashes",
            Self::All => "all hashes",
        }
    }
}

/// Copy of a run that is changed.
pub struct ForgedRun {
    pub folder: PathBuf,
    /// Honest run of the same scenario with another learning rate.
    pub other: PathBuf,
    /// Row of table `tasks` with an update that counts in round 2.
    pub task: usize,
}

impl ForgedRun {
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub fn manifest(&self) -> Manifest {
        Manifest::read(&self.folder).expect("a manifest")
    }

    /// Changes the manifest, and seals it again.
    pub fn edit_manifest(&self, edit: impl FnOnce(&mut Manifest)) {
        let mut manifest = self.manifest();
        let honest = manifest.clone();
        edit(&mut manifest);
        manifest.write(&self.folder).expect("a writable folder");
        assert!(manifest != honest, "the manifest was not changed");
    }

    /// Changes the certificate.
    pub fn edit_certificate(&self, edit: impl FnOnce(&mut Value)) {
        let honest = Certificate::read(&self.folder).expect("a certificate");
        let mut value = serde_json::to_value(&honest).expect("a certificate has only text keys");
        edit(&mut value);
        let certificate: Certificate = serde_json::from_value(value).expect("a certificate");
        certificate.write(&self.folder).expect("a writable folder");
        assert!(certificate != honest, "the certificate was not changed");
    }

    /// Replaces the first place of a text in a file.
    pub fn edit_text(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(name)).expect("a text");
        assert!(text.contains(from), "`{from}` is not in {name}:\n{text}");
        fs::write(self.path(name), text.replacen(from, to, 1)).expect("a writable folder");
    }

    pub fn table(&self, name: &str) -> RecordBatch {
        read_table(&self.folder, name).expect("a table")
    }

    /// Writes a table in the place of its one file, and returns the path of the file.
    pub fn put(&self, name: &str, rows: &RecordBatch) -> PathBuf {
        let folder = self.path("ledger").join(name);
        let mut files = fs::read_dir(&folder).expect("a folder").map(|file| file.expect("a readable folder").path());
        let path = files.next().expect("a table has a file");
        assert!(files.next().is_none(), "a finished run has one file of table {name}");
        let file = File::create(&path).expect("a writable file");
        let mut writer = ArrowWriter::try_new(file, rows.schema(), None).expect("columns of a table");
        writer.write(rows).and_then(|()| writer.close().map(drop)).expect("a writable file");
        path
    }

    /// Changes a cell to another value of its type.
    pub fn edit_cell(&self, table: &str, column: &str, row: usize) {
        let rows = self.table(table);
        let edited = with_column(&rows, column, changed(&rows[column], row));
        assert!(edited != rows, "{column} of table {table} was not changed");
        self.put(table, &edited);
    }

    /// Changes the last row's cell.
    pub fn edit_last_cell(&self, table: &str, column: &str) {
        self.edit_cell(table, column, self.table(table).num_rows() - 1);
    }

    /// Writes the rows with these indices, of which the two rounds have these numbers.
    pub fn select(&self, table: &str, indices: &[u32], counts: [u64; 2]) {
        let rows = self.table(table);
        self.put(table, &take_record_batch(&rows, &UInt32Array::from(indices.to_vec())).expect("rows of the table"));
        self.set_counts(table, counts);
    }

    /// Removes the last row.
    pub fn drop_last_row(&self, table: &str) {
        let [first, second] = self.counts(table);
        let kept: Vec<u32> = (0..(first + second - 1) as u32).collect();
        self.select(table, &kept, [first, second - 1]);
    }

    /// Returns the numbers of rows that the two rounds add to a table.
    pub fn counts(&self, table: &str) -> [u64; 2] {
        let rounds = self.table("rounds");
        let counts = rounds[counts_of(table).as_str()].as_primitive::<UInt64Type>();
        [counts.value(0), counts.value(1)]
    }

    pub fn set_counts(&self, table: &str, counts: [u64; 2]) {
        let rounds = self.table("rounds");
        let counts = Arc::new(UInt64Array::from(counts.to_vec()));
        self.put("rounds", &with_column(&rounds, &counts_of(table), counts));
    }

    /// Removes the last round, with its rows and its adapter.
    pub fn drop_last_round(&self) {
        for table in TABLES_OF_ROUNDS {
            let rows = match table {
                "rounds" => 1,
                _ => self.counts(table)[0] as usize,
            };
            let path = self.put(table, &self.table(table).slice(0, rows));
            fs::rename(&path, path.with_file_name("00001-00001.parquet")).expect("a writable folder");
        }
        let adapter = self.path("adapters/round-00002");
        if adapter.exists() {
            fs::remove_dir_all(adapter).expect("a writable folder");
        }
    }

    /// Covers the traces of a change.
    pub fn redo(&self, redone: Redone) {
        if redone == Redone::All {
            let digest = self.redo_chain();
            let mut manifest = self.manifest();
            manifest.digest = Some(digest);
            manifest.rounds = self.table("rounds").num_rows() as u32;
            if manifest.kind == RunKind::Run {
                let libtorch = Certificate::read(&self.folder).expect("a certificate").libtorch;
                let certificate = Certificate::of(&self.folder, &manifest, libtorch).expect("a certificate");
                certificate.write(&self.folder).expect("a writable folder");
            }
            manifest.write(&self.folder).expect("a writable folder");
        }
        if redone != Redone::Nothing {
            let mut manifest = self.manifest();
            manifest.list_files(&self.folder).expect("readable files");
            manifest.write(&self.folder).expect("a writable folder");
        }
    }

    /// Computes all digests again from the rows, and returns the last one.
    fn redo_chain(&self) -> Digest {
        let mut chain = Chain::start(self.manifest().genesis);
        chain.push(rows_digest(&[chunk_hash("population", &self.table("population"), &[])]));
        let rounds = self.table("rounds");
        let tables = TABLES_OF_ROUNDS.map(|name| self.table(name));
        let mut first = [0; 6];
        let mut digests_of_rows = Vec::new();
        let mut digests = Vec::new();
        for round in 0..rounds.num_rows() {
            let mut hashes = Vec::new();
            for (place, name) in TABLES_OF_ROUNDS.iter().enumerate().take(6) {
                let counts = rounds[counts_of(name).as_str()].as_primitive::<UInt64Type>();
                let count = counts.value(round) as usize;
                hashes.push(chunk_hash(name, &tables[place].slice(first[place], count), &[]));
                first[place] += count;
            }
            hashes.push(chunk_hash("rounds", &rounds.slice(round, 1), &["rows_digest", "digest"]));
            let rows = rows_digest(&hashes);
            digests_of_rows.push(rows.to_string());
            digests.push(chain.push(rows).to_string());
        }
        let rounds = with_column(&rounds, "rows_digest", Arc::new(StringArray::from(digests_of_rows)));
        self.put("rounds", &with_column(&rounds, "digest", Arc::new(StringArray::from(digests))));
        chain.last()
    }

    /// States the hashes that follow from the scenario and the inputs.
    pub fn redo_genesis(&self) {
        self.edit_manifest(|manifest| {
            let scenario = Scenario::of_run(&self.folder, &manifest.scenario_folder, &[]).expect("a scenario");
            manifest.scenario_hash = scenario.identity().0;
            let inputs = manifest.inputs_by_hash();
            let start = (manifest.schema_version, manifest.scenario_hash, inputs);
            manifest.genesis = match manifest.kind {
                RunKind::Run => {
                    key_of("fedreplay genesis v1", &(start.0, start.1, start.2, &manifest.numerics_class)).0
                }
                RunKind::Plan => {
                    key_of("fedreplay plan genesis v1", &(start.0, start.1, start.2, PlanDetail::Events)).0
                }
            };
        });
    }

    /// Returns the row of lineage with the client's training in round 2.
    pub fn training(&self) -> usize {
        let key = self.table("tasks")["update_key"].as_string::<i32>().value(self.task).to_owned();
        let keys = self.table("lineage");
        keys["key"].as_string::<i32>().iter().position(|other| other == Some(key.as_str())).expect("its order")
    }

    /// Replaces a text in the parameters of one row of lineage, and computes all keys again, in every table.
    pub fn redo_keys(&self, row: usize, from: &str, to: &str) {
        let rows = self.table("lineage");
        let entries = Lineage::of(&rows).expect("rows of lineage").entries;
        let mut parameters = Vec::new();
        let mut keys = Vec::new();
        let mut honest_keys = Vec::new();
        for (place, entry) in entries.iter().enumerate() {
            let mut text = entry.parameters.clone();
            if place == row {
                text = text.replace(from, to);
                assert!(text != entry.parameters, "the recipe has no {from}: {text}");
            }
            let recipe = Recipe {
                code: entry.code.clone(),
                engine: entry.engine,
                parameters: text.clone(),
                inputs: entry.inputs.iter().map(|&input| keys[input]).collect(),
            };
            parameters.push(text);
            keys.push(recipe.key());
            honest_keys.push(entry.key.to_string());
        }
        assert!(keys.iter().map(|key| key.to_string()).ne(honest_keys.iter().cloned()), "no key was changed");
        let renamed = |text: &str| match honest_keys.iter().position(|key| key == text) {
            Some(place) => keys[place].to_string(),
            None => text.to_owned(),
        };
        let rows = with_column(&rows, "parameters", Arc::new(StringArray::from(parameters)));
        self.put("lineage", &with_texts(&rows, "key", renamed));
        self.put("tasks", &with_texts(&self.table("tasks"), "update_key", renamed));
        self.put("rounds", &with_texts(&self.table("rounds"), "model_key", renamed));
    }
}

/// Returns the column of table `rounds` with the numbers of rows of another table.
fn counts_of(table: &str) -> String {
    format!("{}_rows", table.strip_suffix('s').unwrap_or(table))
}

/// Returns a table with another column in the place of one.
pub fn with_column(rows: &RecordBatch, name: &str, column: ArrayRef) -> RecordBatch {
    let schema = rows.schema();
    let mut columns = rows.columns().to_vec();
    columns[schema.index_of(name).expect("a column")] = column;
    RecordBatch::try_new(schema, columns).expect("a column of the same type")
}

/// Returns a table with other texts in a column.
pub fn with_texts(rows: &RecordBatch, name: &str, change: impl Fn(&str) -> String) -> RecordBatch {
    let texts = rows[name].as_string::<i32>().iter().map(|text| text.map(&change));
    with_column(rows, name, Arc::new(texts.collect::<StringArray>()))
}

/// Returns a column with another value in one row.
fn changed(column: &ArrayRef, row: usize) -> ArrayRef {
    assert!(column.is_valid(row), "a null is not changed here");
    let is_changed = |index: usize| index == row;
    match column.data_type() {
        DataType::UInt32 => {
            let values = column.as_primitive::<UInt32Type>().iter().enumerate();
            Arc::new(values.map(|(n, v)| v.map(|v| v + u32::from(is_changed(n)))).collect::<UInt32Array>())
        }
        DataType::UInt64 => {
            let values = column.as_primitive::<UInt64Type>().iter().enumerate();
            Arc::new(values.map(|(n, v)| v.map(|v| v + u64::from(is_changed(n)))).collect::<UInt64Array>())
        }
        DataType::Int64 => {
            let values = column.as_primitive::<Int64Type>().iter().enumerate();
            Arc::new(values.map(|(n, v)| v.map(|v| v + i64::from(is_changed(n)))).collect::<Int64Array>())
        }
        DataType::Float64 => {
            let values = column.as_primitive::<Float64Type>().iter().enumerate();
            Arc::new(values.map(|(n, v)| v.map(|v| if is_changed(n) { v / 2.0 } else { v })).collect::<Float64Array>())
        }
        DataType::Utf8 => {
            let values = column.as_string::<i32>().iter().enumerate();
            let values = values.map(|(n, v)| v.map(|v| if is_changed(n) { other_hash(v) } else { v.to_owned() }));
            Arc::new(values.collect::<StringArray>())
        }
        other => panic!("no table has a column of type {other}"),
    }
}

/// Returns a hash with another first digit.
fn other_hash(hash: &str) -> String {
    assert!(Digest::from_hex(hash).is_some(), "{hash} is no hash");
    match hash.strip_prefix('0') {
        Some(rest) => format!("1{rest}"),
        None => format!("0{}", &hash[1..]),
    }
}
