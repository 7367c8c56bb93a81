//! Change of the base model that belongs to an adapter: what a method has merged into the frozen weights.
//!
//! It is kept apart from the weights and never written into them, so that it goes with a base of any precision, loses no bits to that
//! precision, and two runs share one base. A module's change is held as the factors of a product while these are smaller than
//! the whole, and as the whole from then on.

use std::sync::Arc;

use safetensors::SafeTensors;

use super::values::read_tensor;
use super::{Adapter, Layout, Module};

/// Start of the names of a change's tensors in a file.
const PREFIX: &str = "base_change.";

/// Change of the weights of an adapter's modules, in f32.
#[derive(Clone, Debug, PartialEq)]
pub struct BaseChange {
    /// Changes of the modules of the adapter's layout, in its order.
    pub modules: Vec<ModuleChange>,
}

/// Change of one weight `[out, in]`.
#[derive(Clone, Debug, PartialEq)]
pub enum ModuleChange {
    /// The sum of the products of a column and a row.
    Factors {
        /// Number of products.
        rank: usize,
        /// Columns, one after another: `[rank, out]`.
        columns: Vec<f32>,
        /// Rows, one after another: `[rank, in]`.
        rows: Vec<f32>,
    },
    /// All elements, `[out, in]`, row-major.
    Dense(Vec<f32>),
}

impl BaseChange {
    /// Creates a change of nothing.
    pub fn zero(layout: &Layout) -> Self {
        Self { modules: vec![ModuleChange::zero(); layout.modules.len()] }
    }

    /// Returns whether it changes no weight.
    pub fn is_zero(&self) -> bool {
        self.modules.iter().all(|module| matches!(module, ModuleChange::Factors { rank: 0, .. }))
    }

    /// Returns whether no value is NaN or infinite.
    pub fn is_finite(&self) -> bool {
        self.modules
            .iter()
            .flat_map(ModuleChange::parts)
            .all(|(_, values)| values.iter().all(|value| value.is_finite()))
    }

    /// Computes the BLAKE3 hash of the form and the bits of all modules' changes.
    pub fn hash(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_derive_key("fedreplay base change v1");
        for (name, values) in self.modules.iter().flat_map(ModuleChange::parts) {
            // The name and the length separate the parts, so that no two changes give the same input.
            hasher.update(name.as_bytes()).update(&(values.len() as u64).to_le_bytes());
            for value in values {
                hasher.update(&value.to_le_bytes());
            }
        }
        hasher.finalize()
    }

    /// Returns its tensors for a file: name, shape and little-endian bytes. A module without a change has none.
    pub(super) fn tensors(&self, layout: &Layout) -> Vec<(String, [usize; 2], Vec<u8>)> {
        let mut tensors = Vec::new();
        for (change, module) in self.modules.iter().zip(&layout.modules) {
            for (name, values) in change.parts().into_iter().filter(|(_, values)| !values.is_empty()) {
                let width = if name == COLUMNS { module.out_features } else { module.in_features };
                let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                tensors.push((tensor_name(module, name), [values.len() / width, width], bytes));
            }
        }
        tensors
    }

    /// Returns the names of its tensors in a file.
    pub(super) fn names(&self, layout: &Layout) -> impl Iterator<Item = String> {
        let modules = self.modules.iter().zip(&layout.modules);
        modules.flat_map(|(change, module)| {
            let parts = change.parts().into_iter().filter(|(_, values)| !values.is_empty());
            parts.map(|(name, _)| tensor_name(module, name))
        })
    }

    /// Reads the change from a file; `None` if the file has none.
    ///
    /// # Errors
    /// If a tensor of it does not fit the module, as a clause that names it.
    pub(super) fn read(file: &SafeTensors, layout: &Layout) -> Result<Option<Self>, String> {
        if !file.names().iter().any(|name| name.starts_with(PREFIX)) {
            return Ok(None);
        }
        let modules = layout.modules.iter().map(|module| ModuleChange::read(file, module));
        Ok(Some(Self { modules: modules.collect::<Result<_, _>>()? }))
    }
}

impl Adapter {
    /// Returns the same adapter on the base as it is, with the change of the base as further ranks; `None` if the change of a weight
    /// is held as all of its elements. The scale is in B, so that alpha is the rank.
    pub fn with_base_change_as_ranks(&self) -> Option<Self> {
        let Some(change) = &self.base_change else { return Some(self.clone()) };
        let own = self.layout.rank;
        let mut most = 0;
        for module in &change.modules {
            let ModuleChange::Factors { rank, .. } = module else { return None };
            most = most.max(*rank);
        }
        let rank = own + most;
        let layout = Layout {
            rank,
            alpha: rank as f64,
            rank_stabilized: false,
            has_core: false,
            modules: self.layout.modules.clone(),
        };
        let mut wide = Self::zeros(Arc::new(layout));
        let scale = self.layout.scale();
        let ranges = self.layout.ranges().into_iter().zip(wide.layout.ranges()).zip(&change.modules);
        for (module, ((own_range, wide_range), change)) in self.layout.modules.iter().zip(ranges) {
            let ModuleChange::Factors { columns, rows, .. } = change else { return None };
            let below = wide_range.0.start + own * module.in_features;
            wide.values[wide_range.0.start..below].copy_from_slice(&self.values[own_range.0]);
            wide.values[below..below + rows.len()].copy_from_slice(rows);
            for (output, row) in wide.values[wide_range.1].chunks_exact_mut(rank).enumerate() {
                for (place, value) in row[..own].iter_mut().enumerate() {
                    *value = (scale * f64::from(self.values[own_range.1.start + output * own + place])) as f32;
                }
                let of_output = columns.iter().skip(output).step_by(module.out_features);
                row[own..].iter_mut().zip(of_output).for_each(|(value, &column)| *value = column);
            }
        }
        Some(wide)
    }

    /// Returns the path of the first module of which two adapters of one layout have different changes of the base.
    pub fn base_change_differs_in(&self, other: &Self) -> Option<&str> {
        let zero = BaseChange::zero(&self.layout);
        let [own, others] = [self, other].map(|adapter| adapter.base_change.as_deref().unwrap_or(&zero));
        let mut pairs = self.layout.modules.iter().zip(own.modules.iter().zip(&others.modules));
        pairs.find(|(_, (own, other))| own != other).map(|(module, _)| module.path.as_str())
    }
}

const COLUMNS: &str = "columns";
const ROWS: &str = "rows";
const DENSE: &str = "dense";

/// Returns the name of a tensor in a file.
fn tensor_name(module: &Module, part: &str) -> String {
    format!("{PREFIX}{}.{part}", module.path)
}

impl ModuleChange {
    /// Creates a change of nothing.
    pub fn zero() -> Self {
        Self::Factors { rank: 0, columns: vec![], rows: vec![] }
    }

    /// Returns the parts that are stored, by name. A part may be empty.
    fn parts(&self) -> [(&'static str, &[f32]); 2] {
        match self {
            Self::Factors { columns, rows, .. } => [(COLUMNS, columns), (ROWS, rows)],
            Self::Dense(values) => [(DENSE, values), (ROWS, &[])],
        }
    }

    /// Reads the change of one module.
    fn read(file: &SafeTensors, module: &Module) -> Result<Self, String> {
        let (inputs, outputs) = (module.in_features, module.out_features);
        let values = |part: &str, shape: [usize; 2]| {
            let name = tensor_name(module, part);
            // Memory is taken for a shape that the file has, and never for one that it only claims.
            let has_shape = file.tensor(&name).is_ok_and(|view| view.shape() == shape);
            let mut values = vec![0.0; if has_shape { shape[0] * shape[1] } else { 0 }];
            read_tensor(file, &name, &shape, &mut values).map(|()| values)
        };
        if file.tensor(&tensor_name(module, DENSE)).is_ok() {
            return Ok(Self::Dense(values(DENSE, [outputs, inputs])?));
        }
        let Ok(first) = file.tensor(&tensor_name(module, COLUMNS)) else { return Ok(Self::zero()) };
        let rank = first.shape().first().copied().unwrap_or(0);
        Ok(Self::Factors { rank, columns: values(COLUMNS, [rank, outputs])?, rows: values(ROWS, [rank, inputs])? })
    }

    /// Returns the sum of this change and of products of a column and a row each, of which those that are zero are left out.
    ///
    /// Factors of up to half the smaller width are kept as they are. Beyond it all elements take less memory than factors; they
    /// are summed in f64, in the order of the products, and rounded once.
    pub fn plus(&self, module: &Module, products: &[(Vec<f32>, Vec<f32>)]) -> Self {
        let is_zero = |values: &[f32]| values.iter().all(|&value| value == 0.0);
        let products = products.iter().filter(|(column, row)| !is_zero(column) && !is_zero(row));
        let mut sum = self.clone();
        match &mut sum {
            Self::Factors { rank, columns, rows } => {
                for (column, row) in products {
                    *rank += 1;
                    columns.extend_from_slice(column);
                    rows.extend_from_slice(row);
                }
                if 2 * *rank > module.in_features.min(module.out_features) {
                    let zeros = vec![0.0; module.in_features * module.out_features];
                    let pairs = columns.chunks_exact(module.out_features).zip(rows.chunks_exact(module.in_features));
                    return Self::Dense(added(&zeros, module.in_features, pairs));
                }
            }
            Self::Dense(values) => {
                let pairs = products.map(|(column, row)| (&column[..], &row[..]));
                *values = added(values, module.in_features, pairs);
            }
        }
        sum
    }
}

/// Returns a matrix of this width plus products of a column and a row.
fn added<'a>(matrix: &[f32], width: usize, products: impl Iterator<Item = (&'a [f32], &'a [f32])>) -> Vec<f32> {
    let products: Vec<_> = products.collect();
    let mut sums = vec![0.0_f64; width];
    let mut result = Vec::with_capacity(matrix.len());
    for (output, before) in matrix.chunks_exact(width).enumerate() {
        sums.iter_mut().zip(before).for_each(|(sum, &value)| *sum = f64::from(value));
        for (column, row) in &products {
            let factor = f64::from(column[output]);
            sums.iter_mut().zip(*row).for_each(|(sum, &value)| *sum += factor * f64::from(value));
        }
        result.extend(sums.iter().map(|&sum| sum as f32));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(path: &str) -> Module {
        Module { path: path.into(), in_features: 4, out_features: 6 }
    }

    fn products(count: usize) -> Vec<(Vec<f32>, Vec<f32>)> {
        let values = |length: usize, seed: usize| (0..length).map(|n| ((n * 7 + seed * 3) % 11) as f32 - 5.0).collect();
        (0..count).map(|n| (values(6, n), values(4, n + 5))).collect()
    }

    /// All elements, by the definition.
    fn dense(products: &[(Vec<f32>, Vec<f32>)]) -> Vec<f32> {
        let mut sums = vec![0.0; 24];
        for (column, row) in products {
            for (place, sum) in sums.iter_mut().enumerate() {
                *sum += column[place / 4] * row[place % 4];
            }
        }
        sums
    }

    #[test]
    fn factors_become_all_elements_above_half_the_smaller_width() {
        let products = products(5);
        let module = module("m");
        let two = ModuleChange::zero().plus(&module, &products[..2]);
        let columns = [&products[0].0[..], &products[1].0].concat();
        let rows = [&products[0].1[..], &products[1].1].concat();
        assert_eq!(two, ModuleChange::Factors { rank: 2, columns, rows });
        let three = two.plus(&module, &products[2..3]);
        assert_eq!(three, ModuleChange::Dense(dense(&products[..3])));
        assert_eq!(three.plus(&module, &products[3..]), ModuleChange::Dense(dense(&products)));
        assert_eq!(ModuleChange::zero().plus(&module, &products), ModuleChange::Dense(dense(&products)));
    }

    #[test]
    fn products_that_are_zero_take_no_place() {
        let zeros = [(vec![0.0; 6], vec![1.0; 4]), (vec![1.0; 6], vec![0.0; 4])];
        assert_eq!(ModuleChange::zero().plus(&module("m"), &zeros), ModuleChange::zero());
    }

    #[test]
    fn a_change_is_part_of_an_adapters_bytes_and_hash() {
        let modules = vec![module("a"), module("b"), module("c")];
        let layout = Arc::new(Layout { rank: 1, alpha: 1.0, rank_stabilized: false, has_core: false, modules });
        let plain = Adapter::zeros(layout.clone());
        assert_eq!(plain.clone().on(Some(Arc::new(BaseChange::zero(&layout)))), plain, "a change of nothing is none");
        let mut hashes = std::collections::HashSet::from([plain.hash()]);
        for counts in [[0, 1, 4], [2, 0, 0], [0, 0, 2], [4, 4, 4]] {
            let modules = counts.map(|count| ModuleChange::zero().plus(&module("m"), &products(count)));
            let change = BaseChange { modules: modules.to_vec() };
            let adapter = plain.clone().on(Some(Arc::new(change)));
            assert!(hashes.insert(adapter.hash()), "{counts:?} has the hash of another change");
            let bytes = adapter.to_bytes();
            assert_eq!(Adapter::from_bytes(&bytes).unwrap(), adapter, "{counts:?}");
            for length in [bytes.len() / 2, bytes.len() - 1] {
                assert!(Adapter::from_bytes(&bytes[..length]).is_err(), "{length} bytes were read as an adapter");
            }
        }
    }
}
