//! Rows of JSON Lines. A row may be spread over several lines, and a line may be torn: then only its own row is lost.

use std::collections::VecDeque;
use std::io::{BufRead, Read};

use serde_json::Value;

use super::error::RowFault;
use super::fields::Fields;
use super::intake::{Halt, Intake};
use super::rows_in_json::{fields_of, not_json};
use super::scanner::{ROW_LIMIT_BYTES, RawValue, ScanError, TextPlace};
use super::value_end::{Step, ValueEnd};
use crate::store::parse_json;

/// Reads JSON Lines into the client that is open.
pub(super) fn walk_lines(intake: &mut Intake, text: impl BufRead) -> Result<(), Halt> {
    let mut lines = Lines { text, read: 0, ahead: VecDeque::new() };
    while let Some((line, row)) = lines.next_row()? {
        intake.accept(Some(line), row)?;
    }
    Ok(())
}

/// Lines of a text, some of which were looked at already.
struct Lines<R> {
    text: R,
    /// Number of lines that were read.
    read: usize,
    /// Lines that were read and belong to no row yet.
    ahead: VecDeque<Line>,
}

struct Line {
    number: usize,
    bytes: Vec<u8>,
    /// Column of the first byte, from 1.
    column: usize,
}

/// Result of looking for a row.
enum Found {
    /// A value that ends in the line with this place among those ahead, before this byte.
    Value { raw: RawValue, line: usize, until: usize },
    /// The first line holds no row; the next one may.
    Torn,
}

/// Number of the line on which a row ends, and its fields or what is wrong with it.
type NumberedRow = (usize, Result<Fields, RowFault>);

impl<R: BufRead> Lines<R> {
    /// Returns the next row with the number of the line on which it ends; `None` at the end of the text.
    fn next_row(&mut self) -> Result<Option<NumberedRow>, ScanError> {
        if !self.skip_blank()? {
            return Ok(None);
        }
        if let Found::Value { raw, line, until } = self.find_value()? {
            let fields = fields_of(&raw);
            // What is no JSON may be a torn row with whole ones in the lines behind it.
            let is_json = !matches!(fields, Err(RowFault::NotJson { .. }));
            if fields.is_ok() || (is_json && line == 0) {
                self.consume(line, until);
                return Ok(Some((raw.end.line, fields)));
            }
        }
        let torn = self.ahead.pop_front().expect("a line that is not blank is ahead");
        let start = TextPlace { line: torn.number, column: torn.column };
        // With its line end the text would break off on the next line, where the parser would see the fault.
        let fault = match parse_json::<Value>(torn.bytes.trim_ascii_end()) {
            Err(error) => not_json(start, &error),
            Ok(_) => unreachable!("a line that is a value is no torn one"),
        };
        Ok(Some((torn.number, Err(fault))))
    }

    /// Passes over blank lines and leading white space. Returns whether a line is left.
    fn skip_blank(&mut self) -> Result<bool, ScanError> {
        loop {
            if self.ahead.is_empty() && !self.read_line()? {
                return Ok(false);
            }
            let first = &mut self.ahead[0];
            let blank = first.bytes.len() - first.bytes.trim_ascii_start().len();
            if blank < first.bytes.len() {
                first.bytes.drain(..blank);
                first.column += blank;
                return Ok(true);
            }
            self.ahead.pop_front();
        }
    }

    /// Looks for the end of the value that the first line begins.
    fn find_value(&mut self) -> Result<Found, ScanError> {
        let mut scanner = ValueEnd::default();
        let mut bytes = Vec::new();
        let mut line = 0;
        loop {
            if line == self.ahead.len() && !self.read_line()? {
                return Ok(Found::Torn);
            }
            let is_torn_before = line > 0 && scanner.is_in_object() && self.ahead[line].is_whole_object();
            if is_torn_before || bytes.len() > ROW_LIMIT_BYTES {
                return Ok(Found::Torn);
            }
            let current = &self.ahead[line];
            for (place, &byte) in current.bytes.iter().enumerate() {
                // A line's end inside a string is no JSON, and the next line is another row's.
                if scanner.is_in_string() && byte == b'\n' {
                    return Ok(Found::Torn);
                }
                let step = scanner.step(byte);
                if step == Step::Broken {
                    return Ok(Found::Torn);
                }
                if step != Step::Behind {
                    bytes.push(byte);
                }
                if matches!(step, Step::Last | Step::Behind) {
                    let until = if step == Step::Last { place + 1 } else { place };
                    return Ok(Found::Value { raw: self.raw(bytes, line, until), line, until });
                }
            }
            if scanner.is_bare() {
                let until = current.bytes.len();
                return Ok(Found::Value { raw: self.raw(bytes, line, until), line, until });
            }
            line += 1;
        }
    }

    fn raw(&self, bytes: Vec<u8>, line: usize, until: usize) -> RawValue {
        let first = &self.ahead[0];
        let last = &self.ahead[line];
        let start = TextPlace { line: first.number, column: first.column };
        RawValue { bytes, start, end: TextPlace { line: last.number, column: last.column + until.saturating_sub(1) } }
    }

    /// Drops the lines before the one at `line`, and what it has before `until`.
    fn consume(&mut self, line: usize, until: usize) {
        self.ahead.drain(..line);
        let rest = &mut self.ahead[0];
        rest.bytes.drain(..until);
        rest.column += until;
    }

    /// Reads one more line. Returns whether there was one.
    fn read_line(&mut self) -> Result<bool, ScanError> {
        let mut bytes = Vec::new();
        let mut limited = self.text.by_ref().take(ROW_LIMIT_BYTES as u64 + 1);
        limited.read_until(b'\n', &mut bytes).map_err(ScanError::Io)?;
        if bytes.len() > ROW_LIMIT_BYTES {
            return Err(ScanError::TooLarge);
        }
        if bytes.is_empty() {
            return Ok(false);
        }
        self.read += 1;
        self.ahead.push_back(Line { number: self.read, bytes, column: 1 });
        Ok(true)
    }
}

impl Line {
    /// Returns whether the line is an object in itself, beginning at its first byte.
    fn is_whole_object(&self) -> bool {
        self.bytes.starts_with(b"{") && parse_json::<serde::de::IgnoredAny>(&self.bytes).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::error::RowFault;
    use super::super::{BadRows, Federation};

    /// Instructions of the rows that are left under `Skip`, and the lines of those that are not.
    fn read(text: &str) -> (Vec<String>, Vec<usize>) {
        let data = Federation::read_from(text.as_bytes(), Path::new("d.jsonl"), BadRows::Skip).unwrap();
        let asked = data.clients[0].rows.iter().map(|row| row.asked()[0].to_owned()).collect();
        (asked, data.skipped.iter().map(|skipped| skipped.line.unwrap()).collect())
    }

    const A: &str = r#"{"instruction": "a", "response": "r"}"#;
    const B: &str = r#"{"instruction": "b", "response": "r"}"#;

    #[test]
    fn a_torn_line_takes_no_other_row_with_it() {
        for torn in [
            r#"{"instruction": "c", "resp"#,
            r#"{"instruction": "c","#,
            r#"{"instruction": "c", "response":"#,
            r#"{"instruction": ["#,
            r#"nse": "d"}"#,
            r#"{"instruction": "c", "n": NaN, "response": "r"}"#,
            r#"{"instruction": "\ud83d", "response": "r"}"#,
            "{\"instruction\": \"c\td\", \"response\": \"r\"}",
            r#"{"instruction": "c"]}"#,
            "7",
        ] {
            let expected = vec!["a".to_owned(), "b".to_owned()];
            assert_eq!(read(&format!("{A}\n{torn}\n{B}\n")), (expected, vec![2]), "{torn}");
        }
        assert_eq!(read(&format!("{A}\n{{\"instruction\": \"c")), (vec!["a".into()], vec![2]));
    }

    #[test]
    fn a_torn_line_is_reported_where_it_is() {
        let place = |text: String| {
            let data = Federation::read_from(text.as_bytes(), Path::new("d.jsonl"), BadRows::Skip).unwrap();
            match data.skipped[..] {
                [ref skipped] => match skipped.fault {
                    RowFault::NotJson { line, column, .. } => (line, column),
                    ref other => panic!("{other:?}"),
                },
                _ => panic!("{:?}", data.skipped),
            }
        };
        for end in ["\n", "\r\n"] {
            let torn = r#"{"instruction": "c", "resp"#;
            assert_eq!(place(format!("{A}{end}{torn}{end}{B}{end}")), (2, torn.len()));
            assert_eq!(place(format!("{A}{end}{torn}{end}")), (2, torn.len()), "as the last line");
            let open = r#"{"instruction": "c","#;
            assert_eq!(place(format!("{A}{end}  {open}{end}{B}{end}")), (2, open.len() + 2));
        }
    }

    #[test]
    fn rows_may_share_a_line_or_take_several() {
        let spread = A.replace(", ", ",\n  ").replace('{', "{\n");
        assert_eq!(read(&format!("{spread}{B}\r\n\n{A} {B}")).0, ["a", "b", "a", "b"]);
    }
}
