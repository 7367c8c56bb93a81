//! Averaging of updates: FedAvg (McMahan et al. 2017, algorithm 1), whose mean all other methods build on.

use crate::adapter::Adapter;

/// Update of one client.
#[derive(Clone, Copy, Debug)]
pub struct Update<'a> {
    /// The client's adapter after training.
    pub adapter: &'a Adapter,
    /// The server's adapter that the client started from.
    pub base: &'a Adapter,
    /// [1] -- Weight before normalization; 0 leaves the update out.
    pub weight: f64,
    /// [1] -- Factor on the weight after normalization: 1 for an update that is not stale.
    pub discount: f64,
}

/// Mean of a round's updates.
#[derive(Clone, Debug, PartialEq)]
pub struct MeanUpdate {
    /// Change of each value, in the layout's order. `None` if no update had a weight.
    pub change: Option<Vec<f64>>,
    /// [1] -- Normalized weight times discount of each update, in the order of the updates.
    pub weights: Vec<f64>,
}

/// Computes `sum of s_i w_i (adapter_i - base_i)`, with weights w normalized to sum to 1 and discounts s.
///
/// Discounts are applied after normalization, as in FedBuff (Nguyen et al. 2022, algorithm 1): a buffer of stale
/// updates moves the model less than one of fresh updates. With the update of one client, the server's own model as its
/// base and the mixing share as its discount, the result is FedAsync's mixture (Xie et al. 2019).
///
/// The factors A and B are averaged separately, as in FedLLM-Bench and most publications. Sums are taken in f64 in the
/// order of `updates`.
///
/// # Examples
///
/// FedAvg over two clients with 30 and 10 rows:
///
/// ```
/// use std::sync::Arc;
///
/// use fedreplay::adapter::{Adapter, Layout, Module};
/// use fedreplay::algorithm::{Update, mean_update};
///
/// let module = Module { path: "m".into(), in_features: 1, out_features: 1 };
/// let layout = Layout { rank: 1, alpha: 1.0, rank_stabilized: false, has_core: false, modules: vec![module] };
/// let server = Adapter::zeros(Arc::new(layout));
/// let first = Adapter { values: vec![1.0, 0.0], ..server.clone() };
/// let second = Adapter { values: vec![0.0, 4.0], ..server.clone() };
/// let updates = [
///     Update { adapter: &first, base: &server, weight: 30.0, discount: 1.0 },
///     Update { adapter: &second, base: &server, weight: 10.0, discount: 1.0 },
/// ];
/// let mean = mean_update(2, &updates);
/// assert_eq!(mean.weights, [0.75, 0.25]);
/// assert_eq!(mean.change, Some(vec![0.75, 1.0]));
/// ```
pub fn mean_update(parameters: usize, updates: &[Update]) -> MeanUpdate {
    let total: f64 = updates.iter().map(|update| update.weight).sum();
    if total <= 0.0 {
        return MeanUpdate { change: None, weights: vec![0.0; updates.len()] };
    }
    let weights: Vec<f64> = updates.iter().map(|update| update.weight / total * update.discount).collect();
    let mut sums = vec![0.0; parameters];
    // Updates without weight may hold NaN, which a factor of 0 would not remove.
    for (update, &weight) in updates.iter().zip(&weights).filter(|(_, weight)| **weight > 0.0) {
        let changes = update.adapter.values.iter().zip(&update.base.values);
        for (sum, (&after, &before)) in sums.iter_mut().zip(changes) {
            *sum += weight * (f64::from(after) - f64::from(before));
        }
    }
    MeanUpdate { change: Some(sums), weights }
}

/// Computes `server + lr * change` in f64, rounded once to f32.
pub(super) fn add(server: &Adapter, lr: f64, change: &[f64]) -> Adapter {
    let sums = server.values.iter().zip(change).map(|(&value, &change)| f64::from(value) + lr * change);
    Adapter::new(server.layout.clone(), sums.map(|sum| sum as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::super::server::tests::{adapter, assert_close};
    use super::*;

    fn averaged(server: &Adapter, updates: &[Update]) -> (Adapter, Vec<f64>) {
        let mean = mean_update(2, updates);
        (mean.change.map_or_else(|| server.clone(), |change| add(server, 1.0, &change)), mean.weights)
    }

    #[test]
    fn weights_are_shares_of_the_rows() {
        // Round 0 of Fed-Aya: clients 2, 16, 24 and 26.
        let start = adapter([0.0, 0.0]);
        let update = |weight| Update { adapter: &start, base: &start, weight, discount: 1.0 };
        let mean = mean_update(2, &[5016.0, 298.0, 235.0, 347.0].map(update));
        for (found, expected) in mean.weights.iter().zip([0.8507, 0.0505, 0.0399, 0.0589]) {
            assert!((found - expected).abs() < 5e-5, "{found} against {expected}");
        }
    }

    #[test]
    fn an_update_of_weight_zero_leaves_no_trace() {
        let start = adapter([1.0, -2.0]);
        let (good, bad) = (adapter([2.0, -1.0]), adapter([f32::NAN, f32::INFINITY]));
        let update = |adapter, weight| Update { adapter, base: &start, weight, discount: 1.0 };
        assert_eq!(averaged(&start, &[update(&bad, 0.0), update(&good, 2.0)]), (good.clone(), vec![0.0, 1.0]));
        assert_eq!(averaged(&start, &[update(&good, 0.0)]), (start.clone(), vec![0.0]));
    }

    #[test]
    fn discounts_shorten_the_step() {
        let (old, server, local) = (adapter([0.0, 0.0]), adapter([1.0, 1.0]), adapter([4.0, 2.0]));
        let stale = Update { adapter: &local, base: &old, weight: 7.0, discount: 0.5 };
        // FedBuff: half of the change since the old model, on the new one.
        assert_eq!(averaged(&server, &[stale]), (adapter([3.0, 2.0]), vec![0.5]));
        // FedAsync: half way from the server's model to the client's.
        assert_close(&averaged(&server, &[Update { base: &server, ..stale }]).0, [2.5, 1.5]);
    }
}
