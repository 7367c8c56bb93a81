//! Writing the tensors of a GGUF file as safetensors, one at a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use half::{bf16, f16};
use serde_json::{Map, Value, json};

use super::blocks::BlockType;
use super::container::StoredTensor;
use super::names::{PlannedTensor, Undo};
use super::{GgufError, GgufFault};

/// A type of weights in the written folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WeightType {
    /// 32-bit floating point.
    F32,
    /// 16-bit floating point of IEEE 754.
    F16,
    /// bfloat16.
    Bf16,
}

impl WeightType {
    /// Returns the name of the type in PyTorch.
    pub fn in_torch(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    /// Returns the name of the type in safetensors.
    fn in_safetensors(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
        }
    }

    /// [byte] -- Size of a value.
    fn bytes(self) -> usize {
        if self == Self::F32 { 4 } else { 2 }
    }

    /// Returns the format of a file whose bytes are already of this type.
    fn as_stored(self) -> BlockType {
        match self {
            Self::F32 => BlockType::F32,
            Self::F16 => BlockType::F16,
            Self::Bf16 => BlockType::Bf16,
        }
    }
}

/// A tensor with its source and the type in which it is written.
pub(super) struct Written<'a> {
    pub planned: &'a PlannedTensor,
    pub stored: &'a StoredTensor,
    pub kind: WeightType,
}

impl<'a> Written<'a> {
    /// Selects the type that loses nothing, unless `wanted` names one.
    pub fn new(planned: &'a PlannedTensor, stored: &'a StoredTensor, wanted: Option<WeightType>) -> Self {
        let lossless = match stored.kind {
            // The sum with 1 would have to be rounded again.
            _ if planned.undo == Undo::AddedOne => WeightType::F32,
            BlockType::F16 => WeightType::F16,
            BlockType::Bf16 => WeightType::Bf16,
            _ => WeightType::F32,
        };
        Self { planned, stored, kind: wanted.unwrap_or(lossless) }
    }

    /// Returns the number of values.
    pub fn values(&self) -> usize {
        self.planned.shape.iter().product()
    }

    fn bytes(&self) -> usize {
        self.values() * self.kind.bytes()
    }

    /// Reads the tensor and returns its bytes in the type to be written.
    fn read(&self, file: &mut File) -> Result<Vec<u8>, GgufFault> {
        let mut bytes = vec![0; self.stored.bytes];
        file.seek(SeekFrom::Start(self.stored.start))?;
        file.read_exact(&mut bytes)?;
        if let Undo::Interleaving { heads } = self.planned.undo {
            bytes = deinterleaved(&bytes, self.planned.shape[0], heads);
        }
        let mut values = self.stored.kind.expand(&bytes);
        if self.planned.undo == Undo::AddedOne {
            values.iter_mut().for_each(|value| *value -= 1.0);
        } else if self.stored.kind == self.kind.as_stored() {
            // The bytes stay as they are.
            values.iter().try_for_each(|&value| self.check(value, value.is_finite()))?;
            return Ok(bytes);
        }
        self.rounded(&values)
    }

    /// Refuses a value that is not finite in the type to be written.
    fn check(&self, value: f32, is_finite: bool) -> Result<(), GgufFault> {
        if is_finite {
            return Ok(());
        }
        let reason = format!("has the value {value}, which is not finite as {}", self.kind.in_torch());
        Err(GgufFault::tensor(&self.planned.source, reason))
    }

    /// Returns the bytes of values in the type to be written, each rounded to the nearest, ties to even.
    fn rounded(&self, values: &[f32]) -> Result<Vec<u8>, GgufFault> {
        let mut bytes = Vec::with_capacity(self.bytes());
        for &value in values {
            let is_finite = match self.kind {
                WeightType::F32 => {
                    bytes.extend(value.to_le_bytes());
                    value.is_finite()
                }
                WeightType::F16 => {
                    bytes.extend(f16::from_f32(value).to_le_bytes());
                    f16::from_f32(value).is_finite()
                }
                WeightType::Bf16 => {
                    bytes.extend(bf16::from_f32(value).to_le_bytes());
                    bf16::from_f32(value).is_finite()
                }
            };
            self.check(value, is_finite)?;
        }
        Ok(bytes)
    }
}

/// Returns the rows of a tensor in the order of Transformers. Rows hold whole blocks, so any format can be reordered.
fn deinterleaved(bytes: &[u8], rows: usize, heads: usize) -> Vec<u8> {
    let row_bytes = bytes.len() / rows;
    let half = rows / heads / 2;
    let mut ordered = Vec::with_capacity(bytes.len());
    for head in 0..heads {
        for part in 0..2 {
            for row in 0..half {
                // Row `part * half + row` of a head is its row `2 row + part` in the file.
                let from = (head * 2 * half + 2 * row + part) * row_bytes;
                ordered.extend_from_slice(&bytes[from..from + row_bytes]);
            }
        }
    }
    ordered
}

/// Returns the values of a tensor in f32.
pub(super) fn read_values(file: &mut File, stored: &StoredTensor) -> Result<Vec<f32>, GgufFault> {
    let mut bytes = vec![0; stored.bytes];
    file.seek(SeekFrom::Start(stored.start))?;
    file.read_exact(&mut bytes)?;
    Ok(stored.kind.expand(&bytes))
}

/// Reads the tensors from `source` and writes them to the safetensors file `target`.
pub(super) fn write(source: &Path, tensors: &[Written], target: &Path) -> Result<(), GgufError> {
    let mut file = File::open(source).map_err(GgufError::io(source))?;
    let mut out = BufWriter::new(File::create(target).map_err(GgufError::io(target))?);
    out.write_all(&header(tensors)).map_err(GgufError::io(target))?;
    for tensor in tensors {
        let bytes = tensor.read(&mut file).map_err(|fault| GgufError::File { path: source.into(), fault })?;
        out.write_all(&bytes).map_err(GgufError::io(target))?;
    }
    let file = out.into_inner().map_err(io::IntoInnerError::into_error).map_err(GgufError::io(target))?;
    file.sync_all().map_err(GgufError::io(target))
}

/// Returns the length of the header in 8 bytes and the header, padded so that the data begins at a multiple of 8.
fn header(tensors: &[Written]) -> Vec<u8> {
    let mut entries = Map::from_iter([("__metadata__".to_owned(), json!({"format": "pt"}))]);
    let mut end = 0;
    for tensor in tensors {
        let start = end;
        end += tensor.bytes();
        let entry = json!({
            "dtype": tensor.kind.in_safetensors(), "shape": tensor.planned.shape, "data_offsets": [start, end],
        });
        entries.insert(tensor.planned.name.clone(), entry);
    }
    let mut text = Value::Object(entries).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.extend(text);
    header
}

/// Returns the type in which most bytes are written.
pub(super) fn main_type(tensors: &[Written]) -> WeightType {
    let mut bytes = BTreeMap::new();
    for tensor in tensors {
        *bytes.entry(tensor.kind).or_insert(0) += tensor.bytes();
    }
    bytes.into_iter().max_by_key(|(_, bytes)| *bytes).map_or(WeightType::F32, |(kind, _)| kind)
}
