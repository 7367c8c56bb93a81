//! Row-by-row parsing of a dataset file, with one row in memory at a time.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::columns::{Columns, Shaping};
use super::content::RowKind;
use super::error::RowFault;
use super::file_form::{BadRows, FileForm, SkippedRow};
use super::parquet_rows::for_each_row;
use super::row::Row;
use super::source::Meter;

/// Callback for accepted rows, in the order of the file: the client's id, the row's index among the client's accepted
/// rows, and the row.
pub(super) type Each<'e> = &'e mut dyn FnMut(&str, usize, Row);

/// Parser that passes rows to a callback and knows at which client and row it is.
pub(super) struct Walker<'e> {
    each: Each<'e>,
    pub(super) skipped: Vec<SkippedRow>,
    pub(super) kind: Option<RowKind>,
    /// The reason for stopping, where the JSON itself is well-formed.
    pub(super) stopped: Option<Stop>,
    pub(super) meter: Meter,
    open: Option<OpenClient>,
    ids: BTreeSet<String>,
    bad_rows: BadRows,
    shaping: Shaping,
}

/// The client whose rows are being read.
struct OpenClient {
    id: String,
    rows_seen: usize,
    rows_taken: usize,
}

/// The reason for stopping and the line where it was found.
pub(super) struct Stop {
    pub(super) line: usize,
    pub(super) reason: Reason,
}

/// A fault in the content of well-formed JSON.
pub(super) enum Reason {
    BadRow { client: String, row: usize, fault: RowFault },
    EmptyClient { client: String },
    DuplicateClient { client: String },
}

impl<'e> Walker<'e> {
    pub(super) fn new(bad_rows: BadRows, columns: Columns, meter: Meter, each: Each<'e>) -> Self {
        let shaping = Shaping::new(columns);
        let ids = BTreeSet::new();
        Self { each, skipped: vec![], kind: None, stopped: None, meter, open: None, ids, bad_rows, shaping }
    }

    /// Reads all of `reader`, whose layout is `form`.
    pub(super) fn walk<R: Read>(&mut self, reader: R, form: FileForm) -> serde_json::Result<()> {
        let mut json = serde_json::Deserializer::from_reader(reader);
        // `end` accepts only white space, so text after the last bracket is an error.
        match form {
            FileForm::Federated => {
                json.deserialize_map(FederationVisitor(self))?;
                json.end()
            }
            FileForm::Array => self.single_client(|rows| {
                rows.deserialize(&mut json)?;
                json.end()
            }),
            FileForm::Parquet => unreachable!("its rows are not read as JSON"),
            FileForm::Lines => self.single_client(|rows| {
                // While `end` fails, another value follows.
                while json.end().is_err() {
                    rows.0.accept(Value::deserialize(&mut json)?)?;
                }
                Ok(())
            }),
        }
    }

    /// Reads the rows of a Parquet file as the rows of a single client.
    pub(super) fn walk_parquet(&mut self, path: &Path) -> serde_json::Result<()> {
        self.single_client(|rows| {
            for_each_row(path, |row| rows.0.accept::<serde_json::Error>(row).map_err(|error| error.to_string()))
                .map_err(serde_json::Error::custom)
        })
    }

    /// Returns the current client and row as a clause for an error message.
    pub(super) fn place(&self) -> String {
        match &self.open {
            Some(open) => format!(" (client {:?}, row {})", open.id, open.rows_seen),
            None => String::new(),
        }
    }

    fn single_client(
        &mut self,
        read: impl FnOnce(RowsVisitor<'_, 'e>) -> serde_json::Result<()>,
    ) -> serde_json::Result<()> {
        self.open_client(super::file_form::LOCAL_CLIENT.to_owned())?;
        read(RowsVisitor(self))?;
        self.close_client()
    }

    fn open_client<E: serde::de::Error>(&mut self, id: String) -> Result<(), E> {
        if !self.ids.insert(id.clone()) {
            return Err(self.stop(Reason::DuplicateClient { client: id }));
        }
        self.meter.end_row();
        self.open = Some(OpenClient { id, rows_seen: 0, rows_taken: 0 });
        Ok(())
    }

    fn close_client<E: serde::de::Error>(&mut self) -> Result<(), E> {
        let OpenClient { id, rows_taken, .. } = self.open.take().expect("a client that closes was opened");
        match self.bad_rows {
            BadRows::Refuse if rows_taken == 0 => Err(self.stop(Reason::EmptyClient { client: id })),
            _ => Ok(()),
        }
    }

    /// Checks one row and passes it on, or treats it as the policy for bad rows says.
    fn accept<E: serde::de::Error>(&mut self, value: Value) -> Result<(), E> {
        self.meter.end_row();
        // A repeated instruction that is dropped does not count as a row of the file.
        let Some(value) = self.shaping.shape(value) else { return Ok(()) };
        let result = Row::from_json(value).and_then(|row| self.of_one_kind(row));
        let open = self.open.as_mut().expect("a row is read inside a client");
        let number = open.rows_seen;
        open.rows_seen += 1;
        match (result, self.bad_rows) {
            (Ok(row), _) => {
                (self.each)(&open.id, open.rows_taken, row);
                open.rows_taken += 1;
            }
            (Err(fault), BadRows::Skip) => {
                self.skipped.push(SkippedRow { client: open.id.clone(), row: number, fault });
            }
            (Err(fault), BadRows::Refuse) => {
                let client = open.id.clone();
                return Err(self.stop(Reason::BadRow { client, row: number, fault }));
            }
        }
        Ok(())
    }

    /// Checks that a row has the kind of the first one.
    fn of_one_kind(&mut self, row: Row) -> Result<Row, RowFault> {
        let expected = *self.kind.get_or_insert(row.kind());
        if row.kind() == expected { Ok(row) } else { Err(RowFault::OtherKind { expected, found: row.kind() }) }
    }

    /// Stores the reason and returns a placeholder error, because serde's errors carry only text.
    fn stop<E: serde::de::Error>(&mut self, reason: Reason) -> E {
        self.stopped = Some(Stop { line: self.meter.line(), reason });
        E::custom("the content was refused")
    }
}

/// Visitor of `{client: [row, ...], ...}`.
struct FederationVisitor<'a, 'e>(&'a mut Walker<'e>);

impl<'de> Visitor<'de> for FederationVisitor<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of clients, each a list of rows")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(id) = map.next_key::<String>()? {
            self.0.open_client::<A::Error>(id)?;
            map.next_value_seed(RowsVisitor(self.0))?;
            self.0.close_client::<A::Error>()?;
        }
        Ok(())
    }
}

/// Visitor of `[row, ...]`.
struct RowsVisitor<'a, 'e>(&'a mut Walker<'e>);

impl<'de> DeserializeSeed<'de> for RowsVisitor<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for RowsVisitor<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(value) = seq.next_element::<Value>()? {
            self.0.accept::<A::Error>(value)?;
        }
        Ok(())
    }
}
