//! Line numbers of the records of a CSV file, whatever ends its lines.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::ops::Range;
use std::rc::Rc;

/// Line ends that were read and that no record has passed yet.
type Ends = Rc<RefCell<VecDeque<LineEnds>>>;

/// Line ends that follow each other, of which a file may have any number.
struct LineEnds {
    /// [byte] -- Their extent.
    extent: Range<u64>,
    count: usize,
}

/// Count of lines up to a record, for records in the order of the file.
///
/// The reader of the crate `csv` counts one line too few at a record after CRLF, whose line feed it leaves to that record.
pub(crate) struct LineCount {
    ends: Ends,
    /// Line at the place of the last record, from 1.
    line: usize,
}

impl LineCount {
    /// Creates the count at the beginning of a file.
    pub fn new() -> Self {
        Self { ends: Rc::default(), line: 1 }
    }

    /// Returns the text of the file as the reader of records is to read it.
    pub fn watch<R: Read>(&self, text: R) -> WatchedText<R> {
        WatchedText { text, ends: Rc::clone(&self.ends), place: 0, follows_return: false }
    }

    /// Returns the line of the record that begins at this byte, or after the line ends there.
    pub fn at(&mut self, byte: u64) -> usize {
        let mut begin = byte;
        let mut ends = self.ends.borrow_mut();
        while let Some(end) = ends.front().filter(|ends| ends.extent.start <= begin) {
            begin = begin.max(end.extent.end);
            self.line += end.count;
            ends.pop_front();
        }
        self.line
    }
}

/// Text that notes where its lines end: behind CRLF, LF and CR alone.
pub(crate) struct WatchedText<R> {
    text: R,
    ends: Ends,
    /// [byte] -- Number of bytes that were read.
    place: u64,
    /// Whether the last byte was a carriage return.
    follows_return: bool,
}

impl<R: Read> Read for WatchedText<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.text.read(buffer)?;
        let mut ends = self.ends.borrow_mut();
        for &byte in &buffer[..count] {
            self.place += 1;
            match (byte, ends.back_mut()) {
                (b'\n', Some(last)) if self.follows_return => last.extent.end = self.place,
                (b'\n' | b'\r', Some(last)) if last.extent.end == self.place - 1 => {
                    last.extent.end = self.place;
                    last.count += 1;
                }
                (b'\n' | b'\r', _) => ends.push_back(LineEnds { extent: self.place - 1..self.place, count: 1 }),
                _ => {}
            }
            self.follows_return = byte == b'\r';
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers are those of an editor.
    #[test]
    fn a_record_has_its_line_whatever_ends_lines() {
        for end in ["\n", "\r\n", "\r"] {
            let text = "a,b\n,x\n\n\n,y\n\"a\nb\",c\n,z\n\n".replace('\n', end);
            let mut lines = LineCount::new();
            // One byte at a time, so that CRLF is divided.
            let text = lines.watch(io::BufReader::with_capacity(1, text.as_bytes()));
            let mut reader = csv::ReaderBuilder::new().has_headers(false).buffer_capacity(1).from_reader(text);
            let found: Vec<usize> =
                reader.records().map(|record| lines.at(record.unwrap().position().unwrap().byte())).collect();
            assert_eq!(found, [1, 2, 5, 6, 8], "{end:?}");
        }
    }

    #[test]
    fn empty_lines_take_no_memory_each() {
        let lines = LineCount::new();
        let mut text = lines.watch(io::repeat(b'\n').take(1 << 20));
        io::copy(&mut text, &mut io::sink()).unwrap();
        assert_eq!(lines.ends.borrow().len(), 1);
        let returns = "\r\n".repeat(1000);
        let mut text = lines.watch(returns.as_bytes());
        io::copy(&mut text, &mut io::sink()).unwrap();
        assert!(lines.ends.borrow().len() <= 2);
    }
}
