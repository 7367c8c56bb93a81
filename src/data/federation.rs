//! Datasets split by client, as FedLLM-Bench stores them on disk, and pooled datasets read as a single client.

use std::io::Read;
use std::path::Path;

use super::columns::Columns;
use super::content::RowKind;
use super::error::{DatasetError, RowFault, SkippedRow};
use super::file_form::{BadRows, FileForm};
use super::intake::Each;
use super::row::{Row, RowPlace};
use super::walk::Walk;

/// The clients of a dataset with their rows, in the order of the file.
///
/// # Examples
///
/// ```
/// use std::path::Path;
///
/// use fedreplay::data::{BadRows, Federation, FileForm, RowKind};
///
/// let federation = Federation::read(Path::new("fixtures/skills/train.json"), BadRows::Refuse)?;
/// assert_eq!(federation.form, FileForm::Federated);
/// assert_eq!(federation.kind, RowKind::SingleTurn);
/// assert_eq!(federation.clients.len(), 24);
/// assert_eq!(federation.clients[0].id, "anna_00");
/// assert_eq!(federation.rows(), 1310);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Federation {
    /// Clients by index; never empty, and each client has at least one row.
    pub clients: Vec<ClientData>,
    /// The kind of every row.
    pub kind: RowKind,
    /// The layout that was detected.
    pub form: FileForm,
    /// Rows that were left out under [`BadRows::Skip`].
    pub skipped: Vec<SkippedRow>,
    /// Clients that were left out under [`BadRows::Skip`], since they have no usable row.
    pub empty_clients: Vec<String>,
    /// BLAKE3 of the file's bytes; of a folder, of the names and hashes of its files.
    pub content_hash: blake3::Hash,
}

/// The rows of one client.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientData {
    /// Arbitrary text, unique within the federation.
    pub id: String,
    /// At least one row, in the order of the file.
    pub rows: Vec<Row>,
}

impl ClientData {
    /// Returns the record of a row that is left out for this fault, with its place in the file.
    pub(super) fn without(&self, row: usize, fault: RowFault) -> SkippedRow {
        match &self.rows[row].place {
            Some(RowPlace { client, row, line }) => {
                SkippedRow { client: client.to_string(), row: *row, line: *line, fault }
            }
            None => SkippedRow { client: self.id.clone(), row, line: None, fault },
        }
    }
}

impl Federation {
    /// Reads the file or folder at `path` and detects its layout from the first bytes. Rows are parsed one at a time.
    ///
    /// # Errors
    /// A file that cannot be read or parsed (with line and column), a duplicate client or one without rows, a row with
    /// a missing key, a value of the wrong type or an empty answer, rows of different kinds, or a row above 64 MiB.
    pub fn read(path: &Path, bad_rows: BadRows) -> Result<Self, DatasetError> {
        Self::read_columns(path, &Columns::FedLlmBench, bad_rows)
    }

    /// Reads a dataset that has its own column names. Parquet, gzip and Zstandard are known by a file's first bytes, CSV by
    /// its ending.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_columns(path: &Path, columns: &Columns, bad_rows: BadRows) -> Result<Self, DatasetError> {
        Self::collected(|each| Walk::columns(path, columns, bad_rows, each))
    }

    /// Reads a dataset in JSON from any reader; `path` appears in error messages only.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_from(reader: impl Read, path: &Path, bad_rows: BadRows) -> Result<Self, DatasetError> {
        Self::read_columns_from(reader, path, &Columns::FedLlmBench, bad_rows)
    }

    /// Reads a dataset in JSON that has its own column names from any reader; `path` appears in error messages only.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_columns_from(
        reader: impl Read,
        path: &Path,
        columns: &Columns,
        bad_rows: BadRows,
    ) -> Result<Self, DatasetError> {
        Self::collected(|each| Walk::rows(reader, path, columns, bad_rows, each))
    }

    /// Collects the rows that `walk` passes to its callback.
    fn collected(walk: impl FnOnce(Each) -> Result<Walk, DatasetError>) -> Result<Self, DatasetError> {
        let mut clients: Vec<ClientData> = Vec::new();
        let Walk { kind, form, skipped, empty_clients, content_hash } = walk(&mut |client, place, row| {
            // Clients come one after another, so place 0 marks the start of the next one.
            if place == 0 {
                clients.push(ClientData { id: client.to_owned(), rows: vec![] });
            }
            clients.last_mut().expect("a client's first row came before").rows.push(row);
        })?;
        Ok(Self { clients, kind, form, skipped, empty_clients, content_hash })
    }

    /// Returns the number of rows of all clients together.
    pub fn rows(&self) -> usize {
        self.clients.iter().map(|client| client.rows.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Content, LOCAL_CLIENT};
    use super::*;

    fn read(text: &str) -> Result<Federation, DatasetError> {
        Federation::read_from(text.as_bytes(), Path::new("data.json"), BadRows::Refuse)
    }

    fn refused(text: &str) -> String {
        read(text).unwrap_err().to_string()
    }

    const ROW: &str = r#"{"instruction": "i", "response": "r"}"#;

    #[test]
    fn clients_keep_the_order_of_the_file() {
        let text = format!(r#"{{"z": [{ROW}], "a": [{ROW}, {ROW}]}}"#);
        let federation = read(&text).unwrap();
        let ids: Vec<_> = federation.clients.iter().map(|client| (client.id.as_str(), client.rows.len())).collect();
        assert_eq!(ids, [("z", 1), ("a", 2)]);
        assert_eq!(
            (federation.form, federation.kind, federation.rows()),
            (FileForm::Federated, RowKind::SingleTurn, 3)
        );
        assert_eq!(federation.content_hash, blake3::hash(text.as_bytes()));
    }

    #[test]
    fn pooled_forms_are_one_client() {
        for (text, form) in
            [(format!("\u{feff}[{ROW}, {ROW}]"), FileForm::Array), (format!("{ROW}\n\n{ROW}\n"), FileForm::Lines)]
        {
            let federation = read(&text).unwrap();
            assert_eq!(federation.form, form);
            assert_eq!((federation.clients.len(), federation.rows()), (1, 2));
            assert_eq!(federation.clients[0].id, LOCAL_CLIENT);
        }
    }

    #[test]
    fn a_list_that_is_called_data_has_the_rows_of_one_client() {
        for key in ["data", "rows", "examples", "instances", "records"] {
            let federation = read(&format!(r#"{{"{key}": [{ROW}, {ROW}], "info": {{"version": 1}}}}"#)).unwrap();
            let ids: Vec<_> = federation.clients.iter().map(|client| (client.id.as_str(), client.rows.len())).collect();
            assert_eq!((federation.form, ids), (FileForm::Wrapped, vec![(LOCAL_CLIENT, 2)]), "{key}");
        }
        let refusal = refused(&format!(r#"{{"data": [{ROW}], "alice": [{ROW}]}}"#));
        assert!(refusal.contains(r#"rename "data" if it is a client"#), "{refusal}");
    }

    #[test]
    fn multi_turn_and_preference_forms_are_recognised() {
        let conversation = r#"{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}"#;
        assert_eq!(read(conversation).unwrap().form, FileForm::Lines);
        let federation = read(&format!(r#"{{"c": [{conversation}]}}"#)).unwrap();
        let content = &federation.clients[0].rows[0].content;
        assert!(matches!(content, Content::MultiTurn { exchanges, .. } if exchanges.len() == 1));
        let pair = r#"{"prompt": "p", "chosen": "c", "rejected": "r"}"#;
        assert_eq!(read(&format!("[{pair}]")).unwrap().kind, RowKind::Preference);
        assert_eq!(
            refused(&format!("[{pair},\n{ROW}]")),
            "failed to read data.json at line 2: client \"local\", row 1: \
             it is a single-turn row in a file of preference rows"
        );
    }

    #[test]
    fn faults_name_client_row_and_line() {
        assert_eq!(
            refused(&format!("{{\"a\": [{ROW}],\n \"b\": [{ROW},\n {{\"instruction\": \"i\"}}\n]}}")),
            "failed to read data.json at line 3: client \"b\", row 1: it has no \"response\"; its other keys: none"
        );
        assert_eq!(
            refused(&format!("{ROW}\n{{\"instruction\": [], \"response\": \"r\"}}\n")),
            "failed to read data.json at line 2: client \"local\", row 1: \
             its \"instruction\" must be a string and is a list"
        );
        assert_eq!(
            refused(&format!("{{\"a\": [{ROW}],\n\"b\": []}}")),
            "failed to read data.json at line 2: client \"b\" has no usable row; remove it or give it one"
        );
        assert_eq!(
            refused(&format!("{{\"a\": [{ROW}], \"a\": [{ROW}]}}")),
            "failed to read data.json at line 1: client \"a\" appears twice; ids must be unique"
        );
    }

    #[test]
    fn broken_json_is_placed() {
        assert_eq!(
            refused("{\"a\": [{\"instruction\": \"i\",\n  \"response\": oops}]}"),
            "failed to read data.json at line 2: client \"a\", row 0: it is not JSON, at line 2, column 15: expected value"
        );
        assert!(refused("{\"a\": {\"instruction\": \"i\"}}").contains("expected a list of rows"));
        assert!(refused("\"text\"").contains("expected an object of clients"));
        assert!(refused("").contains("EOF while parsing a value"));
        assert!(refused(&format!("{{\"a\": [{ROW}]}} x")).contains("trailing characters"));
        assert!(refused(&format!("{{\"a\": [{ROW}")).contains("(client \"a\", row 1): EOF"));
        let invalid = Federation::read_from(&b"[{\"instruction\": \"\xff\"}]"[..], Path::new("d"), BadRows::Refuse);
        assert!(invalid.unwrap_err().to_string().contains("invalid unicode code point"));
    }

    #[test]
    fn a_file_without_clients_is_refused() {
        assert_eq!(refused("{}"), "failed to read data.json: it holds no client with a usable row");
        assert!(refused("[]").contains("client \"local\" has no usable row"));
        let missing = Federation::read(Path::new("/nowhere/data.json"), BadRows::Refuse).unwrap_err();
        assert!(missing.to_string().starts_with("failed to read /nowhere/data.json: "));
    }

    #[test]
    fn a_row_without_end_is_refused() {
        let endless = std::io::Read::chain(&b"{\"a\": [{\"instruction\": \""[..], std::io::repeat(b'x').take(80 << 20));
        let error = Federation::read_from(endless, Path::new("d"), BadRows::Skip).unwrap_err().to_string();
        assert_eq!(error, "failed to read d (client \"a\", row 0): a row exceeds 67108864 bytes");
    }

    #[test]
    fn skipped_rows_are_recorded() {
        let text = format!(r#"{{"a": [{ROW}, {{"instruction": "i"}}, {ROW}], "b": [7]}}"#);
        let federation = Federation::read_from(text.as_bytes(), Path::new("d"), BadRows::Skip).unwrap();
        assert_eq!((federation.clients.len(), federation.rows()), (1, 2));
        let skipped: Vec<_> = federation.skipped.iter().map(|skip| (skip.client.as_str(), skip.row)).collect();
        assert_eq!(skipped, [("a", 1), ("b", 0)]);
    }

    #[test]
    fn attributes_travel_with_their_row() {
        let federation = read(r#"[{"instruction": "i", "response": "r", "language": "te"}]"#).unwrap();
        assert_eq!(federation.clients[0].rows[0].attributes["language"], json!("te"));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>, tail in "[\\[\\]{}\",:a-z ]{0,40}") {
            for head in [&b"{\"a\": ["[..], &b"["[..], &b""[..]] {
                let text = [head, tail.as_bytes(), &bytes].concat();
                let _ = Federation::read_from(&text[..], Path::new("d"), BadRows::Skip);
            }
        }
    }
}
