//! The factors of LoRA's products B A or B R A, and the modules that have them, of which methods train, send and keep some.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Adapter, Layout, Module};

/// Some of the matrices of an adapter: one factor of all modules or all, or all factors of some modules. Of an adapter with cores, R goes with
/// B unless it is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Factors {
    /// None.
    None,
    /// A of all modules, `[rank, in]`.
    A,
    /// B of all modules, `[out, rank]`.
    B,
    /// All matrices of all modules.
    Both,
    /// A and B of the modules in the last decoder layers that have any, this number of layers.
    LastLayers(u32),
    /// A and B of all modules but those.
    ButLastLayers(u32),
    /// R of all modules, `[rank, rank]`.
    Core,
    /// A and B of all modules, without R.
    ButCore,
}

impl Factors {
    /// Returns those that are not among these.
    pub fn others(self) -> Self {
        match self {
            Self::None => Self::Both,
            Self::A => Self::B,
            Self::B => Self::A,
            Self::Both => Self::None,
            Self::LastLayers(count) => Self::ButLastLayers(count),
            Self::ButLastLayers(count) => Self::LastLayers(count),
            Self::Core => Self::ButCore,
            Self::ButCore => Self::Core,
        }
    }

    /// Returns for each module of `layout` whether its A, its B and its R are among these. Without a core, there is no R.
    pub fn by_module(self, layout: &Layout) -> Vec<[bool; 3]> {
        let (count, last, others) = match self {
            Self::None => (0, false, [false; 3]),
            Self::A => (0, false, [true, false, false]),
            Self::B => (0, false, [false, true, true]),
            Self::Both => (0, false, [true; 3]),
            Self::LastLayers(count) => (count, true, [false; 3]),
            Self::ButLastLayers(count) => (count, false, [true; 3]),
            Self::Core => (0, false, [false, false, true]),
            Self::ButCore => (0, false, [true, true, false]),
        };
        let layers = layout.layers();
        let (_, last_layers) = layers.split_at(layers.len().saturating_sub(count as usize));
        let is_last = |module: &Module| module.layer().is_some_and(|layer| last_layers.contains(&layer));
        let mut matrices = Vec::with_capacity(layout.modules.len());
        for module in &layout.modules {
            let [a, b, core] = if is_last(module) { [last; 3] } else { others };
            matrices.push([a, b, core && layout.has_core]);
        }
        matrices
    }

    /// Calls `visit` for the range of each matrix of `layout` that is among these, in the order of the values.
    pub fn for_ranges(self, layout: &Layout, mut visit: impl FnMut(Range<usize>)) {
        let ranges = layout.ranges().into_iter().zip(layout.core_ranges());
        for (((a, b), core), [has_a, has_b, has_core]) in ranges.zip(self.by_module(layout)) {
            if has_a {
                visit(a);
            }
            if has_b {
                visit(b);
            }
            if has_core {
                visit(core);
            }
        }
    }

    /// Returns the number of values that these have in adapters of `layout`.
    pub fn count(self, layout: &Layout) -> usize {
        let mut count = 0;
        self.for_ranges(layout, |range| count += range.len());
        count
    }

    /// Sets the values of the other factors to zero, in place; `values` are in the order of `layout`.
    pub fn keep_only<T: Copy + Default>(self, layout: &Layout, values: &mut [T]) {
        self.others().for_ranges(layout, |range| values[range].fill(T::default()));
    }

    /// Returns `adapter` with these factors of `other`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use fedreplay::adapter::{Adapter, Factors, Layout, Module};
    ///
    /// let module = Module { path: "m".into(), in_features: 1, out_features: 1 };
    /// let layout = Arc::new(Layout { rank: 1, alpha: 1.0, rank_stabilized: false, has_core: false, modules: vec![module] });
    /// let server = Adapter::new(layout.clone(), vec![1.0, 0.0]);
    /// let client = Adapter::new(layout, vec![3.0, 4.0]);
    /// assert_eq!(Factors::B.replaced(&server, &client).values, [1.0, 4.0]);
    /// ```
    ///
    /// # Panics
    /// If the layouts differ.
    pub fn replaced(self, adapter: &Adapter, other: &Adapter) -> Adapter {
        assert_eq!(adapter.layout, other.layout, "factors of another layout");
        let mut values = adapter.values.clone();
        self.for_ranges(&adapter.layout, |range| values[range.clone()].copy_from_slice(&other.values[range]));
        Adapter::new(Arc::clone(&adapter.layout), values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::values::tests::filled;

    #[test]
    fn factors_divide_an_adapter() {
        let adapter = filled();
        let layout = &adapter.layout;
        let counts = [Factors::None, Factors::A, Factors::B, Factors::Both].map(|factors| factors.count(layout));
        assert_eq!(counts[0], 0);
        assert_eq!(counts[1] + counts[2], counts[3]);
        assert_eq!(counts[3], layout.parameters());
        let zeros = Adapter::zeros(layout.clone());
        let of_layers = [Factors::LastLayers(1), Factors::ButLastLayers(1)];
        for factors in [Factors::None, Factors::A, Factors::B, Factors::Both].into_iter().chain(of_layers) {
            let mut kept = adapter.values.clone();
            factors.keep_only(layout, &mut kept);
            assert_eq!(factors.replaced(&zeros, &adapter).values, kept);
            assert_eq!(factors.others().replaced(&adapter, &zeros).values, kept);
        }
    }

    #[test]
    fn a_core_is_a_factor_of_its_own_and_goes_with_b() {
        let without = filled();
        let layout = Arc::new(Layout { has_core: true, ..Layout::clone(&without.layout) });
        let values: Vec<f32> = (0..layout.parameters()).map(|place| place as f32 + 1.0).collect();
        let adapter = Adapter::new(layout.clone(), values);
        let count = |factors: Factors| factors.count(&layout);
        assert_eq!(count(Factors::Core), 3 * 2 * 2);
        assert_eq!(count(Factors::ButCore), without.values.len());
        assert_eq!(count(Factors::Both), layout.parameters());
        assert_eq!(count(Factors::A) + count(Factors::B), layout.parameters());
        assert_eq!(Factors::Core.count(&without.layout), 0);
        for factors in [Factors::Core, Factors::ButCore, Factors::A, Factors::B] {
            let mut kept = adapter.values.clone();
            factors.keep_only(&layout, &mut kept);
            assert_eq!(kept.iter().filter(|&&value| value != 0.0).count(), count(factors));
            factors.others().keep_only(&layout, &mut kept);
            assert!(kept.iter().all(|&value| value == 0.0));
        }
    }

    #[test]
    fn last_layers_are_those_of_the_last_modules() {
        let module = |path: &str| Module { path: path.into(), in_features: 2, out_features: 1 };
        let paths = ["model.layers.2.up", "model.layers.10.up", "model.layers.10.down", "model.layers.9.up", "head"];
        let layout = Layout {
            rank: 1,
            alpha: 1.0,
            rank_stabilized: false,
            has_core: false,
            modules: paths.map(module).to_vec(),
        };
        assert_eq!(layout.layers(), [2, 9, 10]);
        let of =
            |factors: Factors| factors.by_module(&layout).into_iter().map(|[a, b, _]| a && b).collect::<Vec<bool>>();
        assert_eq!(of(Factors::LastLayers(1)), [false, true, true, false, false]);
        assert_eq!(of(Factors::ButLastLayers(1)), [true, false, false, true, true]);
        assert_eq!(of(Factors::LastLayers(2)), [false, true, true, true, false]);
        assert_eq!(of(Factors::LastLayers(4)), [true, true, true, true, false]);
        let counts = [1, 2, 3].map(|count| Factors::LastLayers(count).count(&layout));
        assert_eq!(counts, [6, 9, 12]);
        assert_eq!(Factors::ButLastLayers(2).count(&layout), 6);
    }
}
