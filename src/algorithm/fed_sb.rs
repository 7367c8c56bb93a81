//! Initial adapter of Fed-SB (arXiv 2502.15436, section 4) and LoRA-SB (arXiv 2411.19557, section 3): B, R and A are the truncated
//! singular value decomposition of a first step on the whole weights, -eta sign(G), of which G is the gradient.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use super::eigen::{add_multiple_, dot, symmetric_eigen};
use crate::adapter::{Adapter, Layout, Module};

/// Computes the initial adapter with cores from the `gradients` of the weights, each `[out, in]`, row-major, in the order of the layout.
///
/// The columns of B and the rows of A are the first r singular vectors of -sign(G) and R is diagonal, so that s B R A is the nearest
/// matrix of rank r to -`step_size` sign(G). `None` if `stop` was set before all modules were done.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::AtomicBool;
///
/// use fedreplay::adapter::{Layout, Module};
/// use fedreplay::algorithm::adapter_of_first_step;
///
/// let modules = vec![Module { path: "m".into(), in_features: 1, out_features: 1 }];
/// let layout = Layout { rank: 1, alpha: 2.0, rank_stabilized: false, has_core: true, modules };
/// let stop = AtomicBool::new(false);
/// let adapter = adapter_of_first_step(&Arc::new(layout), &[vec![0.25]], 0.5, &stop).expect("nothing stopped it");
/// let [a, b, r] = adapter.values[..] else { unreachable!("one value each") };
/// assert_eq!(2.0 * b * r * a, -0.5);
/// ```
///
/// # Panics
/// If the layout has no core, its rank is above a width of a module, or a gradient has another size.
pub fn adapter_of_first_step(
    layout: &Arc<Layout>,
    gradients: &[Vec<f32>],
    step_size: f64,
    stop: &AtomicBool,
) -> Option<Adapter> {
    assert!(layout.has_core, "B and A stay as they begin, and R is trained");
    assert_eq!(layout.modules.len(), gradients.len(), "each module has a gradient");
    // Each module is computed by itself, and they are collected in their order.
    let modules = layout.modules.par_iter().zip(gradients).map(|(module, gradient)| {
        let is_stopped = stop.load(Ordering::Relaxed);
        (!is_stopped).then(|| values_of(layout, module, gradient, step_size))
    });
    let values = modules.collect::<Option<Vec<_>>>()?.concat();
    Some(Adapter::new(layout.clone(), values))
}

/// Returns A, B and R of one module.
fn values_of(layout: &Layout, module: &Module, gradient: &[f32], step_size: f64) -> Vec<f32> {
    assert_eq!(gradient.len(), module.in_features * module.out_features);
    let step = Step { signs: gradient.iter().map(|&value| sign_of_step(value)).collect(), width: module.in_features };
    let triples = step.singular_triples(layout.rank);
    let mut values = Vec::new();
    for triple in &triples {
        values.extend(triple.right.iter().map(|&value| value as f32));
    }
    for output in 0..module.out_features {
        values.extend(triples.iter().map(|triple| triple.left[output] as f32));
    }
    for (place, triple) in triples.iter().enumerate() {
        let mut row = vec![0.0; layout.rank];
        row[place] = (step_size * triple.value / layout.scale()) as f32;
        values.extend(row);
    }
    values
}

/// Returns the sign of a step against a gradient; 0 if that is zero.
fn sign_of_step(gradient: f32) -> i8 {
    if gradient > 0.0 {
        -1
    } else if gradient < 0.0 {
        1
    } else {
        0
    }
}

/// Direction of a step: a matrix of signs, row-major.
struct Step {
    signs: Vec<i8>,
    /// Number of columns.
    width: usize,
}

/// Singular value with its vectors of length 1.
struct Triple {
    value: f64,
    left: Vec<f64>,
    right: Vec<f64>,
}

/// [1] -- Singular value relative to the greatest, up to which it is only rounding.
const ROUNDING: f64 = 1e-9;

impl Step {
    fn transposed(&self) -> Self {
        let mut signs = Vec::with_capacity(self.signs.len());
        for column in 0..self.width {
            signs.extend(self.signs.iter().skip(column).step_by(self.width));
        }
        Self { signs, width: self.signs.len() / self.width }
    }

    /// Returns the greatest `count` singular values, the greatest first, with their vectors. Of the two vectors of a value, the one of fewer
    /// elements has its largest element positive, the first one if there are several.
    fn singular_triples(&self, count: usize) -> Vec<Triple> {
        let height = self.signs.len() / self.width;
        if height <= self.width {
            return self.triples_by_rows(count);
        }
        let triples = self.transposed().triples_by_rows(count);
        triples.into_iter().map(|Triple { value, left, right }| Triple { value, left: right, right: left }).collect()
    }

    /// As [`Self::singular_triples`], of a matrix that is not higher than wide.
    fn triples_by_rows(&self, count: usize) -> Vec<Triple> {
        // M M^T has the left singular vectors as eigenvectors, and its elements are whole numbers without rounding.
        let rows: Vec<&[i8]> = self.signs.chunks_exact(self.width).collect();
        let mut products = Vec::with_capacity(rows.len());
        for one in &rows {
            products.push(rows.iter().map(|other| f64::from(inner(one, other))).collect());
        }
        let mut triples: Vec<Triple> = Vec::with_capacity(count);
        for eigen in symmetric_eigen(products).into_iter().take(count) {
            let left = with_sign(eigen.vector);
            let mut right = vec![0.0; self.width];
            for (row, &part) in rows.iter().zip(&left) {
                right.iter_mut().zip(*row).for_each(|(sum, &sign)| *sum += part * f64::from(sign));
            }
            let greatest = triples.first().map_or(0.0, |triple| triple.value);
            remove_projections_(&mut right, &triples);
            let mut value = libm::sqrt(dot(&right, &right));
            if value <= ROUNDING * greatest || value == 0.0 {
                // The matrix has no more ranks: any direction beside the others will do.
                value = 0.0;
                right = direction_beside(&triples, self.width);
            }
            let length = libm::sqrt(dot(&right, &right));
            right.iter_mut().for_each(|element| *element /= length);
            triples.push(Triple { value, left, right });
        }
        assert_eq!(triples.len(), count, "a rank is at most the widths of the module");
        triples
    }
}

/// Returns the inner product of two rows of signs.
fn inner(one: &[i8], other: &[i8]) -> i32 {
    one.iter().zip(other).map(|(&one, &other)| i32::from(one) * i32::from(other)).sum()
}

/// Returns the vector or its opposite, of which the first of the largest elements is positive.
fn with_sign(mut vector: Vec<f64>) -> Vec<f64> {
    let mut largest = 0.0f64;
    for &element in &vector {
        if element.abs() > largest.abs() {
            largest = element;
        }
    }
    if largest < 0.0 {
        vector.iter_mut().for_each(|element| *element = -*element);
    }
    vector
}

/// Removes what a vector has along the right vectors of `triples`, in place. The second pass removes what rounding left in the first.
fn remove_projections_(vector: &mut [f64], triples: &[Triple]) {
    for triple in triples.iter().chain(triples) {
        let along = -dot(vector, &triple.right);
        add_multiple_(vector, along, &triple.right);
    }
}

/// Returns a vector that is orthogonal to all right vectors: what they leave of the unit vector of which they leave most.
fn direction_beside(triples: &[Triple], width: usize) -> Vec<f64> {
    let mut best = 0;
    let mut least_held = f64::INFINITY;
    for place in 0..width {
        let held: f64 = triples.iter().map(|triple| triple.right[place] * triple.right[place]).sum();
        if held < least_held {
            best = place;
            least_held = held;
        }
    }
    let mut unit = vec![0.0; width];
    unit[best] = 1.0;
    remove_projections_(&mut unit, triples);
    unit
}

#[cfg(test)]
mod tests;
