//! Export of adapters as PEFT folders, and of base models merged with an adapter.

use std::fs;
use std::path::{Path, PathBuf};

use crate::adapter::{Adapter, is_saved, peft};
use crate::graph::Value;
use crate::ledger::{LedgerError, Manifest, RunKind};
use crate::model::{Folder, Merge, content_hash, merge};
use crate::run::{
    RecordedModel, RecordedModels, RunChange, RunError, Unsuitability, adapter_notes, quantized_precision, scenario_of,
};
use crate::store::{Digest, Key, Store};

/// Files of a base model's folder that a merged model needs in addition to weights and configuration.
const COMPANIONS: [&str; 9] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "generation_config.json",
];

/// Adapter of a run, and where it was found.
pub struct Chosen {
    pub adapter: Adapter,
    pub notes: peft::Notes,
    pub round: u32,
    /// Whether it came from the store, because the run had not saved it.
    pub from_store: bool,
}

/// Finds the server's adapter after a round, or the adapter of a client that trained alone.
///
/// `None` for `round` selects the last one. Rounds are numbered as in the names of saved adapters: rounds of the server
/// are counted, or all rounds if only tiers have rounds.
///
/// # Errors
/// If there is no such round, its adapter is neither saved nor in the store, or the saved one is not what the run's tables
/// record.
pub fn find_adapter(
    run_folder: &Path,
    round: Option<u32>,
    client: Option<u32>,
    store: &Store,
) -> Result<Chosen, RunError> {
    let manifest = Manifest::read(run_folder)?;
    if manifest.kind == RunKind::Plan {
        let run = run_folder.to_owned();
        return Err(RunError::Unsuitable { action: "export from", run, reason: Unsuitability::Plan });
    }
    let models = RecordedModels::read(run_folder)?;
    let rounds = models.count();
    let round = round.unwrap_or(rounds);
    let Some(model) = models.model(round) else {
        return Err(RunError::NoRound { run: run_folder.to_owned(), round, rounds });
    };
    let folder = models.folder(round, client);
    // Not those of a saved adapter: its base model may have been moved since, with the scenario.
    let scenario = scenario_of(run_folder, &manifest)?.scenario;
    if !scenario.has_server_model() && client.is_none() {
        let run = run_folder.to_owned();
        return Err(RunError::Unsuitable { action: "export a model of", run, reason: Unsuitability::Personal });
    }
    let notes = adapter_notes(&scenario, &manifest.inputs);
    if is_saved(&folder) {
        let adapter = models.saved(round, client)?;
        return Ok(Chosen { adapter, notes, round, from_store: false });
    }
    // The run did not save it, but the store may still have the server's model. Clients' own models are not looked up.
    let found = if client.is_none() { stored(model, store) } else { None };
    let Some(adapter) = found else {
        return Err(RunError::NotKept { round, folder });
    };
    Ok(Chosen { adapter, notes, round, from_store: true })
}

/// Returns a model from the store, if it is there and has the hash that the run recorded.
fn stored(model: &RecordedModel, store: &Store) -> Option<Adapter> {
    let value = Value::from_bytes(&store.get(Key(model.key?))?)?;
    let is_model = matches!(value, Value::Model { .. } | Value::Trained(_));
    if is_model && Some(value.adapter_hash()) == model.hash { Some(Adapter::clone(value.adapter())) } else { None }
}

/// Returns the quantized number format of the base model that a run trained on; `None` if it is not quantized.
///
/// # Errors
/// If the run cannot be read.
pub fn trained_on(run_folder: &Path) -> Result<Option<String>, RunError> {
    let scenario = scenario_of(run_folder, &Manifest::read(run_folder)?)?.scenario;
    let is_quantized = quantized_precision(&scenario).is_some();
    Ok(is_quantized.then(|| format!("{:?}", scenario.model.precision)))
}

/// Base model into which an adapter is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergedBase {
    /// The model as its files have it.
    Original,
    /// The model with its weights rounded as the run rounded them.
    Dequantized,
}

/// Writes a folder that PEFT loads. A change of the base becomes further ranks of the adapter, and B R takes the place of B.
///
/// # Errors
/// If the folder cannot be written, or the change of a weight is held as all of its elements.
pub fn peft_folder(run_folder: &Path, chosen: &Chosen, out: &Path) -> Result<(), RunError> {
    // An adapter of PEFT has no place for a change of the base, except as further ranks.
    let Some(adapter) = chosen.adapter.with_base_change_as_ranks() else {
        let reason = Unsuitability::ChangedBase;
        return Err(RunError::Unsuitable { action: "export an adapter of", run: run_folder.to_owned(), reason });
    };
    Ok(peft::write_folder(out, &adapter.with_core_in_b(), &chosen.notes)?)
}

/// Writes the run's base model merged with the adapter, as a Hugging Face folder in f32 with its tokenizer.
///
/// # Errors
/// If the base model is no longer where the run found it, has changed since, or the folder cannot be written.
pub fn merged(run_folder: &Path, chosen: &Chosen, into: MergedBase, out: &Path) -> Result<(), RunError> {
    let manifest = Manifest::read(run_folder)?;
    let scenario = scenario_of(run_folder, &manifest)?.scenario;
    let precision = quantized_precision(&scenario);
    let Some(base) = manifest.inputs.get("base_model") else {
        let reason = Unsuitability::Untrained;
        return Err(RunError::Unsuitable { action: "merge", run: run_folder.to_owned(), reason });
    };
    // Merging into another base model would give a plausible but wrong model, so its content is compared.
    let folder = Folder::open(&base.path).map_err(|error| RunError::Model(error.into()))?;
    let hash = content_hash(&folder).map_err(|error| RunError::Model(error.into()))?;
    if Digest::from(hash) != base.hash {
        let change = RunChange::Input { role: "base_model".to_owned(), path: base.path.clone() };
        return Err(RunError::Changed { action: "merge", run: run_folder.to_owned(), change });
    }
    let rounding = precision.filter(|_| into == MergedBase::Dequantized);
    merge(&base.path, &chosen.adapter, Merge::In, rounding, out).map_err(|error| RunError::Model(error.into()))?;
    let tokenizer = manifest.inputs.get("tokenizer").map_or(&base.path, |input| &input.path);
    for name in COMPANIONS {
        // The tokenizer that the run trained with takes precedence over that of the base model.
        for folder in [tokenizer, &base.path] {
            let from = folder.join(name);
            if from.is_file() {
                copy(&from, &out.join(name))?;
                break;
            }
        }
    }
    let model = chosen.notes.base_model.rsplit('/').next().unwrap_or_default();
    let mut text = format!(
        "# {model} with an adapter merged into it\n\nThe adapter is that of round {} of the run `{}`. Weights are in f32.\n",
        chosen.round, manifest.name
    );
    if precision.is_some() {
        text += &format!("\n{}\n", merged_into(into, &format!("{:?}", scenario.model.precision)));
    }
    Ok(super::write(&out.join("README.md"), text.as_bytes())?)
}

/// Returns what a model is that was merged from an adapter of a quantized base, in one sentence.
pub fn merged_into(into: MergedBase, precision: &str) -> String {
    match into {
        MergedBase::Original => format!(
            "The adapter was trained on a base model rounded to {precision} and is merged into the unrounded one, so the \
             losses differ from the run's; `--base dequantized` merges it into the rounded weights."
        ),
        MergedBase::Dequantized => format!(
            "The adapter was trained on a base model rounded to {precision} and is merged into these rounded weights. Do not \
             quantize the merged model again, which would round the adapter too."
        ),
    }
}

fn copy(from: &Path, to: &PathBuf) -> Result<(), LedgerError> {
    fs::copy(from, to).map(drop).map_err(LedgerError::io(from))
}
