//! Targets of `fedreplay eval`: the adapters of a run, or any model's folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::NaiveDate;

use super::published_setting::setting;
use crate::adapter::{Adapter, AdapterError, is_saved, peft};
use crate::benchmarks::{EvaluationError, Setting};
use crate::data::{ClientRows, Prompts, Rows, Tokenizer};
use crate::generation::{FolderSampling, end_tokens};
use crate::inputs::{InputCache, Inputs, say_date, translate, warn_of_differences};
use crate::ledger::{EvalSubject, Input, Manifest};
use crate::model::{Config, Device, LoraSpec, Precision, misfit};
use crate::run::{RecordedModels, RunChange, RunError, refuse_plan, scenario_of};
use crate::scenario::{ScenarioSpec, UnusableUpdate};
use crate::store::{Digest, Store};
use crate::training::{Numerics, Objective, Trainer};

/// A model to evaluate: the base model with an adapter, or alone.
pub struct EvalModel {
    /// `global`, `local` or `base`, as in table `evaluations`.
    pub subject: EvalSubject,
    /// Client that the model belongs to. `None` for the server's model and the base model.
    pub client: Option<u32>,
    pub adapter: Option<Arc<Adapter>>,
}

/// Rows of a run on which losses are computed.
pub struct EvalRows {
    pub clients: Arc<Vec<ClientRows>>,
    pub test: Option<Arc<Rows>>,
    pub objective: Objective,
    pub unusable_update: UnusableUpdate,
}

/// A prompt template by its name.
pub struct NamedTemplate {
    /// Name of a template, or `chat` for the one of the model's folder.
    pub name: String,
    /// The current date to a chat template.
    pub date: Option<NaiveDate>,
}

/// A base model, with the models on it to evaluate.
pub struct EvalTarget {
    /// Path of the target, as the user named it.
    pub name: PathBuf,
    pub trainer: Arc<Trainer>,
    pub tokenizer: Tokenizer,
    pub end_tokens: BTreeSet<u32>,
    /// Prompt template of the questions: the one that the models were trained with.
    pub prompts: Prompts,
    /// System prompt of the questions: the one that the run has for all rows.
    pub system_prompt: Option<String>,
    /// Sampling settings of the model's folder.
    pub sampling: FolderSampling,
    pub models: Vec<EvalModel>,
    /// Rows of the run; `None` if the folder is not a run.
    pub rows: Option<EvalRows>,
    /// Round after which the models were saved; 0 if the folder is not a run.
    pub round: u32,
    /// Seed of sampled answers.
    pub seed: u64,
    /// Setting of the paper that the run repeats, if it does.
    pub setting: Option<Setting>,
}

impl EvalTarget {
    /// Returns the tokens that end an answer, as the tokenizer writes them.
    pub fn ends(&self) -> Vec<String> {
        self.end_tokens.iter().filter_map(|&id| self.tokenizer.token(id)).collect()
    }

    /// Loads the models of a run after `round`, or those saved last: the server's, or each client's own where nothing was
    /// aggregated.
    ///
    /// # Errors
    /// If the run trained nothing, no adapter of that round was saved, or an input of the run has changed.
    pub fn run(folder: &Path, round: Option<u32>, device: Device, numerics: &Numerics) -> Result<Self, RunError> {
        let manifest = Manifest::read(folder)?;
        refuse_plan("evaluate", folder, &manifest)?;
        let recorded = RecordedModels::read(folder)?;
        let round = saved_round(folder, recorded.count(), round)?;
        let scenario = scenario_of(folder, &manifest)?;
        let spec = &scenario.scenario;
        let inputs = Inputs::load(&scenario, &[device], numerics, &Store::none(), &mut InputCache::default())?;
        refuse_changed(folder, &manifest, &inputs.read)?;
        let models = saved_models(&recorded, round, &inputs, own_subject(spec))?;
        let base_model = inputs.read["base_model"].path.clone();
        let tokenizer_folder = inputs.read["tokenizer"].path.clone();
        let tokenizer = Tokenizer::load(&tokenizer_folder)?;
        let prompts = translate::prompts(&spec.data, &tokenizer, &tokenizer_folder)?;
        Ok(Self {
            name: folder.to_owned(),
            end_tokens: ends(&base_model, &tokenizer, &prompts)?,
            prompts,
            system_prompt: translate::system_prompt(&spec.data),
            tokenizer,
            sampling: folder_sampling(&base_model)?,
            setting: setting(spec, &inputs),
            models,
            rows: Some(EvalRows {
                clients: inputs.clients,
                test: inputs.test,
                objective: translate::objective(spec, inputs.initial.as_deref()),
                unusable_update: spec.training.unusable_update,
            }),
            trainer: inputs.trainers[0].clone(),
            round,
            seed: manifest.seed,
        })
    }

    /// Loads a Hugging Face folder, with a PEFT adapter if one is given.
    ///
    /// # Errors
    /// If either cannot be loaded, or the adapter does not fit the model.
    pub fn folder(
        folder: &Path,
        adapter: Option<&Path>,
        template: &NamedTemplate,
        precision: Precision,
        device: Device,
        numerics: &Numerics,
    ) -> Result<Self, RunError> {
        let prompts = translate::prompts_named(&template.name, template.date, folder)?;
        if let Prompts::Chat(chat) = &prompts {
            let date = template.date.map(|date| date.to_string());
            say_date(chat, date.as_deref(), "--template-date");
        }
        let path = adapter;
        let adapter = path.map(peft::read_folder).transpose().map_err(RunError::StartAdapter)?;
        if let (Some(read), Some(path)) = (&adapter, path) {
            refuse_misfit(&read.adapter, path, folder)?;
        }
        // The trainer needs a LoRA even for a base alone, where nothing uses it.
        let lora = match &adapter {
            Some(read) => lora_of(&read.adapter),
            None => LoraSpec::smallest(&Config::read(folder).map_err(|error| RunError::Model(error.into()))?),
        };
        let trainer = Arc::new(Trainer::load(folder, precision, device, &lora, numerics).map_err(RunError::Model)?);
        let tokenizer = Tokenizer::load(folder)?;
        warn_of_differences(&tokenizer, folder);
        tokenizer.check_vocabulary(trainer.config().vocab_size as u32, folder)?;
        // An adapter of unknown origin is evaluated like a server's model.
        let (subject, adapter) = match adapter {
            Some(read) => (EvalSubject::Global, Some(Arc::new(read.adapter))),
            None => (EvalSubject::Base, None),
        };
        let end_tokens = ends(folder, &tokenizer, &prompts)?;
        let models = vec![EvalModel { subject, client: None, adapter }];
        Ok(Self {
            name: folder.to_owned(),
            trainer,
            tokenizer,
            end_tokens,
            prompts,
            system_prompt: None,
            sampling: folder_sampling(folder)?,
            models,
            rows: None,
            round: 0,
            seed: 1,
            setting: None,
        })
    }
}

/// Loads the models that a run saved after a round.
fn saved_models(
    recorded: &RecordedModels,
    round: u32,
    inputs: &Inputs,
    own: EvalSubject,
) -> Result<Vec<EvalModel>, RunError> {
    let mut models = Vec::new();
    if is_saved(&recorded.folder(round, None)) {
        let adapter = own_adapter(recorded, round, None, inputs.trainer())?;
        models.push(EvalModel { subject: EvalSubject::Global, client: None, adapter: Some(adapter) });
    }
    for client in 0..inputs.clients.len() as u32 {
        if recorded.folder(round, Some(client)).exists() {
            let adapter = own_adapter(recorded, round, Some(client), inputs.trainer())?;
            models.push(EvalModel { subject: own, client: Some(client), adapter: Some(adapter) });
        }
    }
    Ok(models)
}

/// Returns what the clients' own models of a run are.
fn own_subject(scenario: &ScenarioSpec) -> EvalSubject {
    if scenario.has_personal_models() { EvalSubject::Personal } else { EvalSubject::Local }
}

/// Reads the tokens that end an answer.
fn ends(folder: &Path, tokenizer: &Tokenizer, prompts: &Prompts) -> Result<BTreeSet<u32>, RunError> {
    Ok(end_tokens(folder, tokenizer, prompts).map_err(EvaluationError::from)?)
}

fn folder_sampling(folder: &Path) -> Result<FolderSampling, RunError> {
    Ok(FolderSampling::read(folder).map_err(EvaluationError::from)?)
}

/// Refuses an adapter that does not fit the model in `folder`.
fn refuse_misfit(adapter: &Adapter, path: &Path, folder: &Path) -> Result<(), RunError> {
    let config = Config::read(folder).map_err(|error| RunError::Model(error.into()))?;
    match misfit(&adapter.layout, &config, folder) {
        None => Ok(()),
        Some(reason) => {
            let what = path.join("adapter_model.safetensors").display().to_string();
            Err(RunError::StartAdapter(AdapterError::Content { what, reason }))
        }
    }
}

/// Returns the LoRA settings of an adapter.
fn lora_of(adapter: &Adapter) -> LoraSpec {
    let layout = &adapter.layout;
    LoraSpec {
        rank: layout.rank,
        alpha: layout.alpha,
        dropout: 0.0,
        target_modules: layout.modules.iter().map(|module| module.path.clone()).collect(),
        rank_stabilized: layout.rank_stabilized,
        has_core: layout.has_core,
    }
}

/// Reads an adapter that the run saved.
fn own_adapter(
    recorded: &RecordedModels,
    round: u32,
    client: Option<u32>,
    trainer: &Trainer,
) -> Result<Arc<Adapter>, RunError> {
    let adapter = recorded.saved(round, client)?;
    let what = recorded.folder(round, client).display().to_string();
    if !adapter.is_finite() {
        return Err(AdapterError::Content { what, reason: "a value is NaN or infinite".into() }.into());
    }
    match adapter.layout.difference_from(&trainer.layout()) {
        None => Ok(Arc::new(adapter)),
        Some(reason) => Err(AdapterError::Content { what, reason }.into()),
    }
}

/// Finds the round whose saved adapters are evaluated: that which is wanted, or the last one that has any. Those of a round
/// that is not in the tables yet, after the first `recorded`, are passed over.
fn saved_round(folder: &Path, recorded: u32, wanted: Option<u32>) -> Result<u32, RunError> {
    let adapters = folder.join("adapters");
    let mut saved = BTreeSet::new();
    for entry in std::fs::read_dir(&adapters).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let number = name.strip_prefix("round-").and_then(|number| number.parse::<u32>().ok());
        saved.extend(number.filter(|&number| number <= recorded));
    }
    let found = match wanted {
        Some(round) => saved.take(&round),
        None => saved.last().copied(),
    };
    found.ok_or_else(|| RunError::NotSaved { round: wanted, folder: adapters, saved: saved.into_iter().collect() })
}

/// Refuses to evaluate a run if its data or base model have changed.
fn refuse_changed(folder: &Path, manifest: &Manifest, read: &BTreeMap<String, Input>) -> Result<(), RunError> {
    for (role, input) in read {
        if manifest.inputs.get(role).map(|recorded| recorded.hash) != Some(input.hash) {
            let change = RunChange::Input { role: role.clone(), path: input.path.clone() };
            return Err(RunError::Changed { action: "evaluate", run: folder.to_owned(), change });
        }
    }
    Ok(())
}

impl EvalModel {
    /// Returns the hash of the adapter's content; `None` without an adapter.
    pub fn hash(&self) -> Option<Digest> {
        self.adapter.as_ref().map(|adapter| Digest::from(adapter.hash()))
    }
}
