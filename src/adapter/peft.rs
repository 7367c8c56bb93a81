//! PEFT's adapter folders: adapter_config.json and adapter_model.safetensors.
//!
//! # Examples
//!
//! ```
//! use std::sync::Arc;
//!
//! use fedreplay::adapter::{Adapter, Layout, Module, peft};
//! use fedreplay_sim::Seed;
//!
//! let q_proj = Module { path: "model.layers.0.self_attn.q_proj".into(), in_features: 16, out_features: 8 };
//! let layout = Layout { rank: 2, alpha: 4.0, rank_stabilized: false, modules: vec![q_proj] };
//! let adapter = Adapter::initial(Arc::new(layout), Seed(1));
//! let notes = peft::Notes { base_model: "meta-llama/Llama-2-7b-hf".into(), dropout: 0.05 };
//!
//! let folder = tempfile::tempdir()?;
//! peft::write_folder(folder.path(), &adapter, &notes)?;
//! assert!(folder.path().join("adapter_model.safetensors").is_file());
//! assert_eq!(peft::read_folder(folder.path())?, (adapter, notes));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Adapter, AdapterError, Layout, Module};

const CONFIG: &str = "adapter_config.json";
const TENSORS: &str = "adapter_model.safetensors";
const PREFIX: &str = "base_model.model.";

/// Contents of a PEFT folder in addition to layout and matrices.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Notes {
    /// Name or folder of the base model, for information only.
    pub base_model: String,
    /// Dropout with which the adapter was trained.
    pub dropout: f64,
}

/// Fields of adapter_config.json that affect what the adapter computes.
#[derive(Deserialize)]
struct Config {
    peft_type: String,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default)]
    bias: Option<String>,
    #[serde(default)]
    lora_dropout: f64,
    #[serde(default)]
    base_model_name_or_path: Option<String>,
    #[serde(default)]
    rank_pattern: HashMap<String, serde_json::Value>,
    #[serde(default)]
    alpha_pattern: HashMap<String, serde_json::Value>,
    #[serde(default)]
    modules_to_save: Option<serde_json::Value>,
}

/// Writes `adapter` as a folder that PEFT can load. Each file appears under its name only when it is complete.
///
/// # Errors
/// If the folder or a file cannot be written.
pub fn write_folder(folder: &Path, adapter: &Adapter, notes: &Notes) -> Result<(), AdapterError> {
    fs::create_dir_all(folder).map_err(|source| AdapterError::Io { path: folder.into(), source })?;
    let config = serde_json::to_string_pretty(&config_of(&adapter.layout, notes)).expect("plain data");
    // The configuration comes last: a folder that has one is complete.
    write_whole(folder, TENSORS, &adapter.serialize(Some(HashMap::from([("format".into(), "pt".into())]))))?;
    write_whole(folder, CONFIG, (config + "\n").as_bytes())
}

/// Reads a folder written by PEFT or [`write_folder`]. Modules are ordered by their paths.
///
/// # Errors
/// If a file is missing or damaged, or the adapter uses unsupported features (DoRA, ranks per module, biases).
pub fn read_folder(folder: &Path) -> Result<(Adapter, Notes), AdapterError> {
    let (path, bytes) = read(folder, CONFIG)?;
    let config: Config = serde_json::from_slice(&bytes).map_err(|e| AdapterError::content(&path, e.to_string()))?;
    refuse_unsupported(&path, &config)?;
    let (path, bytes) = read(folder, TENSORS)?;
    let layout = Layout {
        rank: config.r,
        alpha: config.lora_alpha,
        rank_stabilized: config.use_rslora,
        modules: modules_of(&path, &bytes, config.r)?,
    };
    let adapter = Adapter::from_safetensors(&path, &bytes, Arc::new(layout))?;
    let base_model = config.base_model_name_or_path.unwrap_or_default();
    Ok((adapter, Notes { base_model, dropout: config.lora_dropout }))
}

fn config_of(layout: &Layout, notes: &Notes) -> serde_json::Value {
    json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": notes.base_model,
        "r": layout.rank, "lora_alpha": whole_if_exact(layout.alpha), "lora_dropout": notes.dropout,
        "target_modules": targets(layout), "bias": "none", "fan_in_fan_out": false, "use_rslora": layout.rank_stabilized,
        "use_dora": false, "inference_mode": true, "init_lora_weights": true, "rank_pattern": {}, "alpha_pattern": {},
        "modules_to_save": null,
    })
}

/// Returns the target modules, which PEFT matches by suffix.
///
/// Users of PEFT write last names such as `q_proj`, which suffice if the layers from 0 on all have the same adapted
/// modules. A subset of the layers is named by full paths.
fn targets(layout: &Layout) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    let mut layers: BTreeSet<u64> = BTreeSet::new();
    for module in &layout.modules {
        names.extend(module.path.rsplit('.').next());
        // The first number in a path is that of the layer.
        layers.extend(module.path.split('.').find_map(|part| part.parse::<u64>().ok()));
    }
    let from_zero = layers.iter().copied().eq(0..layers.len() as u64);
    if from_zero && layout.modules.len() == names.len() * layers.len() {
        return names;
    }
    layout.modules.iter().map(|module| module.path.as_str()).collect()
}

/// Returns alpha as an integer if it is one, since PEFT declares lora_alpha so and some readers insist on it.
fn whole_if_exact(alpha: f64) -> serde_json::Value {
    if alpha.fract() == 0.0 && alpha.abs() < 1e9 { json!(alpha as i64) } else { json!(alpha) }
}

fn refuse_unsupported(path: &str, config: &Config) -> Result<(), AdapterError> {
    if config.peft_type != "LORA" {
        let reason = format!("peft_type is {:?}, only \"LORA\" is supported", config.peft_type);
        return Err(AdapterError::content(path, reason));
    }
    if config.r == 0 {
        return Err(AdapterError::content(path, "r is 0, at least 1 is needed"));
    }
    let unsupported = [
        ("use_dora", config.use_dora),
        ("fan_in_fan_out", config.fan_in_fan_out),
        ("rank_pattern", !config.rank_pattern.is_empty()),
        ("alpha_pattern", !config.alpha_pattern.is_empty()),
        ("modules_to_save", config.modules_to_save.as_ref().is_some_and(|value| !value.is_null())),
        ("bias", config.bias.as_deref().is_some_and(|bias| bias != "none")),
    ];
    match unsupported.into_iter().find(|(_, used)| *used) {
        Some((field, _)) => Err(AdapterError::content(path, format!("{field} is in use, which is not supported"))),
        None => Ok(()),
    }
}

/// Returns the modules that follow from the tensors' names and shapes, by path with numbers in numeric order.
fn modules_of(path: &str, bytes: &[u8], rank: usize) -> Result<Vec<Module>, AdapterError> {
    let file = safetensors::SafeTensors::deserialize(bytes).map_err(|error| AdapterError::safetensors(path, &error))?;
    let mut modules = Vec::new();
    // Every A must have a B of the same rank; tensors that belong to no pair are found afterwards.
    for (name, a) in file.iter() {
        let Some(module) = name.strip_prefix(PREFIX).and_then(|name| name.strip_suffix(".lora_A.weight")) else {
            continue;
        };
        let partner = format!("{PREFIX}{module}.lora_B.weight");
        let b = file
            .tensor(&partner)
            .map_err(|_| AdapterError::content(path, format!("{name} has no partner {partner}")))?;
        match (a.shape(), b.shape()) {
            (&[ra, in_features], &[out_features, rb]) if ra == rank && rb == rank => {
                modules.push(Module { path: module.into(), in_features, out_features });
            }
            (a, b) => {
                let reason = format!("{name} is {a:?} and {partner} is {b:?}, expected [{rank}, in] and [out, {rank}]");
                return Err(AdapterError::content(path, reason));
            }
        }
    }
    if let Some(name) = file.names().into_iter().find(|name| !is_of(&modules, name)) {
        return Err(AdapterError::content(path, format!("tensor {name} belongs to no LoRA module")));
    }
    modules.sort_by_cached_key(|module| natural_key(&module.path));
    Ok(modules)
}

/// Returns whether a tensor is the matrix A or B of one of these modules.
fn is_of(modules: &[Module], name: &str) -> bool {
    let inner = name
        .strip_prefix(PREFIX)
        .and_then(|name| name.strip_suffix(".lora_A.weight").or_else(|| name.strip_suffix(".lora_B.weight")));
    inner.is_some_and(|path| modules.iter().any(|module| module.path == path))
}

/// Returns a key that sorts `layers.10` after `layers.9`, and the modules of a layer in the order of their computation.
pub(crate) fn natural_key(path: &str) -> Vec<(u64, usize, String)> {
    const ORDER: [&str; 9] =
        ["self_attn", "mlp", "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
    let mut key = Vec::new();
    for part in path.split('.') {
        let place = ORDER.iter().position(|known| *known == part).unwrap_or(ORDER.len());
        key.push((part.parse().unwrap_or(0), place, part.to_owned()));
    }
    key
}

fn read(folder: &Path, name: &str) -> Result<(String, Vec<u8>), AdapterError> {
    let path = folder.join(name);
    match fs::read(&path) {
        Ok(bytes) => Ok((path.display().to_string(), bytes)),
        Err(source) => Err(AdapterError::Io { path, source }),
    }
}

fn write_whole(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), AdapterError> {
    // Renaming makes the complete file appear at once.
    let unfinished = folder.join(format!(".{name}.partial"));
    let path = folder.join(name);
    fs::write(&unfinished, bytes)
        .and_then(|()| fs::rename(&unfinished, &path))
        .map_err(|source| AdapterError::Io { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::values::tests::filled;

    #[test]
    fn a_folder_returns_each_matrix_under_its_module() {
        let folder = tempfile::tempdir().unwrap();
        let adapter = filled();
        let notes = Notes { base_model: "tiny".into(), dropout: 0.05 };
        write_folder(folder.path(), &adapter, &notes).unwrap();
        let (back, read_notes) = read_folder(folder.path()).unwrap();
        assert_eq!(read_notes, notes);
        assert_eq!(back.layout.scale(), adapter.layout.scale());
        let paths: Vec<_> = back.layout.modules.iter().map(|m| m.path.rsplit('.').next().unwrap()).collect();
        assert_eq!(paths, ["q_proj", "v_proj", "down_proj"]);
        let find = |adapter: &Adapter, name: &str| {
            let tensors = adapter.layout.tensors();
            let (_, shape, range) = tensors.into_iter().find(|(known, ..)| known == name).unwrap();
            (shape, adapter.values[range].to_vec())
        };
        for (name, ..) in adapter.layout.tensors() {
            assert_eq!(find(&adapter, &name), find(&back, &name));
        }
    }

    fn refused(edit: impl Fn(&mut serde_json::Value)) -> String {
        let folder = tempfile::tempdir().unwrap();
        write_folder(folder.path(), &filled(), &Notes::default()).unwrap();
        let path = folder.path().join(CONFIG);
        let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        edit(&mut config);
        fs::write(&path, config.to_string()).unwrap();
        read_folder(folder.path()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        assert!(refused(|config| config["use_dora"] = true.into()).contains("use_dora"));
        assert!(refused(|config| config["peft_type"] = "IA3".into()).contains("IA3"));
        assert!(refused(|config| config["rank_pattern"] = json!({"q_proj": 4})).contains("rank_pattern"));
        assert!(refused(|config| config["r"] = 3.into()).contains("expected [3, in]"));
    }

    #[test]
    fn layers_are_ordered_as_numbers() {
        assert!(natural_key("model.layers.9.mlp.up_proj") < natural_key("model.layers.10.self_attn.q_proj"));
        assert!(natural_key("model.layers.1.self_attn.o_proj") < natural_key("model.layers.1.mlp.gate_proj"));
    }
}
