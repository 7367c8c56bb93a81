//! The byte source of a dataset file: hashes what passes through, unpacks gzip and Zstandard, and turns UTF-16 into UTF-8.

use std::cell::RefCell;
use std::io::{self, BufRead, BufReader, Cursor, ErrorKind, Read};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;

use crate::store::ForeignReader;

const BUFFER_BYTES: usize = 1 << 16;

/// [byte] -- Maximum size of a Parquet file that is packed, which is unpacked into memory.
const PACKED_PARQUET_BYTES_MAX: u64 = 4 << 30;

const GZIP: &[u8] = b"\x1F\x8B";
const ZSTANDARD: &[u8] = b"\x28\xB5\x2F\xFD";
const PARQUET: &[u8] = b"PAR1";
const UTF_8_MARK: &[u8] = b"\xEF\xBB\xBF";
const UTF_16_LE_MARK: &[u8] = b"\xFF\xFE";
const UTF_16_BE_MARK: &[u8] = b"\xFE\xFF";

/// The content of a dataset file, unpacked, with the hash of the file's own bytes.
pub(super) struct Source<'r> {
    content: Box<dyn BufRead + 'r>,
    hasher: Rc<RefCell<blake3::Hasher>>,
}

impl<'r> Source<'r> {
    /// Opens a file by its first bytes; its name does not matter.
    pub fn new(reader: impl Read + 'r) -> io::Result<Self> {
        let hasher = Rc::new(RefCell::new(blake3::Hasher::new()));
        let packed = WithHead::new(Hashed { reader, hasher: hasher.clone() })?;
        let content: Box<dyn BufRead + 'r> = if packed.head().starts_with(GZIP) {
            unpacked(MultiGzDecoder::new(packed))
        } else if packed.head().starts_with(ZSTANDARD) {
            unpacked(zstd::Decoder::with_buffer(packed)?)
        } else {
            Box::new(packed)
        };
        Ok(Self { content, hasher })
    }

    /// Returns the content as text without a byte-order mark, or as the bytes of a Parquet file.
    pub fn content(&mut self) -> io::Result<FileContent<'_>> {
        let mut content = WithHead::new(&mut self.content)?;
        if content.head().starts_with(PARQUET) {
            let mut bytes = Vec::new();
            content.take(PACKED_PARQUET_BYTES_MAX + 1).read_to_end(&mut bytes)?;
            if bytes.len() as u64 > PACKED_PARQUET_BYTES_MAX {
                let message = format!("it is Parquet of more than {PACKED_PARQUET_BYTES_MAX} bytes, packed; unpack it");
                return Err(io::Error::new(ErrorKind::InvalidData, message));
            }
            return Ok(FileContent::Parquet(bytes));
        }
        let is_big_endian = content.head().starts_with(UTF_16_BE_MARK);
        if is_big_endian || content.head().starts_with(UTF_16_LE_MARK) {
            content.consume(UTF_16_BE_MARK.len());
            let text = BufReader::with_capacity(BUFFER_BYTES, FromUtf16::new(content, is_big_endian));
            let text: Box<dyn BufRead + '_> = Box::new(text);
            return Ok(FileContent::Text(WithHead::new(text)?));
        }
        if content.head().starts_with(UTF_8_MARK) {
            content.consume(UTF_8_MARK.len());
        }
        let text: Box<dyn BufRead + '_> = Box::new(content);
        Ok(FileContent::Text(WithHead::new(text)?))
    }

    /// Reads to the end and returns BLAKE3 of the file.
    pub fn finish(mut self) -> io::Result<blake3::Hash> {
        io::copy(&mut self.content, &mut io::sink())?;
        let hash = self.hasher.borrow().finalize();
        Ok(hash)
    }
}

/// The content of a dataset file once it is unpacked.
pub(super) enum FileContent<'r> {
    Text(WithHead<Box<dyn BufRead + 'r>>),
    Parquet(Vec<u8>),
}

/// Returns the content of a packed file.
fn unpacked<'r>(decoder: impl Read + 'r) -> Box<dyn BufRead + 'r> {
    Box::new(BufReader::with_capacity(BUFFER_BYTES, ForeignReader(decoder)))
}

/// Reader of UTF-16 without its byte-order mark as UTF-8. A surrogate without its partner becomes a byte that is no UTF-8, so that
/// the row that holds it is refused and no other.
struct FromUtf16<R> {
    reader: R,
    is_big_endian: bool,
    /// Bytes that are not decoded yet: half a unit, or a surrogate whose partner is not read.
    rest: Vec<u8>,
    text: Cursor<Vec<u8>>,
}

impl<R: Read> FromUtf16<R> {
    fn new(reader: R, is_big_endian: bool) -> Self {
        Self { reader, is_big_endian, rest: Vec::new(), text: Cursor::default() }
    }

    /// Decodes what the reader gives next. Returns whether there was anything.
    fn refill(&mut self) -> io::Result<bool> {
        let before = self.rest.len();
        self.reader.by_ref().take(BUFFER_BYTES as u64).read_to_end(&mut self.rest)?;
        let is_end = self.rest.len() == before;
        let mut units = Vec::with_capacity(self.rest.len() / 2);
        for unit in self.rest.chunks_exact(2) {
            let bytes = [unit[0], unit[1]];
            units.push(if self.is_big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) });
        }
        if !is_end && units.last().is_some_and(|unit| (0xD800..0xDC00).contains(unit)) {
            units.pop();
        }
        self.rest.drain(..2 * units.len());
        let mut text = Vec::with_capacity(units.len());
        for decoded in char::decode_utf16(units) {
            match decoded {
                Ok(character) => text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
                Err(_) => text.push(0xFF),
            }
        }
        let is_any = !is_end || !text.is_empty();
        self.text = Cursor::new(text);
        Ok(is_any)
    }
}

impl<R: Read> Read for FromUtf16<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.text.position() == self.text.get_ref().len() as u64 {
            if !self.refill()? {
                return Ok(0);
            }
        }
        self.text.read(buffer)
    }
}

/// A reader whose first bytes, up to 64 KiB, can be looked at.
pub(super) struct WithHead<R> {
    head: Cursor<Vec<u8>>,
    rest: BufReader<R>,
}

impl<R: Read> WithHead<R> {
    pub fn new(mut reader: R) -> io::Result<Self> {
        let mut head = Vec::new();
        reader.by_ref().take(BUFFER_BYTES as u64).read_to_end(&mut head)?;
        Ok(Self { head: Cursor::new(head), rest: BufReader::with_capacity(BUFFER_BYTES, reader) })
    }

    /// Returns what is left of the first bytes.
    pub fn head(&self) -> &[u8] {
        &self.head.get_ref()[self.head.position() as usize..]
    }
}

impl<R: Read> Read for WithHead<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.head().is_empty() { self.rest.read(buffer) } else { self.head.read(buffer) }
    }
}

impl<R: Read> BufRead for WithHead<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.head().is_empty() { self.rest.fill_buf() } else { self.head.fill_buf() }
    }

    fn consume(&mut self, bytes: usize) {
        if self.head().is_empty() { self.rest.consume(bytes) } else { self.head.consume(bytes) }
    }
}

struct Hashed<R> {
    reader: R,
    hasher: Rc<RefCell<blake3::Hasher>>,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.hasher.borrow_mut().update(&buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn text(bytes: &[u8]) -> String {
        let mut source = Source::new(bytes).unwrap();
        let FileContent::Text(mut content) = source.content().unwrap() else { panic!("it is Parquet") };
        let mut text = String::new();
        content.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn the_hash_covers_what_was_not_read() {
        let bytes = b"\xEF\xBB\xBFabc";
        let mut source = Source::new(&bytes[..]).unwrap();
        assert!(matches!(source.content().unwrap(), FileContent::Text(content) if content.head() == b"abc"));
        assert_eq!(source.finish().unwrap(), blake3::hash(bytes));
    }

    #[test]
    fn packed_files_are_unpacked_and_hashed_as_they_are() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(b"\xEF\xBB\xBFabc").unwrap();
        let gzip = gzip.finish().unwrap();
        let zstandard = zstd::encode_all(&b"abc"[..], 0).unwrap();
        // Both formats may consist of several parts one after another.
        for (packed, expected) in [
            (gzip.clone(), "abc"),
            ([gzip.clone(), gzip].concat(), "abc\u{feff}abc"),
            ([zstandard.clone(), zstandard].concat(), "abcabc"),
        ] {
            assert_eq!(text(&packed), expected);
            assert_eq!(Source::new(&packed[..]).unwrap().finish().unwrap(), blake3::hash(&packed));
        }
    }

    #[test]
    fn utf_16_is_read_in_both_byte_orders() {
        let units = "\u{feff}aé\u{1F600}".encode_utf16();
        let little: Vec<u8> = units.clone().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = units.flat_map(u16::to_be_bytes).collect();
        assert_eq!(text(&little), "aé\u{1F600}");
        assert_eq!(text(&big), "aé\u{1F600}");
    }

    #[test]
    fn utf_16_of_any_length_is_read_piece_by_piece() {
        // Surrogates at odd places, so that pairs lie across the ends of the pieces.
        let long = format!("a{}", "\u{1F600}".repeat(BUFFER_BYTES));
        let bytes: Vec<u8> = format!("\u{feff}{long}").encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(text(&bytes), long);
        // Half a pair at the end, after which half a unit is left out; and in the middle.
        let unpaired: Vec<u8> = [0xFEFF_u16, 0x61, 0xD83D].into_iter().flat_map(u16::to_be_bytes).chain([0]).collect();
        let mut source = Source::new(&unpaired[..]).unwrap();
        let FileContent::Text(mut content) = source.content().unwrap() else { panic!("it is Parquet") };
        let mut read = Vec::new();
        content.read_to_end(&mut read).unwrap();
        assert_eq!(read, b"a\xFF");
    }
}
