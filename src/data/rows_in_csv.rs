//! Rows of files of comma-separated values.

use std::cell::Cell;
use std::io::{self, ErrorKind, Read};
use std::rc::Rc;

use super::csv_lines::LineCount;
use super::error::RowFault;
use super::fields::Fields;
use super::intake::{Halt, Intake};
use super::scanner::{ROW_LIMIT_BYTES, ScanError};
use crate::store::without_panic;

/// Reads a table under a line of column names into the client that is open. All values are text; an empty one is null, as it is to pandas.
pub(super) fn walk_csv(intake: &mut Intake, text: impl Read, delimiter: u8) -> Result<(), Halt> {
    walk_rows(intake, text, delimiter, ROW_LIMIT_BYTES)
}

/// Implements [`walk_csv`] for rows of up to `bytes_max` bytes.
fn walk_rows(intake: &mut Intake, text: impl Read, delimiter: u8, bytes_max: usize) -> Result<(), Halt> {
    let mut lines = LineCount::new();
    let bytes_left = Rc::new(Cell::new(bytes_max));
    let text = RowsOfLimitedLength { text: lines.watch(text), bytes_left: Rc::clone(&bytes_left) };
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(text);
    let names = read(|| reader.byte_headers().cloned())?;
    let mut columns = Vec::with_capacity(names.len());
    for name in &names {
        columns.push(String::from_utf8_lossy(name).into_owned());
    }
    let mut record = csv::ByteRecord::new();
    loop {
        bytes_left.set(bytes_max);
        if !read(|| reader.read_byte_record(&mut record))? {
            return Ok(());
        }
        let line = record.position().map(|position| lines.at(position.byte()));
        intake.accept(line, fields_of(&columns, &record))?;
    }
}

/// Calls the parser. It returns a row only once it is whole in memory.
fn read<T>(parse: impl FnOnce() -> csv::Result<T>) -> Result<T, Halt> {
    without_panic(parse).map_err(Halt::Damaged)?.map_err(|error| match error.kind() {
        csv::ErrorKind::Io(source) if source.kind() == ErrorKind::FileTooLarge => Halt::Scan(ScanError::TooLarge),
        _ => Halt::Damaged(error.to_string()),
    })
}

/// Text of which no row is longer than the limit. The parser reads ahead, so a row's first bytes may be counted to the row before.
struct RowsOfLimitedLength<R> {
    text: R,
    bytes_left: Rc<Cell<usize>>,
}

impl<R: Read> Read for RowsOfLimitedLength<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.bytes_left.get() == 0 {
            return Err(ErrorKind::FileTooLarge.into());
        }
        let length = buffer.len().min(self.bytes_left.get());
        let count = self.text.read(&mut buffer[..length])?;
        self.bytes_left.set(self.bytes_left.get() - count);
        Ok(count)
    }
}

fn fields_of(columns: &[String], record: &csv::ByteRecord) -> Result<Fields, RowFault> {
    if record.len() != columns.len() {
        return Err(RowFault::OtherWidth { found: record.len(), expected: columns.len() });
    }
    let mut fields = Fields::default();
    for (column, value) in columns.iter().zip(record) {
        let Ok(text) = std::str::from_utf8(value) else { return Err(RowFault::NotUtf8 { field: column.clone() }) };
        if !text.is_empty() {
            fields.insert(column.as_str(), text);
        }
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::columns::Columns;
    use crate::data::file_form::BadRows;

    #[test]
    fn a_row_that_does_not_end_is_too_large() {
        const BYTES_MAX: usize = 1 << 16;
        for begin in ["", "a,b\n", "a,b\n1,2\n3,\""] {
            let text = begin.as_bytes().chain(io::repeat(0));
            let mut each = |_: &str, _: usize, _: crate::data::Row| {};
            let mut intake = Intake::new(BadRows::Skip, Columns::named("alpaca").unwrap(), &mut each);
            let halt = intake.single_client(|intake| walk_rows(intake, text, b',', BYTES_MAX)).unwrap_err();
            assert!(matches!(halt, Halt::Scan(ScanError::TooLarge)), "{begin:?}");
        }
        // The limit is one of a row.
        let text = format!("a,b\n{}", "1,2\n".repeat(BYTES_MAX));
        let mut each = |_: &str, _: usize, _: crate::data::Row| {};
        let mut intake = Intake::new(BadRows::Skip, Columns::named("alpaca").unwrap(), &mut each);
        assert!(intake.single_client(|intake| walk_rows(intake, text.as_bytes(), b',', BYTES_MAX)).is_ok());
    }

    #[test]
    fn quoted_values_and_rows_of_another_width_are_told_apart() {
        let text = "instruction,output\n\"Add\n1 and \"\"2\"\"\",\"3, or so\"\nHi,Hello\nHi\n,x\n\"a\",b,c\n";
        let mut rows = Vec::new();
        let mut each = |_: &str, _: usize, row: crate::data::Row| rows.push(row.to_json().to_string());
        let mut intake = Intake::new(BadRows::Skip, Columns::named("alpaca").unwrap(), &mut each);
        assert!(intake.single_client(|intake| walk_csv(intake, text.as_bytes(), b',')).is_ok());
        let skipped: Vec<_> =
            intake.skipped.iter().map(|skipped| (skipped.row, skipped.line, skipped.fault.to_string())).collect();
        let expected = [
            (2, Some(5), "it has 1 values under 2 column names"),
            (3, Some(6), "it has no \"instruction\"; its other keys: output"),
            (4, Some(7), "it has 3 values under 2 column names"),
        ];
        assert_eq!(skipped, expected.map(|(row, line, fault)| (row, line, fault.to_owned())));
        assert_eq!(
            rows,
            [
                r#"{"instruction":"Add\n1 and \"2\"","response":"3, or so"}"#,
                r#"{"instruction":"Hi","response":"Hello"}"#
            ]
        );
    }
}
