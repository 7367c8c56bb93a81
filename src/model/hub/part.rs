//! A file whose download is not complete.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::HubError;

/// [byte] -- Size of the read buffer.
const BUFFER_BYTES: usize = 1 << 20;

/// [byte/s] -- Slowest transfer that is waited for.
const BYTES_PER_SECOND_MIN: f64 = 1024.0;

/// An incomplete file, locked against other processes.
pub(super) struct Part {
    pub file: File,
    path: PathBuf,
    /// [byte] -- Length of what was received.
    pub bytes: u64,
    /// [byte] -- Length of the whole file.
    pub expected_bytes: u64,
    /// Whether it was received in more than one answer, or in another call.
    pub is_of_pieces: bool,
}

impl Part {
    /// Opens or creates the file, and waits until no other process writes to it.
    pub fn open(path: &Path, expected_bytes: u64) -> Result<Self, HubError> {
        let file = OpenOptions::new().create(true).read(true).append(true).open(path).map_err(HubError::io(path))?;
        file.lock().map_err(HubError::io(path))?;
        let bytes = file.metadata().map_err(HubError::io(path))?.len();
        let mut part = Self { file, path: path.to_owned(), bytes, expected_bytes, is_of_pieces: bytes > 0 };
        // A part that is too long is damaged, and the download starts over.
        if bytes > expected_bytes {
            part.cut(0)?;
        }
        Ok(part)
    }

    /// Returns whether all bytes were received.
    pub fn is_complete(&self) -> bool {
        self.bytes == self.expected_bytes
    }

    /// Truncates the file to `bytes`.
    pub fn cut(&mut self, bytes: u64) -> Result<(), HubError> {
        // The file is in append mode, so the next write goes to the new end.
        self.file.set_len(bytes).map_err(HubError::io(&self.path))?;
        self.file.seek(SeekFrom::Start(bytes)).map_err(HubError::io(&self.path))?;
        self.bytes = bytes;
        self.is_of_pieces &= bytes > 0;
        Ok(())
    }

    /// Appends what arrives, and returns why it ended. More bytes than the file has are an error.
    pub fn append(&mut self, mut body: impl Read, url: &str) -> Result<String, HubError> {
        self.is_of_pieces |= self.bytes > 0;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            // A broken connection is no error here: the caller requests the rest.
            let count = match body.read(&mut buffer) {
                Ok(0) => return Ok("the server closed it".into()),
                Ok(count) => count,
                Err(error) => return Ok(error.to_string()),
            };
            // What has been received cannot be trusted either, so nothing of it is kept.
            if self.bytes + count as u64 > self.expected_bytes {
                self.cut(0)?;
                let reason = format!("it sends more than the {} bytes that the hub lists", self.expected_bytes);
                return Err(HubError::Answer { url: url.into(), reason });
            }
            self.file.write_all(&buffer[..count]).map_err(HubError::io(&self.path))?;
            self.bytes += count as u64;
        }
    }
}

/// A body that ends with an error if it arrives too slowly: each byte of it may be in time where the whole never is.
pub(super) struct Steady<R> {
    body: R,
    patience: Duration,
    /// Begin of the current period, which is as long as the patience or a little longer.
    begin: Instant,
    /// [byte] -- Received in the current period.
    bytes: usize,
}

impl<R> Steady<R> {
    /// Wraps a body that must bring enough bytes in each period of `patience`.
    pub fn new(body: R, patience: Duration) -> Self {
        Self { body, patience, begin: Instant::now(), bytes: 0 }
    }
}

impl<R: Read> Read for Steady<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.body.read(buffer)?;
        self.bytes += count;
        let elapsed = self.begin.elapsed();
        if count > 0 && elapsed >= self.patience {
            if (self.bytes as f64) < BYTES_PER_SECOND_MIN * elapsed.as_secs_f64() {
                let reason = format!("only {} bytes arrived in {:.1} s", self.bytes, elapsed.as_secs_f64());
                return Err(io::Error::new(io::ErrorKind::TimedOut, reason));
            }
            self.begin = Instant::now();
            self.bytes = 0;
        }
        Ok(count)
    }
}
