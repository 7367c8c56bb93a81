//! The forms of a file of rows, and what is done with rows that cannot be read.

use super::error::RowFault;

/// The id of the one client of a pooled file. Not the file's name: a renamed file is the same data.
pub const LOCAL_CLIENT: &str = "local";

/// The layouts of section 1.3 of FedLLM-Bench's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileForm {
    /// `{client: [row, ...], ...}`.
    Federated,
    /// `[row, ...]`: one client, [`LOCAL_CLIENT`].
    Array,
    /// One row a line: one client, [`LOCAL_CLIENT`].
    Lines,
    /// A Parquet file: one client, [`LOCAL_CLIENT`].
    Parquet,
}

/// What happens to a row that cannot be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BadRows {
    /// The file is refused.
    #[default]
    Refuse,
    /// The row is left out and recorded; a client left without rows is left out as well. Broken JSON is refused still.
    Skip,
}

/// A row that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedRow {
    /// The client's id.
    pub client: String,
    /// The row's index within its client, as in the file, from 0.
    pub row: usize,
    /// Why.
    pub fault: RowFault,
}

impl FileForm {
    /// The form of a file that starts with `head`.
    ///
    /// An object is federated if its first key holds a list or an object; a row's first key holds text, except for
    /// `conversations`. What fits neither is read as federated, whose errors say what was expected.
    pub(super) fn of(head: &[u8]) -> Self {
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

/// Splits a JSON string off the front: its raw inside, and what follows its closing quote.
fn quoted(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let inside = text.strip_prefix(b"\"")?;
    let mut escaped = false;
    let end = inside.iter().position(|&byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })?;
    Some((&inside[..end], &inside[end + 1..]))
}
