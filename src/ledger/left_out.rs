//! Rows of a run's data that take no part in it, by reason and client.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Rows of a data file that take no part, by reason and client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Number of rows that are left out.
    pub rows: u64,
    /// Number of rows, by reason.
    pub reasons: BTreeMap<String, u64>,
    /// Number of rows of each client of the file, by reason.
    pub clients: BTreeMap<String, BTreeMap<String, u64>>,
    /// Clients that take no part, since they have no usable row.
    pub clients_without_rows: Vec<String>,
    /// Number of conversations without their first message, an answer that no question precedes.
    pub first_answers: u64,
}

/// Number of clients that a sentence names; a manifest names all.
const NAMED: usize = 5;

impl LeftOut {
    /// Counts a row.
    pub fn add(&mut self, client: &str, reason: &str) {
        self.rows += 1;
        *self.reasons.entry(reason.to_owned()).or_default() += 1;
        *self.clients.entry(client.to_owned()).or_default().entry(reason.to_owned()).or_default() += 1;
    }

    /// Returns whether everything takes part.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns what is left out in sentences; `file` names the data.
    pub fn sentences(&self, file: &str) -> Vec<String> {
        let mut sentences = Vec::new();
        if self.rows > 0 {
            let reasons: Vec<String> =
                self.reasons.iter().map(|(reason, count)| format!("{count} with {reason}")).collect();
            let clients: Vec<String> = self
                .clients
                .iter()
                .take(NAMED)
                .map(|(client, reasons)| format!("{client:?} {}", reasons.values().sum::<u64>()))
                .collect();
            let more = match self.clients.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} other clients"),
            };
            let rows = match self.rows {
                1 => format!("1 row of {file} is left out"),
                rows => format!("{rows} rows of {file} are left out"),
            };
            sentences.push(format!("{rows}: {}; by client: {}{more}", reasons.join(", "), clients.join(", ")));
        }
        if !self.clients_without_rows.is_empty() {
            let names: Vec<String> = self.clients_without_rows.iter().take(NAMED).map(|id| format!("{id:?}")).collect();
            let more = match self.clients_without_rows.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} others"),
            };
            let clients = match self.clients_without_rows.len() {
                1 => format!("1 client of {file} takes no part"),
                clients => format!("{clients} clients of {file} take no part"),
            };
            sentences.push(format!("{clients}, for want of a usable row: {}{more}", names.join(", ")));
        }
        match self.first_answers {
            0 => {}
            1 => sentences.push(format!("1 conversation of {file} begins with an answer, which is left out")),
            several => {
                sentences.push(format!("{several} conversations of {file} begin with an answer, which is left out"));
            }
        }
        sentences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_by_reason_and_client() {
        let mut left_out = LeftOut::default();
        assert!(left_out.is_empty() && left_out.sentences("d.json").is_empty());
        for (client, reason) in [("a", "an empty answer"), ("b", "an empty answer"), ("a", "too long a prompt")] {
            left_out.add(client, reason);
        }
        left_out.clients_without_rows.push("b".into());
        left_out.first_answers = 2;
        let expected = [
            "3 rows of d.json are left out: 2 with an empty answer, 1 with too long a prompt; by client: \"a\" 2, \"b\" 1",
            "1 client of d.json takes no part, for want of a usable row: \"b\"",
            "2 conversations of d.json begin with an answer, which is left out",
        ];
        assert_eq!(left_out.sentences("d.json"), expected);
    }
}
