//! Reading of numbers and strings from a file whose lengths and counts are not trusted.

use std::io::Read;

use super::GgufFault;

/// A reader that knows its place and the file's length, so that no length in the file can ask for more memory than the
/// file could fill.
pub(super) struct Cursor<R> {
    inner: R,
    at: u64,
    length: u64,
}

impl<R: Read> Cursor<R> {
    /// Starts at the first byte of a file of `length` bytes.
    pub fn new(inner: R, length: u64) -> Self {
        Self { inner, at: 0, length }
    }

    /// Returns the place in the file, in bytes.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Describes a problem at byte `at`.
    pub fn malformed(at: u64, reason: impl Into<String>) -> GgufFault {
        GgufFault::Malformed { at, reason: reason.into() }
    }

    /// Reads `N` bytes.
    pub fn bytes<const N: usize>(&mut self) -> Result<[u8; N], GgufFault> {
        self.demand(N as u64, || format!("{N} bytes are expected"))?;
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes)?;
        self.at += N as u64;
        Ok(bytes)
    }

    pub fn u32(&mut self) -> Result<u32, GgufFault> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    pub fn u64(&mut self) -> Result<u64, GgufFault> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    /// Reads a count of elements that take at least `bytes_each` in the file, and checks that the file is long enough
    /// for them. `what` names them in errors.
    pub fn count(&mut self, bytes_each: u64, what: &str) -> Result<usize, GgufFault> {
        let at = self.at;
        let count = self.u64()?;
        match count.checked_mul(bytes_each) {
            Some(bytes) if bytes <= self.length - self.at => Ok(count as usize),
            _ => {
                let left = self.length - self.at;
                Err(Self::malformed(at, format!("{count} {what} are announced, only {left} bytes follow")))
            }
        }
    }

    /// Reads a string: its length in bytes, then UTF-8.
    pub fn text(&mut self) -> Result<String, GgufFault> {
        let start = self.at;
        let length = self.count(1, "bytes of text")?;
        let mut bytes = vec![0; length];
        self.inner.read_exact(&mut bytes)?;
        self.at += length as u64;
        String::from_utf8(bytes).map_err(|error| Self::malformed(start, format!("a text is not UTF-8: {error}")))
    }

    /// Checks that `bytes` more bytes follow.
    fn demand(&self, bytes: u64, what: impl FnOnce() -> String) -> Result<(), GgufFault> {
        let left = self.length - self.at;
        if bytes > left {
            return Err(Self::malformed(self.at, format!("the file ends after {left} more bytes, {}", what())));
        }
        Ok(())
    }
}
