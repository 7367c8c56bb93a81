//! Tokenized rows of clients before they are split, cached in the store under the hash of everything that they depend on.

use std::io::Write;

use serde::{Deserialize, Serialize};

use super::error::InputError;
use crate::data::{ClientData, Preference, Reason, RowFault, Rows, Sample};
use crate::store::{Digest, Key, Store, binary_hash, key_of};

/// Tokenized rows of one kind.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum TokenRows {
    Single(Vec<Sample>),
    Pairs(Vec<Preference>),
}

impl TokenFault {
    pub fn new(row: usize, fault: &RowFault) -> Self {
        Self { row: row as u32, reason: fault.reason(), message: fault.to_string() }
    }
}

impl TokenRows {
    /// Returns the number of rows.
    pub fn count(&self) -> usize {
        match self {
            Self::Single(samples) => samples.len(),
            Self::Pairs(pairs) => pairs.len(),
        }
    }

    /// Appends rows of the same kind.
    pub fn append(&mut self, others: Self) {
        match (self, others) {
            (Self::Single(mine), Self::Single(others)) => mine.extend(others),
            (Self::Pairs(mine), Self::Pairs(others)) => mine.extend(others),
            _ => unreachable!("one objective reads one kind of rows"),
        }
    }

    /// Returns the rows with these indices, in this order.
    pub fn picked(&self, picks: &[usize]) -> Rows {
        match self {
            Self::Single(samples) => Rows::new(picks.iter().map(|&row| samples[row].clone()).collect()),
            Self::Pairs(pairs) => {
                let picked = picks.iter().map(|&row| &pairs[row]);
                Rows::of_pairs(picked.map(|pair| [pair.chosen.clone(), pair.rejected.clone()]).collect())
            }
        }
    }
}

/// Tokenized rows of one client, and the rows that could not be tokenized.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ClientTokens {
    pub rows: TokenRows,
    pub faults: Vec<TokenFault>,
}

/// A row that has no tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TokenFault {
    /// Index among the rows of the client.
    pub row: u32,
    pub reason: Reason,
    /// The fault in words.
    pub message: String,
}

/// Returns the rows of each client from the store, or else from `tokenize`, client by client, and stores them.
///
/// `rules` is everything except the rows that decides their tokens. The program's hash is part of the key, so that results
/// of other code are never used.
///
/// # Errors
/// The first error of `tokenize`, or that the store cannot be written to.
pub(super) fn cached(
    store: &Store,
    rules: &impl Serialize,
    clients: &[&ClientData],
    tokenize: impl Fn(&ClientData) -> Result<ClientTokens, InputError>,
) -> Result<Vec<ClientTokens>, InputError> {
    // Without a store the key, which reads all rows, is not needed.
    let key = if store.is_there() { Some(key(rules, clients)) } else { None };
    if let Some(key) = key {
        let stored = store.get(key).and_then(|bytes| postcard::from_bytes::<Vec<ClientTokens>>(&bytes).ok());
        if let Some(rows) = stored.filter(|rows| rows.len() == clients.len()) {
            return Ok(rows);
        }
    }
    let mut rows = Vec::with_capacity(clients.len());
    for client in clients {
        rows.push(tokenize(client)?);
    }
    if let Some(key) = key {
        store.put(key, &postcard::to_stdvec(&rows).expect("tokens are plain data"))?;
    }
    Ok(rows)
}

/// Returns the key of the tokens of these clients' rows.
fn key(rules: &impl Serialize, clients: &[&ClientData]) -> Key {
    let mut hasher = blake3::Hasher::new();
    for client in clients {
        let written = "a hasher takes all bytes";
        hasher.write_all(&(client.rows.len() as u64).to_le_bytes()).expect(written);
        for row in &client.rows {
            postcard::to_io(&(&row.system, &row.content), &mut hasher).expect(written);
        }
    }
    key_of("fedreplay tokens v1", &(binary_hash(), rules, Digest::from(hasher.finalize())))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::data::{Content, Row};

    fn client(response: &str) -> ClientData {
        let content = Content::SingleTurn { instruction: "Say".into(), response: response.into() };
        ClientData { id: response.into(), rows: vec![Row::from(content)] }
    }

    #[test]
    fn rows_are_tokenized_once_for_each_text_and_rule() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (one, two) = (client("one"), client("two"));
        let count = Cell::new(0);
        let tokenize = |client: &ClientData| {
            count.set(count.get() + 1);
            let targets = std::iter::once(1..2).collect();
            let rows = TokenRows::Single(vec![Sample { ids: vec![client.id.len() as u32, 7], targets }]);
            let fault = TokenFault { row: 1, reason: Reason::TooLong, message: "long".into() };
            Ok(ClientTokens { rows, faults: vec![fault] })
        };
        let cached = |store: &Store, rules: u32, clients: &[&ClientData]| {
            count.set(0);
            (cached(store, &rules, clients, tokenize).unwrap(), count.get())
        };
        let (rows, tokenized) = cached(&store, 1, &[&one, &two]);
        assert_eq!((rows.len(), tokenized), (2, 2));
        assert_eq!(cached(&store, 1, &[&one, &two]), (rows, 0));
        for (rules, clients) in [(2, vec![&one, &two]), (1, vec![&two, &one]), (1, vec![&one])] {
            assert_eq!(cached(&store, rules, &clients).1, clients.len());
        }
        assert_eq!(cached(&Store::none(), 1, &[&one]).1, 1);
    }
}
