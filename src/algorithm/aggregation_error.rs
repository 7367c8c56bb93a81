//! Error of an aggregation: how far the aggregated adapter's products B A are from the mean of the clients' products.
//!
//! Clients' adapters change a weight W by s B A, so the change that their weights p_k ask for is the mean of products M =
//! s sum p_k B_k A_k. A server that averages the factors has s Bm Am instead, with the means Bm of the B_k and Am of the A_k
//! (FedEx-LoRA, arXiv 2410.09432; FLoRA, arXiv 2409.05976). The error of a module is the Frobenius norm of the difference
//! relative to that of M.
//!
//! As sum p_k = 1, the difference is sum p_k (B_k - Bm)(A_k - Am): a sum of small terms instead of the difference of two large
//! ones, which is exactly zero where all A_k or all B_k agree. Sums run in f64 in a fixed order, in plain loops, for the
//! reason that [`super::decomposition`] gives.

use std::ops::Range;

use super::Update;
use crate::adapter::{Adapter, Factors, Layout, Module};

/// Error of an aggregation in one module.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModuleError {
    /// [1] -- Frobenius norm of the mean of the products s B A.
    pub norm: f64,
    /// [1] -- Frobenius norm of its difference from the aggregated adapter's product, relative to `norm`. `None` if the mean
    /// is zero or not finite.
    pub error: Option<f64>,
}

impl ModuleError {
    /// Creates the error from squares of Frobenius norms without the factor s of products.
    pub(super) fn of_squares(scale: f64, mean: f64, difference: f64) -> Self {
        let ratio = root(difference) / root(mean);
        Self { norm: scale * root(mean), error: Some(ratio).filter(|ratio| ratio.is_finite()) }
    }
}

/// Returns the root of a square, which rounding may have left below zero.
fn root(square: f64) -> f64 {
    if square < 0.0 { 0.0 } else { libm::sqrt(square) }
}

/// Error of the aggregation of one round.
#[derive(Clone, Debug, PartialEq)]
pub struct AggregationError {
    /// Errors of the layout's modules, in their order.
    pub modules: Vec<ModuleError>,
    /// Numbers of products that the server has kept of each module's mean, for rules that cut it by its energy; else empty.
    pub kept_ranks: Vec<u32>,
}

impl AggregationError {
    /// Creates the error of an aggregation that keeps the mean of products as a whole, from those of the modules.
    pub fn new(modules: Vec<ModuleError>) -> Self {
        Self { modules, kept_ranks: vec![] }
    }

    /// Returns the error of the modules of which a factor was `sent`; in the others nothing was aggregated, so they have none.
    pub fn of_sent(mut self, layout: &Layout, sent: Factors) -> Self {
        for (module, sent) in self.modules.iter_mut().zip(sent.by_module(layout)) {
            if sent == [false; 3] {
                *module = ModuleError { norm: 0.0, error: None };
            }
        }
        self
    }

    /// Returns the error over all modules, as if they were the blocks of one matrix: the norm of all differences relative to
    /// the norm of all means. `None` if all means are zero, or one is not finite.
    ///
    /// # Examples
    ///
    /// ```
    /// use fedreplay::algorithm::{AggregationError, ModuleError};
    ///
    /// let modules = vec![
    ///     ModuleError { norm: 3.0, error: Some(1.0) },
    ///     ModuleError { norm: 4.0, error: Some(0.0) },
    /// ];
    /// assert_eq!(AggregationError::new(modules).total(), Some(0.6));
    /// ```
    pub fn total(&self) -> Option<f64> {
        let mut means = 0.0;
        let mut differences = 0.0;
        for module in &self.modules {
            // Without an error the mean is zero, or not finite.
            let difference = module.error.unwrap_or(0.0) * module.norm;
            means += module.norm * module.norm;
            differences += difference * difference;
        }
        let ratio = libm::sqrt(differences / means);
        Some(ratio).filter(|ratio| means.is_finite() && ratio.is_finite())
    }
}

/// Whether updates have a mean of products to which the aggregated adapter can be compared: at least one of them has a weight,
/// and all that have one started from the server's model and are not discounted.
pub fn have_mean_of_products(server: &Adapter, updates: &[Update], weights: &[f64]) -> bool {
    let mut has_weight = false;
    for (update, _) in updates.iter().zip(weights).filter(|(_, weight)| **weight > 0.0) {
        has_weight = true;
        let is_of_server = std::ptr::eq(update.base, server) || update.base == server;
        if !is_of_server || update.discount != 1.0 {
            return false;
        }
    }
    has_weight
}

/// Computes the error of a mean of factors, for updates as in [`have_mean_of_products`] with weights that sum to 1.
///
/// For each module, with K r columns in all clients' B, at most (K + 1) r d k multiplications are done, about those of a
/// forward pass over r tokens of each client, or (K + 1)^2 r^2 (d + k) / 2 where that is less.
pub fn error_of_factors(layout: &Layout, updates: &[Update], weights: &[f64]) -> AggregationError {
    error_of_corrected(layout, updates, weights, None)
}

/// As [`error_of_factors`], of a mean of factors whose B was changed by `correction`, which is in the layout's order.
pub fn error_of_corrected(
    layout: &Layout,
    updates: &[Update],
    weights: &[f64],
    correction: Option<&[f64]>,
) -> AggregationError {
    // Products B R A are those of B R and A.
    let adapters: Vec<_> = updates.iter().map(|update| update.adapter.with_core_in_b()).collect();
    let mut parts = Vec::new();
    for (adapter, &weight) in adapters.iter().zip(weights) {
        if weight > 0.0 {
            parts.push((&**adapter, weight));
        }
    }
    let layout = parts.first().map_or(layout, |(adapter, _)| &*adapter.layout);
    let mut modules = Vec::with_capacity(layout.modules.len());
    for (module, (a, b)) in layout.modules.iter().zip(layout.ranges()) {
        let mut terms = Terms::new(&parts, layout.rank, module, &a, &b);
        if let Some(correction) = correction {
            terms.correct(&correction[b], layout.rank);
        }
        let squares = terms.squares();
        modules.push(ModuleError::of_squares(layout.scale(), squares.mean, squares.difference));
    }
    AggregationError::new(modules)
}

/// Computes the error of a module whose mean of products, the sum of `wanted`, has become the sum of `made`. Each is a column and a row;
/// the factor s is in them.
pub(super) fn error_of_products(wanted: &[(Vec<f64>, Vec<f64>)], made: &[(Vec<f64>, Vec<f64>)]) -> ModuleError {
    let Some((column, row)) = made.first() else { return ModuleError::of_squares(1.0, 0.0, 0.0) };
    let mut terms = Terms {
        columns: Matrix { width: column.len(), values: vec![] },
        rows: Matrix { width: row.len(), values: vec![] },
        deviations: wanted.len() + made.len(),
    };
    let signed = [(wanted, 1.0), (made, -1.0), (made, 1.0)];
    for (products, sign) in signed {
        for (column, row) in products {
            terms.columns.values.extend(column.iter().map(|value| sign * value));
            terms.rows.values.extend(row);
        }
    }
    // Inner products of terms would lose a difference that is as small as rounding.
    let squares = terms.by_elements();
    ModuleError::of_squares(1.0, squares.mean, squares.difference)
}

/// Computes the Frobenius norm of all products s B A of an adapter as one vector, with the factor s = alpha / r.
pub fn product_norm(adapter: &Adapter) -> f64 {
    // The mean of the products of one adapter is that adapter's.
    let alone = Update { adapter, base: adapter, weight: 1.0, discount: 1.0 };
    let modules = error_of_factors(&adapter.layout, &[alone], &[1.0]).modules;
    libm::sqrt(modules.iter().map(|module| module.norm * module.norm).sum())
}

/// Sum of products of columns and rows: the difference, and after it the product of the means, which together give the mean of
/// products.
struct Terms {
    /// sqrt(p_k) (B_k - Bm) for each client, then Bm, each as `rank` columns of length `outputs`, one after another.
    columns: Matrix,
    /// sqrt(p_k) (A_k - Am) for each client, then Am, each as `rank` rows of length `inputs`.
    rows: Matrix,
    /// Number of terms of the difference.
    deviations: usize,
}

/// Squares of Frobenius norms.
struct Squares {
    mean: f64,
    difference: f64,
}

impl Terms {
    fn new(parts: &[(&Adapter, f64)], rank: usize, module: &Module, a: &Range<usize>, b: &Range<usize>) -> Self {
        let rows = with_mean(parts, a, module.in_features);
        // B is stored by outputs, and is needed by columns.
        let by_output = with_mean(parts, b, rank);
        let outputs = module.out_features;
        let mut columns = Matrix { width: outputs, values: Vec::with_capacity(by_output.values.len()) };
        for part in by_output.values.chunks_exact(outputs * rank) {
            for place in 0..rank {
                columns.values.extend(part.iter().skip(place).step_by(rank));
            }
        }
        Self { columns, rows, deviations: parts.len() * rank }
    }

    /// Adds a change D of the mean of B, `[out, rank]`, row-major: the difference becomes that from (Bm + D) Am.
    fn correct(&mut self, change: &[f64], rank: usize) {
        let columns = Matrix { width: rank, values: change.to_vec() }.transposed();
        let mean = self.columns.values.split_off(self.deviations * self.columns.width);
        self.columns.values.extend(columns.values.iter().map(|change| -change));
        self.columns.values.extend(mean.iter().zip(&columns.values).map(|(mean, change)| mean + change));
        self.rows.values.extend_from_within(self.deviations * self.rows.width..);
        self.deviations += rank;
    }

    /// Computes the squares in the way that takes fewer multiplications. The choice depends on the shapes alone.
    fn squares(&self) -> Squares {
        let [inputs, outputs] = [self.rows.width, self.columns.width];
        let terms = self.columns.height();
        if (terms + 1) * (inputs + outputs) < 2 * inputs * outputs { self.by_terms() } else { self.by_elements() }
    }

    /// Computes the squares from the elements of the products, of which a tile at a time is in memory.
    fn by_elements(&self) -> Squares {
        let terms = self.columns.height();
        let mut squares = Squares { mean: 0.0, difference: 0.0 };
        for inputs in tiles(self.rows.width) {
            for outputs in tiles(self.columns.width) {
                let mut tile = Tile::zeros();
                tile.add_products(&self.columns, &outputs, &self.rows, &inputs, 0..self.deviations);
                squares.difference += tile.square();
                tile.add_products(&self.columns, &outputs, &self.rows, &inputs, self.deviations..terms);
                squares.mean += tile.square();
            }
        }
        squares
    }

    /// Computes the squares from inner products of terms: the square of sum l_i r_i is sum_ij <l_i, l_j> <r_i, r_j>.
    fn by_terms(&self) -> Squares {
        let columns = self.columns.transposed();
        let rows = self.rows.transposed();
        let mut squares = Squares { mean: 0.0, difference: 0.0 };
        for first in tiles(columns.width) {
            // The sum is symmetric in i and j.
            for second in tiles(columns.width).filter(|second| second.start >= first.start) {
                let factor = if second == first { 1.0 } else { 2.0 };
                let mut of_columns = Tile::zeros();
                of_columns.add_products(&columns, &first, &columns, &second, 0..columns.height());
                let mut of_rows = Tile::zeros();
                of_rows.add_products(&rows, &first, &rows, &second, 0..rows.height());
                for (i, one) in first.clone().enumerate() {
                    for (j, other) in second.clone().enumerate() {
                        let term = factor * of_columns.0[i][j] * of_rows.0[i][j];
                        squares.mean += term;
                        if one < self.deviations && other < self.deviations {
                            squares.difference += term;
                        }
                    }
                }
            }
        }
        squares
    }
}

/// Returns sqrt(p_k) (values_k - mean) of each adapter, then the mean, in rows of this width.
fn with_mean(parts: &[(&Adapter, f64)], range: &Range<usize>, width: usize) -> Matrix {
    let first = &parts[0].0.values[range.clone()];
    // Relative to the first adapter, so that adapters that agree have exactly no deviation, whatever the sum of the weights.
    let mut mean = vec![0.0; range.len()];
    for (adapter, weight) in parts {
        for ((sum, &value), &origin) in mean.iter_mut().zip(&adapter.values[range.clone()]).zip(first) {
            *sum += weight * (f64::from(value) - f64::from(origin));
        }
    }
    let mut values = Vec::with_capacity((parts.len() + 1) * range.len());
    for (adapter, weight) in parts {
        let share = libm::sqrt(*weight);
        for ((&mean, &value), &origin) in mean.iter().zip(&adapter.values[range.clone()]).zip(first) {
            values.push(share * (f64::from(value) - f64::from(origin) - mean));
        }
    }
    values.extend(mean.iter().zip(first).map(|(mean, &origin)| f64::from(origin) + mean));
    Matrix { width, values }
}

/// Matrix in f64, row-major.
struct Matrix {
    width: usize,
    values: Vec<f64>,
}

impl Matrix {
    fn height(&self) -> usize {
        self.values.len() / self.width
    }

    fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.width..(row + 1) * self.width]
    }

    /// Returns some columns of some rows, each with zeros behind it.
    fn part(&self, rows: &Range<usize>, columns: &Range<usize>) -> Vec<[f64; TILE]> {
        let mut part = vec![[0.0; TILE]; rows.len()];
        for (row, copy) in rows.clone().zip(&mut part) {
            copy[..columns.len()].copy_from_slice(&self.row(row)[columns.clone()]);
        }
        part
    }

    fn transposed(&self) -> Self {
        let mut values = Vec::with_capacity(self.values.len());
        for column in 0..self.width {
            values.extend(self.values.iter().skip(column).step_by(self.width));
        }
        Self { width: self.height(), values }
    }
}

/// Width of a tile.
const TILE: usize = 32;

/// Width of the blocks of a tile whose sums are in a processor's registers.
const BLOCK: usize = 4;

/// Number of terms of which a tile's factors are in a processor's nearest caches.
const TERMS: usize = 128;

/// Returns the ranges of tiles that cover `0..length`.
fn tiles(length: usize) -> impl Iterator<Item = Range<usize>> {
    (0..length).step_by(TILE).map(move |start| start..length.min(start + TILE))
}

/// Part of a product of two matrices. What is outside of the matrices is zero.
struct Tile([[f64; TILE]; TILE]);

impl Tile {
    fn zeros() -> Self {
        Self([[0.0; TILE]; TILE])
    }

    /// Adds sum over t of left[t, i] right[t, j], in the order of t, for i and j in these ranges.
    fn add_products(&mut self, left: &Matrix, i: &Range<usize>, right: &Matrix, j: &Range<usize>, terms: Range<usize>) {
        for start in terms.clone().step_by(TERMS) {
            let some = start..terms.end.min(start + TERMS);
            let left = left.part(&some, i);
            let right = right.part(&some, j);
            for row in (0..i.len()).step_by(BLOCK) {
                for column in (0..j.len()).step_by(BLOCK) {
                    self.add_block(row, column, &left, &right);
                }
            }
        }
    }

    /// Adds products to the block that begins at this row and column. Each of its elements is a sum of its own, so the compiler
    /// may compute several at once without another order.
    fn add_block(&mut self, row: usize, column: usize, left: &[[f64; TILE]], right: &[[f64; TILE]]) {
        let mut sums = [[0.0; BLOCK]; BLOCK];
        for (sums, tile) in sums.iter_mut().zip(&self.0[row..row + BLOCK]) {
            sums.copy_from_slice(&tile[column..column + BLOCK]);
        }
        for (left, right) in left.iter().zip(right) {
            for (place, sums) in sums.iter_mut().enumerate() {
                for (other, sum) in sums.iter_mut().enumerate() {
                    *sum += left[row + place] * right[column + other];
                }
            }
        }
        for (sums, tile) in sums.iter().zip(&mut self.0[row..row + BLOCK]) {
            tile[column..column + BLOCK].copy_from_slice(sums);
        }
    }

    fn square(&self) -> f64 {
        self.0.iter().flatten().map(|value| value * value).sum()
    }
}

#[cfg(test)]
mod tests;
