//! Rows of files of comma-separated values.

use std::io::Read;

use super::csv_lines::LineCount;
use super::error::RowFault;
use super::fields::Fields;
use super::intake::{Halt, Intake};

/// Reads a table under a line of column names into the client that is open. All values are text; an empty one is null, as it is to pandas.
pub(super) fn walk_csv(intake: &mut Intake, text: impl Read, delimiter: u8) -> Result<(), Halt> {
    let mut lines = LineCount::new();
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(lines.watch(text));
    let names = reader.byte_headers().map_err(|error| Halt::Damaged(error.to_string()))?.clone();
    let mut columns = Vec::with_capacity(names.len());
    for name in &names {
        columns.push(String::from_utf8_lossy(name).into_owned());
    }
    let mut record = csv::ByteRecord::new();
    while reader.read_byte_record(&mut record).map_err(|error| Halt::Damaged(error.to_string()))? {
        let line = record.position().map(|position| lines.at(position.byte()));
        intake.accept(line, fields_of(&columns, &record))?;
    }
    Ok(())
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
