//! Layouts of dataset files, and the policy for rows that cannot be used.

use super::error::RowFault;

/// Id of the only client of a pooled file. It does not depend on the file's name, so renaming the file changes nothing.
pub const LOCAL_CLIENT: &str = "local";

/// The layout of a dataset file, after section 1.3 of the description of FedLLM-Bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileForm {
    /// `{client: [row, ...], ...}`.
    Federated,
    /// `[row, ...]`: one client, [`LOCAL_CLIENT`].
    Array,
    /// JSON Lines, one row per line: one client, [`LOCAL_CLIENT`].
    Lines,
    /// A Parquet file: one client, [`LOCAL_CLIENT`].
    Parquet,
}

/// The policy for rows that cannot be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BadRows {
    /// Refuses the file.
    #[default]
    Refuse,
    /// Leaves the row out and records it; a client without usable rows is left out as well. Malformed JSON is still an
    /// error.
    Skip,
}

/// A row that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedRow {
    /// The client's id.
    pub client: String,
    /// Index of the row within its client, as in the file, from 0.
    pub row: usize,
    /// The reason.
    pub fault: RowFault,
}

impl FileForm {
    /// Detects the layout of a file that starts with `head`.
    ///
    /// An object is federated if its first key holds a list or an object. The first key of a row holds text, except for
    /// `conversations`. Anything else is read as federated, and that reader's errors say what was expected.
    pub(super) fn of(head: &[u8]) -> Self {
        // Looks past `{ "key" :` at the first byte of the first value.
        let mut rest = head.trim_ascii_start();
        match rest.first() {
            Some(b'[') => return Self::Array,
            Some(b'{') => rest = rest[1..].trim_ascii_start(),
            _ => return Self::Federated,
        }
        let Some((key, after)) = quoted(rest) else { return Self::Federated };
        let value = after.trim_ascii_start().strip_prefix(b":").map(<[u8]>::trim_ascii_start);
        match value.and_then(<[u8]>::first) {
            None | Some(b'{') => Self::Federated,
            Some(b'[') if key != b"conversations" => Self::Federated,
            Some(_) => Self::Lines,
        }
    }
}

/// Splits a JSON string off the front. Returns its raw content and what follows the closing quote.
fn quoted(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let inside = text.strip_prefix(b"\"")?;
    let mut escaped = false;
    for (place, &byte) in inside.iter().enumerate() {
        if byte == b'"' && !escaped {
            return Some((&inside[..place], &inside[place + 1..]));
        }
        // A backslash escapes the next byte, unless it is escaped itself.
        escaped = byte == b'\\' && !escaped;
    }
    None
}
