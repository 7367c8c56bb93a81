//! Fields of protobuf messages. A field is its tag, `number << 3 | wire type`, and its value; wire types are 0 for varints, 1 for
//! 64 bits, 2 for bytes with their length, and 5 for 32 bits.

/// Returns a field that is a whole number.
pub fn whole(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

/// Returns a field in 64 bits.
pub fn double(field: u64, value: f64) -> Vec<u8> {
    let mut bytes = varint(field << 3 | 1);
    bytes.extend(value.to_le_bytes());
    bytes
}

/// Returns a field in 32 bits.
pub fn single(field: u64, value: f32) -> Vec<u8> {
    let mut bytes = varint(field << 3 | 5);
    bytes.extend(value.to_le_bytes());
    bytes
}

/// Returns a field that is text or a message.
pub fn delimited(field: u64, content: &[u8]) -> Vec<u8> {
    let mut bytes = varint(field << 3 | 2);
    bytes.extend(varint(content.len() as u64));
    bytes.extend(content);
    bytes
}

fn varint(mut value: u64) -> Vec<u8> {
    // Seven bits per byte, the least significant first; the high bit says that more follow.
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
