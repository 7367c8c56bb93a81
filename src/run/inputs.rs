//! Loads what a scenario points to: data as token rows, the base model behind a trainer, and the hashes of both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fedreplay_sim::Seed;

use super::RunError;
use crate::adapter::{WireFormat, wire_bytes};
use crate::dataset::{
    BadRows, ClientData, Federation, LongPrompts, Sample, SequenceRules, Template, Tokenised, Tokeniser, hold_out,
    tokenise,
};
use crate::ledger::Input;
use crate::lineage::Rows;
use crate::model::{Config, Device, LoraSpec};
use crate::scenario::{self, Loaded};
use crate::scenario::{ClientFacts, Scenario, assign_groups};
use crate::store::Digest;
use crate::training::{Numerics, Trainer};

/// One client's rows, as tokens.
#[derive(Debug)]
pub struct ClientRows {
    pub id: String,
    pub train: Arc<Rows>,
    pub held_out: Arc<Rows>,
}

/// Everything that a run reads.
pub struct Inputs {
    pub clients: Vec<ClientRows>,
    pub test: Option<Arc<Rows>>,
    pub trainer: Trainer,
    /// Where each input lay and what it hashed to, by role.
    pub read: BTreeMap<String, Input>,
}

impl Inputs {
    /// Reads, checks and tokenises the data, and loads the base model.
    ///
    /// # Errors
    /// The first thing that is wrong with a file, client or row, or with the model's folder.
    pub fn load(loaded: &Loaded, device: Device, numerics: &Numerics) -> Result<Self, RunError> {
        let reader = Reader::new(loaded)?;
        let mut read = BTreeMap::new();
        let (data, path) = reader.federation(&loaded.scenario.data.file)?;
        read.insert("data".to_owned(), input(path, data.content_hash));
        let clients = reader.clients(&data)?;
        let mut test = None;
        if let Some(file) = &loaded.scenario.data.test_file {
            let (data, path) = reader.federation(file)?;
            read.insert("test_data".to_owned(), input(path, data.content_hash));
            test = Some(Arc::new(Rows::new(reader.pooled(&data)?)));
        }
        let trainer = reader.trainer(device, numerics)?;
        let vocabulary = trainer.config().vocab_size as u32;
        reader.tokeniser.check_vocabulary(vocabulary, &reader.model_folder)?;
        read.insert("base_model".to_owned(), input(reader.model_folder.clone(), trainer.base_hash()));
        read.insert("tokenizer".to_owned(), input(reader.tokeniser_folder, reader.tokeniser.content_hash()));
        Ok(Self { clients, test, trainer, read })
    }

    /// What virtual time must know of each client.
    pub fn facts(&self, scenario: &Scenario) -> Vec<ClientFacts> {
        let groups = assign_groups(Seed(scenario.seed), self.clients.len(), &scenario.population.mix);
        let rows_per_task = u64::from(scenario.training.local_steps)
            * u64::from(scenario.training.gradient_accumulation)
            * u64::from(scenario.training.batch_size);
        let flops_per_token = flops_per_token(self.trainer.config());
        let facts = |(client, group): (&ClientRows, usize)| {
            let (rows, tokens) = (client.train.samples.len() as u64, client.train.tokens());
            ClientFacts {
                id: client.id.clone(),
                group,
                train_rows: rows,
                held_out_rows: client.held_out.samples.len() as u64,
                train_tokens: tokens,
                // The mean row stands for the rows of a task: which rows it draws is not known to virtual time.
                task_flops: (rows_per_task * tokens * flops_per_token).div_ceil(rows),
            }
        };
        self.clients.iter().zip(groups).map(facts).collect()
    }

    /// [B] An adapter on the wire.
    pub fn wire_bytes(&self) -> u64 {
        wire_bytes(&self.trainer.layout(), WireFormat::F32)
    }
}

/// [FLOP/token] Training LoRA on a frozen base: 2 for each weight of a linear module forwards, and 2 for the gradient
/// of its input backwards; the gradients of frozen weights are never computed, and the adapter's own are small.
fn flops_per_token(config: &Config) -> u64 {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let attention = hidden * config.head_dim * (2 * config.heads + 2 * config.kv_heads);
    let layer = attention + 3 * hidden * inner;
    4 * (config.layers * layer + hidden * config.vocab_size) as u64
}

fn input(path: PathBuf, hash: blake3::Hash) -> Input {
    // An absolute path lets `replay` find the input from anywhere.
    let path = std::path::absolute(&path).unwrap_or(path);
    Input { path, hash: Digest(*hash.as_bytes()) }
}

struct Reader<'a> {
    loaded: &'a Loaded,
    model_folder: PathBuf,
    tokeniser_folder: PathBuf,
    tokeniser: Tokeniser,
    rules: SequenceRules,
}

impl<'a> Reader<'a> {
    fn new(loaded: &'a Loaded) -> Result<Self, RunError> {
        let scenario = &loaded.scenario;
        let model_folder = loaded.resolve(&scenario.model.folder);
        let tokeniser_folder =
            scenario.model.tokenizer.as_ref().map_or_else(|| model_folder.clone(), |folder| loaded.resolve(folder));
        let name = match scenario.data.template {
            scenario::Template::Alpaca => "alpaca",
            scenario::Template::Vicuna => "vicuna_v1.1",
        };
        let template = Template::named(name).expect("the scenario's templates are all in the registry");
        let max_tokens = scenario.data.max_seq_length as usize;
        let long_prompts = match scenario.data.long_prompts {
            scenario::LongPrompts::Refuse => LongPrompts::Refuse,
            scenario::LongPrompts::Skip => LongPrompts::Skip,
        };
        let rules = SequenceRules { template, max_tokens, long_prompts };
        let tokeniser = Tokeniser::load(&tokeniser_folder)?;
        Ok(Self { loaded, model_folder, tokeniser_folder, tokeniser, rules })
    }

    fn federation(&self, file: &Path) -> Result<(Federation, PathBuf), RunError> {
        let path = self.loaded.resolve(file);
        Ok((Federation::read(&path, BadRows::Refuse)?, path))
    }

    fn clients(&self, data: &Federation) -> Result<Vec<ClientRows>, RunError> {
        data.clients.iter().enumerate().map(|(index, client)| self.client(index as u64, client)).collect()
    }

    fn client(&self, index: u64, client: &ClientData) -> Result<ClientRows, RunError> {
        let Tokenised { samples, skipped, .. } = tokenise(client, &self.tokeniser, &self.rules)?;
        if samples.is_empty() {
            return Err(RunError::Usage(format!(
                "failed to use client \"{}\": all of its {} rows have prompts that are too long for data.max_seq_length",
                client.id,
                skipped.len()
            )));
        }
        let seed = Seed(self.loaded.scenario.seed);
        let split = hold_out(seed, index, samples.len(), self.loaded.scenario.data.held_out);
        let rows = |picks: &[usize]| {
            let picked: Vec<Sample> = picks.iter().map(|&row| samples[row].clone()).collect();
            Arc::new(Rows::new(picked))
        };
        Ok(ClientRows { id: client.id.clone(), train: rows(&split.train), held_out: rows(&split.held_out) })
    }

    /// All clients' rows as one list, in order.
    fn pooled(&self, data: &Federation) -> Result<Vec<Sample>, RunError> {
        let mut samples = Vec::new();
        for client in &data.clients {
            samples.extend(tokenise(client, &self.tokeniser, &self.rules)?.samples);
        }
        Ok(samples)
    }

    fn trainer(&self, device: Device, numerics: &Numerics) -> Result<Trainer, RunError> {
        let model = &self.loaded.scenario.model;
        let lora = LoraSpec {
            rank: model.lora.rank as usize,
            alpha: model.lora.alpha,
            dropout: model.lora.dropout,
            target_modules: model.lora.target_modules.clone(),
            rank_stabilised: model.lora.rank_stabilised,
        };
        let precision = match model.precision {
            scenario::Precision::F32 => crate::model::Precision::F32,
            scenario::Precision::Bf16 => crate::model::Precision::Bf16,
        };
        Trainer::load(&self.model_folder, precision, device, &lora, numerics).map_err(RunError::Model)
    }
}
