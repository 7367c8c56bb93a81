//! Fixed points of the methods, which are known for two clients with quadratic losses of unlike curvature, trained through
//! the same rules as adapters are.
//!
//! Client i minimizes h_i/2 (x - a_i)^2 by K steps of gradient descent at rate lr. With r_i = (1 - lr (h_i + mu))^K,
//! FedProx's round maps x to the mean of p_i + r_i (x - p_i), p_i = (h_i a_i + mu x)/(h_i + mu); FedAvg is mu = 0.

use std::sync::Arc;

use super::server::tests::adapter;
use super::*;
use crate::adapter::Adapter;

const CURVATURES: [f64; 2] = [1.0, 4.0];
const CENTRES: [f64; 2] = [-1.0, 3.0];
const STEPS: u32 = 10;
const LR: f64 = 0.05;
const ROUNDS: usize = 400;

/// Local steps from `start`, with FedProx's pull and SCAFFOLD's correction.
fn train(client: usize, start: &Adapter, mu: f64, correction: f64) -> Adapter {
    let anchor = f64::from(start.values[0]);
    let mut x = anchor;
    for _ in 0..STEPS {
        x -= LR * (CURVATURES[client] * (x - CENTRES[client]) + mu * (x - anchor) + correction);
    }
    adapter([x as f32, 0.0])
}

fn average(server: &Adapter, locals: &[Adapter]) -> Adapter {
    let update = |adapter| Update { adapter, base: server, weight: 1.0, discount: 1.0 };
    let updates: Vec<Update> = locals.iter().map(update).collect();
    ServerRule::PLAIN.apply(server, &ServerState::default(), mean_update(2, &updates).change.as_deref()).0
}

fn fixed_point_of_proximal_rounds(mu: f64) -> f64 {
    // Solve sum_i (1 - r_i) (p_i(x) - x) = 0 with p_i(x) - x = h_i (a_i - x) / (h_i + mu).
    let (mut above, mut below) = (0.0, 0.0);
    for (h, a) in CURVATURES.into_iter().zip(CENTRES) {
        let r = (1.0 - LR * (h + mu)).powi(STEPS as i32);
        let pull = (1.0 - r) * h / (h + mu);
        above += pull * a;
        below += pull;
    }
    above / below
}

#[track_caller]
fn assert_reaches(found: f32, expected: f64) {
    assert!((f64::from(found) - expected).abs() < 1e-5, "{found} where {expected} was expected");
}

/// Where the sum of the losses is least.
fn optimum() -> f64 {
    let weighted: f64 = CURVATURES.iter().zip(CENTRES).map(|(h, a)| h * a).sum();
    weighted / CURVATURES.iter().sum::<f64>()
}

#[test]
fn fedavg_and_fedprox_reach_their_fixed_points() {
    for mu in [0.0, 1.0, 10.0] {
        let mut server = adapter([0.0, 0.0]);
        for _ in 0..ROUNDS {
            let locals: Vec<Adapter> = (0..2).map(|client| train(client, &server, mu, 0.0)).collect();
            server = average(&server, &locals);
        }
        assert_reaches(server.values[0], fixed_point_of_proximal_rounds(mu));
    }
    // Neither is the optimum, and the pull brings FedProx nearer to it.
    let distance = |mu| (fixed_point_of_proximal_rounds(mu) - optimum()).abs();
    assert!(distance(0.0) > 2.0 * distance(10.0) && distance(10.0) > 1e-3);
}

#[test]
fn scaffold_reaches_the_optimum() {
    let mut server = adapter([0.0, 0.0]);
    let mut state = ServerState::default();
    let mut controls: [Option<Arc<Adapter>>; 2] = [None, None];
    for round in 0..4 * ROUNDS {
        // One of two clients takes part at a time, so that variates are stale.
        let client = round % 2;
        let by = correction(state.control.as_ref(), controls[client].as_ref());
        let local = train(client, &server, 0.0, by.as_ref().map_or(0.0, |by| f64::from(by.values[0])));
        let next = Arc::new(next_client_control(&server, &local, by.as_deref(), STEPS, LR));
        let change = ControlChange { before: controls[client].as_deref(), after: &next };
        state = next_server_control(state, &server, &[change], 2);
        server = average(&server, &[local]);
        controls[client] = Some(next);
    }
    assert_reaches(server.values[0], optimum());
    // Each variate is its client's gradient at the optimum, and c is their mean: zero.
    for (client, control) in controls.iter().enumerate() {
        assert_reaches(control.as_ref().unwrap().values[0], CURVATURES[client] * (optimum() - CENTRES[client]));
    }
    assert_reaches(state.control.unwrap().values[0], 0.0);
}

/// The two clients of the worked example: A 1x2 and B 2x1, so that B A is 2x2.
mod one_rank {
    use crate::adapter::{Adapter, Factors, Layout, Module};
    use crate::algorithm::{ServerRule, ServerState, Update, mean_update};
    use std::sync::Arc;

    /// A, then B.
    pub fn adapter(a: [f32; 2], b: [f32; 2]) -> Adapter {
        let modules = vec![Module { path: "m".into(), in_features: 2, out_features: 2 }];
        let layout = Layout { rank: 1, alpha: 1.0, rank_stabilized: false, has_core: false, modules };
        Adapter::new(Arc::new(layout), vec![a[0], a[1], b[0], b[1]])
    }

    /// The server's model after a round of clients with these weights, which sent some factors.
    pub fn aggregated(server: &Adapter, clients: &[Adapter], weights: [f64; 2], sent: Factors) -> Adapter {
        let pairs = clients.iter().zip(weights);
        let updates = pairs.map(|(adapter, weight)| Update { adapter, base: server, weight, discount: 1.0 });
        let mut change = mean_update(4, &updates.collect::<Vec<_>>()).change.expect("they have weights");
        sent.keep_only(&server.layout, &mut change);
        ServerRule::PLAIN.apply(server, &ServerState::default(), Some(&change)).0
    }

    /// B A, by rows.
    #[track_caller]
    pub fn assert_product(adapter: &Adapter, expected: [[f32; 2]; 2]) {
        let [a0, a1, b0, b1] = adapter.values[..] else { unreachable!("it has four values") };
        for (found, expected) in [b0 * a0, b0 * a1, b1 * a0, b1 * a1].iter().zip(expected.concat()) {
            assert!((found - expected).abs() <= 1e-6, "{:?} where the product {expected} was expected", adapter.values);
        }
    }
}

/// B1 = (1, 0), A1 = (2, 0); B2 = (0, 1), A2 = (0, 4). The mean of the products is diag(1, 2) for equal weights, and
/// diag(1.5, 1) for 3/4 and 1/4; all values are exact, by hand.
#[test]
fn factors_of_the_worked_example_are_averaged_as_each_method_says() {
    use one_rank::{adapter, aggregated, assert_product};

    use crate::adapter::Factors;
    let start = adapter([0.0, 0.0], [0.0, 0.0]);
    let clients = [adapter([2.0, 0.0], [1.0, 0.0]), adapter([0.0, 4.0], [0.0, 1.0])];
    let fedit = |weights| aggregated(&start, &clients, weights, Factors::Both);
    assert_product(&fedit([1.0, 1.0]), [[0.5, 1.0], [0.5, 1.0]]);
    assert_product(&fedit([3.0, 1.0]), [[1.125, 0.75], [0.375, 0.25]]);
    // FFA-LoRA, from A0 = (1, 1): the product of A0 with the mean of B, whatever a client has of A.
    let start = adapter([1.0, 1.0], [0.0, 0.0]);
    let ffa = |weights| aggregated(&start, &clients, weights, Factors::B);
    assert_product(&ffa([1.0, 1.0]), [[0.5, 0.5], [0.5, 0.5]]);
    assert_product(&ffa([3.0, 1.0]), [[0.75, 0.75], [0.25, 0.25]]);
    // RoLoRA's next round averages A, with the B of (1/2, 1/2) that the server has by then.
    let rolora = |weights| aggregated(&ffa([1.0, 1.0]), &clients, weights, Factors::A);
    assert_product(&rolora([1.0, 1.0]), [[0.5, 1.0], [0.5, 1.0]]);
    assert_product(&rolora([3.0, 1.0]), [[0.75, 0.5], [0.75, 0.5]]);
    // FedSA-LoRA: the mean of A is (1, 2), and each client has it with its own B.
    let start = adapter([0.0, 0.0], [0.0, 0.0]);
    let shared = aggregated(&start, &clients, [1.0, 1.0], Factors::A);
    assert_eq!(shared.values, [1.0, 2.0, 0.0, 0.0]);
    assert_product(&Factors::B.replaced(&shared, &clients[0]), [[1.0, 2.0], [0.0, 0.0]]);
    assert_product(&Factors::B.replaced(&shared, &clients[1]), [[0.0, 0.0], [1.0, 2.0]]);
    // HetLoRA: the norms of the products are 2 and 4, so the weights are 1/3 and 2/3, whatever rows the clients have.
    let norms = [0, 1].map(|client| product_norm(&clients[client]));
    assert_eq!(norms, [2.0, 4.0]);
    let het = aggregated(&start, &clients, norms, Factors::Both);
    assert_product(&het, [[2.0 / 9.0, 8.0 / 9.0], [4.0 / 9.0, 16.0 / 9.0]]);
}

/// Two clients with one module in each of two layers, whose values are A0, B0, A1, B1. FedPer averages the first layer, and each client
/// has the mean with its own last layer; by hand.
#[test]
fn fedper_averages_the_first_layers_and_leaves_each_client_its_last_ones() {
    use std::sync::Arc;

    use one_rank::aggregated;

    use crate::adapter::{Adapter, Factors, Layout, Module};
    let module = |layer| Module { path: format!("model.layers.{layer}.m"), in_features: 1, out_features: 1 };
    let modules = vec![module(0), module(1)];
    let layout = Arc::new(Layout { rank: 1, alpha: 1.0, rank_stabilized: false, has_core: false, modules });
    let adapter = |values: [f32; 4]| Adapter::new(layout.clone(), values.to_vec());
    let start = adapter([1.0, 0.0, 1.0, 0.0]);
    let clients = [adapter([2.0, 1.0, 3.0, 1.0]), adapter([4.0, 3.0, 5.0, 7.0])];
    let fedper = |weights| aggregated(&start, &clients, weights, Factors::ButLastLayers(1));
    assert_eq!(fedper([1.0, 1.0]).values, [3.0, 2.0, 1.0, 0.0]);
    let server = fedper([3.0, 1.0]);
    assert_eq!(server.values, [2.5, 1.5, 1.0, 0.0]);
    let own = clients.each_ref().map(|client| Factors::LastLayers(1).replaced(&server, client).values);
    assert_eq!(own, [[2.5, 1.5, 3.0, 1.0], [2.5, 1.5, 5.0, 7.0]]);
}
