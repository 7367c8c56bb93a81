//! The form of TensorBoard's event files: protobuf messages as length-prefixed records with masked CRC-32C checksums.
//!
//! Only what scalars need of the messages `tensorflow.Event` and `tensorflow.Summary` is written, by their field numbers.

/// An event file in memory.
pub struct EventFile {
    bytes: Vec<u8>,
}

impl EventFile {
    /// A file with its opening event, at `wall_time` [s].
    pub fn new(wall_time: f64) -> Self {
        let mut file = Self { bytes: Vec::new() };
        let mut event = double(1, wall_time);
        event.extend(delimited(3, b"brain.Event:2"));
        file.record(&event);
        file
    }

    /// Adds a scalar under `tag`. TensorBoard stores it in 32 bits.
    pub fn scalar(&mut self, tag: &str, step: u64, wall_time: f64, value: f32) {
        let mut scalar = delimited(1, tag.as_bytes());
        scalar.push(2 << 3 | 5);
        scalar.extend(value.to_le_bytes());
        let mut event = double(1, wall_time);
        event.push(2 << 3);
        event.extend(varint(step));
        event.extend(delimited(5, &delimited(1, &scalar)));
        self.record(&event);
    }

    /// The bytes of the file.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn record(&mut self, message: &[u8]) {
        let length = (message.len() as u64).to_le_bytes();
        self.bytes.extend(length);
        self.bytes.extend(masked(&length));
        self.bytes.extend(message);
        self.bytes.extend(masked(message));
    }
}

/// The checksum of a record, turned and shifted so that a checksum of checksums is not 0.
fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

fn double(field: u8, value: f64) -> Vec<u8> {
    let mut bytes = vec![field << 3 | 1];
    bytes.extend(value.to_le_bytes());
    bytes
}

fn delimited(field: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![field << 3 | 2];
    bytes.extend(varint(content.len() as u64));
    bytes.extend(content);
    bytes
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
