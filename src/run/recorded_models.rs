//! Models of a run as its tables record them, the adapters that it saved of them, and the notes in those for readers of PEFT's
//! folders.
//!
//! A saved adapter is used only if its content has the hash that the tables record, so that it depends on the run's digest
//! like every row.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::RunError;
use crate::adapter::{Adapter, AdapterError, peft, read_saved};
use crate::ledger::{EvalSubject, Input, LedgerError, RunTables};
use crate::model::Precision;
use crate::scenario::ScenarioSpec;
use crate::schedule::model_shape;
use crate::store::Digest;

/// Model of an aggregator after a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordedModel {
    /// Number of the round among those of all aggregators, from 1.
    pub round: u32,
    /// Key under which a store has the model.
    pub key: Option<Digest>,
    /// Hash of the adapter's content.
    pub hash: Option<Digest>,
}

/// Models of a run, under the numbers that its saved adapters have: those of the server's rounds, or of all rounds if
/// only tiers have rounds.
pub struct RecordedModels {
    run_folder: PathBuf,
    tables: RunTables,
    models: Vec<RecordedModel>,
    own: OnceCell<OwnModels>,
}

impl RecordedModels {
    /// Reads the models of the run in `run_folder`, finished or not.
    ///
    /// # Errors
    /// If its tables cannot be read.
    pub fn read(run_folder: &Path) -> Result<Self, LedgerError> {
        let tables = RunTables::read(run_folder)?;
        let rounds = tables.rounds();
        let aggregators = rounds.counts("aggregator")?;
        let keys = rounds.texts("model_key")?;
        let hashes = rounds.texts("model_hash")?;
        // The server is aggregator 0. Edges have rounds in addition to the server's, but tiers have the only ones.
        let has_server = aggregators.contains(&0);
        let mut models = Vec::new();
        for (at, aggregator) in aggregators.into_iter().enumerate() {
            if !has_server || aggregator == 0 {
                let key = keys[at].and_then(Digest::from_hex);
                let hash = hashes[at].and_then(Digest::from_hex);
                models.push(RecordedModel { round: at as u32 + 1, key, hash });
            }
        }
        Ok(Self { run_folder: run_folder.to_owned(), tables, models, own: OnceCell::new() })
    }

    /// Returns the number of models.
    pub fn count(&self) -> u32 {
        self.models.len() as u32
    }

    /// Returns a model by its number, from 1.
    pub fn model(&self, number: u32) -> Option<&RecordedModel> {
        self.models.get((number as usize).checked_sub(1)?)
    }

    /// Returns the folder of the adapter that is saved under a number: the aggregator's, or that of a client that trains
    /// alone.
    pub fn folder(&self, number: u32, client: Option<u32>) -> PathBuf {
        let folder = self.run_folder.join("adapters").join(format!("round-{number:05}"));
        match client {
            Some(client) => folder.join(format!("client-{client}")),
            None => folder,
        }
    }

    /// Reads a saved adapter.
    ///
    /// # Errors
    /// If it cannot be read, or is not the one that the tables record.
    pub fn saved(&self, number: u32, client: Option<u32>) -> Result<Adapter, RunError> {
        let folder = self.folder(number, client);
        let adapter = read_saved(&folder)?;
        let recorded = self.hashes(number, client)?;
        let found = Digest::from(adapter.hash());
        if recorded.contains(&found) {
            return Ok(adapter);
        }
        let reason = match recorded.first() {
            Some(hash) => format!("its content has the hash {found}, and the run's tables record {hash}"),
            None => "the run's tables record no such model".to_owned(),
        };
        Err(AdapterError::Content { what: folder.display().to_string(), reason }.into())
    }

    /// Returns the hashes that an adapter may have.
    fn hashes(&self, number: u32, client: Option<u32>) -> Result<BTreeSet<Digest>, LedgerError> {
        let Some(model) = self.model(number) else { return Ok(BTreeSet::new()) };
        match client {
            Some(client) => Ok(self.own()?.hashes(model.round, client)),
            None => Ok(model.hash.into_iter().collect()),
        }
    }

    /// Returns the clients that have a model of their own under a number: those with an update until then.
    pub(super) fn clients(&self, number: u32) -> Result<BTreeSet<u32>, LedgerError> {
        let Some(model) = self.model(number) else { return Ok(BTreeSet::new()) };
        let updates = self.own()?.updates.iter();
        let trained = updates.filter(|(_, updates)| updates.iter().any(|(round, _)| *round <= model.round));
        Ok(trained.map(|(&client, _)| client).collect())
    }

    /// Returns the clients whose own models were evaluated under a number.
    pub(super) fn evaluated_clients(&self, number: u32) -> Result<BTreeSet<u32>, LedgerError> {
        let Some(model) = self.model(number) else { return Ok(BTreeSet::new()) };
        let evaluated = self.own()?.evaluated.keys();
        Ok(evaluated.filter(|(round, _)| *round == model.round).map(|&(_, client)| client).collect())
    }

    /// Returns the hashes of clients' own models, which are read once.
    fn own(&self) -> Result<&OwnModels, LedgerError> {
        if self.own.get().is_none() {
            let _ = self.own.set(OwnModels::read(&self.tables)?);
        }
        Ok(self.own.get().expect("it was just set"))
    }
}

/// Hashes of the clients' own models.
struct OwnModels {
    /// Of evaluated models, by round and client. In the last round, the local baseline of a client may be another model.
    evaluated: BTreeMap<(u32, u32), BTreeSet<Digest>>,
    /// Of the updates of each client that counted, with their rounds, in order.
    updates: BTreeMap<u32, Vec<(u32, Digest)>>,
}

impl OwnModels {
    fn read(tables: &RunTables) -> Result<Self, LedgerError> {
        let mut evaluated: BTreeMap<(u32, u32), BTreeSet<Digest>> = BTreeMap::new();
        let rows = tables.evaluations()?;
        // Where clients have personal models, those that train alone are a baseline, which is not saved.
        let is_personal = rows.iter().any(|row| row.subject == EvalSubject::Personal);
        let own = if is_personal { EvalSubject::Personal } else { EvalSubject::Local };
        for row in rows.iter().filter(|row| row.subject == own) {
            let hash = row.model_hash.as_deref().and_then(Digest::from_hex);
            if let (Some(client), Some(hash)) = (row.client, hash) {
                evaluated.entry((row.round, client)).or_default().insert(hash);
            }
        }
        let tasks = tables.tasks()?;
        let clients = tasks.counts("client")?;
        let hashes = tasks.texts("update_hash")?;
        let mut updates: BTreeMap<u32, Vec<(u32, Digest)>> = BTreeMap::new();
        let mut row = 0;
        for (round, count) in (1..).zip(tables.rounds().counts("task_rows")?) {
            for _ in 0..count {
                if let Some(hash) = hashes[row].and_then(Digest::from_hex) {
                    updates.entry(clients[row] as u32).or_default().push((round, hash));
                }
                row += 1;
            }
        }
        Ok(Self { evaluated, updates })
    }

    /// Returns the hashes that a client's own model may have after a round.
    fn hashes(&self, round: u32, client: u32) -> BTreeSet<Digest> {
        if let Some(hashes) = self.evaluated.get(&(round, client)) {
            return hashes.clone();
        }
        // A client without rows to evaluate on is in no evaluation. Its model is its last update.
        let updates = self.updates.get(&client).into_iter().flatten();
        updates.rev().find(|(of, _)| *of <= round).map(|(_, hash)| *hash).into_iter().collect()
    }
}

/// Returns the notes of an exported adapter. The base model is the one of the hub with its revision, or the absolute path of
/// its folder, so that PEFT finds it.
pub fn adapter_notes(scenario: &ScenarioSpec, inputs: &BTreeMap<String, Input>) -> peft::Notes {
    notes(scenario, inputs.get("base_model").map(|input| input.path.display().to_string()))
}

/// Returns the notes of an adapter in a run's folder. Its files are part of the run's record, which names no place of this
/// machine, so a base model in a folder has the folder's name alone.
pub(super) fn saved_notes(scenario: &ScenarioSpec) -> peft::Notes {
    let name = scenario.model.folder.as_ref().and_then(|folder| folder.file_name());
    notes(scenario, name.map(|name| name.to_string_lossy().into_owned()))
}

/// Returns the notes with the name of a base model in a folder; one of the hub has its own.
fn notes(scenario: &ScenarioSpec, folder: Option<String>) -> peft::Notes {
    let dropout = scenario.model.lora.dropout.get();
    if let (None, Some((repository, revision))) = (&scenario.model.folder, &scenario.model.hub) {
        return peft::Notes { base_model: repository.clone(), revision: Some(revision.clone()), dropout };
    }
    peft::Notes { base_model: folder.unwrap_or_default(), revision: None, dropout }
}

/// Returns the number format of a run's base model, if it is quantized.
pub fn quantized_precision(scenario: &ScenarioSpec) -> Option<Precision> {
    Some(model_shape::precision(&scenario.model)).filter(|precision| precision.is_quantised())
}
