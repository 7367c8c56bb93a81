//! Reading of a JSON text value by value: brackets and keys one by one, whole values as raw bytes.

use std::io::{self, BufRead};

use super::value_end::{Step, ValueEnd};
use crate::store::parse_json;

/// [byte] -- Largest row that is read. Published rows stay below 1 MB; a larger one indicates a damaged file.
pub(super) const ROW_LIMIT_BYTES: usize = 64 << 20;

/// A reader of JSON that knows at which line and column it is.
pub(super) struct Scanner<R> {
    bytes: R,
    place: TextPlace,
}

/// A place in a text, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TextPlace {
    pub line: usize,
    pub column: usize,
}

/// A value as it is written, with the places of its first byte and of its last.
pub(super) struct RawValue {
    pub bytes: Vec<u8>,
    pub start: TextPlace,
    pub end: TextPlace,
}

/// The reason why a scanner cannot go on.
#[derive(Debug)]
pub(super) enum ScanError {
    Io(io::Error),
    /// The text is not the JSON that is expected at this place.
    Syntax {
        place: TextPlace,
        message: String,
    },
    /// A value is longer than [`ROW_LIMIT_BYTES`].
    TooLarge,
}

impl<'a> Scanner<&'a [u8]> {
    /// Returns the text that has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }
}

impl<R: BufRead> Scanner<R> {
    pub fn new(bytes: R) -> Self {
        Self { bytes, place: TextPlace { line: 1, column: 1 } }
    }

    /// Returns the place of the next byte.
    pub fn place(&self) -> TextPlace {
        self.place
    }

    /// Returns the next byte that is not white space, which stays unread; `None` at the end of the text.
    pub fn peek(&mut self) -> Result<Option<u8>, ScanError> {
        loop {
            match self.next_byte()? {
                Some(byte) if byte.is_ascii_whitespace() => self.consume(byte),
                other => return Ok(other),
            }
        }
    }

    /// Reads this byte, after white space. Returns whether it was there.
    pub fn takes(&mut self, wanted: u8) -> Result<bool, ScanError> {
        let is_there = self.peek()? == Some(wanted);
        if is_there {
            self.consume(wanted);
        }
        Ok(is_there)
    }

    /// Reads this byte, after white space.
    pub fn expect(&mut self, wanted: u8, expected: &str) -> Result<(), ScanError> {
        if self.takes(wanted)? { Ok(()) } else { Err(self.unexpected(expected)) }
    }

    /// Checks that nothing follows.
    pub fn end(&mut self) -> Result<(), ScanError> {
        match self.peek()? {
            None => Ok(()),
            Some(_) => Err(self.fault("trailing characters")),
        }
    }

    /// Reads a key of an object and the colon after it.
    pub fn key(&mut self) -> Result<String, ScanError> {
        if self.peek()? != Some(b'"') {
            return Err(self.unexpected("expected a key in quotes"));
        }
        let RawValue { bytes, start, .. } = self.value()?;
        let key = parse_json(&bytes)
            .map_err(|error| ScanError::Syntax { place: start.of(&error), message: message_of(&error) })?;
        self.expect(b':', "expected `:`")?;
        Ok(key)
    }

    /// Reads a value without looking at what is inside its brackets or quotes.
    pub fn value(&mut self) -> Result<RawValue, ScanError> {
        if self.peek()?.is_none() {
            return Err(self.fault("EOF while parsing a value"));
        }
        let start = self.place;
        let mut end = start;
        let mut bytes = Vec::new();
        let mut scanner = ValueEnd::default();
        loop {
            if bytes.len() > ROW_LIMIT_BYTES {
                return Err(ScanError::TooLarge);
            }
            let Some(byte) = self.next_byte()? else {
                return if scanner.is_bare() {
                    Ok(RawValue { bytes, start, end })
                } else {
                    Err(self.fault(unfinished(&scanner)))
                };
            };
            let step = scanner.step(byte);
            if step == Step::Behind {
                return Ok(RawValue { bytes, start, end });
            }
            if step == Step::Broken {
                return Err(self.fault("expected value"));
            }
            end = self.place;
            bytes.push(byte);
            self.consume(byte);
            if step == Step::Last {
                return Ok(RawValue { bytes, start, end });
            }
        }
    }

    /// Returns an error at the next byte, which is not what was expected.
    pub fn unexpected(&mut self, expected: &str) -> ScanError {
        match self.peek() {
            Err(error) => error,
            Ok(None) => self.fault(&format!("EOF while parsing a value, {expected}")),
            Ok(Some(_)) => self.fault(expected),
        }
    }

    fn fault(&self, message: &str) -> ScanError {
        ScanError::Syntax { place: self.place, message: message.to_owned() }
    }

    fn next_byte(&mut self) -> Result<Option<u8>, ScanError> {
        Ok(self.bytes.fill_buf().map_err(ScanError::Io)?.first().copied())
    }

    fn consume(&mut self, byte: u8) {
        self.bytes.consume(1);
        if byte == b'\n' {
            self.place = TextPlace { line: self.place.line + 1, column: 1 };
        } else {
            self.place.column += 1;
        }
    }
}

fn unfinished(scanner: &ValueEnd) -> &'static str {
    if scanner.is_in_string() {
        "EOF while parsing a string"
    } else if scanner.is_in_object() {
        "EOF while parsing an object"
    } else {
        "EOF while parsing a list"
    }
}

impl TextPlace {
    /// Returns the place of a parser's error in a value that begins here.
    pub fn of(self, error: &serde_json::Error) -> Self {
        match error.line() {
            0 | 1 => Self { line: self.line, column: self.column + error.column().saturating_sub(1) },
            line => Self { line: self.line + line - 1, column: error.column() },
        }
    }
}

/// Returns the message of a parser without the position that it ends with.
pub(super) fn message_of(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    message.strip_suffix(&position).unwrap_or(&message).to_owned()
}
