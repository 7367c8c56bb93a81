//! Account of the rows of a data file that cannot be used: those that are left out, and those that keep a run from starting.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::error::InputError;
use super::error::UnusableRows;
use crate::data::{ClientData, Reason, RowPlace, SkippedRow};
use crate::ledger::LeftOut;
use crate::scenario::{BadRowsSpec, Data, LongPromptsSpec};

/// Rows of one data file that cannot be used, divided by what the scenario says of them.
pub(super) struct RowAccount {
    path: PathBuf,
    bad_rows: BadRowsSpec,
    long_prompts: LongPromptsSpec,
    left_out: LeftOut,
    obstacles: BTreeMap<Reason, Obstacle>,
    /// Clients without usable rows that have no bad row either.
    empty_clients: Vec<String>,
    /// Names the settings under which rows with a reason are no obstacle.
    lifted_by: fn(Reason) -> &'static str,
}

/// Rows with one kind of reason.
struct Obstacle {
    rows: u64,
    clients: BTreeSet<String>,
    /// Place and fault of the first of them.
    first: String,
}

impl RowAccount {
    /// Creates the account of a file of a scenario's data.
    pub fn new(data: &Data, path: &Path) -> Self {
        Self { bad_rows: data.bad_rows, long_prompts: data.long_prompts, ..Self::refusing(path, Reason::lifted_by) }
    }

    /// Creates an account that lets no row be left out.
    fn refusing(path: &Path, lifted_by: fn(Reason) -> &'static str) -> Self {
        Self {
            path: path.to_owned(),
            bad_rows: BadRowsSpec::Refuse,
            long_prompts: LongPromptsSpec::Refuse,
            left_out: LeftOut::default(),
            obstacles: BTreeMap::new(),
            empty_clients: vec![],
            lifted_by,
        }
    }

    /// Adds a row that was left out.
    pub fn add(&mut self, row: &SkippedRow) {
        self.add_described(&row.client, row.line, row.fault.reason(), || row.to_string());
    }

    /// Adds a row of this client of the file. `description` names its place and its fault.
    pub fn add_described(
        &mut self,
        client: &str,
        line: Option<usize>,
        reason: Reason,
        description: impl FnOnce() -> String,
    ) {
        let is_left_out = match reason {
            // The scenario chose a masking that trains on nothing of such a row.
            Reason::Key => true,
            Reason::TooLong if self.long_prompts == LongPromptsSpec::Skip => true,
            _ => self.bad_rows == BadRowsSpec::Skip,
        };
        if is_left_out {
            self.left_out.add(client, &reason.to_string());
            return;
        }
        let obstacle = self.obstacles.entry(reason).or_insert_with(|| {
            let at = line.map_or_else(String::new, |line| format!("line {line}, "));
            Obstacle { rows: 0, clients: BTreeSet::new(), first: at + &description() }
        });
        obstacle.rows += 1;
        obstacle.clients.insert(client.to_owned());
    }

    /// Adds a row without tokens, by its index among the rows of a client.
    pub fn add_token_fault(&mut self, client: &ClientData, row: usize, reason: Reason, message: &str) {
        match &client.rows[row].place {
            Some(RowPlace { client, row, line }) => {
                self.add_described(client, *line, reason, || format!("client {client:?}, row {row}: {message}"));
            }
            None => {
                self.add_described(&client.id, None, reason, || format!("client {:?}, row {row}: {message}", client.id))
            }
        }
    }

    /// Adds clients that have no usable row.
    pub fn add_empty_clients(&mut self, ids: &[String]) {
        match self.bad_rows {
            BadRowsSpec::Skip => self.left_out.clients_without_rows.extend_from_slice(ids),
            BadRowsSpec::Refuse => self.empty_clients.extend_from_slice(ids),
        }
    }

    /// Adds a client all of whose rows were left out.
    pub fn add_client_without_rows(&mut self, id: &str) {
        self.left_out.clients_without_rows.push(id.to_owned());
    }

    /// Counts a conversation whose first message is left out.
    pub fn add_first_answer(&mut self) {
        self.left_out.first_answers += 1;
    }

    /// Checks that every row can be used or may be left out.
    ///
    /// # Errors
    /// All kinds of faults at once, each with the number of its rows and the fields that lift it.
    pub fn check(&self) -> Result<(), UnusableRows> {
        let mut kinds = Vec::new();
        for (reason, Obstacle { rows, clients, first }) in &self.obstacles {
            kinds.push(format!(
                "{} of {} with {reason} (the first at {first}; lifted by {})",
                counted(*rows, "row"),
                counted(clients.len() as u64, "client"),
                (self.lifted_by)(*reason)
            ));
        }
        let bad: BTreeSet<&String> = self.obstacles.values().flat_map(|obstacle| &obstacle.clients).collect();
        let empty: Vec<&str> = self.empty_clients.iter().filter(|id| !bad.contains(id)).map(String::as_str).collect();
        if let Some(first) = empty.first() {
            let count = counted(empty.len() as u64, "client");
            let lifted_by = (self.lifted_by)(Reason::Malformed);
            kinds.push(format!("{count} with no usable row (the first is {first:?}; lifted by {lifted_by})"));
        }
        if kinds.is_empty() {
            return Ok(());
        }
        Err(UnusableRows { path: self.path.clone(), kinds })
    }

    /// Returns what is left out in one sentence.
    pub fn summary(&self) -> String {
        self.left_out.sentences(&self.path.display().to_string()).join("; ")
    }

    /// Returns what is left out.
    pub fn finish(self) -> LeftOut {
        self.left_out
    }
}

/// Checks that a file that was read without a scenario has no bad row and no client without rows. `lifted_by` names the
/// options under which rows with a reason are no obstacle.
///
/// # Errors
/// All kinds of faults at once.
pub fn refuse_bad_rows(
    path: &Path,
    skipped: &[SkippedRow],
    empty_clients: &[String],
    lifted_by: fn(Reason) -> &'static str,
) -> Result<(), InputError> {
    let mut account = RowAccount::refusing(path, lifted_by);
    skipped.iter().for_each(|row| account.add(row));
    account.add_empty_clients(empty_clients);
    Ok(account.check()?)
}

fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
