//! Loads what a scenario points to: data as token rows, the base model behind a trainer, and the hashes of both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fedreplay_sim::Seed;

use super::{RunError, outline, trace};
use crate::adapter::{Adapter, peft};
use crate::dataset::{
    BadRows, ClientData, Columns, Federation, LongPrompts, Partition, Sample, SequenceRules, Template, Tokenised,
    Tokeniser, hold_out, partition, tokenise, twin_of,
};
use crate::ledger::{Input, LedgerError};
use crate::lineage::Rows;
use crate::model::{Config, Device};
use crate::scenario::{self, Clients, Loaded};
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
    /// What virtual time must know of them.
    pub facts: Clients,
    pub test: Option<Arc<Rows>>,
    pub trainer: Trainer,
    /// The adapter to start from, if the scenario gives one.
    pub initial: Option<Arc<Adapter>>,
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
        let model_folder = reader.model_folder()?;
        let mut read = BTreeMap::new();
        let data = reader.dealt(&mut read)?;
        let clients = reader.clients(&data)?;
        let mut test = None;
        if let Some(file) = &loaded.scenario.data.test_file {
            let (data, path) = reader.federation(file)?;
            read.insert("test_data".to_owned(), input(path, data.content_hash));
            test = Some(Arc::new(Rows::new(reader.pooled(&data)?)));
        }
        let mut trainer = reader.trainer(&model_folder, device, numerics)?;
        reader.check_length(trainer.config().max_positions)?;
        let vocabulary = trainer.config().vocab_size as u32;
        reader.tokeniser.check_vocabulary(vocabulary, &model_folder)?;
        report_precision(&mut trainer, &model_folder, &clients)?;
        read.insert("base_model".to_owned(), input(model_folder, trainer.base_hash()));
        read.insert("tokenizer".to_owned(), input(reader.tokeniser_folder, reader.tokeniser.content_hash()));
        let trace = trace::read(loaded, &mut read)?;
        let initial = loaded.scenario.model.lora.initial.as_ref();
        let initial =
            initial.map(|folder| initial_adapter(&loaded.resolve(folder), &trainer, &mut read)).transpose()?;
        let facts = outline::of_rows(&loaded.scenario, &clients, trainer.config(), &trace)?;
        Ok(Self { clients, facts, test, trainer, initial, read })
    }
}

/// Tokens whose logits say how far a quantised base is from one in bfloat16.
const COMPARED_TOKENS: usize = 128;

/// Says what the base takes, and how far it is from bfloat16 where it is quantised; the manifest records it.
fn report_precision(trainer: &mut Trainer, folder: &Path, clients: &[ClientRows]) -> Result<(), RunError> {
    let row = clients.iter().find_map(|client| client.train.samples.first());
    if let Some(row) = row.filter(|_| trainer.fingerprint().base.precision.is_quantised()) {
        let ids = &row.ids[..row.ids.len().min(COMPARED_TOKENS)];
        trainer.measure_logit_error(folder, ids).map_err(RunError::Model)?;
    }
    tracing::info!("base model: {}", trainer.fingerprint().base);
    Ok(())
}

/// What `plan` reads: as much of the inputs as decides times.
pub struct PlanInputs {
    pub clients: Clients,
    /// Where each input lay and what it hashed to, by role.
    pub read: BTreeMap<String, Input>,
}

impl PlanInputs {
    /// Reads, checks and tokenises the data, and reads the shape of the model; neither weights nor LibTorch are needed.
    ///
    /// # Errors
    /// As [`Inputs::load`].
    pub fn load(loaded: &Loaded) -> Result<Self, RunError> {
        let scenario = &loaded.scenario;
        let mut read = BTreeMap::new();
        let config = match (&scenario.model.shape, &scenario.model.folder) {
            (Some(shape), _) => outline::config_of_shape(shape),
            (None, folder) => {
                let folder = loaded.resolve(folder.as_ref().expect("a scenario has a folder or a shape"));
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
        let reader = Reader::new(loaded)?;
        let data = reader.dealt(&mut read)?;
        read.insert("tokenizer".to_owned(), input(reader.tokeniser_folder.clone(), reader.tokeniser.content_hash()));
        let clients = outline::of_rows(scenario, &reader.clients(&data)?, &config, &trace)?;
        Ok(Self { clients, read })
    }
}

pub(super) fn input(path: PathBuf, hash: blake3::Hash) -> Input {
    // An absolute path lets `replay` find the input from anywhere.
    let path = std::path::absolute(&path).unwrap_or(path);
    Input { path, hash: Digest(*hash.as_bytes()) }
}

struct Reader<'a> {
    loaded: &'a Loaded,
    tokeniser_folder: PathBuf,
    tokeniser: Tokeniser,
    rules: SequenceRules,
}

impl<'a> Reader<'a> {
    fn new(loaded: &'a Loaded) -> Result<Self, RunError> {
        let scenario = &loaded.scenario;
        let folder = scenario.model.tokenizer.as_ref().or(scenario.model.folder.as_ref());
        let tokeniser_folder = loaded.resolve(folder.ok_or_else(|| only_planned("model.folder is missing"))?);
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
        Ok(Self { loaded, tokeniser_folder, tokeniser, rules })
    }

    fn model_folder(&self) -> Result<PathBuf, RunError> {
        let folder = self.loaded.scenario.model.folder.as_ref();
        Ok(self.loaded.resolve(folder.ok_or_else(|| only_planned("model.folder is missing"))?))
    }

    fn data_file(&self) -> Result<&'a Path, RunError> {
        let file = self.loaded.scenario.data.file.as_deref();
        file.ok_or_else(|| only_planned("data.file is missing"))
    }

    fn federation(&self, file: &Path) -> Result<(Federation, PathBuf), RunError> {
        let path = self.loaded.resolve(file);
        Ok((Federation::read_columns(&path, &columns(&self.loaded.scenario.data.columns), BadRows::Refuse)?, path))
    }

    /// The data with its rows dealt to clients.
    fn dealt(&self, read: &mut BTreeMap<String, Input>) -> Result<Federation, RunError> {
        let (mut data, path) = self.federation(self.data_file()?)?;
        note_twin(&data, &path, read);
        let spec = &self.loaded.scenario.data;
        let seed = Seed(self.loaded.scenario.seed);
        data.clients = partition(std::mem::take(&mut data.clients), &dealing(&spec.partition), spec.rows, seed)
            .map_err(|what| RunError::Usage(format!("failed to deal the rows of {}: {what}", path.display())))?;
        read.insert("data".to_owned(), input(path, data.content_hash));
        Ok(data)
    }

    fn clients(&self, data: &Federation) -> Result<Vec<ClientRows>, RunError> {
        let named = self.loaded.scenario.data.clients.as_deref();
        if let Some(missing) =
            named.and_then(|ids| ids.iter().find(|id| data.clients.iter().all(|client| client.id != **id)))
        {
            return Err(RunError::Usage(format!(
                "failed to find the client \"{missing}\" of data.clients in the data"
            )));
        }
        let is_wanted = |client: &ClientData| named.is_none_or(|ids| ids.contains(&client.id));
        // A client keeps its number in the file for its split, so that a client of fewer has the rows that it has among all.
        let wanted = data.clients.iter().enumerate().filter(|(_, client)| is_wanted(client));
        let clients = wanted.map(|(index, client)| self.client(index as u64, client)).collect::<Result<Vec<_>, _>>()?;
        match self.loaded.scenario.algorithm {
            scenario::Algorithm::Centralised => Ok(vec![pooled(&clients)]),
            _ => Ok(clients),
        }
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
        if samples.is_empty() {
            return Err(RunError::Usage(
                "failed to use data.test_file: all of its rows have prompts that are too long for data.max_seq_length"
                    .into(),
            ));
        }
        Ok(samples)
    }

    /// A sequence that the scenario allows must be one that the model can read.
    fn check_length(&self, max_positions: usize) -> Result<(), RunError> {
        if self.rules.max_tokens <= max_positions {
            return Ok(());
        }
        Err(RunError::Usage(format!(
            "failed to accept data.max_seq_length: {} is more than the {max_positions} positions of the base model",
            self.rules.max_tokens
        )))
    }

    fn trainer(&self, folder: &Path, device: Device, numerics: &Numerics) -> Result<Trainer, RunError> {
        let scenario = &self.loaded.scenario;
        let precision = outline::precision(&scenario.model);
        Trainer::load(folder, precision, device, &outline::lora_spec(scenario), numerics).map_err(RunError::Model)
    }
}

/// Reads the adapter to start from, which must be of the scenario's shape.
fn initial_adapter(
    folder: &Path,
    trainer: &Trainer,
    read: &mut BTreeMap<String, Input>,
) -> Result<Arc<Adapter>, RunError> {
    let (adapter, _) = peft::read_folder(folder)?;
    if adapter.layout != trainer.layout() {
        return Err(RunError::Usage(format!(
            "failed to start from the adapter in {}: its modules, rank or alpha are not those of model.lora",
            folder.display()
        )));
    }
    read.insert("initial_adapter".to_owned(), input(folder.to_owned(), adapter.hash()));
    Ok(Arc::new(adapter))
}

/// The readers' word for the scenario's columns.
fn columns(columns: &scenario::Columns) -> Columns {
    match columns {
        scenario::Columns::SingleTurn { instruction, input, response } => Columns::SingleTurn {
            instruction: instruction.clone(),
            input: input.clone(),
            response: response.clone(),
            drops_repeated: false,
        },
        _ => columns.name().map_or(Columns::FedLlmBench, |name| Columns::named(name).expect("every name is known")),
    }
}

/// The readers' word for the scenario's partition.
fn dealing(partition: &scenario::Partition) -> Partition {
    match partition.clone() {
        scenario::Partition::Natural => Partition::Natural,
        scenario::Partition::Iid { clients } => Partition::Iid { clients },
        scenario::Partition::ByAttribute { attribute } => Partition::ByAttribute { attribute },
        scenario::Partition::Dirichlet { clients, alpha, attribute } => {
            Partition::Dirichlet { clients, alpha, attribute }
        }
    }
}

/// Says in the manifest that the data is a synthetic twin, by an input of that role.
fn note_twin(data: &Federation, path: &Path, read: &mut BTreeMap<String, Input>) {
    if let Some(name) = data.clients.first().and_then(|client| twin_of(&client.id)) {
        read.insert(format!("synthetic_twin_of_{name}"), input(path.to_owned(), data.content_hash));
    }
}

/// One client with the training rows and the held-out rows of all.
fn pooled(clients: &[ClientRows]) -> ClientRows {
    let all = |rows: fn(&ClientRows) -> &Arc<Rows>| -> Arc<Rows> {
        Arc::new(Rows::pooled(&clients.iter().map(|client| rows(client).clone()).collect::<Vec<_>>()))
    };
    let (train, held_out) = (all(|client| &client.train), all(|client| &client.held_out));
    ClientRows { id: "all".into(), train, held_out }
}

/// A scenario that has times and no training.
fn only_planned(what: &str) -> RunError {
    RunError::Usage(format!("failed to train: {what}, so the scenario has times only; `fedreplay plan` plays those"))
}
