//! Inputs of a run: data as tokenized rows, the base model behind a trainer, and the hashes of both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::exams::{self, ScheduledExam};
use super::reader::{Reader, TokenData, only_planned};
use super::shared::Shared;
use super::{RunError, outline, trace};
use crate::adapter::{Adapter, AdapterError, peft};
use crate::ledger::{Input, LedgerError};
use crate::lineage::{Rows, Workshop};
use crate::model::{Config, Device, hub};
use crate::scenario::{Clients, Loaded, Scenario};
use crate::store::{Digest, Store};
use crate::training::{Numerics, Trainer};

/// Tokenized rows of one client.
#[derive(Debug)]
pub struct ClientRows {
    pub id: String,
    pub train: Arc<Rows>,
    pub held_out: Arc<Rows>,
}

/// All inputs of a run.
pub struct Inputs {
    pub clients: Arc<Vec<ClientRows>>,
    /// Facts about the clients that virtual time depends on.
    pub facts: Clients,
    pub test: Option<Arc<Rows>>,
    /// Scheduled benchmarks.
    pub exams: Vec<Arc<ScheduledExam>>,
    /// Trainers, one per device, which give the same bits.
    pub trainers: Vec<Arc<Trainer>>,
    /// Adapter to start from, if the scenario gives one.
    pub initial: Option<Arc<Adapter>>,
    /// Path and hash of each input, by role.
    pub read: BTreeMap<String, Input>,
}

impl Inputs {
    /// Reads, checks and tokenizes the data, and loads the base model, unless `shared` has them already.
    ///
    /// # Errors
    /// The first fault of a file, client or row, or of the model's folder.
    pub fn load(
        loaded: &Loaded,
        devices: &[Device],
        numerics: &Numerics,
        store: &Store,
        shared: &mut Shared,
    ) -> Result<Self, RunError> {
        // Data come first: a fault in them shows before the base model, which takes long, is loaded.
        let scenario = &loaded.scenario;
        let TokenData { clients, test, tokeniser, mut read } = shared.data(loaded, store)?;
        let (trainers, model_folder) = shared.trainers(loaded, devices, numerics, &clients)?;
        let trainer = &trainers[0];
        check_length(scenario, trainer.config().max_positions)?;
        tokeniser.check_vocabulary(trainer.config().vocab_size as u32, &model_folder)?;
        let tokeniser_folder = read["tokenizer"].path.clone();
        let exams = exams::load(loaded, &model_folder, &tokeniser_folder, &mut read)?;
        read.insert("base_model".to_owned(), input(model_folder, trainer.base_hash()));
        let trace = trace::read(loaded, &mut read)?;
        let initial = scenario.model.lora.initial.as_ref();
        let initial = initial.map(|folder| initial_adapter(&loaded.resolve(folder), trainer, &mut read)).transpose()?;
        let facts = outline::of_rows(scenario, &clients, trainer.config(), &trace)?;
        Ok(Self { clients, facts, test, exams, trainers, initial, read })
    }

    /// Returns the trainer on the first device.
    pub fn trainer(&self) -> &Trainer {
        &self.trainers[0]
    }

    /// Creates a workshop around each trainer.
    pub fn workshops<'a>(&'a self, loaded: &Loaded, store: &'a Store, stop: &'a AtomicBool) -> Vec<Workshop<'a>> {
        let unusable = loaded.scenario.training.unusable_update;
        self.trainers.iter().map(|trainer| Workshop::new(trainer, unusable, store, stop)).collect()
    }
}

/// Checks that the model has a position for every token of the longest sequence that the scenario allows.
fn check_length(scenario: &Scenario, max_positions: usize) -> Result<(), RunError> {
    let longest = scenario.data.max_seq_length;
    if longest as usize <= max_positions {
        return Ok(());
    }
    Err(RunError::Usage(format!(
        "failed to accept data.max_seq_length: {longest} is more than the {max_positions} positions of the base model"
    )))
}

/// Loads the base model to each device and logs its precision. `clients` supply the row on which a quantized base is
/// measured. Returns the trainers and the folder of the base model.
pub(super) fn load_trainers(
    loaded: &Loaded,
    devices: &[Device],
    numerics: &Numerics,
    clients: &[ClientRows],
) -> Result<(Vec<Arc<Trainer>>, PathBuf), RunError> {
    let scenario = &loaded.scenario;
    let folder = model_folder(loaded)?.ok_or_else(|| only_planned("model.folder is missing"))?;
    let precision = outline::precision(&scenario.model);
    let lora = outline::lora_spec(scenario);
    let mut trainers = Vec::with_capacity(devices.len());
    for &device in devices {
        trainers.push(Trainer::load(&folder, precision, device, &lora, numerics).map_err(RunError::Model)?);
    }
    report_precision(&mut trainers[0], &folder, clients)?;
    Ok((trainers.into_iter().map(Arc::new).collect(), folder))
}

/// [token] -- Number of tokens whose logits are compared between a quantized base and one in bfloat16.
const COMPARED_TOKENS: usize = 128;

/// Logs the precision of the base, and measures the deviation of a quantized base from bfloat16 for the manifest.
fn report_precision(trainer: &mut Trainer, folder: &Path, clients: &[ClientRows]) -> Result<(), RunError> {
    let row = clients.iter().find_map(|client| client.train.samples.first());
    if let Some(row) = row.filter(|_| trainer.fingerprint().base.precision.is_quantised()) {
        let ids = &row.ids[..row.ids.len().min(COMPARED_TOKENS)];
        trainer.measure_logit_error(folder, ids).map_err(RunError::Model)?;
    }
    tracing::info!("base model: {}", trainer.fingerprint().base);
    Ok(())
}

/// Inputs of a plan: those that decide virtual time.
pub struct PlanInputs {
    pub clients: Clients,
    /// Path and hash of each input, by role.
    pub read: BTreeMap<String, Input>,
}

impl PlanInputs {
    /// Reads, checks and tokenizes the data, and reads the shape of the model. Neither weights nor LibTorch are needed.
    ///
    /// # Errors
    /// As [`Inputs::load`].
    pub fn load(loaded: &Loaded) -> Result<Self, RunError> {
        let scenario = &loaded.scenario;
        let mut read = BTreeMap::new();
        let config = match (&scenario.model.shape, model_folder(loaded)?) {
            (Some(shape), _) => outline::config_of_shape(shape),
            (None, folder) => {
                let folder = folder.expect("a scenario has a folder, a model of the hub or a shape");
                let config = Config::read(&folder).map_err(|error| RunError::Model(error.into()))?;
                let path = folder.join("config.json");
                let bytes = std::fs::read(&path).map_err(LedgerError::io(&path))?;
                read.insert("model_config".to_owned(), input(path, blake3::hash(&bytes)));
                config
            }
        };
        let trace = trace::read(loaded, &mut read)?;
        if let Some(synthetic) = &scenario.data.synthetic {
            return Ok(Self { clients: outline::of_synthetic(scenario, synthetic, &config, &trace)?, read });
        }
        let none = Store::none();
        let reader = Reader::new(loaded, &none)?;
        let data = reader.dealt(&mut read)?;
        reader.note_text(&mut read);
        let clients = outline::of_rows(scenario, &reader.clients(&data)?, &config, &trace)?;
        Ok(Self { clients, read })
    }
}

/// Returns an input with its absolute path.
pub(super) fn input(path: PathBuf, hash: blake3::Hash) -> Input {
    // An absolute path lets `replay` find the input from anywhere.
    let path = std::path::absolute(&path).unwrap_or(path);
    Input { path, hash: Digest(*hash.as_bytes()) }
}

/// Returns the folder of the base model, which is fetched first if it is on the hub; `None` if only its shape is given.
pub(super) fn model_folder(loaded: &Loaded) -> Result<Option<PathBuf>, RunError> {
    let model = &loaded.scenario.model;
    match (&model.folder, &model.hub) {
        (Some(folder), _) => Ok(Some(loaded.resolve(folder))),
        (None, Some((repository, revision))) => Ok(Some(hub::fetch(repository, Some(revision))?)),
        (None, None) => Ok(None),
    }
}

/// Reads the adapter to start from and checks it against the scenario's LoRA.
fn initial_adapter(
    folder: &Path,
    trainer: &Trainer,
    read: &mut BTreeMap<String, Input>,
) -> Result<Arc<Adapter>, RunError> {
    let (adapter, _) = peft::read_folder(folder).map_err(RunError::StartAdapter)?;
    let mut fault = adapter.layout.difference_from(&trainer.layout());
    if fault.is_none() && !adapter.is_finite() {
        fault = Some("it holds a value that is NaN or infinite".into());
    }
    if let Some(reason) = fault {
        let what = folder.display().to_string();
        return Err(RunError::StartAdapter(AdapterError::Content { what, reason }));
    }
    read.insert("initial_adapter".to_owned(), input(folder.to_owned(), adapter.hash()));
    Ok(Arc::new(adapter))
}
