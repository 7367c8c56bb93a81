//! LoRA-FAIR's correction of a mean of factors (Bian et al. 2025, arXiv 2411.14961, section 4), with the Frobenius norm as the distance.

use super::Update;
use crate::adapter::Adapter;

/// Computes for each module the change of B that minimizes |M - (Bm + D) Am|^2 + regularization |D|^2 over D, where Am and Bm are the
/// means of the factors by `weights`, which sum to 1, and M is that of the products B A. Returns D `[out, rank]` in the places of B, and zeros
/// in those of A.
///
/// The regularization is at least 1e-12 of the trace of Am Am^T.
///
/// It is D = (M - Bm Am) Am^T (Am Am^T + regularization I)^-1. With M - Bm Am = sum of p_k B_k (A_k - Am), it is exactly zero where
/// all A agree.
pub fn correction_of_b(server: &Adapter, updates: &[Update], weights: &[f64], regularization: f64) -> Vec<f64> {
    let layout = &server.layout;
    let mut correction = vec![0.0; server.values.len()];
    let mut parts = Vec::new();
    for (update, &weight) in updates.iter().zip(weights) {
        if weight > 0.0 {
            parts.push((update.adapter, weight));
        }
    }
    let Some(&(first, _)) = parts.first() else { return correction };
    let rank = layout.rank;
    for (module, (a, b)) in layout.modules.iter().zip(layout.ranges()) {
        let inputs = module.in_features;
        // Relative to the first client, as for the error of the mean, so that equal factors have no differences.
        let origin = &first.values[a.clone()];
        let mut mean = vec![0.0; origin.len()];
        for (adapter, weight) in &parts {
            for ((mean, &value), &origin) in mean.iter_mut().zip(&adapter.values[a.clone()]).zip(origin) {
                *mean += weight * (f64::from(value) - f64::from(origin));
            }
        }
        let mean_a: Vec<f64> = mean.iter().zip(origin).map(|(mean, &origin)| f64::from(origin) + mean).collect();
        let target = &mut correction[b.clone()];
        for (adapter, weight) in &parts {
            let values = adapter.values[a.clone()].iter().zip(origin).zip(&mean);
            let apart: Vec<f64> =
                values.map(|((&value, &origin), mean)| f64::from(value) - f64::from(origin) - mean).collect();
            // p (A_k - Am) Am^T, and B_k times it.
            let small = products_of_rows(&apart, &mean_a, inputs);
            for (row, target) in adapter.values[b.clone()].chunks_exact(rank).zip(target.chunks_exact_mut(rank)) {
                for (&value, small) in row.iter().zip(small.chunks_exact(rank)) {
                    target.iter_mut().zip(small).for_each(|(sum, small)| *sum += weight * f64::from(value) * small);
                }
            }
        }
        let mut gram = products_of_rows(&mean_a, &mean_a, inputs);
        let trace: f64 = (0..rank).map(|place| gram[place * rank + place]).sum();
        for place in 0..rank {
            // Less would be lost in the rounding of a matrix that is singular without it.
            gram[place * rank + place] += regularization.max(1e-12 * trace);
        }
        let root = cholesky(gram, rank);
        target.chunks_exact_mut(rank).for_each(|row| solve(&root, row));
    }
    correction
}

/// Returns the inner products of the rows of two row-major matrices of this width, `[rows of left, rows of right]`.
fn products_of_rows(left: &[f64], right: &[f64], width: usize) -> Vec<f64> {
    let mut products = Vec::new();
    for left in left.chunks_exact(width) {
        for right in right.chunks_exact(width) {
            products.push(left.iter().zip(right).map(|(left, right)| left * right).sum());
        }
    }
    products
}

/// Returns the lower triangle L of a positive definite matrix L L^T, row-major with what is above it left as it was.
fn cholesky(mut matrix: Vec<f64>, size: usize) -> Vec<f64> {
    for row in 0..size {
        for column in 0..=row {
            let before: f64 = (0..column).map(|k| matrix[row * size + k] * matrix[column * size + k]).sum();
            let rest = matrix[row * size + column] - before;
            matrix[row * size + column] =
                if row == column { libm::sqrt(rest) } else { rest / matrix[column * size + column] };
        }
    }
    matrix
}

/// Solves x (L L^T) = y in place, for y in `row`.
fn solve(root: &[f64], row: &mut [f64]) {
    let size = row.len();
    for at in 0..size {
        let before: f64 = (0..at).map(|k| root[at * size + k] * row[k]).sum();
        row[at] = (row[at] - before) / root[at * size + at];
    }
    for at in (0..size).rev() {
        let after: f64 = (at + 1..size).map(|k| root[k * size + at] * row[k]).sum();
        row[at] = (row[at] - after) / root[at * size + at];
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fedreplay_sim::{Purpose, Seed, Stream};

    use super::*;
    use crate::adapter::{Layout, Module};
    use crate::algorithm::error_of_corrected;
    use crate::algorithm::{error_of_factors, products_change};

    fn layout(rank: usize, inputs: usize, outputs: usize) -> Arc<Layout> {
        let module = Module { path: "m".into(), in_features: inputs, out_features: outputs };
        Arc::new(Layout { rank, alpha: rank as f64, rank_stabilized: false, has_core: false, modules: vec![module] })
    }

    fn update<'a>(adapter: &'a Adapter, server: &'a Adapter) -> Update<'a> {
        Update { adapter, base: server, weight: 1.0, discount: 1.0 }
    }

    /// B1 = (1, 0), A1 = (2, 0); B2 = (0, 1), A2 = (0, 4), by hand: without regularization D = (-0.3, 0.3), and the product is
    /// ((0.2, 0.4), (0.8, 1.6)), which is sqrt(1.6) from diag(1, 2) instead of sqrt(2.5). With regularization 5 it is half of D.
    #[test]
    fn the_worked_example_has_its_correction() {
        let layout = layout(1, 2, 2);
        let adapter = |values: [f32; 4]| Adapter::new(layout.clone(), values.to_vec());
        let server = adapter([0.0; 4]);
        let clients = [adapter([2.0, 0.0, 1.0, 0.0]), adapter([0.0, 4.0, 0.0, 1.0])];
        let updates = [update(&clients[0], &server), update(&clients[1], &server)];
        for (regularization, expected) in [(1e-300, [-0.3, 0.3]), (5.0, [-0.15, 0.15])] {
            let correction = correction_of_b(&server, &updates, &[0.5, 0.5], regularization);
            for (found, expected) in correction.iter().zip([&[0.0, 0.0], &expected[..]].concat()) {
                assert!((found - expected).abs() < 1e-9, "{correction:?}");
            }
        }
        let correction = correction_of_b(&server, &updates, &[0.5, 0.5], 1e-9);
        let error = error_of_corrected(&layout, &updates, &[0.5, 0.5], Some(&correction)).total().unwrap();
        assert!((error - (1.6f64 / 5.0).sqrt()).abs() < 1e-9, "{error}");
        // For 3/4 and 1/4:
        let correction = correction_of_b(&server, &updates, &[0.75, 0.25], 1e-12);
        // R = M - Bm Am = ((0.375, -0.75), (-0.375, 0.75)); R Am^T = (-0.1875, 0.1875); Am Am^T = 3.25.
        assert!((correction[2] + 0.1875 / 3.25).abs() < 1e-9 && (correction[3] - 0.1875 / 3.25).abs() < 1e-9);
    }

    /// The error is between that of the mean of factors and that of the nearest product, and grows with the regularization. Where all
    /// A agree, or all clients do, there is no correction at all.
    #[test]
    fn a_correction_lowers_the_error_as_far_as_the_rows_of_a_allow() {
        let layout = layout(3, 17, 40);
        let drawn = |entity: u64| {
            let mut stream = Stream::new(Seed(1), Purpose::SyntheticData, entity);
            let values = (0..layout.parameters()).map(|_| stream.unit() as f32 - 0.5).collect();
            Adapter::new(layout.clone(), values)
        };
        let (server, clients) = (drawn(0), [drawn(1), drawn(2), drawn(3)]);
        let updates: Vec<Update> = clients.iter().map(|client| update(client, &server)).collect();
        let weights = [0.2, 0.3, 0.5];
        let error = |regularization: f64| {
            let correction = correction_of_b(&server, &updates, &weights, regularization);
            error_of_corrected(&layout, &updates, &weights, Some(&correction)).total().unwrap()
        };
        let of_factors = error_of_factors(&layout, &updates, &weights).total().unwrap();
        let nearest = products_change(&server, &updates, &weights).1.total().unwrap();
        let errors = [1e-9, 0.1, 1.0, 1e9].map(error);
        assert!(
            nearest < errors[0] && errors.is_sorted() && errors[2] < of_factors,
            "{nearest} {errors:?} {of_factors}"
        );
        assert!((errors[3] - of_factors).abs() < 1e-6);
        let [(a, _)] = &layout.ranges()[..] else { unreachable!("one module") };
        let mut alike = clients.clone();
        for client in &mut alike[1..] {
            client.values[a.clone()].copy_from_slice(&clients[0].values[a.clone()]);
        }
        let updates: Vec<Update> = alike.iter().map(|client| update(client, &server)).collect();
        assert!(correction_of_b(&server, &updates, &weights, 0.01).iter().all(|&value| value == 0.0));
        // Rows of A that repeat each other make the matrix singular.
        let mut repeated = clients;
        for client in &mut repeated {
            let row = client.values[..17].to_vec();
            client.values[17..34].copy_from_slice(&row);
        }
        let updates: Vec<Update> = repeated.iter().map(|client| update(client, &server)).collect();
        let correction = correction_of_b(&server, &updates, &weights, f64::MIN_POSITIVE);
        assert!(correction.iter().all(|value| value.is_finite() && value.abs() < 100.0), "{correction:?}");
    }
}
