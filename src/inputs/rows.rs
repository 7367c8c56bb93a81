//! Reads the data that a scenario points to: files become clients with their rows, and rows become tokens.

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
    BadRows, ClientData, ClientRows, Federation, LongPrompts, Prompts, RowKind, Rows, Sample, SequenceRules, Tokenised,
    Tokeniser, after_last_key, hold_out, holds_key, key_ids, partition, tokenise, tokenise_preferences, twin_of,
};
use crate::ledger::Input;
use crate::scenario;
use crate::scenario::{Loaded, Scenario};
use crate::store::Store;

/// Reads the data of a scenario.
pub(super) struct Reader<'a> {
    loaded: &'a Loaded,
    tokeniser_folder: PathBuf,
    tokeniser: Tokeniser,
    rules: SequenceRules,
    /// Where tokens are kept.
    store: &'a Store,
}

impl<'a> Reader<'a> {
    pub fn new(loaded: &'a Loaded, store: &'a Store) -> Result<Self, InputError> {
        let scenario = &loaded.scenario;
        let tokeniser_folder = match &scenario.model.tokenizer {
            Some(folder) => loaded.resolve(folder),
            None => model_folder(loaded)?.ok_or_else(|| only_planned("model.folder is missing"))?,
        };
        let prompts = prompts(scenario.data.template, &tokeniser_folder)?;
        let max_tokens = scenario.data.max_seq_length as usize;
        let long_prompts = match scenario.data.long_prompts {
            scenario::LongPrompts::Refuse => LongPrompts::Refuse,
            scenario::LongPrompts::Skip => LongPrompts::Skip,
        };
        let learns_last_question = scenario.data.last_question == scenario::LastQuestion::Learnt;
        let rules = SequenceRules { prompts, max_tokens, long_prompts, learns_last_question };
        let tokeniser = Tokeniser::load(&tokeniser_folder)?;
        Ok(Self { loaded, tokeniser_folder, tokeniser, rules, store })
    }

    /// Notes what decides how text becomes tokens.
    pub fn note_text(&self, read: &mut BTreeMap<String, Input>) {
        let folder = || self.tokeniser_folder.clone();
        read.insert("tokenizer".to_owned(), input(folder(), self.tokeniser.content_hash()));
        if let Prompts::Chat(template) = &self.rules.prompts {
            read.insert("chat_template".to_owned(), input(folder(), template.content_hash()));
        }
    }

    fn data_file(&self) -> Result<&'a Path, InputError> {
        let file = self.loaded.scenario.data.file.as_deref();
        file.ok_or_else(|| only_planned("data.file is missing"))
    }

    pub fn federation(&self, file: &Path) -> Result<(Federation, PathBuf), InputError> {
        let path = self.loaded.resolve(file);
        let spec = &self.loaded.scenario.data;
        let bad_rows = match spec.bad_rows {
            scenario::BadRows::Refuse => BadRows::Refuse,
            scenario::BadRows::Skip => BadRows::Skip,
        };
        let data = Federation::read_columns(&path, &translate::columns(&spec.columns), bad_rows)?;
        if let Some(first) = data.skipped.first() {
            let (count, client, row, fault) = (data.skipped.len(), &first.client, first.row, &first.fault);
            tracing::warn!(
                target: "fedreplay::run",
                "{count} rows of {} were left out; the first is row {row} of client {client:?}: {fault}",
                path.display()
            );
        }
        Ok((data, path))
    }

    /// The data with its rows dealt to clients.
    pub fn dealt(&self, read: &mut BTreeMap<String, Input>) -> Result<Federation, InputError> {
        let (mut data, path) = self.federation(self.data_file()?)?;
        note_twin(&data, &path, read);
        let spec = &self.loaded.scenario.data;
        let seed = Seed(self.loaded.scenario.seed);
        data.clients =
            partition(std::mem::take(&mut data.clients), &translate::dealing(&spec.partition), spec.rows, seed)
                .map_err(|what| InputError::Usage(format!("failed to deal the rows of {}: {what}", path.display())))?;
        read.insert("data".to_owned(), input(path, data.content_hash));
        Ok(data)
    }

    pub fn clients(&self, data: &Federation) -> Result<Vec<ClientRows>, InputError> {
        let named = self.loaded.scenario.data.clients.as_deref();
        if let Some(missing) =
            named.and_then(|ids| ids.iter().find(|id| data.clients.iter().all(|client| client.id != **id)))
        {
            return Err(InputError::Usage(format!(
                "failed to find the client \"{missing}\" of data.clients in the data"
            )));
        }
        let is_wanted = |client: &ClientData| named.is_none_or(|ids| ids.contains(&client.id));
        // A client keeps its number in the file for its split, so that a client of fewer has the rows that it has among all.
        let (numbers, wanted): (Vec<_>, Vec<_>) =
            data.clients.iter().enumerate().filter(|(_, client)| is_wanted(client)).unzip();
        let rows = self.tokenised(&wanted)?;
        let each = numbers.iter().zip(&wanted).zip(&rows);
        let clients = each
            .map(|((&index, client), rows)| self.client(index as u64, client, rows))
            .collect::<Result<Vec<_>, _>>()?;
        match self.loaded.scenario.algorithm {
            scenario::Algorithm::Centralised => Ok(vec![pooled(&clients)]),
            _ => Ok(clients),
        }
    }

    fn client(&self, index: u64, client: &ClientData, rows: &TokenRows) -> Result<ClientRows, InputError> {
        if rows.count() == 0 {
            return Err(InputError::Usage(format!(
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

    /// Each client's rows as the objective reads them.
    fn tokenised(&self, clients: &[&ClientData]) -> Result<Vec<TokenRows>, InputError> {
        let Scenario { data, training, .. } = &self.loaded.scenario;
        let chat = match &self.rules.prompts {
            Prompts::Template(_) => None,
            Prompts::Chat(template) => Some(*template.content_hash().as_bytes()),
        };
        let rules = (
            (*self.tokeniser.content_hash().as_bytes(), chat, data.template, data.max_seq_length),
            (data.long_prompts, data.last_question, data.masking, data.pairs, training.objective),
        );
        token_cache::kept(self.store, &rules, clients, |client| self.tokenised_now(client))
    }

    fn tokenised_now(&self, client: &ClientData) -> Result<TokenRows, InputError> {
        match self.loaded.scenario.training.objective {
            scenario::Objective::Sft => {
                let tokenised = tokenise(client, &self.tokeniser, &self.rules)?;
                Ok(TokenRows::Single(self.masked(client, tokenised)?))
            }
            scenario::Objective::Dpo { .. } => {
                let form = translate::pair_form(self.loaded.scenario.data.pairs);
                Ok(TokenRows::Pairs(tokenise_preferences(client, &self.tokeniser, &self.rules, form)?.pairs))
            }
        }
    }

    /// The samples with the labels that the scenario asks for.
    fn masked(&self, client: &ClientData, tokenised: Tokenised) -> Result<Vec<Sample>, InputError> {
        let Tokenised { samples, rows, .. } = tokenised;
        if self.loaded.scenario.data.masking == scenario::Masking::ByConstruction {
            return Ok(samples);
        }
        let Prompts::Template(template) = self.rules.prompts else {
            return Err(InputError::Usage("failed to use data.masking: a chat template has no key to look for".into()));
        };
        if client.rows.first().is_some_and(|row| row.kind() == RowKind::MultiTurn) {
            let kept = samples.into_iter().zip(rows).filter(|&(_, row)| !holds_key(&client.rows[row], template));
            return Ok(kept.map(|(sample, _)| sample).collect());
        }
        let key = key_ids(template, &self.tokeniser)
            .map_err(|what| InputError::Usage(format!("failed to tokenise the key of data.template: {what}")))?;
        // Rows are padded with Llama's unknown token there.
        Ok(samples.iter().filter_map(|sample| after_last_key(sample, &key, 0)).collect())
    }

    /// All clients' rows as one list, in order.
    pub fn pooled(&self, data: &Federation) -> Result<Rows, InputError> {
        let mut clients = self.tokenised(&data.clients.iter().collect::<Vec<_>>())?.into_iter();
        let mut pooled = clients.next().expect("a federation has a client");
        clients.for_each(|rows| pooled.append(rows));
        if pooled.count() == 0 {
            return Err(InputError::Usage(
                "failed to use data.test_file: all of its rows have prompts that are too long for data.max_seq_length"
                    .into(),
            ));
        }
        Ok(pooled.picked(&(0..pooled.count()).collect::<Vec<_>>()))
    }

    /// Reads, deals and tokenises everything.
    ///
    /// # Errors
    /// The first thing that is wrong with a file, client or row.
    pub fn read(self) -> Result<TokenData, InputError> {
        let mut read = BTreeMap::new();
        let data = self.dealt(&mut read)?;
        let clients = Arc::new(self.clients(&data)?);
        let mut test = None;
        if let Some(file) = &self.loaded.scenario.data.test_file {
            let (data, path) = self.federation(file)?;
            read.insert("test_data".to_owned(), input(path, data.content_hash));
            test = Some(Arc::new(self.pooled(&data)?));
        }
        self.note_text(&mut read);
        Ok(TokenData { clients, test, tokeniser: Arc::new(self.tokeniser), read })
    }
}

/// The data of a scenario as token rows.
#[derive(Clone)]
pub(super) struct TokenData {
    pub clients: Arc<Vec<ClientRows>>,
    pub test: Option<Arc<Rows>>,
    pub tokeniser: Arc<Tokeniser>,
    /// Where each input lay and what it hashed to, by role.
    pub read: BTreeMap<String, Input>,
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
