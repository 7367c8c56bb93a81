//! Reader of a scenario's data: files become clients with rows, and rows become tokens.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fedreplay_sim::Seed;

use super::error::InputError;
use super::files::{input, model_folder};
use super::row_account::RowAccount;
use super::token_cache::{ClientTokens, TokenFault, TokenRows};
use super::translate::prompts;
use super::{token_cache, translate};
use crate::data::{
    BadRows, ChatTemplate, ClientData, ClientRows, Federation, LongPrompts, Prompts, RowFault, RowKind, Rows, Sample,
    SequenceRules, SkippedRow, Tokenized, Tokenizer, after_last_key, hold_out, holds_key, key_ids, partition,
    tokenize_usable, tokenize_usable_preferences, twin_of,
};
use crate::ledger::{Input, LeftOut};
use crate::scenario;
use crate::scenario::{AggregationSpec, Scenario, ScenarioSpec};
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
            None => model_folder(scenario)?.ok_or(InputError::TimesOnly { missing: "model.folder" })?,
        };
        let tokenizer = Tokenizer::load(&tokenizer_folder)?;
        warn_of_differences(&tokenizer, &tokenizer_folder);
        let prompts = prompts(&spec.data, &tokenizer, &tokenizer_folder)?;
        if let Prompts::Chat(template) = &prompts {
            say_date(template, spec.data.template_date.as_deref(), "data.template_date");
        }
        let max_tokens = spec.data.max_seq_length as usize;
        let long_prompts = match spec.data.long_prompts {
            scenario::LongPromptsSpec::Refuse => LongPrompts::Refuse,
            scenario::LongPromptsSpec::Skip => LongPrompts::Skip,
        };
        let learns_last_question = spec.data.last_question.get() == scenario::LastQuestion::Learnt;
        let special_tokens = translate::special_tokens(spec.data.special_tokens_in_text.get());
        let rules = SequenceRules { prompts, max_tokens, long_prompts, learns_last_question, special_tokens };
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
        file.ok_or(InputError::TimesOnly { missing: "data.file" })
    }

    /// Reads a data file, and counts the rows that cannot be used.
    fn federation(&self, path: &Path) -> Result<(Federation, RowAccount), InputError> {
        let spec = &self.spec().data;
        // Under any policy the whole file is read, so that all of its faults are known before it is refused.
        let mut data = Federation::read_columns(path, &translate::columns(&spec.columns), BadRows::Skip)?;
        let mut account = RowAccount::new(spec, path);
        data.skipped.iter().for_each(|row| account.add(row));
        account.add_empty_clients(&data.empty_clients);
        let system_prompt = translate::system_prompt(spec);
        for row in data.clients.iter_mut().flat_map(|client| &mut client.rows) {
            if row.system.is_none() {
                row.system.clone_from(&system_prompt);
            }
            if row.lost_opening {
                account.add_first_answer();
            }
        }
        Ok((data, account))
    }

    /// Reads the data, divides its rows among clients and tokenizes them.
    ///
    /// # Errors
    /// The first fault of a file; or all rows that cannot be used and may not be left out.
    pub fn read_clients(&self, notes: &mut Notes) -> Result<Vec<ClientRows>, InputError> {
        let path = self.scenario.resolve(self.data_file()?);
        let (mut data, mut account) = self.federation(&path)?;
        note_twin(&data, &path, &mut notes.read);
        let spec = &self.spec().data;
        let rule = translate::row_partition(&spec.partition);
        match partition(std::mem::take(&mut data.clients), &rule, spec.rows, Seed(self.spec().seed)) {
            Ok(dealt) => {
                dealt.skipped.iter().for_each(|row| account.add(row));
                data.clients = dealt.clients;
            }
            Err(source) => {
                // Too few rows may be left because others cannot be used.
                account.check()?;
                return Err(InputError::Partition { file: path, source });
            }
        }
        notes.read.insert("data".to_owned(), input(path, data.content_hash));
        let clients = self.clients(&data, &mut account)?;
        notes.note("data", account.finish());
        Ok(clients)
    }

    /// Tokenizes the rows of the clients that the scenario selects, and splits them into training and held-out rows.
    fn clients(&self, data: &Federation, account: &mut RowAccount) -> Result<Vec<ClientRows>, InputError> {
        let named = self.spec().data.clients.as_deref();
        for id in named.unwrap_or_default() {
            if data.clients.iter().all(|client| client.id != *id) {
                return Err(InputError::NoClient { client: id.clone() });
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
        let tokens = self.tokenized(&wanted, account)?;
        account.check()?;
        let mut clients = Vec::with_capacity(wanted.len());
        for ((number, client), rows) in numbers.into_iter().zip(wanted).zip(&tokens) {
            if rows.count() == 0 {
                account.add_client_without_rows(&client.id);
            } else {
                clients.push(self.client(number as u64, client, rows));
            }
        }
        if clients.is_empty() {
            return Err(InputError::NoUsableRow { summary: account.summary() });
        }
        match self.spec().algorithm {
            scenario::Algorithm::Centralised => Ok(vec![pooled(&clients)]),
            _ => Ok(clients),
        }
    }

    /// Splits the rows of one client, of which there is at least one.
    fn client(&self, index: u64, client: &ClientData, rows: &TokenRows) -> ClientRows {
        let seed = Seed(self.spec().seed);
        let split = hold_out(seed, index, rows.count(), self.spec().data.held_out);
        let train = Arc::new(rows.picked(&split.train));
        let held_out = Arc::new(rows.picked(&split.held_out));
        ClientRows { id: client.id.clone(), train, held_out }
    }

    /// Returns each client's rows as tokens, cached under everything that decides them. Rows without tokens are counted.
    fn tokenized(&self, clients: &[&ClientData], account: &mut RowAccount) -> Result<Vec<TokenRows>, InputError> {
        let ScenarioSpec { data, training, .. } = self.spec();
        let chat = match &self.rules.prompts {
            Prompts::Template(_) => None,
            Prompts::Chat(template) => Some(*template.content_hash().as_bytes()),
        };
        let rules = (
            (*self.tokenizer.content_hash().as_bytes(), chat, data.template, data.max_seq_length),
            (data.long_prompts, data.last_question.get(), data.masking.get(), data.pairs.get(), training.objective),
            (data.special_tokens_in_text.get(), &data.columns),
        );
        let tokens = token_cache::cached(self.store, &rules, clients, |client| self.tokenized_now(client))?;
        let mut all = Vec::with_capacity(tokens.len());
        for (client, ClientTokens { rows, faults }) in clients.iter().zip(tokens) {
            for TokenFault { row, reason, message } in faults {
                account.add_token_fault(client, row as usize, reason, &message);
            }
            all.push(rows);
        }
        Ok(all)
    }

    /// Tokenizes the rows of one client, as the training objective needs them.
    fn tokenized_now(&self, client: &ClientData) -> Result<ClientTokens, InputError> {
        match self.spec().training.objective {
            scenario::ObjectiveSpec::Sft => {
                let Tokenized { samples, rows, skipped, .. } = tokenize_usable(client, &self.tokenizer, &self.rules);
                let faults = token_faults(client.rows.len(), &rows, &skipped);
                self.masked(client, samples, rows, faults)
            }
            scenario::ObjectiveSpec::Dpo { .. } => {
                let form = translate::pair_form(&self.spec().data);
                let tokens = tokenize_usable_preferences(client, &self.tokenizer, &self.rules, form);
                let faults = token_faults(client.rows.len(), &tokens.rows, &tokens.skipped);
                Ok(ClientTokens { rows: TokenRows::Pairs(tokens.pairs), faults })
            }
        }
    }

    /// Returns the samples with the masking that the scenario asks for; `rows` are the indices of their rows.
    fn masked(
        &self,
        client: &ClientData,
        samples: Vec<Sample>,
        rows: Vec<usize>,
        mut faults: Vec<TokenFault>,
    ) -> Result<ClientTokens, InputError> {
        if self.spec().data.masking.get() == scenario::Masking::ByConstruction {
            return Ok(ClientTokens { rows: TokenRows::Single(samples), faults });
        }
        let Prompts::Template(template) = self.rules.prompts else {
            return Err(InputError::NoMaskingKey);
        };
        let is_dialogue = client.rows.first().is_some_and(|row| row.kind() == RowKind::MultiTurn);
        let key = match is_dialogue {
            true => vec![],
            false => key_ids(template, &self.tokenizer).map_err(InputError::MaskingKey)?,
        };
        let mut masked = Vec::with_capacity(samples.len());
        for (sample, row) in samples.into_iter().zip(rows) {
            let labeled = if is_dialogue {
                // The published collator trains on nothing of a dialogue that contains the key.
                Some(sample).filter(|_| !holds_key(&client.rows[row], template))
            } else {
                // The original pads rows with Llama's unknown token, whose id is 0.
                after_last_key(&sample, &key, 0)
            };
            match labeled {
                Some(sample) => masked.push(sample),
                None => faults.push(TokenFault::new(row, &RowFault::NoKey)),
            }
        }
        Ok(ClientTokens { rows: TokenRows::Single(masked), faults })
    }

    /// Reads the rows of the test file, if the scenario has one.
    fn read_test(&self, notes: &mut Notes) -> Result<Option<Arc<Rows>>, InputError> {
        let Some(file) = &self.spec().data.test_file else { return Ok(None) };
        self.read_pooled(file, ("test_data", "data.test_file"), notes).map(Some)
    }

    /// Reads the rows that the server trains on by itself, if the scenario's rule needs them.
    ///
    /// # Errors
    /// The first fault of the file; or all rows that cannot be used and may not be left out.
    pub fn read_root(&self, notes: &mut Notes) -> Result<Option<Arc<Rows>>, InputError> {
        let AggregationSpec::FlTrust { .. } = self.spec().server.aggregation else { return Ok(None) };
        let file = self.spec().data.root_file.as_ref().expect("the scenario's check asks for the file");
        self.read_pooled(file, ("root_data", "data.root_file"), notes).map(Some)
    }

    /// Reads the rows of a file and tokenizes them into one list, in order. The file has a role among the inputs, and a field.
    fn read_pooled(
        &self,
        file: &Path,
        (role, field): (&str, &'static str),
        notes: &mut Notes,
    ) -> Result<Arc<Rows>, InputError> {
        let path = self.scenario.resolve(file);
        let (data, mut account) = self.federation(&path)?;
        notes.read.insert(role.to_owned(), input(path, data.content_hash));
        let clients: Vec<&ClientData> = data.clients.iter().collect();
        let mut clients = self.tokenized(&clients, &mut account)?.into_iter();
        account.check()?;
        let mut pooled = clients.next().expect("a federation has a client");
        for rows in clients {
            pooled.append(rows);
        }
        if pooled.count() == 0 {
            return Err(InputError::NoUsableRowIn { field, summary: account.summary() });
        }
        notes.note(role, account.finish());
        Ok(Arc::new(pooled.picked(&(0..pooled.count()).collect::<Vec<_>>())))
    }

    /// Reads, partitions and tokenizes everything.
    ///
    /// # Errors
    /// As [`Self::read_clients`], for the data, the test file and the file of the server's own rows.
    pub fn read(self) -> Result<TokenData, InputError> {
        let mut notes = Notes::default();
        let clients = Arc::new(self.read_clients(&mut notes)?);
        let test = self.read_test(&mut notes)?;
        let root = self.read_root(&mut notes)?;
        self.note_text(&mut notes.read);
        let Notes { read, left_out } = notes;
        Ok(TokenData { clients, test, root, tokenizer: Arc::new(self.tokenizer), read, left_out })
    }
}

/// Facts about the data that were read, for the manifest.
#[derive(Default)]
pub(super) struct Notes {
    /// Path and hash of each input, by role.
    pub read: BTreeMap<String, Input>,
    /// Rows that take no part, by the role of their file.
    pub left_out: BTreeMap<String, LeftOut>,
}

impl Notes {
    fn note(&mut self, role: &str, left_out: LeftOut) {
        if !left_out.is_empty() {
            self.left_out.insert(role.to_owned(), left_out);
        }
    }
}

/// Returns the faults of the rows that were left out of `count`; `used` are the indices of the others.
fn token_faults(count: usize, used: &[usize], skipped: &[SkippedRow]) -> Vec<TokenFault> {
    let unused = (0..count).filter(|row| used.binary_search(row).is_err());
    unused.zip(skipped).map(|(row, skipped)| TokenFault::new(row, &skipped.fault)).collect()
}

/// Data of a scenario as tokenized rows.
#[derive(Clone)]
pub(super) struct TokenData {
    pub clients: Arc<Vec<ClientRows>>,
    pub test: Option<Arc<Rows>>,
    /// Rows that the server trains on by itself.
    pub root: Option<Arc<Rows>>,
    pub tokenizer: Arc<Tokenizer>,
    /// Path and hash of each input, by role.
    pub read: BTreeMap<String, Input>,
    /// Rows that take no part, by the role of their file.
    pub left_out: BTreeMap<String, LeftOut>,
}

/// Says which date a chat template has that asks for the current one.
pub(crate) fn say_date(template: &ChatTemplate, date: Option<&str>, setting: &str) {
    if !template.asks_for_date() {
        return;
    }
    match date {
        Some(date) => tracing::info!(target: "fedreplay::run", "the chat template has the date {date}"),
        None => tracing::warn!(
            target: "fedreplay::run",
            "the chat template asks for the current date and gets none, so that it uses one of its own; {setting} sets it"
        ),
    }
}

/// Warns of ids that the folder has under Transformers 4 and not here.
pub(crate) fn warn_of_differences(tokenizer: &Tokenizer, folder: &Path) {
    for difference in tokenizer.differences() {
        tracing::warn!(target: "fedreplay::run", "the tokenizer {}: {difference}", folder.display());
    }
}

/// Warns of the rows of each file that are left out; `read` has the files' paths.
pub(super) fn warn_of_left_out(left_out: &BTreeMap<String, LeftOut>, read: &BTreeMap<String, Input>) {
    for (role, left_out) in left_out {
        for sentence in left_out.sentences(&read[role].path.display().to_string()) {
            tracing::warn!(target: "fedreplay::run", "{sentence}");
        }
    }
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
