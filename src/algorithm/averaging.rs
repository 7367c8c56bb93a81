//! Averaging of updates: FedAvg (McMahan et al. 2017, algorithm 1).

use crate::adapter::Adapter;

/// One client's contribution.
#[derive(Clone, Copy, Debug)]
pub struct Update<'a> {
    /// The client's adapter after training.
    pub adapter: &'a Adapter,
    /// The server's adapter that the client started from.
    pub base: &'a Adapter,
    /// [1] Weight before normalisation; 0 leaves the update out.
    pub weight: f64,
    /// [1] Factor on the weight after normalisation: 1 for a fresh update.
    pub discount: f64,
}

/// `server + sum of s_i w_i (adapter_i - base_i)`, with weights w normalised to sum to 1 and discounts s, and the
/// products of both.
///
/// Discounts come after normalisation, as in FedBuff (Nguyen et al. 2022, algorithm 1): a buffer of stale updates moves
/// the model less than one of fresh ones. With the update of one client, the server's own model as its base and the
/// mixing share as its discount it is FedAsync's mixture (Xie et al. 2019).
///
/// A and B factors are averaged separately, as FedLLM-Bench and most of the field do. Sums are taken in f64 in the
/// order of `updates`, and rounded to f32 once. With no weight at all the server's adapter stays as it is.
pub fn weighted_mean(server: &Adapter, updates: &[Update]) -> (Adapter, Vec<f64>) {
    let total: f64 = updates.iter().map(|update| update.weight).sum();
    let share = |weight: f64| if total > 0.0 { weight / total } else { 0.0 };
    let weights: Vec<f64> = updates.iter().map(|update| share(update.weight) * update.discount).collect();
    let mut sums: Vec<f64> = server.values.iter().map(|&value| f64::from(value)).collect();
    for (update, &weight) in updates.iter().zip(&weights).filter(|(_, weight)| **weight > 0.0) {
        let changes = update.adapter.values.iter().zip(&update.base.values);
        for (sum, (&after, &before)) in sums.iter_mut().zip(changes) {
            *sum += weight * (f64::from(after) - f64::from(before));
        }
    }
    let values = sums.into_iter().map(|sum| sum as f32).collect();
    (Adapter { layout: server.layout.clone(), values }, weights)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::adapter::{Layout, Module};

    fn adapter(values: [f32; 2]) -> Adapter {
        let modules = vec![Module { path: "m".into(), in_features: 1, out_features: 1 }];
        let layout = Arc::new(Layout { rank: 1, alpha: 1.0, rank_stabilised: false, modules });
        Adapter { layout, values: values.to_vec() }
    }

    #[track_caller]
    fn assert_close(found: &Adapter, expected: [f32; 2]) {
        for (found, expected) in found.values.iter().zip(expected) {
            assert!((found - expected).abs() <= expected.abs() * 2.0 * f32::EPSILON, "{found} against {expected}");
        }
    }

    #[test]
    fn two_rounds_follow_the_published_aggregation() {
        let start = adapter([1.0, -2.0]);
        let locals = [adapter([1.1, -2.2]), adapter([0.9, -1.9])];
        let update = |adapter, base, weight| Update { adapter, base, weight, discount: 1.0 };
        let (first, weights) =
            weighted_mean(&start, &[update(&locals[0], &start, 3.0), update(&locals[1], &start, 1.0)]);
        assert_eq!(weights, [0.75, 0.25]);
        assert_close(&first, [1.05, -2.125]);
        let locals = [adapter([1.3, -2.1]), adapter([1.2, -2.0])];
        let (second, _) = weighted_mean(&first, &[update(&locals[0], &first, 3.0), update(&locals[1], &first, 1.0)]);
        assert_close(&second, [1.275, -2.075]);
    }

    #[test]
    fn an_update_of_weight_zero_leaves_no_trace() {
        let start = adapter([1.0, -2.0]);
        let (good, bad) = (adapter([2.0, -1.0]), adapter([f32::NAN, f32::INFINITY]));
        let update = |adapter, weight| Update { adapter, base: &start, weight, discount: 1.0 };
        let (result, weights) = weighted_mean(&start, &[update(&bad, 0.0), update(&good, 2.0)]);
        assert_eq!((result, weights), (good.clone(), vec![0.0, 1.0]));
        let (result, weights) = weighted_mean(&start, &[update(&good, 0.0)]);
        assert_eq!((result, weights), (start.clone(), vec![0.0]));
    }

    #[test]
    fn discounts_shorten_the_step() {
        let (old, server, local) = (adapter([0.0, 0.0]), adapter([1.0, 1.0]), adapter([4.0, 2.0]));
        let stale = Update { adapter: &local, base: &old, weight: 7.0, discount: 0.5 };
        // FedBuff: half of the change since the old model, on the new one.
        assert_eq!(weighted_mean(&server, &[stale]), (adapter([3.0, 2.0]), vec![0.5]));
        // FedAsync: half way from the server's model to the client's.
        assert_eq!(weighted_mean(&server, &[Update { base: &server, ..stale }]).0, adapter([2.5, 1.5]));
    }
}
