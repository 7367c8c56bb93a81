//! Reading of PEFT's folders: modules and ranks from the tensors, checked against the configuration.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use safetensors::tensor::Metadata;
use safetensors::{SafeTensorError, SafeTensors};

use super::config::PeftConfig;
use super::{CONFIG, Notes, PREFIX, TENSORS};
use crate::adapter::saved::{WITH_CHANGE, WITH_CORE};
use crate::adapter::values::{opened, read_tensor};
use crate::adapter::{Adapter, AdapterError, Layout, Module};
use crate::store::{parse_json, read_limited};

/// [byte] -- Maximum length of a header, which safetensors sets.
const HEADER_BYTES_MAX: u64 = 100_000_000;

/// Weights in PyTorch's own format, which older versions of PEFT wrote.
const PICKLE: &str = "adapter_model.bin";

/// Adapter in a folder of PEFT.
#[derive(Clone, Debug, PartialEq)]
pub struct PeftAdapter {
    /// Layout and values. Modules are ordered by their paths.
    pub adapter: Adapter,
    pub notes: Notes,
    /// The keys that give modules a rank or alpha of their own, with their values, if any module has one.
    ///
    /// Smaller matrices are then filled with zeros to the greatest rank, and B is scaled to the layout's scale. The
    /// adapter computes what PEFT's does, but training would not change it as PEFT does.
    pub own_ranks: Option<String>,
}

/// Reads a folder written by PEFT or [`super::write_folder`].
///
/// # Errors
/// If a file is missing or damaged, the configuration has a key that changes what the adapter computes and is not
/// supported, or the tensors are not those that the configuration calls for.
pub fn read_folder(folder: &Path) -> Result<PeftAdapter, AdapterError> {
    let read = read_recorded(folder)?;
    if !read.adapter.is_finite() {
        return Err(AdapterError::content(folder.join(TENSORS).display().to_string(), "a value is NaN or infinite"));
    }
    Ok(read)
}

/// Reads a folder like [`read_folder`], whose values may be NaN or infinite: a run records a model that has diverged too.
///
/// # Errors
/// As [`read_folder`].
pub fn read_recorded(folder: &Path) -> Result<PeftAdapter, AdapterError> {
    let (path, bytes) = read(folder, CONFIG)?;
    let config = PeftConfig::parse(&bytes).map_err(|reason| AdapterError::content(&path, reason))?;
    check_length(&folder.join(TENSORS))?;
    let (path, bytes) = read(folder, TENSORS)?;
    let file = opened(&path, &bytes)?;
    let content = |reason| AdapterError::content(&path, reason);
    let pairs = pairs_of(&file, &config).map_err(content)?;
    let Some(first) = pairs.first() else {
        return Err(content("it has no pair of lora_A.weight and lora_B.weight".into()));
    };
    let is_uniform = pairs.iter().all(|pair| (pair.rank, pair.alpha) == (first.rank, first.alpha));
    let layout = Layout {
        rank: pairs.iter().map(|pair| pair.rank).max().unwrap_or(first.rank),
        alpha: if is_uniform { first.alpha } else { config.alpha },
        rank_stabilized: config.rank_stabilized,
        has_core: false,
        modules: pairs.iter().map(|pair| pair.module.clone()).collect(),
    };
    let adapter = values_of(&file, &pairs, layout, &config).map_err(content)?;
    let own_ranks = if is_uniform { None } else { Some(config.patterns) };
    let notes = Notes { base_model: config.base_model, revision: config.revision, dropout: config.dropout };
    Ok(PeftAdapter { adapter, notes, own_ranks })
}

/// The matrices of one module.
struct Pair {
    module: Module,
    rank: usize,
    alpha: f64,
}

impl Pair {
    /// Returns the factor on the product B A.
    fn scale(&self, config: &PeftConfig) -> f64 {
        let layout = Layout {
            rank: self.rank,
            alpha: self.alpha,
            rank_stabilized: config.rank_stabilized,
            has_core: false,
            modules: vec![],
        };
        layout.scale()
    }
}

/// Returns the pairs of matrices in a file, by path with numbers in numeric order.
///
/// # Errors
/// The first tensor, by name, that is not one of a pair as the configuration calls for.
fn pairs_of(file: &SafeTensors, config: &PeftConfig) -> Result<Vec<Pair>, String> {
    let mut names = file.names();
    names.sort_unstable();
    let mut pairs = BTreeMap::new();
    for name in names {
        let Some((path, part)) = module_of(name) else {
            return Err(format!("tensor {name} belongs to no LoRA module"));
        };
        let partner = format!("{PREFIX}{path}.lora_{}.weight", if part == 'A' { 'B' } else { 'A' });
        if file.tensor(&partner).is_err() {
            return Err(format!("{name} has no partner {partner}"));
        }
        if part == 'A' {
            pairs.insert(natural_key(path), pair_of(file, path, config)?);
        }
    }
    Ok(pairs.into_values().collect())
}

/// Returns the path of a tensor's module, and which matrix of it the tensor is.
fn module_of(name: &str) -> Option<(&str, char)> {
    let inner = name.strip_prefix(PREFIX)?;
    let a = inner.strip_suffix(".lora_A.weight").map(|path| (path, 'A'));
    a.or_else(|| inner.strip_suffix(".lora_B.weight").map(|path| (path, 'B')))
}

/// Checks the pair of one module against the configuration.
fn pair_of(file: &SafeTensors, path: &str, config: &PeftConfig) -> Result<Pair, String> {
    let [a, b] = ["A", "B"].map(|part| format!("{PREFIX}{path}.lora_{part}.weight"));
    if let Some(key) = config.targets.key_against(path)? {
        return Err(format!("tensor {a} is there, but {key} in {CONFIG} leaves {path} out, so that PEFT ignores it"));
    }
    let pattern = config.ranks.of(path)?;
    let rank = pattern.unwrap_or(config.rank);
    let key = if pattern.is_some() { "rank_pattern" } else { "r" };
    let shape_of = |name: &str| file.tensor(name).expect("both names were found").shape().to_vec();
    let (a_shape, b_shape) = (shape_of(&a), shape_of(&b));
    match (a_shape.as_slice(), b_shape.as_slice()) {
        (&[ra, in_features], &[out_features, rb]) if ra == rank && rb == rank => {
            let module = Module { path: path.into(), in_features, out_features };
            Ok(Pair { module, rank, alpha: config.alphas.of(path)?.unwrap_or(config.alpha) })
        }
        (a_found, b_found) => Err(format!(
            "{a} is {a_found:?} and {b} is {b_found:?}, expected [{rank}, in] and [out, {rank}] by {key} in {CONFIG}"
        )),
    }
}

/// Reads the matrices into the order of `layout`. Smaller ones are filled with zeros, and B takes up what a module's scale
/// differs from the layout's.
fn values_of(file: &SafeTensors, pairs: &[Pair], layout: Layout, config: &PeftConfig) -> Result<Adapter, String> {
    let mut adapter = Adapter::zeros(Arc::new(layout));
    let layout = adapter.layout.clone();
    for (pair, (a, b)) in pairs.iter().zip(layout.ranges()) {
        let Pair { module: Module { path, in_features, out_features }, rank, .. } = pair;
        // The rows of A come first, so the zeros are at the end.
        let a = &mut adapter.values[a][..rank * in_features];
        read_tensor(file, &format!("{PREFIX}{path}.lora_A.weight"), &[*rank, *in_features], a)?;
        let mut columns = vec![0.0; out_features * rank];
        read_tensor(file, &format!("{PREFIX}{path}.lora_B.weight"), &[*out_features, *rank], &mut columns)?;
        let factor = pair.scale(config) / layout.scale();
        for (row, columns) in adapter.values[b].chunks_exact_mut(layout.rank).zip(columns.chunks_exact(*rank)) {
            for (value, column) in row.iter_mut().zip(columns) {
                *value = if factor == 1.0 { *column } else { (f64::from(*column) * factor) as f32 };
            }
        }
    }
    Ok(adapter)
}

/// Returns a key that sorts `layers.10` after `layers.9`, and the modules of a layer in the order of their computation.
fn natural_key(path: &str) -> Vec<(u64, usize, String)> {
    const ORDER: [&str; 11] = [
        "self_attn",
        "mlp",
        "q_proj",
        "k_proj",
        "v_proj",
        "qkv_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "gate_up_proj",
        "down_proj",
    ];
    let mut key = Vec::new();
    for part in path.split('.') {
        let place = ORDER.iter().position(|known| *known == part).unwrap_or(ORDER.len());
        key.push((part.parse().unwrap_or(0), place, part.to_owned()));
    }
    key
}

/// Checks that a file of tensors has the length that its header says, before it is read: a file of holes may claim more than there
/// is memory. A file that cannot be opened is left to the reader.
pub(in crate::adapter) fn check_length(path: &Path) -> Result<(), AdapterError> {
    let what = path.display().to_string();
    let io = |source| AdapterError::Io { path: path.to_owned(), source };
    let Ok(mut file) = File::open(path) else { return Ok(()) };
    let file_bytes = file.metadata().map_err(io)?.len();
    // The header's length as a little-endian u64, and the header as JSON.
    let mut prefix = Vec::new();
    file.by_ref().take(8).read_to_end(&mut prefix).map_err(io)?;
    let header_bytes = prefix.try_into().map(u64::from_le_bytes).unwrap_or(0);
    if header_bytes > HEADER_BYTES_MAX {
        return Err(AdapterError::safetensors(&what, SafeTensorError::HeaderTooLarge.to_string()));
    }
    let mut header = Vec::new();
    file.take(header_bytes).read_to_end(&mut header).map_err(io)?;
    let metadata: Metadata =
        parse_json(&header).map_err(|error| AdapterError::safetensors(&what, format!("its header: {error}")))?;
    let described = (metadata.data_len() as u64).checked_add(8 + header_bytes);
    if described != Some(file_bytes) {
        return Err(AdapterError::safetensors(&what, SafeTensorError::MetadataIncompleteBuffer.to_string()));
    }
    Ok(())
}

/// Reads a file of the folder.
fn read(folder: &Path, name: &str) -> Result<(String, Vec<u8>), AdapterError> {
    let path = folder.join(name);
    let bytes = if name == TENSORS { fs::read(&path) } else { read_limited(&path) };
    match bytes {
        Ok(bytes) => Ok((path.display().to_string(), bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.exists() => {
            Err(AdapterError::NoFolder { file: path, folder: folder.to_owned() })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && name == TENSORS && folder.join(PICKLE).exists() => {
            Err(AdapterError::Pickle { file: path, pickle: PICKLE })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && folder.join(WITH_CHANGE).exists() => {
            let reason =
                "it is of a base that a run has changed; `fedreplay export RUN --to peft` writes what can be read here";
            Err(AdapterError::content(folder.join(WITH_CHANGE).display().to_string(), reason))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && folder.join(WITH_CORE).exists() => {
            let reason =
                "it has matrices R between its factors; `fedreplay export RUN --to peft` writes what can be read here";
            Err(AdapterError::content(folder.join(WITH_CORE).display().to_string(), reason))
        }
        Err(source) => Err(AdapterError::Io { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_ordered_as_numbers() {
        assert!(natural_key("model.layers.9.mlp.up_proj") < natural_key("model.layers.10.self_attn.q_proj"));
        assert!(natural_key("model.layers.1.self_attn.o_proj") < natural_key("model.layers.1.mlp.gate_proj"));
    }
}
