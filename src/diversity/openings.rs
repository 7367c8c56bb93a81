//! Openings of instructions: the most frequent branches in the tree of their first words.

use std::collections::BTreeMap;

use crate::dataset::ClientData;

/// Maximum number of words in an opening.
pub const DEPTH: usize = 4;

/// Maximum number of branches at each node of the tree.
const BRANCHES: usize = 4;

/// A common beginning of instructions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The words, in lower case.
    pub words: Vec<String>,
    /// Number of rows with this opening.
    pub rows: u64,
    /// Number of clients with such a row.
    pub clients: u64,
}

/// Returns the most frequent openings of one to four words, in preorder: each opening is followed by its four most
/// frequent continuations.
pub fn openings(clients: &[ClientData]) -> Vec<Opening> {
    let mut found: Vec<(Vec<String>, usize)> = Vec::new();
    for (client, data) in clients.iter().enumerate() {
        for row in &data.rows {
            if let Some(text) = row.asked().first() {
                found.push((first_words(text), client));
            }
        }
    }
    let all: Vec<&(Vec<String>, usize)> = found.iter().collect();
    let mut tree = Vec::new();
    branches(&all, 0, &mut tree);
    tree
}

fn first_words(text: &str) -> Vec<String> {
    text.split_whitespace().take(DEPTH).map(str::to_lowercase).collect()
}

/// Adds the most frequent continuations of the first `depth` words, which all of `rows` share, and recursively theirs.
fn branches(rows: &[&(Vec<String>, usize)], depth: usize, tree: &mut Vec<Opening>) {
    if depth == DEPTH {
        return;
    }
    let mut by_word: BTreeMap<&str, Vec<&(Vec<String>, usize)>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.0.len() > depth) {
        by_word.entry(&row.0[depth]).or_default().push(row);
    }
    let mut words: Vec<_> = by_word.into_iter().collect();
    // A stable sort: ties stay in alphabetical order.
    words.sort_by_key(|(_, rows)| std::cmp::Reverse(rows.len()));
    for (_, rows) in words.into_iter().take(BRANCHES) {
        // Rows are ordered by client, so `dedup` leaves each client once.
        let mut clients: Vec<usize> = rows.iter().map(|row| row.1).collect();
        clients.dedup();
        let words = rows[0].0[..=depth].to_vec();
        tree.push(Opening { words, rows: rows.len() as u64, clients: clients.len() as u64 });
        branches(&rows, depth + 1, tree);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::dataset::{BadRows, Federation};

    #[test]
    fn frequent_openings_come_first_with_their_continuations() {
        let rows = |texts: &[&str]| -> serde_json::Value {
            texts.iter().map(|text| json!({"instruction": text, "response": "r"})).collect()
        };
        let text = json!({"a": rows(&["What is it", "what is that", "Tell me"]), "b": rows(&["what now", ""])});
        let data = Federation::read_from(text.to_string().as_bytes(), "d".as_ref(), BadRows::Refuse).unwrap();
        let found: Vec<(String, u64, u64)> = openings(&data.clients)
            .into_iter()
            .map(|opening| (opening.words.join(" "), opening.rows, opening.clients))
            .collect();
        let expected = [
            ("what", 3, 2),
            ("what is", 2, 1),
            ("what is it", 1, 1),
            ("what is that", 1, 1),
            ("what now", 1, 1),
            ("tell", 1, 1),
            ("tell me", 1, 1),
        ];
        assert_eq!(found, expected.map(|(words, rows, clients)| (words.to_owned(), rows, clients)));
    }
}
