//! The weight files of a Hugging Face folder: which tensor lies where, checked against the config before any is read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::tensor::Dtype;
use serde::Deserialize;

use super::{Config, ModelError, TensorSpec, tensor_specs};

/// No header of a real model comes near this [byte]; a longer one is a broken file.
const HEADER_BYTES_MAX: u64 = 100 << 20;

/// The file that says which weight file holds which tensor, where there are several.
pub(super) const INDEX_FILE: &str = "model.safetensors.index.json";

/// The weight file where there is no index.
pub(super) const SINGLE_FILE: &str = "model.safetensors";

/// A folder whose headers have been read and found to agree with its config.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    config: Config,
    places: BTreeMap<String, Place>,
    files: Vec<PathBuf>,
}

/// Where a tensor's bytes lie.
#[derive(Clone, Debug)]
struct Place {
    file: PathBuf,
    dtype: Dtype,
    shape: Vec<usize>,
    start: u64,
    bytes: usize,
}

/// A tensor as it lies in the file, little-endian.
pub(super) struct RawTensor {
    pub dtype: Dtype,
    pub shape: Vec<i64>,
    pub bytes: Vec<u8>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Folder {
    /// Reads config.json and the headers of all weight files in `path`, and checks every tensor's name, shape and type.
    ///
    /// # Errors
    /// If a file is missing, truncated or malformed, or a tensor is missing, superfluous, or of another shape than the
    /// config says.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let config = Config::read(path)?;
        let files = weight_files(path)?;
        let mut places = BTreeMap::new();
        for file in &files {
            read_header(file, &mut places)?;
        }
        let folder = Self { path: path.into(), config, places, files };
        folder.check()?;
        Ok(folder)
    }

    /// What config.json says.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The files that decide the computation: config.json and the weight files.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = vec![self.path.join("config.json")];
        files.extend(self.files.iter().cloned());
        files
    }

    /// Reads one tensor. Tensors are read one at a time, so no more than one lies in memory twice.
    pub(super) fn read(&self, name: &str) -> Result<RawTensor, ModelError> {
        let place = self.places.get(name).expect("the folder was checked to hold every tensor of its config");
        let mut bytes = vec![0; place.bytes];
        File::open(&place.file)
            .and_then(|mut file| file.seek(SeekFrom::Start(place.start)).and_then(|_| file.read_exact(&mut bytes)))
            .map_err(|source| ModelError::Io { path: place.file.clone(), source })?;
        Ok(RawTensor { dtype: place.dtype, shape: place.shape.iter().map(|&n| n as i64).collect(), bytes })
    }

    /// The file that holds a tensor, for error messages.
    pub(super) fn file_of(&self, name: &str) -> &Path {
        self.places.get(name).map_or(&self.path, |place| &place.file)
    }

    fn check(&self) -> Result<(), ModelError> {
        let specs = tensor_specs(&self.config);
        specs.iter().try_for_each(|spec| self.check_tensor(spec))?;
        let names: BTreeSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        let known = |name: &str| names.contains(name) || self.is_ignored(name);
        match self.places.iter().find(|(name, _)| !known(name)) {
            None => Ok(()),
            Some((name, place)) => Err(ModelError::Tensor {
                path: place.file.clone(),
                tensor: name.clone(),
                reason: format!("{:?} model as in config.json has no such tensor", self.config.architecture),
            }),
        }
    }

    fn check_tensor(&self, spec: &TensorSpec) -> Result<(), ModelError> {
        let fail =
            |path: &Path, reason| Err(ModelError::Tensor { path: path.into(), tensor: spec.name.clone(), reason });
        let Some(place) = self.places.get(&spec.name) else {
            return fail(&self.path, format!("missing, expected shape {:?} by config.json", spec.shape));
        };
        if place.shape != spec.shape {
            return fail(
                &place.file,
                format!("expected shape {:?} by config.json, found {:?}", spec.shape, place.shape),
            );
        }
        match place.dtype {
            Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16 => Ok(()),
            other => fail(&place.file, format!("type is {other}, supported are F64, F32, F16 and BF16")),
        }
    }

    /// Old checkpoints carry RoPE's frequencies, and tied ones sometimes a copy of the head; both are recomputed.
    fn is_ignored(&self, name: &str) -> bool {
        name.ends_with("rotary_emb.inv_freq") || (self.config.tied && name == "lm_head.weight")
    }
}

/// The weight files that the index names, or the single file.
fn weight_files(folder: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let index = folder.join(INDEX_FILE);
    if index.exists() {
        return Ok(shard_names(&index)?.into_iter().map(|name| folder.join(name)).collect());
    }
    let single = folder.join(SINGLE_FILE);
    match single.metadata() {
        Ok(_) => Ok(vec![single]),
        Err(source) => Err(ModelError::Io { path: single, source }),
    }
}

/// The names of the weight files in an index, sorted; each is a plain file name.
pub(super) fn shard_names(index: &Path) -> Result<Vec<String>, ModelError> {
    let bytes = std::fs::read(index).map_err(|source| ModelError::Io { path: index.into(), source })?;
    let parsed: Index = serde_json::from_slice(&bytes)
        .map_err(|e| ModelError::Weights { path: index.into(), reason: e.to_string() })?;
    let mut names: Vec<String> = parsed.weight_map.into_values().collect();
    names.sort();
    names.dedup();
    match names.iter().find(|name| name.contains(['/', '\\'])) {
        Some(name) => {
            Err(ModelError::Weights { path: index.into(), reason: format!("{name:?} is not a plain file name") })
        }
        None => Ok(names),
    }
}

/// Adds the tensors of one file to `places`.
fn read_header(path: &Path, places: &mut BTreeMap<String, Place>) -> Result<(), ModelError> {
    let io = |source| ModelError::Io { path: path.into(), source };
    let broken = |reason: String| ModelError::Weights { path: path.into(), reason };
    let mut file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let mut prefix = [0; 8];
    if length < 8 {
        return Err(broken(format!("{length} bytes are no safetensors file")));
    }
    file.read_exact(&mut prefix).map_err(io)?;
    let header = u64::from_le_bytes(prefix);
    if header > HEADER_BYTES_MAX || 8 + header > length {
        return Err(broken(format!("its header claims {header} bytes, the file has {length}")));
    }
    let mut bytes = vec![0; header as usize];
    file.read_exact(&mut bytes).map_err(io)?;
    let mut entries: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(&bytes).map_err(|e| broken(format!("its header is malformed: {e}")))?;
    entries.remove("__metadata__");
    let mut extents = Vec::with_capacity(entries.len());
    for (name, value) in entries {
        let entry: Entry =
            serde_json::from_value(value).map_err(|e| broken(format!("its header is malformed at {name}: {e}")))?;
        let place = entry.place(path, 8 + header).map_err(|reason| broken(format!("tensor {name}: {reason}")))?;
        extents.push((place.start, place.bytes as u64, name.clone()));
        if places.insert(name.clone(), place).is_some() {
            return Err(broken(format!("tensor {name} stands in two files")));
        }
    }
    check_extents(extents, 8 + header, length).map_err(broken)
}

/// Checks that tensors fill the file from `data` to `length` without overlap or gap, as the format demands.
fn check_extents(mut extents: Vec<(u64, u64, String)>, data: u64, length: u64) -> Result<(), String> {
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
    match end == length {
        true => Ok(()),
        false => Err(format!("truncated or overlong: its header describes {end} bytes, the file has {length}")),
    }
}

/// One tensor in a safetensors header.
#[derive(Deserialize)]
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

impl Entry {
    fn place(self, file: &Path, data: u64) -> Result<Place, String> {
        let (start, end) = self.data_offsets;
        let elements = self.shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
        let bits = elements.and_then(|n| n.checked_mul(self.dtype.bitsize())).map(|bits| bits as u64);
        // Offsets near 2^64 are read like any other, and must not wrap around.
        let absolute = data.checked_add(start).filter(|_| data.checked_add(end).is_some());
        match (end.checked_sub(start), absolute) {
            (Some(bytes), Some(start)) if bits.is_some() && bits == bytes.checked_mul(8) => {
                Ok(Place { file: file.into(), dtype: self.dtype, shape: self.shape, start, bytes: bytes as usize })
            }
            _ => Err(format!("offsets {start} to {end} do not hold shape {:?}", self.shape)),
        }
    }
}
