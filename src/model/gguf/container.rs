//! The header of a GGUF file: metadata and the places of the tensors.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};

use super::GgufFault;
use super::blocks::BlockType;
use super::cursor::Cursor;
use super::metadata::Metadata;

/// Most dimensions of a tensor.
const DIMENSIONS_MAX: u32 = 4;

/// [byte] -- Alignment of tensors where the file names none.
const ALIGNMENT: u64 = 32;

/// [byte] -- Smallest entry of a tensor: an empty name, no dimension, the type and the offset.
const TENSOR_ENTRY_BYTES: u64 = 8 + 4 + 4 + 8;

/// [byte] -- Smallest pair of metadata: an empty key, the type and one byte.
const METADATA_ENTRY_BYTES: u64 = 8 + 4 + 1;

/// The header of a file, checked against the file's length.
#[derive(Debug)]
pub(super) struct Container {
    pub metadata: Metadata,
    pub tensors: BTreeMap<String, StoredTensor>,
}

/// A tensor's format and its place in the file.
#[derive(Clone, Debug)]
pub(super) struct StoredTensor {
    pub kind: BlockType,
    /// Sizes from the outermost to the innermost dimension, as PyTorch has them.
    pub shape: Vec<usize>,
    /// [byte] -- Offset in the file.
    pub start: u64,
    /// [byte] -- Length of its data.
    pub bytes: usize,
}

impl Container {
    /// Reads the header of an open file.
    pub fn open(file: &File) -> Result<Self, GgufFault> {
        let length = file.metadata()?.len();
        Self::read(BufReader::new(file), length)
    }

    /// Reads the header of a file of `length` bytes.
    pub fn read(inner: impl Read, length: u64) -> Result<Self, GgufFault> {
        let mut cursor = Cursor::new(inner, length);
        read_preamble(&mut cursor)?;
        let tensor_count = cursor.count(TENSOR_ENTRY_BYTES, "tensors")?;
        let metadata_count = cursor.count(METADATA_ENTRY_BYTES, "pairs of metadata")?;
        let metadata = Metadata::read(&mut cursor, metadata_count)?;
        if let Some(parts) = metadata.size("split.count")?.filter(|&parts| parts > 1) {
            let reason = format!("is {parts}: the model is split among files, merge them with llama-gguf-split first");
            return Err(GgufFault::key("split.count", reason));
        }
        let mut entries = Vec::with_capacity(tensor_count);
        for _ in 0..tensor_count {
            entries.push(TensorEntry::read(&mut cursor)?);
        }
        let data = data_start(&metadata, cursor.at())?;
        let mut tensors = BTreeMap::new();
        for entry in entries {
            let name = entry.name.clone();
            let stored = entry.place(data, length)?;
            if tensors.insert(name.clone(), stored).is_some() {
                return Err(GgufFault::tensor(name, "occurs twice"));
            }
        }
        Ok(Self { metadata, tensors })
    }
}

/// Reads the magic number and the version.
fn read_preamble<R: Read>(cursor: &mut Cursor<R>) -> Result<(), GgufFault> {
    let magic: [u8; 4] = cursor.bytes()?;
    if &magic != b"GGUF" {
        return Err(Cursor::<R>::malformed(0, format!("{magic:?} is found, a GGUF file begins with the letters GGUF")));
    }
    match cursor.u32()? {
        2 | 3 => Ok(()),
        // The version's upper half is 0 in every file, so a swapped one is easily recognized.
        swapped if swapped & 0xffff == 0 => Err(Cursor::<R>::malformed(4, "the file is big-endian")),
        version => Err(Cursor::<R>::malformed(4, format!("the version is {version}, 2 and 3 are supported"))),
    }
}

/// Returns the offset of the first tensor's data.
fn data_start(metadata: &Metadata, header_end: u64) -> Result<u64, GgufFault> {
    let key = "general.alignment";
    let alignment = metadata.size(key)?.map_or(ALIGNMENT, |alignment| alignment as u64);
    if !alignment.is_power_of_two() {
        return Err(GgufFault::key(key, format!("is {alignment}, expected a power of 2")));
    }
    header_end
        .checked_next_multiple_of(alignment)
        .ok_or_else(|| GgufFault::key(key, format!("is {alignment}, which is longer than any file")))
}

/// A tensor as the header describes it.
struct TensorEntry {
    name: String,
    /// Sizes from the innermost to the outermost dimension.
    sizes: Vec<u64>,
    kind: u32,
    /// [byte] -- Offset from the first tensor's data.
    offset: u64,
}

impl TensorEntry {
    fn read<R: Read>(cursor: &mut Cursor<R>) -> Result<Self, GgufFault> {
        let name = cursor.text()?;
        let dimensions = cursor.u32()?;
        if dimensions == 0 || dimensions > DIMENSIONS_MAX {
            let reason = format!("has {dimensions} dimensions, 1 to {DIMENSIONS_MAX} are allowed");
            return Err(GgufFault::tensor(name, reason));
        }
        let sizes = (0..dimensions).map(|_| cursor.u64()).collect::<Result<_, _>>()?;
        Ok(Self { name, sizes, kind: cursor.u32()?, offset: cursor.u64()? })
    }

    /// Computes the place of the data and checks that the file holds all of it. Offsets count from `data`.
    fn place(self, data: u64, length: u64) -> Result<StoredTensor, GgufFault> {
        let kind = BlockType::of(self.kind).map_err(|reason| GgufFault::tensor(&self.name, reason))?;
        let block = kind.values() as u64;
        let innermost = self.sizes[0];
        if innermost == 0 || !innermost.is_multiple_of(block) {
            let reason = format!("has rows of {innermost} values, {} has blocks of {block}", kind.name());
            return Err(GgufFault::tensor(self.name, reason));
        }
        // All arithmetic is checked: a damaged header may hold any numbers, and none may wrap around.
        let elements = self.sizes.iter().try_fold(1u64, |product, &size| product.checked_mul(size));
        let bytes = elements.and_then(|elements| (elements / block).checked_mul(kind.bytes() as u64));
        let start = data.checked_add(self.offset);
        let end = start.and_then(|start| start.checked_add(bytes?));
        match (bytes, start, end) {
            (Some(bytes), Some(start), Some(end)) if bytes > 0 && end <= length => Ok(StoredTensor {
                kind,
                shape: self.sizes.iter().rev().map(|&size| size as usize).collect(),
                start,
                bytes: bytes as usize,
            }),
            _ => {
                let reason = format!(
                    "of {:?} {} values at offset {} does not fit into the file of {length} bytes",
                    self.sizes,
                    kind.name(),
                    self.offset
                );
                Err(GgufFault::tensor(self.name, reason))
            }
        }
    }
}
