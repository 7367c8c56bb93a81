//! Format of TensorBoard's event files: protobuf messages in length-prefixed records with masked CRC-32C checksums.
//!
//! Of the messages `tensorflow.Event` and `tensorflow.Summary` only the fields that scalars need are written.

use super::protobuf::{delimited, double, single, whole};

/// Event file in memory.
pub struct EventFile {
    bytes: Vec<u8>,
}

impl EventFile {
    /// Creates a file with its opening event, at `wall_time` in s.
    pub fn new(wall_time: f64) -> Self {
        let mut file = Self { bytes: Vec::new() };
        // Event { wall_time = 1, file_version = 3 }
        let mut event = double(1, wall_time);
        event.extend(delimited(3, b"brain.Event:2"));
        file.record(&event);
        file
    }

    /// Appends a scalar under `tag`, at `wall_time` in s. TensorBoard stores it in 32 bits.
    pub fn scalar(&mut self, tag: &str, step: u64, wall_time: f64, value: f32) {
        // Summary.Value { tag = 1, simple_value = 2 }
        let mut scalar = delimited(1, tag.as_bytes());
        scalar.extend(single(2, value));
        // Event { wall_time = 1, step = 2, summary = 5: Summary { value = 1 } }
        let mut event = double(1, wall_time);
        event.extend(whole(2, step));
        event.extend(delimited(5, &delimited(1, &scalar)));
        self.record(&event);
    }

    /// Returns the bytes of the file.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Appends a record: length, checksum of the length, message, checksum of the message.
    fn record(&mut self, message: &[u8]) {
        let length = (message.len() as u64).to_le_bytes();
        self.bytes.extend(length);
        self.bytes.extend(masked(&length));
        self.bytes.extend(message);
        self.bytes.extend(masked(message));
    }
}

/// Computes the masked checksum of a record: rotated and shifted, as CRCs of data that contain CRCs are weak.
fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}
