//! Reader of a scenario's data: files become clients with rows, and rows become tokens.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fedreplay_sim::Seed;

use super::error::InputError;
use super::files::{input, model_folder, only_planned};
use super::token_cache::TokenRows;
use super::translate::prompts;
use super::{token_cache, translate};
use crate::data::{
    BadRows, ClientData, ClientRows, Federation, LongPrompts, Prompts, RowKind, Rows, Sample, SequenceRules, Tokenized,
    Tokenizer, after_last_key, hold_out, holds_key, key_ids, partition, tokenize, tokenize_preferences, twin_of,
};
use crate::ledger::Input;
use crate::scenario;
use crate::scenario::{Scenario, ScenarioSpec};
use crate::store::Store;

/// Reader of a scenario's data.
pub(super) struct Reader<'a> {
    scenario: &'a Scenario,
    tokenizer_folder: PathBuf,
    tokenizer: Tokenizer,
    rules: SequenceRules,
    /// Store in which tokens are cached.
    store: &'a Store,
}

impl<'a> Reader<'a> {
    /// Loads the tokenizer and the rules by which rows become sequences.
    pub fn new(scenario: &'a Scenario, store: &'a Store) -> Result<Self, InputError> {
        let spec = &scenario.scenario;
        let tokenizer_folder = match &spec.model.tokenizer {
            Some(folder) => scenario.resolve(folder),
            None => model_folder(scenario)?.ok_or_else(|| only_planned("model.folder is missing"))?,
        };
        let prompts = prompts(spec.data.template, &tokenizer_folder)?;
        let max_tokens = spec.data.max_seq_length as usize;
        let long_prompts = match spec.data.long_prompts {
            scenario::LongPromptsSpec::Refuse => LongPrompts::Refuse,
            scenario::LongPromptsSpec::Skip => LongPrompts::Skip,
        };
        let learns_last_question = spec.data.last_question == scenario::LastQuestion::Learnt;
        let rules = SequenceRules { prompts, max_tokens, long_prompts, learns_last_question };
        let tokenizer = Tokenizer::load(&tokenizer_folder)?;
        Ok(Self { scenario, tokenizer_folder, tokenizer, rules, store })
    }

    fn spec(&self) -> &'a ScenarioSpec {
        &self.scenario.scenario
    }

    /// Adds the inputs that decide how text becomes tokens: the tokenizer, and the chat template if it is used.
    pub fn note_text(&self, read: &mut BTreeMap<String, Input>) {
        let folder = self.tokenizer_folder.clone();
        read.insert("tokenizer".to_owned(), input(folder.clone(), self.tokenizer.content_hash()));
        if let Prompts::Chat(template) = &self.rules.prompts {
            read.insert("chat_template".to_owned(), input(folder, template.content_hash()));
        }
    }

    /// Returns the path of the data in the scenario.
    fn data_file(&self) -> Result<&'a Path, InputError> {
        let file = self.spec().data.file.as_deref();
        file.ok_or_else(|| only_planned("data.file is missing"))
    }

    /// Reads a data file. Returns its clients and its resolved path.
    pub fn federation(&self, file: &Path) -> Result<(Federation, PathBuf), InputError> {
        let path = self.scenario.resolve(file);
        let spec = &self.spec().data;
        let bad_rows = match spec.bad_rows {
            scenario::BadRowsSpec::Refuse => BadRows::Refuse,
            scenario::BadRowsSpec::Skip => BadRows::Skip,
        };
        let data = Federation::read_columns(&path, &translate::columns(&spec.columns), bad_rows)?;
        if let Some(first) = data.skipped.first() {
            tracing::warn!(
                target: "fedreplay::run",
                "{} rows of {} were left out; the first is row {} of client {:?}: {}",
                data.skipped.len(),
                path.display(),
                first.row,
                first.client,
                first.fault
            );
        }
        Ok((data, path))
    }

    /// Reads the data and partitions its rows among clients.
    pub fn partitioned(&self, read: &mut BTreeMap<String, Input>) -> Result<Federation, InputError> {
        let (mut data, path) = self.federation(self.data_file()?)?;
        note_twin(&data, &path, read);
        let spec = &self.spec().data;
        let seed = Seed(self.spec().seed);
        data.clients =
            partition(std::mem::take(&mut data.clients), &translate::row_partition(&spec.partition), spec.rows, seed)
                .map_err(|what| InputError::Usage(format!("failed to deal the rows of {}: {what}", path.display())))?;
        read.insert("data".to_owned(), input(path, data.content_hash));
        Ok(data)
    }

    /// Tokenizes the rows of the clients that the scenario selects, and splits them into training and held-out rows.
    pub fn clients(&self, data: &Federation) -> Result<Vec<ClientRows>, InputError> {
        let named = self.spec().data.clients.as_deref();
        for id in named.unwrap_or_default() {
            if data.clients.iter().all(|client| client.id != *id) {
                return Err(InputError::Usage(format!(
                    "failed to find the client \"{id}\" of data.clients in the data"
                )));
            }
        }
        // The split of a client depends on its number in the file and not among the selected ones, so that its rows are the
        // same with any selection.
        let mut numbers = Vec::new();
        let mut wanted = Vec::new();
        for (number, client) in data.clients.iter().enumerate() {
            if named.is_none_or(|ids| ids.contains(&client.id)) {
                numbers.push(number);
                wanted.push(client);
            }
        }
        let rows = self.tokenized(&wanted)?;
        let mut clients = Vec::with_capacity(wanted.len());
        for ((number, client), rows) in numbers.into_iter().zip(wanted).zip(&rows) {
            clients.push(self.client(number as u64, client, rows)?);
        }
        match self.spec().algorithm {
            scenario::Algorithm::Centralised => Ok(vec![pooled(&clients)]),
            _ => Ok(clients),
        }
    }

    /// Splits the rows of one client.
    fn client(&self, index: u64, client: &ClientData, rows: &TokenRows) -> Result<ClientRows, InputError> {
        if rows.count() == 0 {
            return Err(InputError::Usage(format!(
                "failed to use client \"{}\": all of its {} rows have prompts that are too long for data.max_seq_length, \
                 or no key under data.masking",
                client.id,
                client.rows.len()
            )));
        }
        let seed = Seed(self.spec().seed);
        let split = hold_out(seed, index, rows.count(), self.spec().data.held_out);
        let train = Arc::new(rows.picked(&split.train));
        let held_out = Arc::new(rows.picked(&split.held_out));
        Ok(ClientRows { id: client.id.clone(), train, held_out })
    }

    /// Returns each client's rows as tokens, cached under everything that decides them.
    fn tokenized(&self, clients: &[&ClientData]) -> Result<Vec<TokenRows>, InputError> {
        let ScenarioSpec { data, training, .. } = self.spec();
        let chat = match &self.rules.prompts {
            Prompts::Template(_) => None,
            Prompts::Chat(template) => Some(*template.content_hash().as_bytes()),
        };
        let rules = (
            (*self.tokenizer.content_hash().as_bytes(), chat, data.template, data.max_seq_length),
            (data.long_prompts, data.last_question, data.masking, data.pairs, training.objective),
        );
        token_cache::cached(self.store, &rules, clients, |client| self.tokenized_now(client))
    }

    /// Tokenizes the rows of one client, as the training objective needs them.
    fn tokenized_now(&self, client: &ClientData) -> Result<TokenRows, InputError> {
        match self.spec().training.objective {
            scenario::ObjectiveSpec::Sft => {
                let tokenized = tokenize(client, &self.tokenizer, &self.rules)?;
                Ok(TokenRows::Single(self.masked(client, tokenized)?))
            }
            scenario::ObjectiveSpec::Dpo { .. } => {
                let form = translate::pair_form(self.spec().data.pairs);
                Ok(TokenRows::Pairs(tokenize_preferences(client, &self.tokenizer, &self.rules, form)?.pairs))
            }
        }
    }

    /// Returns the samples with the masking that the scenario asks for.
    fn masked(&self, client: &ClientData, tokenized: Tokenized) -> Result<Vec<Sample>, InputError> {
        let Tokenized { samples, rows, .. } = tokenized;
        if self.spec().data.masking == scenario::Masking::ByConstruction {
            return Ok(samples);
        }
        let Prompts::Template(template) = self.rules.prompts else {
            return Err(InputError::Usage("failed to use data.masking: a chat template has no key to look for".into()));
        };
        if client.rows.first().is_some_and(|row| row.kind() == RowKind::MultiTurn) {
            // The published collator trains on nothing of a dialogue that contains the key.
            let trained = samples.into_iter().zip(rows).filter(|&(_, row)| !holds_key(&client.rows[row], template));
            return Ok(trained.map(|(sample, _)| sample).collect());
        }
        let key = key_ids(template, &self.tokenizer)
            .map_err(|what| InputError::Usage(format!("failed to tokenise the key of data.template: {what}")))?;
        // The original pads rows with Llama's unknown token, whose id is 0.
        Ok(samples.iter().filter_map(|sample| after_last_key(sample, &key, 0)).collect())
    }

    /// Tokenizes the rows of all clients into one list, in order.
    pub fn pooled(&self, data: &Federation) -> Result<Rows, InputError> {
        let mut clients = self.tokenized(&data.clients.iter().collect::<Vec<_>>())?.into_iter();
        let mut pooled = clients.next().expect("a federation has a client");
        for rows in clients {
            pooled.append(rows);
        }
        if pooled.count() == 0 {
            return Err(InputError::Usage(
                "failed to use data.test_file: all of its rows have prompts that are too long for data.max_seq_length"
                    .into(),
            ));
        }
        Ok(pooled.picked(&(0..pooled.count()).collect::<Vec<_>>()))
    }

    /// Reads, partitions and tokenizes everything.
    ///
    /// # Errors
    /// The first fault of a file, client or row.
    pub fn read(self) -> Result<TokenData, InputError> {
        let mut read = BTreeMap::new();
        let data = self.partitioned(&mut read)?;
        let clients = Arc::new(self.clients(&data)?);
        let mut test = None;
        if let Some(file) = &self.spec().data.test_file {
            let (data, path) = self.federation(file)?;
            read.insert("test_data".to_owned(), input(path, data.content_hash));
            test = Some(Arc::new(self.pooled(&data)?));
        }
        self.note_text(&mut read);
        Ok(TokenData { clients, test, tokenizer: Arc::new(self.tokenizer), read })
    }
}

/// Data of a scenario as tokenized rows.
#[derive(Clone)]
pub(super) struct TokenData {
    pub clients: Arc<Vec<ClientRows>>,
    pub test: Option<Arc<Rows>>,
    pub tokenizer: Arc<Tokenizer>,
    /// Path and hash of each input, by role.
    pub read: BTreeMap<String, Input>,
}

/// Records that the data is a synthetic twin, by an input with that role.
fn note_twin(data: &Federation, path: &Path, read: &mut BTreeMap<String, Input>) {
    if let Some(name) = data.clients.first().and_then(|client| twin_of(&client.id)) {
        read.insert(format!("synthetic_twin_of_{name}"), input(path.to_owned(), data.content_hash));
    }
}

/// Returns one client with the training rows and the held-out rows of all clients.
fn pooled(clients: &[ClientRows]) -> ClientRows {
    let train: Vec<_> = clients.iter().map(|client| client.train.clone()).collect();
    let held_out: Vec<_> = clients.iter().map(|client| client.held_out.clone()).collect();
    ClientRows { id: "all".into(), train: Arc::new(Rows::pooled(&train)), held_out: Arc::new(Rows::pooled(&held_out)) }
}
