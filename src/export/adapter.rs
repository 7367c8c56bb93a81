//! The adapter of any round, saved or in the store, as PEFT's folder; and the base merged with it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::adapter::{Adapter, peft};
use crate::graph::Value;
use crate::ledger::{LedgerError, Manifest, RunKind, RunTables};
use crate::model::{Folder, Merge, content_hash, merge};
use crate::run::RunError;
use crate::store::{Digest, Key, Store};

/// Files of a base model's folder that a merged one needs beside weights and configuration.
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

/// An adapter of a run, and where it was found.
pub struct Chosen {
    pub adapter: Adapter,
    pub notes: peft::Notes,
    pub round: u32,
    /// Whether it came from the store, since the run had not saved it.
    pub from_store: bool,
}

/// The server's adapter after a round (the last one if none is named), or that of a client that trained alone.
///
/// Rounds are numbered as in the names of saved adapters: those of the server, or where only tiers have any, all.
///
/// # Errors
/// If there is no such round, or its adapter is neither saved nor in the store.
pub fn find_adapter(
    run_folder: &Path,
    round: Option<u32>,
    client: Option<u32>,
    store: &Store,
) -> Result<Chosen, RunError> {
    if Manifest::read(run_folder)?.kind == RunKind::Plan {
        let run = run_folder.display();
        return Err(RunError::Usage(format!("failed to export from {run}: it is a plan, which trains no adapter")));
    }
    let rounds = server_rounds(&RunTables::read(run_folder)?)?;
    let most = rounds.len() as u32;
    let round = round.unwrap_or(most);
    let Some(row) = (round as usize).checked_sub(1).and_then(|index| rounds.get(index)) else {
        let run = run_folder.display();
        return Err(RunError::Usage(format!("failed to export from {run}: round {round} is not from 1 to {most}")));
    };
    let mut folder = run_folder.join("adapters").join(format!("round-{round:05}"));
    if let Some(client) = client {
        folder = folder.join(format!("client-{client}"));
    }
    if folder.join("adapter_config.json").is_file() {
        let (adapter, notes) = peft::read_folder(&folder)?;
        return Ok(Chosen { adapter, notes, round, from_store: false });
    }
    let found = if client.is_none() { row.stored(store) } else { None };
    let adapter = found.ok_or_else(|| {
        RunError::Usage(format!(
            "failed to find the adapter of round {round}: {} is not there, and the store has none under its model_key; \
             `output.save_adapter_every` saves them, and a run with the store that it was played with finds them",
            folder.display()
        ))
    })?;
    let notes = peft::Notes { base_model: base_name(&Manifest::read(run_folder)?), ..peft::Notes::default() };
    Ok(Chosen { adapter, notes, round, from_store: true })
}

/// What the table of rounds says of a model.
struct ModelRow {
    key: Option<Digest>,
    hash: Option<Digest>,
}

impl ModelRow {
    /// The model from the store, if it is there and is the one that the run had.
    fn stored(&self, store: &Store) -> Option<Adapter> {
        let value = Value::from_bytes(&store.get(Key(self.key?))?)?;
        let is_model = matches!(value, Value::Model { .. } | Value::Trained(_));
        (is_model && Some(value.adapter_hash()) == self.hash).then(|| Adapter::clone(value.adapter()))
    }
}

/// The rounds after which adapters are named.
fn server_rounds(tables: &RunTables) -> Result<Vec<ModelRow>, LedgerError> {
    let rounds = tables.rounds();
    let aggregators = rounds.counts("aggregator")?;
    // Tiers have rounds and no server; where edges have rounds, the server has others.
    let has_server = aggregators.contains(&0);
    let digest = |text: Option<&str>| text.and_then(Digest::from_hex);
    let (keys, hashes) = (rounds.texts("model_key")?, rounds.texts("model_hash")?);
    let row = |at: usize| ModelRow { key: digest(keys[at]), hash: digest(hashes[at]) };
    Ok((0..rounds.len()).filter(|&at| !has_server || aggregators[at] == 0).map(row).collect())
}

fn base_name(manifest: &Manifest) -> String {
    let base = manifest.inputs.get("base_model").and_then(|input| input.path.file_name());
    base.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Writes a folder that PEFT loads.
///
/// # Errors
/// If it cannot be written.
pub fn peft_folder(chosen: &Chosen, out: &Path) -> Result<(), RunError> {
    Ok(peft::write_folder(out, &chosen.adapter, &chosen.notes)?)
}

/// Writes the run's base model with the adapter folded in, as a Hugging Face folder in f32 with its tokenizer.
///
/// # Errors
/// If the base model is not where the run found it, was changed since, or the folder cannot be written.
pub fn merged(run_folder: &Path, chosen: &Chosen, out: &Path) -> Result<(), RunError> {
    let manifest = Manifest::read(run_folder)?;
    let base = manifest.inputs.get("base_model");
    let base =
        base.ok_or_else(|| RunError::Usage(format!("failed to merge: {} trained nothing", run_folder.display())))?;
    let folder = Folder::open(&base.path).map_err(|error| RunError::Model(error.into()))?;
    let hash = content_hash(&folder).map_err(|error| RunError::Model(error.into()))?;
    if Digest(*hash.as_bytes()) != base.hash {
        let path = base.path.display();
        return Err(RunError::Usage(format!(
            "failed to merge: the base model at {path} is not what the run was made from"
        )));
    }
    merge(&base.path, &chosen.adapter, Merge::In, out).map_err(|error| RunError::Model(error.into()))?;
    let tokenizer = manifest.inputs.get("tokenizer").map_or(&base.path, |input| &input.path);
    for name in COMPANIONS {
        // The tokenizer that the run trained with goes before the one of the base.
        let from = [tokenizer, &base.path].into_iter().map(|folder| folder.join(name)).find(|path| path.is_file());
        if let Some(from) = from {
            copy(&from, &out.join(name))?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &PathBuf) -> Result<(), LedgerError> {
    fs::copy(from, to).map(drop).map_err(LedgerError::io(from))
}
