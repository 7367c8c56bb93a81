//! Inputs of a run: data as tokenized rows, the base model behind a trainer, and the hashes of both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::benchmarks::ScheduledBenchmark;
use super::cache::InputCache;
use super::error::InputError;
use super::files::{input, model_folder};
use super::rows::{Notes, Reader, TokenData};
use super::{benchmarks, trace};
use crate::adapter::peft::{self, PeftAdapter};
use crate::adapter::{Adapter, AdapterError, Layout};
use crate::algorithm::AggregationRule;
use crate::data::{ClientRows, Rows};
use crate::graph::Compute;
use crate::ledger::{Input, LedgerError, LeftOut};
use crate::model::{Config, Device, misfit};
use crate::profile::DeviceProfile;
use crate::scenario::{ObjectiveSpec, ReferenceSpec, Scenario, ScenarioSpec};
use crate::schedule::client_facts::Clients;
use crate::schedule::{PopulationFiles, client_facts, model_shape};
use crate::store::{Store, read_limited};
use crate::training::{Numerics, Trainer};

/// All inputs of a run.
pub struct Inputs {
    pub clients: Arc<Vec<ClientRows>>,
    /// Facts about the clients that virtual time depends on.
    pub facts: Clients,
    pub test: Option<Arc<Rows>>,
    /// Rows that the server trains on by itself, under rules that ask for it.
    pub root: Option<Arc<Rows>>,
    /// Scheduled benchmarks.
    pub benchmarks: Vec<Arc<ScheduledBenchmark>>,
    /// Trainers, one per device, which give the same bits.
    pub trainers: Vec<Arc<Trainer>>,
    /// Aggregation rule of one's own, if the scenario names one. It is loaded by runs alone.
    pub own_rule: Option<Arc<dyn AggregationRule>>,
    /// Adapter to start from, if the scenario gives one.
    pub initial: Option<Arc<Adapter>>,
    /// Path and hash of each input, by role.
    pub read: BTreeMap<String, Input>,
    /// Rows of the data that take no part, by the role of their file.
    pub left_out: BTreeMap<String, LeftOut>,
}

impl Inputs {
    /// Reads, checks and tokenizes the data, and loads the base model, unless `shared` has them already.
    ///
    /// # Errors
    /// The first fault of a file, client or row, or of the model's folder.
    pub fn load(
        scenario: &Scenario,
        devices: &[Device],
        numerics: &Numerics,
        store: &Store,
        shared: &mut InputCache,
    ) -> Result<Self, InputError> {
        // Data come first: a fault in them shows before the base model, which takes long, is loaded.
        let mut data = shared.data(scenario, store)?;
        let (trainers, model_folder) = shared.trainers(scenario, devices, numerics, &data.clients)?;
        let trainer = &trainers[0];
        data.read.insert("base_model".to_owned(), input(model_folder.clone(), trainer.base_hash()));
        let OnModel { benchmarks, initial, facts } =
            OnModel::read(scenario, &mut data, trainer.config(), &model_folder)?;
        let TokenData { clients, test, root, mut read, left_out, .. } = data;
        if let (Some(initial), ObjectiveSpec::Dpo { reference: ReferenceSpec::Start, .. }) =
            (&initial, scenario.scenario.training.objective)
        {
            for trainer in &trainers {
                trainer.add_reference_adapter(initial);
            }
            read.insert("reference_adapter".to_owned(), read["initial_adapter"].clone());
        }
        Ok(Self { clients, facts, test, root, benchmarks, trainers, own_rule: None, initial, read, left_out })
    }

    /// Checks all inputs as [`Self::load`] would, except for the weights of the base model, and returns the facts about the clients.
    ///
    /// # Errors
    /// As [`Self::load`], apart from faults of the weights.
    pub(crate) fn check(scenario: &Scenario, store: &Store, shared: &mut InputCache) -> Result<Clients, InputError> {
        let mut data = shared.data(scenario, store)?;
        let folder = model_folder(scenario)?.ok_or(InputError::TimesOnly { missing: "model.folder" })?;
        let config = Config::read(&folder).map_err(|error| InputError::Model(error.into()))?;
        Ok(OnModel::read(scenario, &mut data, &config, &folder)?.facts)
    }

    /// Returns the trainer on the first device.
    pub fn trainer(&self) -> &Trainer {
        &self.trainers[0]
    }

    /// Creates a [`Compute`] around each trainer.
    pub fn computes<'a>(&'a self, scenario: &Scenario, store: &'a Store, stop: &'a AtomicBool) -> Vec<Compute<'a>> {
        let unusable = scenario.scenario.training.unusable_update;
        self.trainers.iter().map(|trainer| Compute::new(trainer, unusable, store, stop)).collect()
    }
}

/// Inputs that are read for a model of a given shape, besides the data.
struct OnModel {
    benchmarks: Vec<Arc<ScheduledBenchmark>>,
    initial: Option<Arc<Adapter>>,
    facts: Clients,
}

impl OnModel {
    /// Checks the data against the model in `model_folder`, and reads the rest. Adds what it reads to the inputs of the data.
    fn read(
        scenario: &Scenario,
        data: &mut TokenData,
        config: &Config,
        model_folder: &Path,
    ) -> Result<Self, InputError> {
        let spec = &scenario.scenario;
        check_length(spec, config.max_positions)?;
        refuse_attention_dropout(config.attention_dropout, model_folder)?;
        data.tokenizer.check_vocabulary(config.vocab_size as u32, model_folder)?;
        let tokenizer_folder = data.read["tokenizer"].path.clone();
        let benchmarks = benchmarks::load(scenario, model_folder, &tokenizer_folder, &mut data.read)?;
        let files = population_files(scenario, &mut data.read)?;
        let layout = model_shape::lora_spec(spec).layout(config).map_err(|error| InputError::Model(error.into()))?;
        // Messages name the folder as the manifest does.
        let folder = std::path::absolute(model_folder).unwrap_or_else(|_| model_folder.to_owned());
        let initial = initial_adapter(scenario, &InitialBase { config, layout: &layout, folder: &folder })?;
        let initial = initial.map(|(folder, adapter)| {
            data.read.insert("initial_adapter".to_owned(), input(folder, adapter.hash()));
            adapter
        });
        let facts = client_facts::of_rows(spec, &data.clients, data.root.as_deref(), config, &files)?;
        Ok(Self { benchmarks, initial, facts })
    }
}

/// Checks that the model has a position for every token of the longest sequence that the scenario allows.
fn check_length(scenario: &ScenarioSpec, max_positions: usize) -> Result<(), InputError> {
    let longest = scenario.data.max_seq_length;
    if longest as usize <= max_positions {
        return Ok(());
    }
    Err(InputError::TooLong { tokens: longest, positions: max_positions })
}

/// Checks that training drops no attention weights, which Transformers would do. Losses and generation are not affected.
fn refuse_attention_dropout(attention_dropout: f64, model_folder: &Path) -> Result<(), InputError> {
    if attention_dropout == 0.0 {
        return Ok(());
    }
    Err(InputError::AttentionDropout { config: model_folder.join("config.json"), attention_dropout })
}

/// Inputs of a plan: those that decide virtual time.
pub struct PlanInputs {
    pub clients: Clients,
    /// Path and hash of each input, by role.
    pub read: BTreeMap<String, Input>,
    /// Rows of the data that take no part, by the role of their file.
    pub left_out: BTreeMap<String, LeftOut>,
}

impl PlanInputs {
    /// Reads, checks and tokenizes the data, and reads the shape of the model. Neither weights nor LibTorch are needed.
    ///
    /// # Errors
    /// As [`Inputs::load`].
    pub fn load(scenario: &Scenario) -> Result<Self, InputError> {
        let spec = &scenario.scenario;
        let mut read = BTreeMap::new();
        let config = match (&spec.model.shape, model_folder(scenario)?) {
            (Some(shape), _) => model_shape::config_of_shape(shape),
            (None, folder) => {
                let folder = folder.expect("a scenario has a folder, a model of the hub or a shape");
                let config = Config::read(&folder).map_err(|error| InputError::Model(error.into()))?;
                let path = folder.join("config.json");
                let bytes = read_limited(&path).map_err(LedgerError::io(&path))?;
                read.insert("model_config".to_owned(), input(path, blake3::hash(&bytes)));
                config
            }
        };
        let files = population_files(scenario, &mut read)?;
        if let Some(synthetic) = &spec.data.synthetic {
            let clients = client_facts::of_synthetic(spec, synthetic, &config, &files)?;
            return Ok(Self { clients, read, left_out: BTreeMap::new() });
        }
        let none = Store::none();
        let reader = Reader::new(scenario, &none)?;
        let mut notes = Notes { read, left_out: BTreeMap::new() };
        let rows = reader.read_clients(&mut notes)?;
        let root = reader.read_root(&mut notes)?;
        let Notes { mut read, left_out } = notes;
        reader.note_text(&mut read);
        let clients = client_facts::of_rows(spec, &rows, root.as_deref(), &config, &files)?;
        Ok(Self { clients, read, left_out })
    }
}

/// Reads the files of a scenario's population and adds them to `read`, by role.
///
/// # Errors
/// If one of them cannot be read or holds what it may not.
fn population_files(scenario: &Scenario, read: &mut BTreeMap<String, Input>) -> Result<PopulationFiles, InputError> {
    let trace = trace::read(scenario, read)?;
    let mut profiles = BTreeMap::new();
    for (class, device) in &scenario.scenario.population.devices {
        let Some(file) = &device.profile else { continue };
        let file = scenario.resolve(file);
        let (profile, hash) = DeviceProfile::read(&file)?;
        read.insert(format!("device_profile_{class}"), input(file, hash));
        profiles.insert(class.clone(), profile);
    }
    Ok(PopulationFiles { trace, profiles })
}

/// Base model that an adapter has to fit, and the layout of the scenario's LoRA on it.
struct InitialBase<'a> {
    config: &'a Config,
    layout: &'a Layout,
    /// Folder of the model, for messages.
    folder: &'a Path,
}

/// Reads the adapter that a scenario starts from, and checks it against the scenario's LoRA. Returns it with its folder; `None` if
/// the scenario starts from no adapter.
fn initial_adapter(scenario: &Scenario, base: &InitialBase) -> Result<Option<(PathBuf, Arc<Adapter>)>, InputError> {
    let Some(folder) = &scenario.scenario.model.lora.initial else { return Ok(None) };
    let folder = scenario.resolve(folder);
    let PeftAdapter { adapter, own_ranks, .. } = peft::read_folder(&folder).map_err(InputError::StartAdapter)?;
    if let Some(keys) = own_ranks {
        let reason = format!("{keys}, but a run trains one rank and one alpha for all modules");
        return Err(unusable(&folder.join("adapter_config.json"), reason));
    }
    if let Some(reason) = misfit(&adapter.layout, base.config, base.folder) {
        return Err(unusable(&folder.join("adapter_model.safetensors"), reason));
    }
    if let Some(reason) = unlike_scenario(&adapter, base.layout) {
        return Err(unusable(&folder, reason));
    }
    Ok(Some((folder, Arc::new(adapter))))
}

/// Checks the adapter that a scenario starts from without the weights of its base model, as a run would. There is nothing to check
/// if only the shape of the model is given.
///
/// # Errors
/// If the adapter is damaged, does not fit the model, or is not what the scenario trains.
pub fn check_initial_adapter(scenario: &Scenario) -> Result<(), InputError> {
    if scenario.scenario.model.lora.initial.is_none() {
        return Ok(());
    }
    let Some(folder) = model_folder(scenario)? else { return Ok(()) };
    let config = Config::read(&folder).map_err(|error| InputError::Model(error.into()))?;
    let layout = model_shape::lora_spec(&scenario.scenario).layout(&config);
    let layout = layout.map_err(|error| InputError::Model(error.into()))?;
    initial_adapter(scenario, &InitialBase { config: &config, layout: &layout, folder: &folder })?;
    Ok(())
}

/// Returns the error of an adapter that cannot be started from.
fn unusable(path: &Path, reason: String) -> InputError {
    InputError::StartAdapter(AdapterError::Content { what: path.display().to_string(), reason })
}

/// Returns the first difference between an adapter and the scenario's LoRA, with the targets that the adapter has.
fn unlike_scenario(adapter: &Adapter, wanted: &Layout) -> Option<String> {
    let difference = adapter.layout.difference_from(wanted)?;
    if adapter.layout.modules == wanted.modules {
        return Some(difference);
    }
    let targets: Vec<&str> = peft::target_modules(&adapter.layout).into_iter().collect();
    Some(format!("{difference}; with model.lora.target_modules: {targets:?} the scenario adapts what it does"))
}
