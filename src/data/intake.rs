//! The rows of a dataset on their way from a reader to a callback: places, kinds, and the policy for those that cannot be
//! used.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::columns::{Columns, Shaping};
use super::content::RowKind;
use super::error::{RowFault, SkippedRow};
use super::fields::Fields;
use super::file_form::{BadRows, LOCAL_CLIENT};
use super::row::{Row, RowPlace};
use super::scanner::{ScanError, TextPlace};

/// Callback for accepted rows, in the order of the file: the client's id, the row's index among the client's accepted
/// rows, and the row.
pub(super) type Each<'e> = &'e mut dyn FnMut(&str, usize, Row);

/// Receiver of the rows of a dataset, client by client.
pub(super) struct Intake<'e> {
    each: Each<'e>,
    pub(super) skipped: Vec<SkippedRow>,
    /// Clients that have no usable row.
    pub(super) empty_clients: Vec<String>,
    pub(super) kind: Option<RowKind>,
    open: Option<OpenClient>,
    ids: BTreeSet<String>,
    bad_rows: BadRows,
    shaping: Shaping,
}

/// The client whose rows are being read.
struct OpenClient {
    id: Arc<str>,
    rows_seen: usize,
    rows_taken: usize,
}

/// The reason for stopping before the end.
pub(super) enum Halt {
    /// The text cannot be read on.
    Scan(ScanError),
    /// The file is damaged or in a form that is not read.
    Damaged(String),
    BadRow {
        line: Option<usize>,
        client: String,
        row: usize,
        fault: RowFault,
    },
    EmptyClient {
        line: Option<usize>,
        client: String,
    },
    DuplicateClient {
        line: Option<usize>,
        client: String,
    },
    /// The clients of the file are called as the splits of a dataset.
    Splits(Vec<String>),
}

impl From<ScanError> for Halt {
    fn from(error: ScanError) -> Self {
        Self::Scan(error)
    }
}

impl Halt {
    /// Returns the halt of a text that is not what is expected at this place.
    pub fn at(place: TextPlace, message: &str) -> Self {
        Self::Scan(ScanError::Syntax { place, message: message.to_owned() })
    }
}

impl<'e> Intake<'e> {
    pub fn new(bad_rows: BadRows, columns: Columns, each: Each<'e>) -> Self {
        let shaping = Shaping::new(columns);
        let ids = BTreeSet::new();
        Self { each, skipped: vec![], empty_clients: vec![], kind: None, open: None, ids, bad_rows, shaping }
    }

    /// Returns the current client and row as a clause for an error message.
    pub fn place(&self) -> String {
        match &self.open {
            Some(open) => format!(" (client {:?}, row {})", open.id, open.rows_seen),
            None => String::new(),
        }
    }

    /// Returns the column that holds the instruction, if it is named.
    pub fn instruction_column(&self) -> Option<&str> {
        self.shaping.instruction_column()
    }

    /// Returns whether the columns that hold texts are named.
    pub fn has_named_columns(&self) -> bool {
        self.shaping.has_named_columns()
    }

    /// Returns the ids of all clients so far, in the order of their names.
    pub fn ids(&self) -> &BTreeSet<String> {
        &self.ids
    }

    /// Reads everything as the rows of one client.
    pub fn single_client(&mut self, read: impl FnOnce(&mut Self) -> Result<(), Halt>) -> Result<(), Halt> {
        self.client(LOCAL_CLIENT, None, read)
    }

    /// Reads the rows of the client with this id, which is named on this line.
    pub fn client(
        &mut self,
        id: &str,
        line: Option<usize>,
        read: impl FnOnce(&mut Self) -> Result<(), Halt>,
    ) -> Result<(), Halt> {
        if !self.ids.insert(id.to_owned()) {
            return Err(Halt::DuplicateClient { line, client: id.to_owned() });
        }
        self.open = Some(OpenClient { id: id.into(), rows_seen: 0, rows_taken: 0 });
        read(self)?;
        let OpenClient { id, rows_taken, .. } = self.open.take().expect("the client was opened above");
        if rows_taken > 0 {
            return Ok(());
        }
        let client = id.to_string();
        match self.bad_rows {
            BadRows::Refuse => Err(Halt::EmptyClient { line, client }),
            BadRows::Skip => {
                self.empty_clients.push(client);
                Ok(())
            }
        }
    }

    /// Reads one row, which ends on this line, and passes it on, or treats it as the policy for bad rows says.
    pub fn accept(&mut self, line: Option<usize>, fields: Result<Fields, RowFault>) -> Result<(), Halt> {
        let open = self.open.as_mut().expect("a row is read inside a client");
        let number = open.rows_seen;
        open.rows_seen += 1;
        let shaped = match fields {
            Ok(fields) => self.shaping.row(fields),
            Err(fault) => Err(fault),
        };
        // A repeated instruction that is dropped has a place in the file and is nothing else.
        let Some(row) = shaped.transpose() else { return Ok(()) };
        match row.and_then(|row| of_one_kind(&mut self.kind, row)) {
            Ok(mut row) => {
                row.place = Some(RowPlace { client: open.id.clone(), row: number, line });
                (self.each)(&open.id, open.rows_taken, row);
                open.rows_taken += 1;
                Ok(())
            }
            Err(fault) => {
                let client = open.id.to_string();
                match self.bad_rows {
                    BadRows::Skip => {
                        self.skipped.push(SkippedRow { client, row: number, line, fault });
                        Ok(())
                    }
                    BadRows::Refuse => Err(Halt::BadRow { line, client, row: number, fault }),
                }
            }
        }
    }
}

/// Checks that a row has the kind of the first one.
fn of_one_kind(kind: &mut Option<RowKind>, row: Row) -> Result<Row, RowFault> {
    let expected = *kind.get_or_insert(row.kind());
    if row.kind() == expected { Ok(row) } else { Err(RowFault::OtherKind { expected, found: row.kind() }) }
}
