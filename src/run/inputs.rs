//! Loads what a scenario points to: data as token rows, the base model behind a trainer, and the hashes of both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fedreplay_sim::Seed;

use super::exams::{self, ScheduledExam};
use super::{RunError, outline, prompting, trace, words};
use crate::adapter::{Adapter, AdapterError, peft};
use crate::dataset::{
    BadRows, ClientData, Federation, LongPrompts, Preference, Prompts, RowKind, Sample, SequenceRules, Tokenised,
    Tokeniser, after_last_key, hold_out, holds_key, key_ids, partition, tokenise, tokenise_preferences, twin_of,
};
use crate::ledger::{Input, LedgerError};
use crate::lineage::Rows;
use crate::model::{Config, Device, hub};
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
    /// Benchmarks of the server's model.
    pub exams: Vec<Arc<ScheduledExam>>,
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
        let model_folder = reader.model_folder.clone().ok_or_else(|| only_planned("model.folder is missing"))?;
        let mut read = BTreeMap::new();
        let data = reader.dealt(&mut read)?;
        let clients = reader.clients(&data)?;
        let mut test = None;
        if let Some(file) = &loaded.scenario.data.test_file {
            let (data, path) = reader.federation(file)?;
            read.insert("test_data".to_owned(), input(path, data.content_hash));
            test = Some(Arc::new(reader.pooled(&data)?));
        }
        let mut trainer = reader.trainer(&model_folder, device, numerics)?;
        reader.check_length(trainer.config().max_positions)?;
        let vocabulary = trainer.config().vocab_size as u32;
        reader.tokeniser.check_vocabulary(vocabulary, &model_folder)?;
        report_precision(&mut trainer, &model_folder, &clients)?;
        let exams = exams::load(loaded, &model_folder, &reader.tokeniser_folder, &mut read)?;
        read.insert("base_model".to_owned(), input(model_folder, trainer.base_hash()));
        reader.note_text(&mut read);
        let trace = trace::read(loaded, &mut read)?;
        let initial = loaded.scenario.model.lora.initial.as_ref();
        let initial =
            initial.map(|folder| initial_adapter(&loaded.resolve(folder), &trainer, &mut read)).transpose()?;
        let facts = outline::of_rows(&loaded.scenario, &clients, trainer.config(), &trace)?;
        Ok(Self { clients, facts, test, exams, trainer, initial, read })
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
        let reader = Reader::new(loaded)?;
        let data = reader.dealt(&mut read)?;
        reader.note_text(&mut read);
        let clients = outline::of_rows(scenario, &reader.clients(&data)?, &config, &trace)?;
        Ok(Self { clients, read })
    }
}

pub(super) fn input(path: PathBuf, hash: blake3::Hash) -> Input {
    // An absolute path lets `replay` find the input from anywhere.
    let path = std::path::absolute(&path).unwrap_or(path);
    Input { path, hash: Digest(*hash.as_bytes()) }
}

/// The folder of the base model, fetched first if it is the hub's; none where there is but a shape.
fn model_folder(loaded: &Loaded) -> Result<Option<PathBuf>, RunError> {
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
    let refuse = |reason: String| {
        let what = folder.display().to_string();
        Err(RunError::StartAdapter(AdapterError::Content { what, reason }))
    };
    if let Some(reason) = adapter.layout.difference_from(&trainer.layout()) {
        return refuse(reason);
    }
    if !adapter.is_finite() {
        return refuse("it holds a value that is NaN or infinite".into());
    }
    read.insert("initial_adapter".to_owned(), input(folder.to_owned(), adapter.hash()));
    Ok(Arc::new(adapter))
}

struct Reader<'a> {
    loaded: &'a Loaded,
    model_folder: Option<PathBuf>,
    tokeniser_folder: PathBuf,
    tokeniser: Tokeniser,
    rules: SequenceRules,
}

impl<'a> Reader<'a> {
    fn new(loaded: &'a Loaded) -> Result<Self, RunError> {
        let scenario = &loaded.scenario;
        let model_folder = model_folder(loaded)?;
        let folder = scenario.model.tokenizer.as_ref().map(|folder| loaded.resolve(folder)).or(model_folder.clone());
        let tokeniser_folder = folder.ok_or_else(|| only_planned("model.folder is missing"))?;
        let prompts = prompting::prompts(scenario.data.template, &tokeniser_folder)?;
        let max_tokens = scenario.data.max_seq_length as usize;
        let long_prompts = match scenario.data.long_prompts {
            scenario::LongPrompts::Refuse => LongPrompts::Refuse,
            scenario::LongPrompts::Skip => LongPrompts::Skip,
        };
        let learns_last_question = scenario.data.last_question == scenario::LastQuestion::Learnt;
        let rules = SequenceRules { prompts, max_tokens, long_prompts, learns_last_question };
        let tokeniser = Tokeniser::load(&tokeniser_folder)?;
        Ok(Self { loaded, model_folder, tokeniser_folder, tokeniser, rules })
    }

    /// Notes what decides how text becomes tokens.
    fn note_text(&self, read: &mut BTreeMap<String, Input>) {
        let folder = || self.tokeniser_folder.clone();
        read.insert("tokenizer".to_owned(), input(folder(), self.tokeniser.content_hash()));
        if let Prompts::Chat(template) = &self.rules.prompts {
            read.insert("chat_template".to_owned(), input(folder(), template.content_hash()));
        }
    }

    fn data_file(&self) -> Result<&'a Path, RunError> {
        let file = self.loaded.scenario.data.file.as_deref();
        file.ok_or_else(|| only_planned("data.file is missing"))
    }

    fn federation(&self, file: &Path) -> Result<(Federation, PathBuf), RunError> {
        let path = self.loaded.resolve(file);
        let spec = &self.loaded.scenario.data;
        let bad_rows = match spec.bad_rows {
            scenario::BadRows::Refuse => BadRows::Refuse,
            scenario::BadRows::Skip => BadRows::Skip,
        };
        let data = Federation::read_columns(&path, &words::columns(&spec.columns), bad_rows)?;
        if let Some(first) = data.skipped.first() {
            let (count, client, row, fault) = (data.skipped.len(), &first.client, first.row, &first.fault);
            tracing::warn!(
                "{count} rows of {} were left out; the first is row {row} of client {client:?}: {fault}",
                path.display()
            );
        }
        Ok((data, path))
    }

    /// The data with its rows dealt to clients.
    fn dealt(&self, read: &mut BTreeMap<String, Input>) -> Result<Federation, RunError> {
        let (mut data, path) = self.federation(self.data_file()?)?;
        note_twin(&data, &path, read);
        let spec = &self.loaded.scenario.data;
        let seed = Seed(self.loaded.scenario.seed);
        data.clients = partition(std::mem::take(&mut data.clients), &words::dealing(&spec.partition), spec.rows, seed)
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
        let rows = self.tokenised(client)?;
        if rows.count() == 0 {
            return Err(RunError::Usage(format!(
                "failed to use client \"{}\": all of its {} rows have prompts that are too long for data.max_seq_length, \
                 or no key under data.masking",
                client.id,
                client.rows.len()
            )));
        }
        let seed = Seed(self.loaded.scenario.seed);
        let split = hold_out(seed, index, rows.count(), self.loaded.scenario.data.held_out);
        let part = |picks: &[usize]| Arc::new(rows.picked(picks));
        Ok(ClientRows { id: client.id.clone(), train: part(&split.train), held_out: part(&split.held_out) })
    }

    /// A client's rows as the objective reads them.
    fn tokenised(&self, client: &ClientData) -> Result<TokenRows, RunError> {
        match self.loaded.scenario.training.objective {
            scenario::Objective::Sft => {
                let tokenised = tokenise(client, &self.tokeniser, &self.rules)?;
                Ok(TokenRows::Single(self.masked(client, tokenised)?))
            }
            scenario::Objective::Dpo { .. } => {
                let form = words::pair_form(self.loaded.scenario.data.pairs);
                Ok(TokenRows::Pairs(tokenise_preferences(client, &self.tokeniser, &self.rules, form)?.pairs))
            }
        }
    }

    /// The samples with the labels that the scenario asks for.
    fn masked(&self, client: &ClientData, tokenised: Tokenised) -> Result<Vec<Sample>, RunError> {
        let Tokenised { samples, rows, .. } = tokenised;
        if self.loaded.scenario.data.masking == scenario::Masking::ByConstruction {
            return Ok(samples);
        }
        let Prompts::Template(template) = self.rules.prompts else {
            return Err(RunError::Usage("failed to use data.masking: a chat template has no key to look for".into()));
        };
        if client.rows.first().is_some_and(|row| row.kind() == RowKind::MultiTurn) {
            let kept = samples.into_iter().zip(rows).filter(|&(_, row)| !holds_key(&client.rows[row], template));
            return Ok(kept.map(|(sample, _)| sample).collect());
        }
        let key = key_ids(template, &self.tokeniser)
            .map_err(|what| RunError::Usage(format!("failed to tokenise the key of data.template: {what}")))?;
        // Rows are padded with Llama's unknown token there.
        Ok(samples.iter().filter_map(|sample| after_last_key(sample, &key, 0)).collect())
    }

    /// All clients' rows as one list, in order.
    fn pooled(&self, data: &Federation) -> Result<Rows, RunError> {
        let mut clients = data.clients.iter().map(|client| self.tokenised(client));
        let mut pooled = clients.next().expect("a federation has a client")?;
        for rows in clients {
            pooled.append(rows?);
        }
        if pooled.count() == 0 {
            return Err(RunError::Usage(
                "failed to use data.test_file: all of its rows have prompts that are too long for data.max_seq_length"
                    .into(),
            ));
        }
        Ok(pooled.picked(&(0..pooled.count()).collect::<Vec<_>>()))
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

/// Rows of one kind, before they are split.
enum TokenRows {
    Single(Vec<Sample>),
    Pairs(Vec<Preference>),
}

impl TokenRows {
    fn count(&self) -> usize {
        match self {
            Self::Single(samples) => samples.len(),
            Self::Pairs(pairs) => pairs.len(),
        }
    }

    fn append(&mut self, others: Self) {
        match (self, others) {
            (Self::Single(mine), Self::Single(others)) => mine.extend(others),
            (Self::Pairs(mine), Self::Pairs(others)) => mine.extend(others),
            _ => unreachable!("one objective reads one kind of rows"),
        }
    }

    fn picked(&self, picks: &[usize]) -> Rows {
        match self {
            Self::Single(samples) => Rows::new(picks.iter().map(|&row| samples[row].clone()).collect()),
            Self::Pairs(pairs) => {
                let pair = |&row: &usize| [pairs[row].chosen.clone(), pairs[row].rejected.clone()];
                Rows::of_pairs(picks.iter().map(pair).collect())
            }
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
