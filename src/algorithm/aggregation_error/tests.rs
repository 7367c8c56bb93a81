//! Errors of two clients by hand, of more by numpy, and what holds for any clients.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::products_change;
use super::*;

/// Layout of one module.
fn layout(rank: usize, inputs: usize, outputs: usize) -> Arc<Layout> {
    let module = Module { path: "m".into(), in_features: inputs, out_features: outputs };
    Arc::new(Layout { rank, alpha: rank as f64, rank_stabilized: false, has_core: false, modules: vec![module] })
}

/// Adapter with `A` and then `B`, both row-major.
fn adapter(layout: &Arc<Layout>, values: &[f32]) -> Adapter {
    assert_eq!(values.len(), layout.parameters());
    Adapter::new(layout.clone(), values.to_vec())
}

fn updates<'a>(server: &'a Adapter, clients: &'a [Adapter]) -> Vec<Update<'a>> {
    clients.iter().map(|adapter| Update { adapter, base: server, weight: 1.0, discount: 1.0 }).collect()
}

/// Error of the means of factors of clients of one module.
fn of_factors(clients: &[Adapter], weights: &[f64]) -> ModuleError {
    let server = Adapter::zeros(clients[0].layout.clone());
    error_of_factors(&server.layout, &updates(&server, clients), weights).modules[0]
}

/// Error of the nearest product of the clients' rank.
fn of_products(clients: &[Adapter], weights: &[f64]) -> ModuleError {
    let server = Adapter::zeros(clients[0].layout.clone());
    products_change(&server, &updates(&server, clients), weights).1.modules[0]
}

#[track_caller]
fn assert_near(found: Option<f64>, expected: f64, tolerance: f64) {
    assert!(
        found.is_some_and(|found| (found - expected).abs() <= tolerance),
        "{found:?} where {expected} was expected"
    );
}

#[test]
fn two_clients_have_the_errors_that_were_computed_by_hand() {
    // B1 A1 = [1, 0]' [2, 0] and B2 A2 = [0, 1]' [0, 4], so that M = diag(1, 2) for equal weights.
    let layout = layout(1, 2, 2);
    let clients = [adapter(&layout, &[2.0, 0.0, 1.0, 0.0]), adapter(&layout, &[0.0, 4.0, 0.0, 1.0])];
    for (weights, difference, norm) in [([0.5, 0.5], 2.5f64, 5.0f64), ([0.75, 0.25], 1.40625, 3.25)] {
        let found = of_factors(&clients, &weights);
        assert!((found.norm - norm.sqrt()).abs() < 1e-15);
        assert_near(found.error, (difference / norm).sqrt(), 1e-15);
        // The nearest matrix of rank 1 lacks the lesser singular value, which is 1 for both weights.
        assert_near(of_products(&clients, &weights).error, (1.0 / norm).sqrt(), 1e-15);
    }
    assert_near(of_factors(&clients, &[0.5, 0.5]).error.map(|error| error * 5f64.sqrt()), 1.58114, 5e-6);
    assert_near(of_factors(&clients, &[0.75, 0.25]).error.map(|error| error * 3.25f64.sqrt()), 1.18585, 5e-6);
}

#[test]
fn the_scale_of_products_is_in_the_norm_and_not_in_the_error() {
    let scaled = |alpha| {
        let layout = Arc::new(Layout { alpha, ..Layout::clone(&layout(1, 2, 2)) });
        let clients = [adapter(&layout, &[2.0, 0.0, 1.0, 0.0]), adapter(&layout, &[0.0, 4.0, 0.0, 1.0])];
        [of_factors(&clients, &[0.5, 0.5]), of_products(&clients, &[0.5, 0.5])]
    };
    for (one, thrice) in scaled(1.0).into_iter().zip(scaled(3.0)) {
        assert_eq!((thrice.norm, thrice.error), (3.0 * one.norm, one.error));
    }
}

/// Clients with values that are known in numpy, too.
fn formula(count: usize, rank: usize, inputs: usize, outputs: usize) -> Vec<Adapter> {
    let layout = layout(rank, inputs, outputs);
    let value = |k: usize, n: usize| ((7 * n * n + 3 * n + 13 * k + 5 * k * n) % 23) as f32 / 16.0 - 11.0 / 16.0;
    let values = |k| (0..layout.parameters()).map(|n| value(k, n)).collect::<Vec<f32>>();
    (0..count).map(|k| adapter(&layout, &values(k))).collect()
}

/// The figures are those of numpy 2:
///
/// ```python
/// def adapter(k, r, i, o):
///     n = np.arange(r * (i + o))
///     v = ((7 * n * n + 3 * n + 13 * k + 5 * k * n) % 23 - 11) / 16
///     return v[r * i :].reshape(o, r), v[: r * i].reshape(r, i)
///
/// p = np.arange(1, K + 1) / (K * (K + 1) / 2)
/// B, A = zip(*[adapter(k, r, i, o) for k in range(K)])
/// M = sum(w * b @ a for w, b, a in zip(p, B, A))
/// F = sum(w * b for w, b in zip(p, B)) @ sum(w * a for w, a in zip(p, A))
/// S = np.linalg.svd(M)[1]
/// print(norm(M), norm(M - F) / norm(M), norm(S[r:]) / norm(S))
/// ```
#[test]
fn more_clients_have_the_errors_that_numpy_finds() {
    for (inputs, outputs, rank, count, norm, factors, products) in [
        (17, 11, 3, 5, 2.44087774835205, 0.7143638915953991, 0.36906678655600145),
        (40, 30, 2, 2, 5.24908116287703, 0.5887607280301632, 0.503021779985453),
        (64, 64, 4, 9, 9.992051869452283, 0.9901307242033401, 0.47237199606785),
        (65, 70, 2, 40, 4.599170843737992, 0.9965216326428679, 0.8043701512276864),
    ] {
        let clients = formula(count, rank, inputs, outputs);
        let sum = (count * (count + 1) / 2) as f64;
        let weights: Vec<f64> = (1..=count).map(|weight| weight as f64 / sum).collect();
        for (found, error) in [(of_factors(&clients, &weights), factors), (of_products(&clients, &weights), products)] {
            assert_near(Some(found.norm), norm, 1e-12);
            assert_near(found.error, error, 1e-12);
        }
    }
}

#[test]
fn a_difference_far_below_the_rounding_of_the_mean_is_exact() {
    // With values 1 and 1 + e in both factors, the difference is e^2 / 4, here 3.6e-15 of the mean.
    let e = 2f64.powi(-23);
    let layout = layout(1, 1, 1);
    let clients = [adapter(&layout, &[1.0, 1.0]), adapter(&layout, &[1.0 + e as f32; 2])];
    let mean = (1.0 + (1.0 + e) * (1.0 + e)) / 2.0;
    let expected = e * e / 4.0 / mean;
    assert_near(of_factors(&clients, &[0.5, 0.5]).error, expected, 1e-12 * expected);
}

#[test]
fn without_a_mean_there_is_no_error() {
    let layout = layout(1, 2, 2);
    let zero = adapter(&layout, &[2.0, 0.0, 0.0, 0.0]);
    let clients = [zero.clone(), zero.clone()];
    let nothing = ModuleError { norm: 0.0, error: None };
    assert_eq!(of_factors(&clients, &[0.5, 0.5]), nothing);
    assert_eq!(of_products(&clients, &[0.5, 0.5]), nothing);
    assert_eq!(AggregationError::new(vec![nothing; 2]).total(), None);
    let half = ModuleError { norm: 2.0, error: Some(0.5) };
    assert_eq!(AggregationError::new(vec![nothing, half]).total(), Some(0.5));
    let client = adapter(&layout, &[1.0, 0.0, f32::INFINITY, 0.0]);
    let found = of_factors(&[client.clone(), client], &[0.5, 0.5]);
    assert_eq!(found.error, None);
    assert_eq!(AggregationError::new(vec![found, half]).total(), None, "not that of the other module alone");
}

#[test]
fn stale_and_discounted_updates_have_no_mean_of_products() {
    let layout = layout(1, 1, 1);
    let [server, other, client] = [[1.0, 0.0], [1.0, 0.5], [2.0, 1.0]].map(|values| adapter(&layout, &values));
    let fresh = Update { adapter: &client, base: &server, weight: 1.0, discount: 1.0 };
    let same_content = server.clone();
    assert!(have_mean_of_products(&server, &[fresh, Update { base: &same_content, ..fresh }], &[0.5, 0.5]));
    let stale = Update { base: &other, ..fresh };
    assert!(!have_mean_of_products(&server, &[fresh, stale], &[0.5, 0.5]));
    assert!(have_mean_of_products(&server, &[fresh, stale], &[1.0, 0.0]), "it is left out");
    assert!(!have_mean_of_products(&server, &[Update { discount: 0.5, ..fresh }], &[0.5]));
    assert!(!have_mean_of_products(&server, &[fresh], &[0.0]) && !have_mean_of_products(&server, &[], &[]));
}

/// Sum of products and difference by all their elements.
fn squares_by_elements(clients: &[Adapter], weights: &[f64]) -> [f64; 2] {
    let Module { in_features: inputs, out_features: outputs, .. } = clients[0].layout.modules[0];
    let rank = clients[0].layout.rank;
    let mean: Vec<f64> = (0..clients[0].values.len())
        .map(|at| clients.iter().zip(weights).map(|(client, weight)| weight * f64::from(client.values[at])).sum())
        .collect();
    let mut squares = [0.0, 0.0];
    for output in 0..outputs {
        for input in 0..inputs {
            let element = |values: &dyn Fn(usize) -> f64| -> f64 {
                let term = |r| values(rank * inputs + output * rank + r) * values(r * inputs + input);
                (0..rank).map(term).sum()
            };
            let of_client = |client: &Adapter| element(&|at| f64::from(client.values[at]));
            let product: f64 = clients.iter().zip(weights).map(|(client, weight)| weight * of_client(client)).sum();
            squares[0] += product * product;
            squares[1] += (product - element(&|at| mean[at])).powi(2);
        }
    }
    squares
}

/// Shape, and clients with weights.
fn clients() -> impl Strategy<Value = (Vec<Adapter>, Vec<f64>)> {
    (1usize..4, 1usize..9, 1usize..9, 1usize..6).prop_flat_map(|(rank, inputs, outputs, count)| {
        let layout = layout(rank, inputs, outputs);
        let values = prop::collection::vec(-1.0f32..1.0, layout.parameters());
        let clients = prop::collection::vec(values.prop_map(move |values| adapter(&layout, &values)), count);
        (clients, prop::collection::vec(0.1f64..1.0, count)).prop_map(|(clients, weights)| {
            let total: f64 = weights.iter().sum();
            (clients, weights.iter().map(|weight| weight / total).collect())
        })
    })
}

proptest! {
    #[test]
    fn the_error_is_that_of_the_definition_in_both_ways((clients, weights) in clients()) {
        let [mean, difference] = squares_by_elements(&clients, &weights);
        let parts: Vec<(&Adapter, f64)> = clients.iter().zip(weights.iter().copied()).collect();
        let layout = &clients[0].layout;
        let (a, b) = layout.ranges().remove(0);
        let terms = Terms::new(&parts, layout.rank, &layout.modules[0], &a, &b);
        for found in [terms.by_elements(), terms.by_terms()] {
            prop_assert!((found.mean - mean).abs() < 1e-12, "{} of {mean}", found.mean);
            prop_assert!((found.difference - difference).abs() < 1e-12, "{} of {difference}", found.difference);
        }
    }

    #[test]
    fn clients_that_agree_or_agree_in_one_factor_have_no_error(
        (clients, weights) in clients(), agree_in_a: bool, agree_in_b: bool,
    ) {
        let (a, b) = clients[0].layout.ranges().remove(0);
        let mut alike = clients.clone();
        for client in &mut alike {
            if agree_in_a || !agree_in_b {
                client.values[a.clone()].copy_from_slice(&clients[0].values[a.clone()]);
            }
            if agree_in_b {
                client.values[b.clone()].copy_from_slice(&clients[0].values[b.clone()]);
            }
        }
        prop_assert_eq!(of_factors(&alike, &weights).error, Some(0.0));
        if agree_in_a && agree_in_b {
            let found = of_products(&alike, &weights).error;
            prop_assert!(found.is_some_and(|error| error < 1e-15), "{found:?}");
        }
    }

    #[test]
    fn no_product_of_the_rank_is_nearer_than_that_of_the_rule_products((clients, weights) in clients()) {
        let factors = of_factors(&clients, &weights);
        let products = of_products(&clients, &weights);
        prop_assert!((factors.norm - products.norm).abs() < 1e-12);
        prop_assert!(products.error <= factors.error.map(|error| error + 1e-12), "{products:?} and {factors:?}");
    }

    #[test]
    fn the_order_of_clients_changes_the_rounding_alone((clients, weights) in clients()) {
        let found = of_factors(&clients, &weights).error;
        let reversed: Vec<Adapter> = clients.iter().rev().cloned().collect();
        let weights: Vec<f64> = weights.iter().rev().copied().collect();
        let difference = found.zip(of_factors(&reversed, &weights).error).map(|(one, other)| (one - other).abs());
        prop_assert!(difference.is_some_and(|difference| difference < 1e-7), "{difference:?}");
    }
}

#[test]
fn layers_that_are_not_sent_have_no_error() {
    let module = |layer| Module { path: format!("model.layers.{layer}.m"), in_features: 1, out_features: 1 };
    let layout =
        Layout { rank: 1, alpha: 1.0, rank_stabilized: false, has_core: false, modules: vec![module(0), module(1)] };
    let modules = vec![ModuleError { norm: 3.0, error: Some(0.5) }, ModuleError { norm: 4.0, error: Some(0.0) }];
    let whole = AggregationError::new(modules);
    assert_eq!(whole.clone().of_sent(&layout, Factors::B), whole);
    let shared = whole.of_sent(&layout, Factors::ButLastLayers(1));
    assert_eq!(shared.modules[1], ModuleError { norm: 0.0, error: None });
    assert_eq!(shared.total(), Some(0.5));
}
