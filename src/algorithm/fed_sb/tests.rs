use fedreplay_sim::{Purpose, Seed, Stream};

use super::*;
use crate::adapter::{Factors, Module};
use crate::algorithm::{ServerRule, ServerState, Update, error_of_factors, mean_update};

/// Computes an initial adapter that nothing stops.
fn first_step(layout: &Arc<Layout>, gradients: &[Vec<f32>], step_size: f64) -> Adapter {
    assert_eq!(adapter_of_first_step(layout, gradients, step_size, &AtomicBool::new(true)), None);
    adapter_of_first_step(layout, gradients, step_size, &AtomicBool::new(false)).expect("nothing stopped it")
}

fn layout(rank: usize, alpha: f64, in_features: usize, out_features: usize) -> Arc<Layout> {
    let modules = vec![Module { path: "m".into(), in_features, out_features }];
    Arc::new(Layout { rank, alpha, rank_stabilized: false, has_core: true, modules })
}

/// Returns s B R A of the only module, row-major, with its A and B.
fn parts(adapter: &Adapter) -> [Vec<f64>; 3] {
    let layout = &adapter.layout;
    let (a, b) = layout.ranges().remove(0);
    let core = layout.core_ranges().remove(0);
    let wide =
        |range: std::ops::Range<usize>| -> Vec<f64> { adapter.values[range].iter().map(|&v| v.into()).collect() };
    let [a, b, core] = [a, b, core].map(wide);
    let [inputs, outputs, rank] = [layout.modules[0].in_features, layout.modules[0].out_features, layout.rank];
    let mut product = vec![0.0; inputs * outputs];
    for (output, input) in (0..outputs).flat_map(|output| (0..inputs).map(move |input| (output, input))) {
        for (i, j) in (0..rank).flat_map(|i| (0..rank).map(move |j| (i, j))) {
            product[output * inputs + input] +=
                layout.scale() * b[output * rank + i] * core[i * rank + j] * a[j * inputs + input];
        }
    }
    [product, a, b]
}

#[track_caller]
fn assert_close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 1e-6, "{found} for {expected}");
    }
}

/// B = A = I, R1 = diag(2, 0), R2 = diag(0, 4): the mean of R is diag(1, 2), or diag(1.5, 1) for 3/4 and 1/4, and so is that of the products.
#[test]
fn the_mean_of_r_is_the_mean_of_products_in_the_worked_example() {
    let layout = layout(2, 2.0, 2, 2);
    let identity = [1.0, 0.0, 0.0, 1.0];
    let adapter = |r: [f32; 4]| Adapter::new(layout.clone(), [identity, identity, r].concat());
    let server = adapter([0.5, 0.0, 0.0, 0.5]);
    let clients = [adapter([2.0, 0.0, 0.0, 0.0]), adapter([0.0, 0.0, 0.0, 4.0])];
    for (weights, expected) in [([1.0, 1.0], [1.0, 0.0, 0.0, 2.0]), ([3.0, 1.0], [1.5, 0.0, 0.0, 1.0])] {
        let mut updates = Vec::new();
        for (adapter, weight) in clients.iter().zip(weights) {
            updates.push(Update { adapter, base: &server, weight, discount: 1.0 });
        }
        let mean = mean_update(12, &updates);
        let next = ServerRule::PLAIN.apply(&server, &ServerState::default(), mean.change.as_deref()).0;
        assert_close(&parts(&next)[0], &expected);
        assert_eq!(next.values[..8], server.values[..8]);
        let error = error_of_factors(&layout, &updates, &mean.weights);
        let norm = expected.iter().map(|value| value * value).sum::<f64>().sqrt();
        assert!((error.modules[0].norm - norm).abs() < 1e-12);
        assert_eq!(error.modules[0].error, Some(0.0));
    }
    let alone = mean_update(12, &[Update { adapter: &clients[1], base: &server, weight: 0.7, discount: 1.0 }]);
    let next = ServerRule::PLAIN.apply(&server, &ServerState::default(), alone.change.as_deref()).0;
    assert_eq!(next, clients[1], "one client is the identity");
}

/// Signs [[1, 1], [1, -1]] have the singular values sqrt 2 twice; [[1, 0], [0, 0]] have 1 and 0; all by hand. s = 4 / 2 in the first case.
#[test]
fn small_steps_are_decomposed_as_by_hand() {
    let whole = first_step(&layout(2, 4.0, 2, 2), &[vec![3.0, 0.1, 2.0, -5.0]], 0.5);
    let [product, ..] = parts(&whole);
    assert_close(&product, &[-0.5, -0.5, -0.5, 0.5]);
    let core = &whole.values[8..];
    let value = 0.5 * 2f64.sqrt() / 2.0;
    assert_close(&[core[0], core[1], core[2], core[3]].map(f64::from), &[value, 0.0, 0.0, value]);
    let low = first_step(&layout(2, 2.0, 2, 2), &[vec![-1e-9, 0.0, 0.0, 0.0]], 3.0);
    assert_close(&parts(&low)[0], &[3.0, 0.0, 0.0, 0.0]);
    assert_close(&[low.values[8], low.values[11]].map(f64::from), &[3.0, 0.0]);
    let none = first_step(&layout(1, 1.0, 3, 2), &[vec![0.0; 6]], 3.0);
    let [product, a, b] = parts(&none);
    assert_close(&product, &[0.0; 6]);
    assert_close(&[squares(&a), squares(&b)], &[1.0, 1.0]);
}

fn squares(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum()
}

/// By Eckart and Young, a part is the best of its rank if what is left is orthogonal to it from both sides and has no greater singular value.
#[test]
fn steps_of_any_shape_have_their_best_part_between_orthonormal_factors() {
    let mut stream = Stream::new(Seed(1), Purpose::SyntheticData, 0);
    for (inputs, outputs, rank) in [(7, 5, 3), (5, 7, 3), (6, 6, 6), (1, 9, 1), (9, 1, 1), (40, 24, 4)] {
        let mut draw = || (stream.below(9) as f32 - 4.0) / 8.0;
        let gradient: Vec<f32> = (0..inputs * outputs).map(|_| draw()).collect();
        check(&gradient, inputs, outputs, rank);
        // All of rank 1, and equal rows.
        let column: Vec<f32> = (0..outputs).map(|_| draw()).collect();
        let product: Vec<f32> = column.iter().flat_map(|&left| vec![left; inputs]).collect();
        check(&product, inputs, outputs, rank);
    }
}

fn check(gradient: &[f32], inputs: usize, outputs: usize, rank: usize) {
    let adapter = first_step(&layout(rank, 3.0, inputs, outputs), &[gradient.to_vec()], 1.0);
    let [product, a, b] = parts(&adapter);
    for (i, j) in (0..rank).flat_map(|i| (0..rank).map(move |j| (i, j))) {
        let of_a: f64 = (0..inputs).map(|place| a[i * inputs + place] * a[j * inputs + place]).sum();
        let of_b: f64 = (0..outputs).map(|place| b[place * rank + i] * b[place * rank + j]).sum();
        let expected = if i == j { 1.0 } else { 0.0 };
        assert_close(&[of_a, of_b], &[expected; 2]);
    }
    let sign = |value: f32| if value == 0.0 { 0.0 } else { f64::from(value.signum()) };
    let left: Vec<f64> = gradient.iter().zip(&product).map(|(g, part)| -sign(*g) - part).collect();
    for place in 0..rank {
        let across: f64 =
            left.chunks_exact(inputs).zip(b.iter().skip(place).step_by(rank)).map(|(row, part)| row[0] * part).sum();
        assert!(across.abs() < 1e-5, "{across}");
        for row in left.chunks_exact(inputs) {
            let along: f64 = row.iter().zip(&a[place * inputs..]).map(|(x, y)| x * y).sum();
            assert!(along.abs() < 1e-5, "{along}");
        }
    }
    let core = &adapter.values[adapter.layout.core_ranges().remove(0)];
    let values: Vec<f64> =
        (0..rank).map(|place| f64::from(core[place * (rank + 1)]) * adapter.layout.scale()).collect();
    assert!(values.is_sorted_by(|a, b| a >= b) && values[rank - 1] >= 0.0, "{values:?}");
    // The energy of the rest is what the kept values leave, and no value of the rest is above the least of them.
    let whole: f64 = gradient.iter().map(|&g| sign(g) * sign(g)).sum();
    assert!((whole - squares(&values) - squares(&left)).abs() < 1e-4 * whole.max(1.0));
    let mut vector: Vec<f64> = (0..inputs).map(|place| 1.0 + (place % 5) as f64).collect();
    for _ in 0..200 {
        let length = squares(&vector).sqrt();
        if length < 1e-4 {
            return;
        }
        let mut next = vec![0.0; inputs];
        let mut energy = 0.0;
        for row in left.chunks_exact(inputs) {
            let image: f64 = row.iter().zip(&vector).map(|(x, y)| x * y / length).sum();
            energy += image * image;
            next.iter_mut().zip(row).for_each(|(sum, x)| *sum += image * x);
        }
        assert!(energy.sqrt() <= values[rank - 1] + 1e-5, "{} is left and {values:?} are kept", energy.sqrt());
        vector = next;
    }
}

#[test]
fn the_mean_of_r_moves_r_alone_and_has_no_error() {
    let layout = layout(2, 2.0, 3, 4);
    let mut stream = Stream::new(Seed(2), Purpose::SyntheticData, 1);
    let mut draw = || -> Adapter {
        Adapter::new(layout.clone(), (0..layout.parameters()).map(|_| stream.unit() as f32 - 0.5).collect())
    };
    let server = draw();
    let clients = [draw(), draw(), draw()].map(|client| Factors::Core.replaced(&server, &client));
    let mean = |order: [usize; 3]| {
        let update = |place: usize| Update {
            adapter: &clients[place],
            base: &server,
            weight: [0.2, 0.5, 0.9][place],
            discount: 1.0,
        };
        mean_update(layout.parameters(), &order.map(update)).change
    };
    let found = mean([0, 1, 2]);
    let change = found.clone().expect("they have weights");
    assert!(change.iter().enumerate().all(|(place, &value)| (value != 0.0) == (place >= 14)));
    assert_eq!(
        error_of_factors(
            &layout,
            &clients.each_ref().map(|adapter| Update { adapter, base: &server, weight: 1.0, discount: 1.0 }),
            &[0.2, 0.3, 0.5]
        )
        .total(),
        Some(0.0)
    );
    assert!(mean([2, 0, 1]).expect("they have weights").iter().zip(change).all(|(a, b)| (a - b).abs() < 1e-15));
}
