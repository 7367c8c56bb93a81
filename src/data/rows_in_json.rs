//! Rows of JSON files, with one row in memory at a time.

use std::collections::BTreeMap;
use std::io::BufRead;

use super::error::RowFault;
use super::fields::Fields;
use super::file_form::FileForm;
use super::intake::{Halt, Intake};
use super::json_value::JsonValue;
use super::scanner::{RawValue, Scanner, TextPlace, message_of};
use crate::store::parse_json;

/// Names of the splits of a dataset, which are no clients.
const SPLITS: [&str; 8] = ["train", "training", "test", "testing", "validation", "valid", "val", "dev"];

/// Reads a JSON file whose layout is `form`, which is not [`FileForm::Lines`]. In the layouts of one client its rows go to
/// the client that is open.
pub(super) fn walk_json(intake: &mut Intake, text: impl BufRead, form: FileForm) -> Result<(), Halt> {
    let mut scanner = Scanner::new(text);
    match form {
        FileForm::Array => rows(intake, &mut scanner)?,
        FileForm::Wrapped => wrapped(intake, &mut scanner)?,
        FileForm::Leaf => leaf(intake, &mut scanner)?,
        FileForm::Columns => columns(intake, &mut scanner)?,
        _ => federated(intake, &mut scanner)?,
    }
    scanner.end()?;
    Ok(())
}

/// Reads `{client: [row, ...], ...}`.
fn federated<R: BufRead>(intake: &mut Intake, scanner: &mut Scanner<R>) -> Result<(), Halt> {
    members(scanner, "expected an object of clients, each a list of rows", |scanner, id| client(intake, scanner, &id))?;
    let ids = intake.ids();
    if ids.len() > 1 && ids.iter().all(|id| SPLITS.contains(&id.as_str())) {
        return Err(Halt::Splits(ids.iter().cloned().collect()));
    }
    Ok(())
}

fn client<R: BufRead>(intake: &mut Intake, scanner: &mut Scanner<R>, id: &str) -> Result<(), Halt> {
    let line = scanner.place().line;
    intake.client(id, Some(line), |intake| rows(intake, scanner))
}

/// Reads `[row, ...]`.
fn rows<R: BufRead>(intake: &mut Intake, scanner: &mut Scanner<R>) -> Result<(), Halt> {
    elements(scanner, "expected a list of rows", |scanner| {
        let row = scanner.value()?;
        intake.accept(Some(row.end.line), fields_of(&row))
    })
}

/// Reads `{"data": [row, ...]}`, whose other keys say something of the file and are no lists.
fn wrapped<R: BufRead>(intake: &mut Intake, scanner: &mut Scanner<R>) -> Result<(), Halt> {
    let mut of_rows: Option<String> = None;
    members(scanner, "expected an object with a list of rows", |scanner, key| {
        if scanner.peek()? != Some(b'[') {
            scanner.value()?;
            return Ok(());
        }
        if let Some(first) = &of_rows {
            return Err(Halt::Damaged(format!(
                "the key {first:?} names the rows of a file and no client, so the list {key:?} cannot be the rows of \
                 another; rename {first:?} if it is a client"
            )));
        }
        rows(intake, scanner)?;
        of_rows = Some(key);
        Ok(())
    })
}

/// Reads LEAF's files. The other keys say nothing that `user_data` does not.
fn leaf<R: BufRead>(intake: &mut Intake, scanner: &mut Scanner<R>) -> Result<(), Halt> {
    members(scanner, "expected LEAF's object", |scanner, key| {
        if key != "user_data" {
            scanner.value()?;
            return Ok(());
        }
        members(scanner, "expected an object of users", |scanner, id| match scanner.peek()? {
            Some(b'{') => {
                let line = scanner.place().line;
                intake.client(&id, Some(line), |intake| leaf_user(intake, scanner))
            }
            _ => client(intake, scanner, &id),
        })
    })
}

/// Reads the data of one LEAF user, `{"x": [...], "y": [...]}`. Unless the columns are named, `x` is the instruction and `y`
/// the response.
fn leaf_user<R: BufRead>(intake: &mut Intake, scanner: &mut Scanner<R>) -> Result<(), Halt> {
    let line = scanner.place().line;
    let mut rows = Table::default();
    members(scanner, "expected the columns of a user", |scanner, column| {
        let column = match column.as_str() {
            "x" if !intake.has_named_columns() => "instruction".to_owned(),
            "y" if !intake.has_named_columns() => "response".to_owned(),
            _ => column,
        };
        rows.read_column(scanner, &column)
    })?;
    rows.pass_on(intake, Some(line))
}

/// Reads a table that is written column by column.
fn columns<R: BufRead>(intake: &mut Intake, scanner: &mut Scanner<R>) -> Result<(), Halt> {
    let mut rows = Table::default();
    members(scanner, "expected an object of columns", |scanner, column| rows.read_column(scanner, &column))?;
    rows.pass_on(intake, None)
}

/// A table that is read column by column.
#[derive(Default)]
struct Table {
    rows: Vec<Result<Fields, RowFault>>,
    /// Place in `rows` of each row that has a name.
    places: BTreeMap<String, usize>,
}

impl Table {
    /// Reads `[value, ...]` or `{index: value, ...}`.
    fn read_column<R: BufRead>(&mut self, scanner: &mut Scanner<R>, column: &str) -> Result<(), Halt> {
        if scanner.peek()? == Some(b'{') {
            return members(scanner, "expected a column", |scanner, index| {
                let next = self.rows.len();
                let place = *self.places.entry(index).or_insert(next);
                self.insert(place, column, &scanner.value()?);
                Ok(())
            });
        }
        let mut place = 0;
        elements(scanner, "expected a column, which is a list or an object", |scanner| {
            self.insert(place, column, &scanner.value()?);
            place += 1;
            Ok(())
        })
    }

    fn insert(&mut self, place: usize, column: &str, raw: &RawValue) {
        if place == self.rows.len() {
            self.rows.push(Ok(Fields::default()));
        }
        // The first fault of a row is the one that is told.
        let Ok(fields) = &mut self.rows[place] else { return };
        match value_of(raw) {
            Ok(value) => fields.insert(column, value),
            Err(fault) => self.rows[place] = Err(fault),
        }
    }

    fn pass_on(self, intake: &mut Intake, line: Option<usize>) -> Result<(), Halt> {
        for row in self.rows {
            intake.accept(line, row)?;
        }
        Ok(())
    }
}

/// Parses a row.
pub(super) fn fields_of(raw: &RawValue) -> Result<Fields, RowFault> {
    Fields::of_json(value_of(raw)?)
}

fn value_of(raw: &RawValue) -> Result<JsonValue, RowFault> {
    parse_json(&raw.bytes).map_err(|error| not_json(raw.start, &error))
}

/// Returns the fault of a value that begins at `start` and is no JSON.
pub(super) fn not_json(start: TextPlace, error: &serde_json::Error) -> RowFault {
    let TextPlace { line, column } = start.of(error);
    RowFault::NotJson { line, column, message: message_of(error) }
}

/// Reads an object and calls `read` behind each key.
fn members<R: BufRead>(
    scanner: &mut Scanner<R>,
    expected: &str,
    mut read: impl FnMut(&mut Scanner<R>, String) -> Result<(), Halt>,
) -> Result<(), Halt> {
    scanner.expect(b'{', expected)?;
    if scanner.takes(b'}')? {
        return Ok(());
    }
    loop {
        let key = scanner.key()?;
        read(scanner, key)?;
        if scanner.takes(b'}')? {
            return Ok(());
        }
        scanner.expect(b',', "expected `,` or `}`")?;
    }
}

/// Reads a list and calls `read` before each element.
fn elements<R: BufRead>(
    scanner: &mut Scanner<R>,
    expected: &str,
    mut read: impl FnMut(&mut Scanner<R>) -> Result<(), Halt>,
) -> Result<(), Halt> {
    scanner.expect(b'[', expected)?;
    if scanner.takes(b']')? {
        return Ok(());
    }
    loop {
        read(scanner)?;
        if scanner.takes(b']')? {
            return Ok(());
        }
        scanner.expect(b',', "expected `,` or `]`")?;
        if scanner.peek()? == Some(b']') {
            return Err(Halt::at(scanner.place(), "trailing comma"));
        }
    }
}
