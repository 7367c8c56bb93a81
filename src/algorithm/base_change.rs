//! Methods that change the base: what of the mean of products does not fit into the server's adapter is added to the frozen
//! weights (FLoRA, arXiv 2409.05976, section 3.2; FedEx-LoRA, arXiv 2410.09432, section 3; FLoRIST, arXiv 2506.09199, section 3).

use std::ops::Range;
use std::sync::Arc;

use super::aggregation_error::{AggregationError, error_of_products};
use super::truncation::truncated;
use super::{ServerRule, Update};
use crate::adapter::{Adapter, BaseChange};

impl ServerRule {
    /// Whether it adds to the base what of the mean of products the adapter lacks.
    pub fn adds_to_base(self) -> bool {
        matches!(self, Self::MergeProducts { .. } | Self::MergeTruncatedProducts { .. } | Self::AverageAndMergeResidual)
    }

    /// Returns the server's next model with the change of the base that this rule makes of a round's updates, and the error that is
    /// left of the mean of products, for rules that add to the base. `next` is the adapter after the server's step, and `weights`
    /// are those of the updates, with a sum of 1. Other rules keep the change of the base that `server` belongs to.
    pub fn with_base_change(
        self,
        server: &Adapter,
        next: Adapter,
        updates: &[Update],
        weights: &[f64],
    ) -> (Adapter, Option<AggregationError>) {
        match self {
            Self::MergeProducts { seed, step } if has_weight(weights) => {
                let nothing = Adapter::zeros(server.layout.clone());
                let (change, error) = with_products_around(&nothing, server, updates, weights);
                (Adapter::initial_of(server.layout.clone(), seed, step).on(Some(change)), Some(error))
            }
            Self::MergeTruncatedProducts { seed, step, threshold } if has_weight(weights) => {
                let (change, error) = with_truncated_products(server, updates, weights, threshold);
                (Adapter::initial_of(server.layout.clone(), seed, step).on(Some(change)), Some(error))
            }
            Self::AverageAndMergeResidual if has_weight(weights) => {
                let (change, error) = with_products_around(&next, server, updates, weights);
                (next.on(Some(change)), Some(error))
            }
            _ => (next.on(server.base_change.clone()), None),
        }
    }
}

fn has_weight(weights: &[f64]) -> bool {
    weights.iter().any(|&weight| weight > 0.0)
}

/// Returns the change of the server's base plus s sum p_k (B_k - B)(A_k - A), with the factors A and B of `center`, and the error of
/// what is added together with s B A.
///
/// Around an adapter of zeros this is the mean of products. Around the mean of the factors it is that mean less the product of
/// the means, as sum p_k = 1, and zero where all A or all B agree with the mean. The means may be rounded: what is then missing is
/// the product of two rounding errors. What is added is rounded to f32.
fn with_products_around(
    center: &Adapter,
    server: &Adapter,
    updates: &[Update],
    weights: &[f64],
) -> (Arc<BaseChange>, AggregationError) {
    let layout = &server.layout;
    let before = change_of(server);
    let mut modules = Vec::with_capacity(layout.modules.len());
    let mut errors = Vec::with_capacity(layout.modules.len());
    for ((module, (a, b)), change) in layout.modules.iter().zip(layout.ranges()).zip(&before.modules) {
        let mut added = Vec::new();
        let mut wanted = Vec::new();
        let mut made = Vec::new();
        for place in 0..layout.rank {
            let center_column = column(center, &b, place);
            let center_row = row(center, &a, place);
            for (update, &weight) in updates.iter().zip(weights).filter(|(_, weight)| **weight > 0.0) {
                let factor = weight * layout.scale();
                let own_column = column(update.adapter, &b, place);
                let own_row = row(update.adapter, &a, place);
                let left: Vec<f32> =
                    rounded(own_column.iter().zip(&center_column).map(|(own, mean)| factor * (own - mean)));
                let right: Vec<f32> = rounded(own_row.iter().zip(&center_row).map(|(own, mean)| own - mean));
                made.push((widened(&left), widened(&right)));
                added.push((left, right));
                wanted.push((own_column.iter().map(|value| factor * value).collect(), own_row));
            }
            made.push((center_column.iter().map(|value| layout.scale() * value).collect(), center_row));
        }
        modules.push(change.plus(module, &added));
        errors.push(error_of_products(&wanted, &made));
    }
    (Arc::new(BaseChange { modules }), AggregationError::new(errors))
}

/// Returns the change of the server's base plus the mean of products s sum p_k B_k A_k, of which each module has the least rank that
/// holds a share `threshold` of its energy, and the error of what is added.
fn with_truncated_products(
    server: &Adapter,
    updates: &[Update],
    weights: &[f64],
    threshold: f64,
) -> (Arc<BaseChange>, AggregationError) {
    let layout = &server.layout;
    let before = change_of(server);
    let mut modules = Vec::with_capacity(layout.modules.len());
    let mut errors = Vec::with_capacity(layout.modules.len());
    let mut kept_ranks = Vec::with_capacity(layout.modules.len());
    for ((module, (a, b)), change) in layout.modules.iter().zip(layout.ranges()).zip(&before.modules) {
        let mut wanted = Vec::new();
        for (update, &weight) in updates.iter().zip(weights).filter(|(_, weight)| **weight > 0.0) {
            // The weight enters once, and with it the scale of the products.
            let factor = weight * layout.scale();
            for place in 0..layout.rank {
                let weighted = column(update.adapter, &b, place).into_iter().map(|value| factor * value);
                wanted.push((weighted.collect(), row(update.adapter, &a, place)));
            }
        }
        let mut added = Vec::new();
        let mut made = Vec::new();
        for (column, row) in truncated(&wanted, threshold) {
            let left = rounded(column.into_iter());
            let right = rounded(row.into_iter());
            made.push((widened(&left), widened(&right)));
            added.push((left, right));
        }
        kept_ranks.push(added.len() as u32);
        modules.push(change.plus(module, &added));
        errors.push(error_of_products(&wanted, &made));
    }
    (Arc::new(BaseChange { modules }), AggregationError { modules: errors, kept_ranks })
}

/// Returns the change of the base that an adapter belongs to.
fn change_of(adapter: &Adapter) -> BaseChange {
    adapter.base_change.as_deref().cloned().unwrap_or_else(|| BaseChange::zero(&adapter.layout))
}

/// Returns a column of a module's B, whose values are in the range `b`.
fn column(adapter: &Adapter, b: &Range<usize>, place: usize) -> Vec<f64> {
    let values = adapter.values[b.clone()].iter().skip(place).step_by(adapter.layout.rank);
    values.map(|&value| f64::from(value)).collect()
}

/// Returns a row of a module's A, whose values are in the range `a`.
fn row(adapter: &Adapter, a: &Range<usize>, place: usize) -> Vec<f64> {
    let inputs = a.len() / adapter.layout.rank;
    let values = &adapter.values[a.start + place * inputs..a.start + (place + 1) * inputs];
    values.iter().map(|&value| f64::from(value)).collect()
}

fn rounded(values: impl Iterator<Item = f64>) -> Vec<f32> {
    values.map(|value| value as f32).collect()
}

fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| value.into()).collect()
}

#[cfg(test)]
mod tests {
    use fedreplay_sim::Seed;

    use super::*;
    use crate::adapter::{Layout, Module, ModuleChange};
    use crate::algorithm::{ServerState, mean_update};

    /// Adapters of one module of widths 2 with rank 1: A is a row, B is a column.
    fn adapter(alpha: f64, a: [f32; 2], b: [f32; 2]) -> Adapter {
        let module = Module { path: "m".into(), in_features: 2, out_features: 2 };
        let layout = Layout { rank: 1, alpha, rank_stabilized: false, has_core: false, modules: vec![module] };
        Adapter::new(Arc::new(layout), vec![a[0], a[1], b[0], b[1]])
    }

    /// The next model of a server with A = (1, 1) and B = 0, from clients with these adapters and weights.
    fn next(rule: ServerRule, clients: &[Adapter], weights: &[f64]) -> Adapter {
        let server = Adapter::new(clients[0].layout.clone(), vec![1.0, 1.0, 0.0, 0.0]);
        let update = |(adapter, &weight)| Update { adapter, base: &server, weight, discount: 1.0 };
        let updates: Vec<Update> = clients.iter().zip(weights).map(update).collect();
        let mean = mean_update(4, &updates);
        let (next, _) = rule.apply(&server, &ServerState::default(), mean.change.as_deref());
        let (next, error) = rule.with_base_change(&server, next, &updates, &mean.weights);
        let error = error.expect("all add to the base").total().expect("products that are not zero");
        // What FLoRIST cuts is of the mean of products, which FLoRA adds as a whole.
        if !matches!(rule, ServerRule::MergeTruncatedProducts { .. }) {
            assert!(error < 1e-6, "{error}");
        }
        next
    }

    /// The change of the base as all elements.
    fn change(adapter: &Adapter) -> [f64; 4] {
        let mut sum = [0.0; 4];
        match adapter.base_change.as_ref().map(|change| &change.modules[0]) {
            None => {}
            Some(ModuleChange::Dense(values)) => {
                sum.iter_mut().zip(values).for_each(|(sum, &value)| *sum = f64::from(value));
            }
            Some(ModuleChange::Factors { columns, rows, .. }) => {
                for (column, row) in columns.chunks_exact(2).zip(rows.chunks_exact(2)) {
                    for (place, sum) in sum.iter_mut().enumerate() {
                        *sum += f64::from(column[place / 2]) * f64::from(row[place % 2]);
                    }
                }
            }
        }
        sum
    }

    /// The change of the weight as a whole: that of the base, and the adapter's product.
    fn whole(adapter: &Adapter) -> [f64; 4] {
        let scale = adapter.layout.scale();
        let values: Vec<f64> = adapter.values.iter().map(|&value| value.into()).collect();
        let mut sum = change(adapter);
        for (place, sum) in sum.iter_mut().enumerate() {
            *sum += scale * values[2 + place / 2] * values[place % 2];
        }
        sum
    }

    #[track_caller]
    fn assert_close(found: [f64; 4], expected: [f64; 4]) {
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() <= 1e-6, "{found} against {expected}");
        }
    }

    const FLORA: ServerRule = ServerRule::MergeProducts { seed: Seed(3), step: 1 };
    const FEDEX: ServerRule = ServerRule::AverageAndMergeResidual;

    fn florist(threshold: f64) -> ServerRule {
        ServerRule::MergeTruncatedProducts { seed: Seed(3), step: 1, threshold }
    }

    /// The clients of the worked example of docs/methods: B1 A1 and B2 A2 are diag(2, 0) and diag(0, 4).
    fn clients(alpha: f64) -> [Adapter; 2] {
        [adapter(alpha, [2.0, 0.0], [1.0, 0.0]), adapter(alpha, [0.0, 4.0], [0.0, 1.0])]
    }

    #[test]
    fn flora_adds_the_mean_of_products_and_begins_anew() {
        for (weights, expected) in [([1.0, 1.0], [1.0, 0.0, 0.0, 2.0]), ([3.0, 1.0], [1.5, 0.0, 0.0, 1.0])] {
            let found = next(FLORA, &clients(1.0), &weights);
            assert_close(change(&found), expected);
            assert_eq!(found.values, Adapter::initial_of(found.layout.clone(), Seed(3), 1).values);
            assert_eq!(found.values[2..], [0.0, 0.0]);
            assert_ne!(found.values, Adapter::initial(found.layout.clone(), Seed(3)).values);
            // The scale alpha / r belongs to the products.
            assert_close(change(&next(FLORA, &clients(2.0), &weights)), expected.map(|value| 2.0 * value));
        }
    }

    /// diag(1, 2) has the energies 4/5 and 1/5, diag(1.5, 1) has 9/13 and 4/13.
    #[test]
    fn florist_adds_the_least_rank_that_holds_the_share_of_the_energy() {
        for (weights, threshold, expected) in [
            ([1.0, 1.0], 0.8, [0.0, 0.0, 0.0, 2.0]),
            ([1.0, 1.0], 0.9, [1.0, 0.0, 0.0, 2.0]),
            ([1.0, 1.0], 1.0, [1.0, 0.0, 0.0, 2.0]),
            ([1.0, 1.0], 1e-300, [0.0, 0.0, 0.0, 2.0]),
            ([3.0, 1.0], 0.69, [1.5, 0.0, 0.0, 0.0]),
            ([3.0, 1.0], 0.7, [1.5, 0.0, 0.0, 1.0]),
        ] {
            let found = next(florist(threshold), &clients(1.0), &weights);
            assert_close(change(&found), expected);
            assert_eq!(found.values, next(FLORA, &clients(1.0), &weights).values, "the same new adapter");
            assert_close(change(&next(florist(threshold), &clients(2.0), &weights)), expected.map(|value| 2.0 * value));
        }
    }

    /// What is cut of diag(1, 2) is 1 of the norm sqrt(5), and of diag(1.5, 1) it is 1 of sqrt(3.25).
    #[test]
    fn the_error_of_florist_is_what_is_cut() {
        let clients = clients(3.0);
        let server = Adapter::zeros(clients[0].layout.clone());
        let updates = [0, 1].map(|k| Update { adapter: &clients[k], base: &server, weight: 1.0, discount: 1.0 });
        for (weights, threshold, expected) in [
            ([0.5, 0.5], 0.8, 0.2f64.sqrt()),
            ([0.5, 0.5], 0.9, 0.0),
            ([0.75, 0.25], 0.6, (1.0f64 / 3.25).sqrt()),
            ([0.75, 0.25], 1.0, 0.0),
        ] {
            let (_, error) = florist(threshold).with_base_change(&server, server.clone(), &updates, &weights);
            let error = error.expect("it adds to the base");
            assert!((error.total().unwrap() - expected).abs() < 1e-7, "{error:?} for {expected}");
            let norm = 3.0 * (weights[0] * weights[0] * 4.0 + weights[1] * weights[1] * 16.0f64).sqrt();
            assert!((error.modules[0].norm - norm).abs() < 1e-9, "{error:?} for {norm}");
        }
    }

    #[test]
    fn fedex_adds_what_the_product_of_means_lacks() {
        for (weights, residual, mean) in [
            ([1.0, 1.0], [0.5, -1.0, -0.5, 1.0], [1.0, 0.0, 0.0, 2.0]),
            ([3.0, 1.0], [0.375, -0.75, -0.375, 0.75], [1.5, 0.0, 0.0, 1.0]),
        ] {
            let found = next(FEDEX, &clients(1.0), &weights);
            assert_close(change(&found), residual);
            assert_close(whole(&found), mean);
            // With alpha / r = 2, at equal weights, that is diag(2, 4).
            assert_close(whole(&next(FEDEX, &clients(2.0), &weights)), mean.map(|value| 2.0 * value));
        }
    }

    #[test]
    fn clients_that_agree_in_a_factor_leave_nothing_to_add() {
        let of_one_a = [adapter(1.0, [0.3, 0.7], [1.0, 0.1]), adapter(1.0, [0.3, 0.7], [-0.2, 0.9])];
        let of_one_b = [adapter(1.0, [0.3, 0.7], [0.1, 0.2]), adapter(1.0, [0.9, -0.7], [0.1, 0.2])];
        for clients in [of_one_a, of_one_b] {
            assert_eq!(next(FEDEX, &clients, &[1.0, 2.0]).base_change, None);
        }
    }

    #[test]
    fn one_client_alone_and_clients_that_agree_are_what_the_server_becomes() {
        let client = [adapter(2.0, [0.3, -0.7], [1.25, 0.1])];
        assert_eq!(next(FEDEX, &client, &[5.0]), client[0]);
        assert_close(whole(&next(FLORA, &client, &[5.0])), whole(&client[0]));
        let alike = [client[0].clone(), client[0].clone(), client[0].clone()];
        for threshold in [0.01, 0.9, 1.0] {
            let rule = florist(threshold);
            assert_close(whole(&next(rule, &client, &[5.0])), whole(&client[0]));
            assert_close(whole(&next(rule, &alike, &[5.0, 1.0, 2.0])), whole(&client[0]));
        }
    }

    #[test]
    fn all_reach_the_mean_of_products_and_go_on_from_it() {
        for rule in [FLORA, FEDEX, florist(1.0)] {
            let first = next(rule, &clients(2.0), &[3.0, 1.0]);
            let later = clients(2.0).map(|client| client.on(first.base_change.clone()));
            let updates =
                [0, 1].map(|client| Update { adapter: &later[client], base: &first, weight: 1.0, discount: 1.0 });
            let mean = mean_update(4, &updates);
            let (second, _) = rule.apply(&first, &ServerState::default(), mean.change.as_deref());
            let (second, _) = rule.with_base_change(&first, second, &updates, &mean.weights);
            // Clients began with the first change and reached diag(4, 0) and diag(0, 8) on top of it.
            let expected = [2.0, 0.0, 0.0, 4.0];
            let before = change(&first);
            assert_close(whole(&second), [0, 1, 2, 3].map(|place| before[place] + expected[place]));
        }
    }

    #[test]
    fn a_round_without_an_update_keeps_the_change() {
        let first = next(FLORA, &clients(1.0), &[1.0, 1.0]);
        for rule in [FLORA, FEDEX, florist(0.5), ServerRule::PLAIN] {
            assert_eq!(rule.with_base_change(&first, first.clone().on(None), &[], &[]), (first.clone(), None));
        }
    }
}
