//! Which modules an adapter changes, and where each of its matrices lies in one flat vector.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// One adapted linear module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Its path in the base model, such as `model.layers.0.self_attn.q_proj`.
    pub path: String,
    /// Width of its input.
    pub in_features: usize,
    /// Width of its output.
    pub out_features: usize,
}

/// The shape of an adapter: for each module in order, A `[rank, in]` and then B `[out, rank]`, both row-major.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layout {
    /// The rank r of every pair.
    pub rank: usize,
    /// LoRA's alpha: the product B A is scaled by alpha / r.
    pub alpha: f64,
    /// Whether the scale is alpha / sqrt(r) instead (rank-stabilised LoRA, arXiv 2312.03732).
    pub rank_stabilised: bool,
    /// The adapted modules, in the order of the values.
    pub modules: Vec<Module>,
}

impl Layout {
    /// What the product B A is multiplied by.
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        if self.rank_stabilised { self.alpha / rank.sqrt() } else { self.alpha / rank }
    }

    /// In what this layout is not `wanted`, as a clause that names both; none where they agree.
    pub fn difference_from(&self, wanted: &Layout) -> Option<String> {
        if self.rank != wanted.rank {
            return Some(format!("its rank r is {}, the scenario's is {}", self.rank, wanted.rank));
        }
        if self.alpha != wanted.alpha {
            return Some(format!("its lora_alpha is {}, the scenario's is {}", self.alpha, wanted.alpha));
        }
        if self.rank_stabilised != wanted.rank_stabilised {
            let (own, other) = (self.rank_stabilised, wanted.rank_stabilised);
            return Some(format!("its use_rslora is {own}, the scenario's rank_stabilised is {other}"));
        }
        let lacks = |from: &Layout, path: &str| from.modules.iter().all(|module| module.path != path);
        if let Some(module) = wanted.modules.iter().find(|module| lacks(self, &module.path)) {
            return Some(format!("it lacks {}, which is one of the scenario's target_modules", module.path));
        }
        if let Some(module) = self.modules.iter().find(|module| lacks(wanted, &module.path)) {
            return Some(format!("it adapts {}, which is none of the scenario's target_modules", module.path));
        }
        let mut pairs = self.modules.iter().zip(&wanted.modules);
        let (own, other) = pairs.find(|(own, other)| own != other)?;
        let shape = |module: &Module| format!("{} to {}", module.in_features, module.out_features);
        Some(format!("its {} maps {}, the model's maps {}", own.path, shape(own), shape(other)))
    }

    /// Number of values in an adapter of this layout.
    pub fn parameters(&self) -> usize {
        self.modules.iter().map(|module| self.rank * (module.in_features + module.out_features)).sum()
    }

    /// For each module, where A and B lie in the flat values.
    pub fn ranges(&self) -> Vec<(Range<usize>, Range<usize>)> {
        let mut start = 0;
        let mut next = |length: usize| {
            start += length;
            start - length..start
        };
        self.modules.iter().map(|m| (next(self.rank * m.in_features), next(m.out_features * self.rank))).collect()
    }

    /// The matrices in order: name in PEFT's files, shape, and place in the flat values.
    pub fn tensors(&self) -> Vec<(String, [usize; 2], Range<usize>)> {
        let mut tensors = Vec::with_capacity(2 * self.modules.len());
        for (module, (a, b)) in self.modules.iter().zip(self.ranges()) {
            let name = |part: &str| format!("base_model.model.{}.lora_{part}.weight", module.path);
            tensors.push((name("A"), [self.rank, module.in_features], a));
            tensors.push((name("B"), [module.out_features, self.rank], b));
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
        let layout = Layout { rank: 2, alpha: 8.0, rank_stabilised: false, modules };
        assert_eq!(layout.parameters(), 2 * (8 + 9));
        assert_eq!(layout.ranges(), [(0..6, 6..16), (16..30, 30..34)]);
        assert_eq!(layout.scale(), 4.0);
        assert_eq!(Layout { rank_stabilised: true, rank: 4, ..layout }.scale(), 4.0);
    }
}
