//! Codes of a few bits, packed without gaps: the first code is in the lowest bits of the first byte.

/// [byte] -- Returns the length of packed codes.
pub fn packed_bytes(count: usize, width: u32) -> usize {
    (count * width as usize).div_ceil(8)
}

/// Appends codes of `width` bits, at most 16, to `out`. The last byte is filled with zeros.
pub fn pack(codes: impl Iterator<Item = u32>, width: u32, out: &mut Vec<u8>) {
    let mut buffer = 0;
    let mut filled = 0;
    for code in codes {
        buffer |= code << filled;
        filled += width;
        while filled >= 8 {
            out.push(buffer as u8);
            buffer >>= 8;
            filled -= 8;
        }
    }
    if filled > 0 {
        out.push(buffer as u8);
    }
}

/// Returns the codes that [`pack`] wrote, and after them those that fit in the rest of the last byte.
pub fn unpack(bytes: &[u8], width: u32) -> impl Iterator<Item = u32> {
    let mut rest = bytes.iter();
    let mut buffer = 0;
    let mut filled = 0;
    std::iter::from_fn(move || {
        while filled < width {
            buffer |= u32::from(*rest.next()?) << filled;
            filled += 8;
        }
        let code = buffer & ((1 << width) - 1);
        buffer >>= width;
        filled -= width;
        Some(code)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_every_width_come_back() {
        for width in 1..=16 {
            for count in [1, 2, 7, 8, 9, 100] {
                let codes: Vec<u32> = (0..count as u32).map(|n| n.wrapping_mul(0x9e37) & ((1 << width) - 1)).collect();
                let mut bytes = vec![];
                pack(codes.iter().copied(), width, &mut bytes);
                assert_eq!(bytes.len(), packed_bytes(count, width));
                assert_eq!(unpack(&bytes, width).take(count).collect::<Vec<_>>(), codes, "{width} bits");
            }
        }
        let mut bytes = vec![];
        pack([1, 2, 3].into_iter(), 3, &mut bytes);
        assert_eq!(bytes, [0b1101_0001, 0]);
    }
}
