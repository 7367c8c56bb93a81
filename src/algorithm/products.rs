//! Aggregation of products: the mean of the products B A of adapters, instead of the means of B and of A.
//!
//! A mean of products has a rank of up to clients x rank, which exceeds that of an adapter. It is replaced by the
//! nearest matrix of the adapter's rank, from a singular value decomposition, as in FlexLoRA (Bai et al. 2024).

use std::ops::Range;

use super::Update;
use super::aggregation_error::{AggregationError, ModuleError};
use super::decomposition::DecomposedSum;
use crate::adapter::Adapter;

/// Computes the change of the values of `server` after which its products are nearest, among matrices of their rank, to
/// the products of `server + sum of weight_i (adapter_i - base_i)`.
///
/// The rows of A keep their mean norm, and none becomes zero if the mean has a lower rank than the adapter: with a row
/// of zeros in A and a column of zeros in B, the gradients of both would vanish forever.
///
/// The error is that of the nearest product as an approximation of the sum, which is the mean of products for updates as in
/// [`super::have_mean_of_products`].
pub fn products_change(server: &Adapter, updates: &[Update], weights: &[f64]) -> (Vec<f64>, AggregationError) {
    let terms = terms(server, updates, weights);
    let mut change = vec![0.0; server.values.len()];
    let mut modules = Vec::with_capacity(server.layout.modules.len());
    for (module, (a, b)) in server.layout.modules.iter().zip(server.layout.ranges()) {
        let shape = Shape { rank: server.layout.rank, inputs: module.in_features, outputs: module.out_features };
        let nearest = nearest(server, &terms, shape, &a, &b);
        for (place, new) in a.chain(b).zip(nearest.a.iter().chain(&nearest.b)) {
            change[place] = new - f64::from(server.values[place]);
        }
        modules.push(nearest.error);
    }
    (change, AggregationError::new(modules))
}

/// Rank and widths of one module's matrices.
#[derive(Clone, Copy)]
struct Shape {
    rank: usize,
    inputs: usize,
    outputs: usize,
}

/// Returns the adapters in the sum of products with their factors.
///
/// Each adapter appears once, and those whose factors cancel are left out, such as the model from which all clients of
/// a synchronous round start.
fn terms<'a>(server: &'a Adapter, updates: &[Update<'a>], weights: &[f64]) -> Vec<(&'a Adapter, f64)> {
    /// Factors up to this are rounding errors of a sum that cancels.
    const NOTHING: f64 = 1e-12;
    let mut terms: Vec<(&Adapter, f64)> = vec![(server, 1.0)];
    for (update, &weight) in updates.iter().zip(weights) {
        if weight > 0.0 {
            add_term(&mut terms, update.adapter, weight);
            add_term(&mut terms, update.base, -weight);
        }
    }
    terms.retain(|(_, factor)| factor.abs() > NOTHING);
    terms
}

fn add_term<'a>(terms: &mut Vec<(&'a Adapter, f64)>, adapter: &'a Adapter, factor: f64) {
    match terms.iter_mut().find(|(known, _)| *known == adapter) {
        Some((_, sum)) => *sum += factor,
        None => terms.push((adapter, factor)),
    }
}

/// Product of the adapter's rank that is nearest to a sum of products.
struct Nearest {
    /// A and B, row-major.
    a: Vec<f64>,
    b: Vec<f64>,
    error: ModuleError,
}

/// Computes the product of the adapter's rank that is nearest to the sum.
fn nearest(server: &Adapter, terms: &[(&Adapter, f64)], shape: Shape, a: &Range<usize>, b: &Range<usize>) -> Nearest {
    let Shape { rank, inputs, outputs } = shape;
    // The sum of f_i B_i A_i is L R^T with L = [f_1 B_1 ... f_k B_k] and R^T = [A_1; ...; A_k].
    let mut lefts = Vec::new();
    let mut rights = Vec::new();
    for (adapter, factor) in terms {
        let values_a = &adapter.values[a.clone()];
        let values_b = &adapter.values[b.clone()];
        for place in 0..rank {
            let column = values_b.iter().skip(place).step_by(rank);
            lefts.push(column.map(|&value| factor * f64::from(value)).collect::<Vec<_>>());
            let row = &values_a[place * inputs..(place + 1) * inputs];
            rights.push(row.iter().map(|&value| f64::from(value)).collect::<Vec<_>>());
        }
    }
    let sum = DecomposedSum::new(&lefts, &rights);
    let energies = sum.energies();
    // B A stays the same if a row of A is multiplied by a number and the column of B is divided by it. Rows without a
    // singular pair keep their values in A and have zeros in B.
    let scale = row_norm(&server.values[a.clone()], rank);
    let mut new_a: Vec<f64> = server.values[a.clone()].iter().map(|&value| f64::from(value)).collect();
    let mut new_b = vec![0.0; outputs * rank];
    for place in 0..energies.len().min(rank) {
        for (new, value) in new_a[place * inputs..(place + 1) * inputs].iter_mut().zip(sum.row(place)) {
            *new = scale * value;
        }
        for (new, value) in new_b.iter_mut().skip(place).step_by(rank).zip(sum.column(place)) {
            *new = value / scale;
        }
    }
    // By Eckart and Young, what the nearest product lacks are the singular values after the first `rank`.
    let mut mean = 0.0;
    let mut dropped = 0.0;
    for (place, square) in energies.into_iter().enumerate() {
        mean += square;
        if place >= rank {
            dropped += square;
        }
    }
    let error = ModuleError::of_squares(server.layout.scale(), mean, dropped);
    Nearest { a: new_a, b: new_b, error }
}

/// Returns the root mean square of the norms of A's rows, or 1 if all are zero.
fn row_norm(a: &[f32], rank: usize) -> f64 {
    let square: f64 = a.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
    if square > 0.0 { libm::sqrt(square / rank as f64) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fedreplay_sim::{Purpose, Seed, Stream};

    use super::super::decomposition::apart;
    use super::*;
    use crate::adapter::{Layout, Module};

    const INPUTS: usize = 7;
    const OUTPUTS: usize = 5;

    fn layout(rank: usize) -> Arc<Layout> {
        let module = |path: &str| Module { path: path.into(), in_features: INPUTS, out_features: OUTPUTS };
        Arc::new(Layout {
            rank,
            alpha: 1.0,
            rank_stabilized: false,
            has_core: false,
            modules: vec![module("a"), module("b")],
        })
    }

    fn drawn(rank: usize, entity: u64) -> Adapter {
        let (layout, mut stream) = (layout(rank), Stream::new(Seed(1), Purpose::SyntheticData, entity));
        let values = (0..layout.parameters()).map(|_| stream.unit() as f32 - 0.5).collect();
        Adapter::new(layout, values)
    }

    /// The products of all modules, row-major, one after another.
    fn products(adapter: &Adapter) -> Vec<f64> {
        let rank = adapter.layout.rank;
        let mut all = Vec::new();
        for (a, b) in adapter.layout.ranges() {
            let (a, b) = (&adapter.values[a], &adapter.values[b]);
            for output in 0..OUTPUTS {
                for input in 0..INPUTS {
                    let term = |r: usize| f64::from(b[output * rank + r]) * f64::from(a[r * INPUTS + input]);
                    all.push((0..rank).map(term).sum());
                }
            }
        }
        all
    }

    fn applied(server: &Adapter, change: &[f64]) -> Adapter {
        super::super::averaging::add(server, 1.0, change)
    }

    fn distance(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
    }

    fn update<'a>(adapter: &'a Adapter, base: &'a Adapter) -> Update<'a> {
        Update { adapter, base, weight: 1.0, discount: 1.0 }
    }

    #[test]
    fn a_mean_that_the_rank_can_hold_is_exact() {
        // Two clients of rank 1 inside rank 2: their mean has rank 2.
        let server = drawn(2, 0);
        let flat = |entity: u64, kept: usize| {
            let mut adapter = drawn(2, entity);
            for (_, b) in adapter.layout.ranges() {
                adapter.values[b].iter_mut().skip(1 - kept).step_by(2).for_each(|value| *value = 0.0);
            }
            adapter
        };
        let (one, other) = (flat(1, 0), flat(2, 1));
        let updates = [update(&one, &server), update(&other, &server)];
        let mean: Vec<f64> = products(&one).iter().zip(products(&other)).map(|(a, b)| 0.25 * a + 0.75 * b).collect();
        let found = applied(&server, &products_change(&server, &updates, &[0.25, 0.75]).0);
        assert!(distance(&products(&found), &mean) < 1e-6, "{}", distance(&products(&found), &mean));
        let factors = super::super::mean_update(server.values.len(), &updates).change.unwrap();
        assert!(distance(&products(&applied(&server, &factors)), &mean) > 0.1, "means of factors are another thing");
    }

    #[test]
    fn a_mean_of_higher_rank_becomes_the_nearest() {
        let server = drawn(2, 0);
        let clients: Vec<Adapter> = (1..4).map(|entity| drawn(2, entity)).collect();
        let updates: Vec<Update> = clients.iter().map(|client| update(client, &server)).collect();
        let weights = [0.2, 0.3, 0.5];
        let mut mean = vec![0.0; products(&server).len()];
        for (client, weight) in clients.iter().zip(weights) {
            mean.iter_mut().zip(products(client)).for_each(|(sum, value)| *sum += weight * value);
        }
        // By Eckart and Young no product of rank 2 is nearer than the dropped singular values.
        let dropped = |part: &[f64]| -> f64 {
            let pairs = apart(part.chunks(INPUTS).map(<[f64]>::to_vec).collect());
            pairs.iter().skip(2).flat_map(|pair| &pair.image).map(|value| value * value).sum()
        };
        let best = mean.chunks(OUTPUTS * INPUTS).map(dropped).sum::<f64>().sqrt();
        let (change, error) = products_change(&server, &updates, &weights);
        let far = distance(&products(&applied(&server, &change)), &mean);
        assert!(best > 0.01 && (far - best).abs() < 1e-6, "{far} where {best} is the least");
        // What a client of rank 1 gets of it is nearest among matrices of rank 1.
        let nearest = |part: &[f64]| -> f64 {
            let pairs = apart(part.chunks(INPUTS).map(<[f64]>::to_vec).collect());
            pairs.iter().skip(1).flat_map(|pair| &pair.image).map(|value| value * value).sum()
        };
        let least = mean.chunks(OUTPUTS * INPUTS).map(nearest).sum::<f64>().sqrt();
        let far = distance(&products(&applied(&server, &change).truncated(1)), &mean);
        assert!(least > best && (far - least).abs() < 1e-6, "{far} where {least} is the least");
        let size = mean.iter().map(|value| value * value).sum::<f64>().sqrt();
        assert!((error.total().unwrap() - best / size).abs() < 1e-12, "{error:?} where {best} of {size} is lost");
    }

    #[test]
    fn stale_updates_add_their_change_and_dead_rows_come_alive() {
        let (server, base, client) = (drawn(3, 0), drawn(3, 5), drawn(3, 6));
        let (change, _) = products_change(&server, &[update(&client, &base)], &[1.0]);
        assert!(change.iter().all(|value| value.is_finite()));
        // A first round: B is zero at the server, and of one row at the client.
        let mut start = server.clone();
        let mut learnt = client.clone();
        for (_, b) in start.layout.ranges() {
            start.values[b.clone()].fill(0.0);
            learnt.values[b].iter_mut().enumerate().filter(|(at, _)| at % 3 > 0).for_each(|(_, value)| *value = 0.0);
        }
        let found = applied(&start, &products_change(&start, &[update(&learnt, &start)], &[1.0]).0);
        assert!(distance(&products(&found), &products(&learnt)) < 1e-6);
        for (a, _) in found.layout.ranges() {
            let norms = found.values[a].chunks(INPUTS).map(|row| row.iter().map(|value| value * value).sum::<f32>());
            assert!(norms.into_iter().all(|norm| norm > 0.01), "a row of A died");
        }
    }

    #[test]
    fn a_rank_above_the_widths_is_filled_up() {
        let (server, client) = (drawn(9, 0), drawn(9, 1));
        let found = applied(&server, &products_change(&server, &[update(&client, &server)], &[1.0]).0);
        assert!(distance(&products(&found), &products(&client)) < 1e-5);
    }
}
