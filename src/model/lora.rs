//! Placement of LoRA: module names as in PEFT, resolved to the layout of an adapter.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::tensors::linears;
use super::{Config, ModelError};
use crate::adapter::{Layout, Module};

/// [1] -- The greatest rank, far above any that is of use.
pub const RANK_MAX: usize = 65_536;

/// The configuration of LoRA.
///
/// # Examples
///
/// ```
/// use fedreplay::model::{Config, LoraSpec};
///
/// let config = Config::llama(1024, 128, 352, 4, 4);
/// let target_modules = vec!["q_proj".into(), "v_proj".into()];
/// let lora = LoraSpec { rank: 8, alpha: 16.0, dropout: 0.0, target_modules, rank_stabilized: false, has_core: false };
/// let layout = lora.layout(&config)?;
/// assert_eq!(layout.modules[0].path, "model.layers.0.self_attn.q_proj");
/// assert_eq!(layout.parameters(), 4 * 2 * 8 * (128 + 128));
/// assert_eq!(layout.scale(), 2.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoraSpec {
    /// The rank r, from 1 to [`RANK_MAX`]. As in PEFT it may be above the width of a module.
    pub rank: usize,
    /// The product B A is scaled by alpha / r.
    pub alpha: f64,
    /// Probability with which an input of A is dropped in training, in [0, 1).
    pub dropout: f64,
    /// Names or dotted suffixes of linear modules, such as `q_proj` or `layers.0.mlp.up_proj`; `all-linear` selects
    /// all.
    pub target_modules: Vec<String>,
    /// Whether to scale by alpha / sqrt(r) instead.
    pub rank_stabilized: bool,
    /// Whether each module has a matrix R between its factors, as in [`Layout::has_core`].
    // Settings were written without this field before there were such adapters.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_core: bool,
}

impl LoraSpec {
    /// Returns the smallest LoRA of a model: rank 1 on the first linear module of its layers.
    pub fn smallest(config: &Config) -> Self {
        let (first, ..) = linears(config)[0];
        let target_modules = vec![first.rsplit('.').next().unwrap_or(first).to_owned()];
        Self { rank: 1, alpha: 1.0, dropout: 0.0, target_modules, rank_stabilized: false, has_core: false }
    }

    /// Returns the layout of an adapter on a model of shape `config`, with the modules in the order of computation.
    ///
    /// # Errors
    /// If a target matches nothing, or rank, alpha or dropout is out of range.
    pub fn layout(&self, config: &Config) -> Result<Arc<Layout>, ModelError> {
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(ModelError::Lora(format!("dropout is {}, allowed is 0 up to below 1", self.dropout)));
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return Err(ModelError::Lora(format!("alpha is {}, it must be above 0", self.alpha)));
        }
        let mut modules = modules(config);
        for target in &self.target_modules {
            if target != "all-linear" && !modules.iter().any(|module| matches(&module.path, target)) {
                let names = linears(config)
                    .iter()
                    .map(|(name, ..)| name.rsplit('.').next().unwrap_or(name))
                    .collect::<Vec<_>>()
                    .join(", ");
                let reason = format!("target module {target:?} matches nothing, the model has {names}");
                return Err(ModelError::Lora(reason));
            }
        }
        modules.retain(|module| self.target_modules.iter().any(|target| matches(&module.path, target)));
        if modules.is_empty() {
            return Err(ModelError::Lora("no target module is named".into()));
        }
        // A rank may be above the width of a module, as in PEFT.
        if !(1..=RANK_MAX).contains(&self.rank) {
            return Err(ModelError::Lora(format!("rank is {}, allowed is 1 to {RANK_MAX}", self.rank)));
        }
        Ok(Arc::new(Layout {
            rank: self.rank,
            alpha: self.alpha,
            rank_stabilized: self.rank_stabilized,
            has_core: self.has_core,
            modules,
        }))
    }
}

/// Returns the first tensor of an adapter that does not fit the model in the folder `model`, as a clause with both shapes,
/// or `None` if all fit.
pub fn misfit(layout: &Layout, config: &Config, model: &Path) -> Option<String> {
    let known = modules(config);
    let model = model.join("config.json");
    let model = model.display();
    let matrices = if layout.has_core { 3 } else { 2 };
    for (module, tensors) in layout.modules.iter().zip(layout.tensors().chunks_exact(matrices)) {
        let (a, a_shape, _) = &tensors[0];
        let (b, b_shape, _) = &tensors[1];
        let Some(own) = known.iter().find(|own| own.path == module.path) else {
            return Some(format!("tensor {a} is {a_shape:?}, but a model as in {model} has no {}", module.path));
        };
        let weight = format!("{}.weight is [{}, {}] by {model}", own.path, own.out_features, own.in_features);
        if own.in_features != module.in_features {
            return Some(format!("tensor {a} is {a_shape:?}, but {weight}"));
        }
        if own.out_features != module.out_features {
            return Some(format!("tensor {b} is {b_shape:?}, but {weight}"));
        }
    }
    None
}

/// Returns every linear module of the decoder. As in PEFT's `all-linear`, the output head is not one of them.
fn modules(config: &Config) -> Vec<Module> {
    let mut modules = Vec::new();
    for layer in 0..config.layers {
        for (name, in_features, out_features) in linears(config) {
            modules.push(Module { path: format!("model.layers.{layer}.{name}"), in_features, out_features });
        }
    }
    modules
}

/// Returns whether `target` selects the module at `path`, by name, by a suffix of whole names, or as `all-linear`.
fn matches(path: &str, target: &str) -> bool {
    target == "all-linear" || path == target || path.strip_suffix(target).is_some_and(|rest| rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(targets: &[&str], rank: usize) -> LoraSpec {
        let target_modules = targets.iter().map(|&target| target.into()).collect();
        LoraSpec { rank, alpha: 16.0, dropout: 0.0, target_modules, rank_stabilized: false, has_core: false }
    }

    fn paths(targets: &[&str]) -> Vec<String> {
        let config = Config::llama(100, 32, 64, 2, 4);
        spec(targets, 4).layout(&config).unwrap().modules.iter().map(|module| module.path.clone()).collect()
    }

    #[test]
    fn targets_match_whole_dotted_suffixes() {
        assert_eq!(
            paths(&["v_proj", "layers.1.mlp.up_proj"]),
            ["model.layers.0.self_attn.v_proj", "model.layers.1.self_attn.v_proj", "model.layers.1.mlp.up_proj",]
        );
        assert_eq!(paths(&["all-linear"]).len(), 14);
    }

    #[test]
    fn a_misfit_names_the_tensor_and_both_shapes() {
        let config = Config::llama(100, 32, 64, 2, 4);
        let reason = |path: &str, in_features, out_features| {
            let modules = vec![Module { path: path.into(), in_features, out_features }];
            let layout = Layout { rank: 4, alpha: 8.0, rank_stabilized: false, has_core: false, modules };
            misfit(&layout, &config, Path::new("base"))
        };
        let path = "model.layers.1.mlp.up_proj";
        let tensor = |part: &str| format!("tensor base_model.model.{path}.lora_{part}.weight");
        let weight = format!("but {path}.weight is [64, 32] by base/config.json");
        assert_eq!(reason(path, 32, 64), None);
        assert_eq!(reason(path, 16, 64).unwrap(), format!("{} is [4, 16], {weight}", tensor("A")));
        assert_eq!(reason(path, 32, 60).unwrap(), format!("{} is [60, 4], {weight}", tensor("B")));
        let other = reason("model.layers.2.mlp.up_proj", 32, 64).unwrap();
        assert!(other.ends_with("is [4, 32], but a model as in base/config.json has no model.layers.2.mlp.up_proj"));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_allowed_range() {
        let config = Config::llama(100, 32, 64, 2, 4);
        let reason = |spec: LoraSpec| spec.layout(&config).unwrap_err().to_string();
        assert!(reason(spec(&["proj"], 4)).contains("\"proj\" matches nothing"));
        assert!(reason(spec(&["q_proj", "w1"], 4)).contains("\"w1\""));
        for rank in [0, RANK_MAX + 1] {
            assert!(reason(spec(&["q_proj"], rank)).contains(&format!("rank is {rank}, allowed is 1 to 65536")));
        }
        assert!(reason(spec(&[], 4)).contains("no target module"));
        assert!(reason(LoraSpec { dropout: 1.0, ..spec(&["q_proj"], 4) }).contains("dropout is 1"));
    }
}
