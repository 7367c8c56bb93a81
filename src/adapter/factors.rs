//! The two factors of LoRA's products B A, of which some methods train or send one.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Adapter, Layout};

/// Some of the two factors of all modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Factors {
    /// Neither.
    None,
    /// A, `[rank, in]`.
    A,
    /// B, `[out, rank]`.
    B,
    /// A and B.
    Both,
}

impl Factors {
    /// Whether A is among them.
    pub fn has_a(self) -> bool {
        matches!(self, Self::A | Self::Both)
    }

    /// Whether B is among them.
    pub fn has_b(self) -> bool {
        matches!(self, Self::B | Self::Both)
    }

    /// Returns those that are not among these.
    pub fn others(self) -> Self {
        match self {
            Self::None => Self::Both,
            Self::A => Self::B,
            Self::B => Self::A,
            Self::Both => Self::None,
        }
    }

    /// Calls `visit` for the range of each matrix of `layout` that is among these, in the order of the values.
    pub fn for_ranges(self, layout: &Layout, mut visit: impl FnMut(std::ops::Range<usize>)) {
        for (a, b) in layout.ranges() {
            if self.has_a() {
                visit(a);
            }
            if self.has_b() {
                visit(b);
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
    /// let layout = Arc::new(Layout { rank: 1, alpha: 1.0, rank_stabilized: false, modules: vec![module] });
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
        for factors in [Factors::None, Factors::A, Factors::B, Factors::Both] {
            let mut kept = adapter.values.clone();
            factors.keep_only(layout, &mut kept);
            assert_eq!(factors.replaced(&zeros, &adapter).values, kept);
            assert_eq!(factors.others().replaced(&adapter, &zeros).values, kept);
        }
    }
}
