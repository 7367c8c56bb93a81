//! The weight files of a Hugging Face folder: locates each tensor, checks all of them against the config before any is
//! read, and hashes the files that determine what a model computes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::tensor::Dtype;
use serde::Deserialize;
use tch::{Kind, Tensor};

use super::weight_files::weight_files;
use super::{Config, ModelError, TensorSpec, tensor_specs};
use crate::store::parse_json;

/// [byte] -- Longest header that is accepted. Headers of real models are far shorter; a longer one is a damaged file.
const HEADER_BYTES_MAX: u64 = 100 << 20;

/// [byte] -- Size of the pieces in which a tensor is read.
const PIECE_BYTES: usize = 1 << 20;

/// The token embedding.
pub(super) const EMBEDDING: &str = "model.embed_tokens.weight";

/// The output head.
pub(super) const HEAD: &str = "lm_head.weight";

/// A model folder whose headers were read and agree with its config.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    config: Config,
    places: BTreeMap<String, Place>,
    files: Vec<PathBuf>,
}

/// The location of a tensor's bytes.
#[derive(Clone, Debug)]
struct Place {
    file: PathBuf,
    dtype: Dtype,
    shape: Vec<usize>,
    start: u64,
    bytes: usize,
}

impl Place {
    /// Returns whether two tensors have the same type, shape and bytes.
    fn is_copy_of(&self, other: &Self) -> Result<bool, ModelError> {
        if (self.dtype, &self.shape) != (other.dtype, &other.shape) {
            return Ok(false);
        }
        let own = self.bytes().map_err(ModelError::io(&self.file))?;
        let others = other.bytes().map_err(ModelError::io(&other.file))?;
        Ok(own == others)
    }

    /// Opens the file where the tensor begins.
    fn open(&self) -> io::Result<File> {
        let mut file = File::open(&self.file)?;
        file.seek(SeekFrom::Start(self.start))?;
        Ok(file)
    }

    fn bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.bytes];
        self.open()?.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

impl Folder {
    /// Reads config.json and the headers of all weight files in `path`, and checks the name, shape and type of every
    /// tensor.
    ///
    /// # Errors
    /// If a file is missing, truncated or malformed, or a tensor is missing, unexpected, or has another shape than the
    /// config says.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let config = Config::read(path)?;
        let files = weight_files(path)?;
        let mut places = BTreeMap::new();
        for file in &files {
            read_header(file, &mut places)?;
        }
        let folder = Self { path: path.into(), config, places: with_prefix(places), files };
        folder.check()?;
        folder.check_tied_head()?;
        Ok(folder)
    }

    /// Returns the contents of config.json.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the files that determine the computation: config.json and the weight files.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = vec![self.path.join("config.json")];
        files.extend(self.files.iter().cloned());
        files
    }

    /// Reads one tensor onto the host, in the type that the file has or rounded to `kind`, piece by piece: besides the
    /// result there is never more than a piece of it in memory.
    ///
    /// # Errors
    /// If the file cannot be read, or a value is NaN or infinite.
    pub(super) fn tensor(&self, name: &str, kind: Option<Kind>) -> Result<Tensor, ModelError> {
        let place = self.places.get(name).expect("the folder was checked to hold every tensor of its config");
        let stored = kind_of(place.dtype);
        let shape: Vec<i64> = place.shape.iter().map(|&n| n as i64).collect();
        let tensor = Tensor::f_empty(shape, (kind.unwrap_or(stored), tch::Device::Cpu))?;
        let flat = tensor.f_flatten(0, -1)?;
        let mut file = place.open().map_err(ModelError::io(&place.file))?;
        let mut bytes = vec![0; place.bytes.min(PIECE_BYTES)];
        let mut done = 0;
        while done < flat.size1()? {
            let elements = (flat.size1()? - done).min((PIECE_BYTES / stored.elt_size_in_bytes()) as i64);
            let bytes = &mut bytes[..elements as usize * stored.elt_size_in_bytes()];
            file.read_exact(bytes).map_err(ModelError::io(&place.file))?;
            let piece = Tensor::f_from_data_size(bytes, &[elements], stored)?;
            if !bool::try_from(piece.f_isfinite()?.f_all()?)? {
                let reason = "holds a value that is NaN or infinite".into();
                return Err(ModelError::Tensor { path: place.file.clone(), tensor: name.into(), reason });
            }
            flat.f_narrow(0, done, elements)?.f_copy_(&piece)?;
            done += elements;
        }
        Ok(tensor)
    }

    /// Checks that the folder holds exactly the tensors that its config calls for.
    fn check(&self) -> Result<(), ModelError> {
        let specs = tensor_specs(&self.config);
        for spec in &specs {
            self.check_tensor(spec)?;
        }
        let names: BTreeSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        for (name, place) in &self.places {
            if !names.contains(name.as_str()) && !self.is_ignored(name) {
                let reason = format!("{:?} model as in config.json has no such tensor", self.config.architecture);
                return Err(ModelError::Tensor { path: place.file.clone(), tensor: name.clone(), reason });
            }
        }
        Ok(())
    }

    /// Checks that a head with a tied embedding is a copy of it. Releases of Transformers differ in which of two they
    /// use.
    fn check_tied_head(&self) -> Result<(), ModelError> {
        let (Some(head), Some(embedding)) = (self.places.get(HEAD), self.places.get(EMBEDDING)) else { return Ok(()) };
        if !self.config.tied || head.is_copy_of(embedding)? {
            return Ok(());
        }
        let reason =
            format!("config.json has tie_word_embeddings, but the file has another matrix here than in {EMBEDDING}");
        Err(ModelError::Tensor { path: head.file.clone(), tensor: HEAD.into(), reason })
    }

    fn check_tensor(&self, spec: &TensorSpec) -> Result<(), ModelError> {
        let Some(place) = self.places.get(&spec.name) else {
            let reason = format!("missing, expected shape {:?} by config.json", spec.shape);
            return Err(misfit(&self.path, spec, reason));
        };
        if place.shape != spec.shape {
            let reason = format!("expected shape {:?} by config.json, found {:?}", spec.shape, place.shape);
            return Err(misfit(&place.file, spec, reason));
        }
        match place.dtype {
            Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16 => Ok(()),
            other => {
                let reason = format!("type is {other}, supported are F64, F32, F16 and BF16");
                Err(misfit(&place.file, spec, reason))
            }
        }
    }

    /// Returns whether a tensor may be present without being used. Old checkpoints store the frequencies of RoPE, and
    /// tied ones sometimes store a copy of the head; both are recomputed.
    fn is_ignored(&self, name: &str) -> bool {
        name.ends_with("rotary_emb.inv_freq") || (self.config.tied && name == HEAD)
    }
}

/// Returns the tensors under the names of a whole model. A file that was written by the class without an output head has
/// names that lack the prefix `model.`.
fn with_prefix(places: BTreeMap<String, Place>) -> BTreeMap<String, Place> {
    if places.keys().any(|name| name.starts_with("model.")) {
        return places;
    }
    let whole = |name: String| if name.starts_with("lm_head.") { name } else { format!("model.{name}") };
    places.into_iter().map(|(name, place)| (whole(name), place)).collect()
}

fn misfit(path: &Path, spec: &TensorSpec, reason: String) -> ModelError {
    ModelError::Tensor { path: path.into(), tensor: spec.name.clone(), reason }
}

/// Returns LibTorch's name for a type of weights. [`Folder::open`] refuses all other types.
fn kind_of(dtype: Dtype) -> Kind {
    match dtype {
        Dtype::F64 => Kind::Double,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        _ => Kind::Float,
    }
}

/// Adds the tensors of one file to `places`.
fn read_header(path: &Path, places: &mut BTreeMap<String, Place>) -> Result<(), ModelError> {
    let Header { entries, data, file_bytes } = Header::read(path)?;
    let mut extents = Vec::with_capacity(entries.len());
    for (name, value) in entries {
        let entry: Entry = serde_json::from_value(value)
            .map_err(|error| ModelError::weights(path, format!("its header is malformed at {name}: {error}")))?;
        let place =
            entry.place(path, data).map_err(|reason| ModelError::weights(path, format!("tensor {name}: {reason}")))?;
        extents.push((place.start, place.bytes as u64, name.clone()));
        if places.insert(name.clone(), place).is_some() {
            return Err(ModelError::weights(path, format!("tensor {name} stands in two files")));
        }
    }
    check_extents(extents, data, file_bytes).map_err(|reason| ModelError::weights(path, reason))
}

/// The header of a safetensors file.
struct Header {
    /// Tensor descriptions by name.
    entries: BTreeMap<String, serde_json::Value>,
    /// [byte] -- Offset of the first tensor's data in the file.
    data: u64,
    /// [byte] -- Length of the file.
    file_bytes: u64,
}

impl Header {
    fn read(path: &Path) -> Result<Self, ModelError> {
        let mut file = File::open(path).map_err(ModelError::io(path))?;
        let file_bytes = file.metadata().map_err(ModelError::io(path))?.len();
        if file_bytes < 8 {
            return Err(ModelError::weights(path, format!("{file_bytes} bytes are no safetensors file")));
        }
        // Format: the header's length as a little-endian u64, the header as JSON, then the data of all tensors.
        let mut prefix = [0; 8];
        file.read_exact(&mut prefix).map_err(ModelError::io(path))?;
        let header = u64::from_le_bytes(prefix);
        if header > HEADER_BYTES_MAX || 8 + header > file_bytes {
            let reason = format!("its header claims {header} bytes, the file has {file_bytes}");
            return Err(ModelError::weights(path, reason));
        }
        let mut bytes = vec![0; header as usize];
        file.read_exact(&mut bytes).map_err(ModelError::io(path))?;
        let mut entries: BTreeMap<String, serde_json::Value> = parse_json(&bytes)
            .map_err(|error| ModelError::weights(path, format!("its header is malformed: {error}")))?;
        entries.remove("__metadata__");
        Ok(Self { entries, data: 8 + header, file_bytes })
    }
}

/// Checks that the tensors fill the file from `data` to `length` without overlaps or gaps, as the format demands.
fn check_extents(mut extents: Vec<(u64, u64, String)>, data: u64, length: u64) -> Result<(), String> {
    // In the order of their offsets, each tensor must begin where the one before it ends.
    extents.sort();
    let mut end = data;
    for (start, bytes, name) in extents {
        if start < end {
            return Err(format!("tensor {name} begins inside of another, at byte {start}"));
        }
        if start > end {
            return Err(format!("nothing describes its bytes {end} to {start}, before tensor {name}"));
        }
        end = start + bytes;
    }
    if end != length {
        return Err(format!("truncated or overlong: its header describes {end} bytes, the file has {length}"));
    }
    Ok(())
}

/// One tensor in a safetensors header.
#[derive(Deserialize)]
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

impl Entry {
    /// Converts the offsets, which count from `data`, to a place in the file, and checks their distance against the
    /// shape.
    fn place(self, file: &Path, data: u64) -> Result<Place, String> {
        let (start, end) = self.data_offsets;
        // All arithmetic is checked: a damaged header may hold any numbers, and none may wrap around.
        let elements = self.shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
        let bits = elements.and_then(|n| n.checked_mul(self.dtype.bitsize())).map(|bits| bits as u64);
        let absolute = data.checked_add(start).filter(|_| data.checked_add(end).is_some());
        match (end.checked_sub(start), absolute) {
            (Some(bytes), Some(start)) if bits.is_some() && bits == bytes.checked_mul(8) => {
                Ok(Place { file: file.into(), dtype: self.dtype, shape: self.shape, start, bytes: bytes as usize })
            }
            _ => Err(format!("offsets {start} to {end} do not hold shape {:?}", self.shape)),
        }
    }
}

/// Returns BLAKE3 over the names and bytes of config.json and the weight files, in the order of their names.
///
/// # Errors
/// If a file cannot be read.
pub fn content_hash(folder: &Folder) -> Result<blake3::Hash, ModelError> {
    let mut files = folder.files();
    files.sort();
    let mut hasher = blake3::Hasher::new_derive_key("fedreplay base model v1");
    for path in files {
        // The length of a name and the fixed size of a hash delimit the parts, so no two folders share an encoding.
        let mut one = blake3::Hasher::new();
        let file = File::open(&path).map_err(ModelError::io(&path))?;
        one.update_reader(file).map_err(ModelError::io(&path))?;
        let name = path.file_name().expect("a file in a folder has a name").to_string_lossy().into_owned();
        hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
        hasher.update(one.finalize().as_bytes());
    }
    Ok(hasher.finalize())
}
