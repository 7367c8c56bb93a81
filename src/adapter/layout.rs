//! Layout of an adapter: the modules that it changes, and the place of each matrix in one flat vector.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Linear module with an adapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Path in the base model, such as `model.layers.0.self_attn.q_proj`.
    pub path: String,
    /// Width of its input.
    pub in_features: usize,
    /// Width of its output.
    pub out_features: usize,
}

impl Module {
    /// Returns the number of the decoder layer that it is in; `None` for a module outside of them.
    pub fn layer(&self) -> Option<u32> {
        self.path.strip_prefix("model.layers.")?.split('.').next()?.parse().ok()
    }

    fn shape(&self) -> String {
        format!("{} to {}", self.in_features, self.out_features)
    }

    /// Returns the name of its matrix "A" or "B" in PEFT's files. "R", which PEFT does not have, is named alike.
    fn tensor_name(&self, part: &str) -> String {
        format!("base_model.model.{}.lora_{part}.weight", self.path)
    }
}

/// Layout of an adapter's values: for each module in order, A `[rank, in]`, then B `[out, rank]`, then R `[rank, rank]` if it has a core, all
/// row-major.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layout {
    /// Rank r of every pair of matrices.
    pub rank: usize,
    /// LoRA's alpha: the product B A is scaled by alpha / r.
    pub alpha: f64,
    /// Whether the scale is alpha / sqrt(r) instead (rank-stabilized LoRA, arXiv 2312.03732).
    // Adapters are hashed with this name.
    #[serde(rename = "rank_stabilised")]
    pub rank_stabilized: bool,
    /// Whether each module has a matrix R between its factors, so that its product is B R A (LoRA-SB, arXiv 2411.19557).
    // Adapters without a core were hashed before there was this field.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_core: bool,
    /// Modules with an adapter, in the order of the values.
    pub modules: Vec<Module>,
}

impl Layout {
    /// Returns the factor on the product B A, or B R A.
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        if self.rank_stabilized { self.alpha / rank.sqrt() } else { self.alpha / rank }
    }

    /// Returns the first difference from `wanted` as a clause that names both values, or `None` if the layouts agree.
    pub fn difference_from(&self, wanted: &Layout) -> Option<String> {
        if self.rank != wanted.rank {
            return Some(format!("its rank r is {}, the scenario's is {}", self.rank, wanted.rank));
        }
        if self.alpha != wanted.alpha {
            return Some(format!("its lora_alpha is {}, the scenario's is {}", self.alpha, wanted.alpha));
        }
        if self.rank_stabilized != wanted.rank_stabilized {
            let own = self.rank_stabilized;
            let other = wanted.rank_stabilized;
            return Some(format!("its use_rslora is {own}, the scenario's rank_stabilised is {other}"));
        }
        if self.has_core != wanted.has_core {
            let matrices = |has_core| if has_core { "A, B and R" } else { "A and B" };
            return Some(format!(
                "it has {}, the scenario's has {}",
                matrices(self.has_core),
                matrices(wanted.has_core)
            ));
        }
        if let Some(module) = wanted.modules.iter().find(|module| !self.adapts(&module.path)) {
            return Some(format!("it lacks {}, which is one of the scenario's target_modules", module.path));
        }
        if let Some(module) = self.modules.iter().find(|module| !wanted.adapts(&module.path)) {
            return Some(format!("it adapts {}, which is none of the scenario's target_modules", module.path));
        }
        // Both adapt the same modules, so a difference is one of widths.
        let mut pairs = self.modules.iter().zip(&wanted.modules);
        let (own, other) = pairs.find(|(own, other)| own != other)?;
        Some(format!("its {} maps {}, the model's maps {}", own.path, own.shape(), other.shape()))
    }

    fn adapts(&self, path: &str) -> bool {
        self.modules.iter().any(|module| module.path == path)
    }

    /// Returns the numbers of the decoder layers in which it has modules, ascending.
    pub fn layers(&self) -> Vec<u32> {
        let layers: BTreeSet<u32> = self.modules.iter().filter_map(Module::layer).collect();
        layers.into_iter().collect()
    }

    /// Returns the number of values in an adapter of this layout.
    pub fn parameters(&self) -> usize {
        let factors: usize =
            self.modules.iter().map(|module| self.rank * (module.in_features + module.out_features)).sum();
        factors + self.modules.len() * self.core_length()
    }

    /// Returns the number of values of a module's R; 0 without a core.
    fn core_length(&self) -> usize {
        if self.has_core { self.rank * self.rank } else { 0 }
    }

    /// Returns for each module the ranges of A and B in the flat values.
    pub fn ranges(&self) -> Vec<(Range<usize>, Range<usize>)> {
        let mut ranges = Vec::with_capacity(self.modules.len());
        let mut start = 0;
        for module in &self.modules {
            let start_of_b = start + self.rank * module.in_features;
            let end = start_of_b + module.out_features * self.rank;
            ranges.push((start..start_of_b, start_of_b..end));
            start = end + self.core_length();
        }
        ranges
    }

    /// Returns for each module the range of R in the flat values, which follows that of B; it is empty without a core.
    pub fn core_ranges(&self) -> Vec<Range<usize>> {
        self.ranges().into_iter().map(|(_, b)| b.end..b.end + self.core_length()).collect()
    }

    /// Returns the matrices in order: name in PEFT's files, shape, and range in the flat values.
    pub fn tensors(&self) -> Vec<(String, [usize; 2], Range<usize>)> {
        let mut tensors = Vec::with_capacity(3 * self.modules.len());
        for (module, (a, b)) in self.modules.iter().zip(self.ranges()) {
            tensors.push((module.tensor_name("A"), [self.rank, module.in_features], a));
            let end = b.end;
            tensors.push((module.tensor_name("B"), [module.out_features, self.rank], b));
            if self.has_core {
                tensors.push((module.tensor_name("R"), [self.rank; 2], end..end + self.core_length()));
            }
        }
        tensors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_tile_the_values_in_order() {
        let module = |path: &str, i, o| Module { path: path.into(), in_features: i, out_features: o };
        let modules = vec![module("a", 3, 5), module("b", 7, 2)];
        let layout = Layout { rank: 2, alpha: 8.0, rank_stabilized: false, has_core: false, modules };
        assert_eq!(layout.parameters(), 2 * (8 + 9));
        assert_eq!(layout.ranges(), [(0..6, 6..16), (16..30, 30..34)]);
        assert_eq!(layout.scale(), 4.0);
        assert_eq!(layout.core_ranges(), [16..16, 34..34]);
        assert_eq!(Layout { rank_stabilized: true, rank: 4, ..layout.clone() }.scale(), 4.0);
        let layout = Layout { has_core: true, ..layout };
        assert_eq!(layout.parameters(), 2 * (8 + 9) + 2 * 4);
        assert_eq!(layout.ranges(), [(0..6, 6..16), (20..34, 34..38)]);
        assert_eq!(layout.core_ranges(), [16..20, 38..42]);
    }

    #[test]
    fn layouts_without_a_core_are_written_as_before() {
        let layout = Layout { rank: 2, alpha: 8.0, rank_stabilized: false, has_core: false, modules: vec![] };
        let text = serde_json::to_string(&layout).unwrap();
        assert_eq!(text, r#"{"rank":2,"alpha":8.0,"rank_stabilised":false,"modules":[]}"#);
        assert_eq!(serde_json::from_str::<Layout>(&text).unwrap(), layout);
        let with_core = serde_json::to_string(&Layout { has_core: true, ..layout }).unwrap();
        assert_eq!(with_core, r#"{"rank":2,"alpha":8.0,"rank_stabilised":false,"has_core":true,"modules":[]}"#);
    }
}
