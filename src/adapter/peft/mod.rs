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
//! let layout = Layout { rank: 2, alpha: 4.0, rank_stabilized: false, has_core: false, modules: vec![q_proj] };
//! let adapter = Adapter::initial(Arc::new(layout), Seed(1));
//! let notes = peft::Notes { base_model: "meta-llama/Llama-2-7b-hf".into(), revision: None, dropout: 0.05 };
//!
//! let folder = tempfile::tempdir()?;
//! peft::write_folder(folder.path(), &adapter, &notes)?;
//! assert!(folder.path().join("adapter_model.safetensors").is_file());
//! let read = peft::read_folder(folder.path())?;
//! assert_eq!((read.adapter, read.notes), (adapter, notes));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod config;
mod keys;
mod read;
mod targets;

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;

pub(super) use self::read::check_length;
pub use self::read::{PeftAdapter, read_folder, read_recorded};
use super::{Adapter, AdapterError, Layout};

pub(super) const CONFIG: &str = "adapter_config.json";
const TENSORS: &str = "adapter_model.safetensors";
const PREFIX: &str = "base_model.model.";

/// Contents of a PEFT folder in addition to layout and matrices.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Notes {
    /// Name or folder of the base model, for information only.
    pub base_model: String,
    /// Revision of the base model on the hub.
    pub revision: Option<String>,
    /// Dropout with which the adapter was trained.
    pub dropout: f64,
}

/// Writes `adapter` as a folder that PEFT can load. Each file appears under its name only when it is complete.
///
/// # Errors
/// If the folder or a file cannot be written.
pub fn write_folder(folder: &Path, adapter: &Adapter, notes: &Notes) -> Result<(), AdapterError> {
    fs::create_dir_all(folder).map_err(|source| AdapterError::Io { path: folder.into(), source })?;
    for (name, bytes) in files_of(adapter, notes) {
        write_whole(folder, name, &bytes)?;
    }
    Ok(())
}

/// Returns the files that [`write_folder`] writes, by name and in its order.
pub fn files_of(adapter: &Adapter, notes: &Notes) -> [(&'static str, Vec<u8>); 2] {
    let tensors = adapter.serialize(Some(HashMap::from([("format".into(), "pt".into())])));
    let config = serde_json::to_string_pretty(&config_of(&adapter.layout, notes)).expect("plain data") + "\n";
    // The configuration comes last: a folder that has one is complete.
    [(TENSORS, tensors), (CONFIG, config.into_bytes())]
}

fn config_of(layout: &Layout, notes: &Notes) -> serde_json::Value {
    json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": notes.base_model,
        "r": layout.rank, "lora_alpha": whole_if_exact(layout.alpha), "lora_dropout": notes.dropout,
        "target_modules": target_modules(layout), "bias": "none", "fan_in_fan_out": false, "use_rslora": layout.rank_stabilized,
        "use_dora": false, "inference_mode": true, "init_lora_weights": true, "rank_pattern": {}, "alpha_pattern": {},
        "modules_to_save": null, "revision": notes.revision,
    })
}

/// Returns the names of an adapter's modules as `target_modules`, which PEFT and scenarios match by suffix.
///
/// Users of PEFT write last names such as `q_proj`, which suffice if the layers from 0 on all have the same adapted
/// modules. A subset of the layers is named by full paths.
pub fn target_modules(layout: &Layout) -> BTreeSet<&str> {
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

pub(super) fn write_whole(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), AdapterError> {
    // Renaming makes the complete file appear at once.
    let unfinished = folder.join(format!(".{name}.partial"));
    let path = folder.join(name);
    fs::write(&unfinished, bytes)
        .and_then(|()| fs::rename(&unfinished, &path))
        .map_err(|source| AdapterError::Io { path, source })
}

#[cfg(test)]
mod tests;
