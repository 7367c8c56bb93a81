//! The byte source of a dataset file: hashes what passes through, and fails where one row exceeds the size limit.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

/// [byte] -- Largest row that is read. Published rows stay below 1 MB; a larger one indicates a damaged file.
pub(super) const ROW_LIMIT_BYTES: u64 = 64 << 20;

const BUFFER_BYTES: usize = 1 << 16;
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The read position, shared by the source, which counts bytes, and the visitor, which knows where rows end.
#[derive(Clone, Default)]
pub(super) struct Meter(Rc<Counts>);

#[derive(Default)]
struct Counts {
    row_bytes: Cell<u64>,
    newlines: Cell<usize>,
}

impl Meter {
    /// Marks the end of a row and resets the byte count.
    pub(super) fn end_row(&self) {
        self.0.row_bytes.set(0);
    }

    /// Returns whether the current row exceeds the limit.
    pub(super) fn is_over(&self) -> bool {
        self.0.row_bytes.get() > ROW_LIMIT_BYTES
    }

    /// Returns the line of the last byte read, from 1.
    pub(super) fn line(&self) -> usize {
        self.0.newlines.get() + 1
    }

    fn count(&self, bytes: &[u8]) {
        self.0.row_bytes.set(self.0.row_bytes.get() + bytes.len() as u64);
        let newlines = bytes.iter().filter(|&&byte| byte == b'\n').count();
        self.0.newlines.set(self.0.newlines.get() + newlines);
    }
}

/// A buffered, hashed and metered reader.
pub(super) struct Source<R> {
    // The hash lies below the buffer and the meter above it: the hash covers the byte-order mark and read-ahead, while
    // the meter counts only bytes that the parser has consumed.
    bytes: BufReader<Hashed<R>>,
    meter: Meter,
}

impl<R: Read> Source<R> {
    pub(super) fn new(reader: R, meter: Meter) -> Self {
        let hashed = Hashed { reader, hasher: blake3::Hasher::new() };
        Self { bytes: BufReader::with_capacity(BUFFER_BYTES, hashed), meter }
    }

    /// Returns the first bytes, as many as one read yields, without a byte-order mark and without consuming them.
    pub(super) fn peek(&mut self) -> io::Result<&[u8]> {
        if self.bytes.fill_buf()?.starts_with(BYTE_ORDER_MARK) {
            self.bytes.consume(BYTE_ORDER_MARK.len());
        }
        self.bytes.fill_buf()
    }

    /// Reads to the end and returns BLAKE3 of the whole content.
    pub(super) fn finish(mut self) -> io::Result<blake3::Hash> {
        io::copy(&mut self.bytes, &mut io::sink())?;
        Ok(self.bytes.into_inner().hasher.finalize())
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read(buffer)?;
        self.meter.count(&buffer[..count]);
        if self.meter.is_over() { Err(io::Error::other("the row limit was passed")) } else { Ok(count) }
    }
}

struct Hashed<R> {
    reader: R,
    hasher: blake3::Hasher,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_covers_what_was_not_read() {
        let mut source = Source::new(&b"\xEF\xBB\xBFabc"[..], Meter::default());
        assert_eq!(source.peek().unwrap(), b"abc");
        assert_eq!(source.finish().unwrap(), blake3::hash(b"\xEF\xBB\xBFabc"));
    }

    #[test]
    fn an_endless_row_is_cut_off() {
        let mut source = Source::new(io::repeat(b'x'), Meter::default());
        let error = io::copy(&mut source, &mut io::sink()).unwrap_err();
        assert!(error.to_string().contains("row limit"));
    }
}
