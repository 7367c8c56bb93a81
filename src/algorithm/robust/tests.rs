//! Robust rules against numpy (`tests/reference/make_robust.py`), and the properties that their papers state.

use std::sync::Arc;

use fedreplay_sim::{Purpose, Seed, Stream};
use proptest::prelude::*;

use super::*;
use crate::adapter::{Layout, Module};
use crate::algorithm::ServerRule;

pub(super) const UPDATES: [[f32; 6]; 7] = [
    [0.5, -1.0, 0.25, 2.0, 0.0, -0.75],
    [0.75, -0.5, 0.5, 1.5, 0.125, -1.0],
    [0.25, -1.25, 0.0, 2.5, -0.25, -0.5],
    [0.625, -0.875, 0.375, 1.75, 0.0625, -0.8125],
    [9.0, 8.0, -7.0, -6.0, 5.0, 4.0],
    [0.375, -1.5, 0.125, 2.25, -0.125, -0.625],
    [0.875, -0.625, 0.75, 1.25, 0.25, -1.125],
];
const SAMPLES: [f64; 7] = [3.0, 1.0, 2.0, 2.0, 4.0, 1.0, 1.0];

/// All rules with parameters that take seven updates with one attacker.
const RULES: [AggregationSpec; 9] = [
    AggregationSpec::Median,
    AggregationSpec::TrimmedMean { trim: 0.2 },
    AggregationSpec::Krum { byzantine: 1 },
    AggregationSpec::MultiKrum { byzantine: 1, selected: None },
    AggregationSpec::MultiKrum { byzantine: 1, selected: Some(2) },
    AggregationSpec::Bulyan { byzantine: 1 },
    AggregationSpec::GeometricMedian { smoothing: 1e-6, iterations: 5 },
    AggregationSpec::NormBounding { bound: 2.5 },
    AggregationSpec::CenteredClipping { radius: 1.5, iterations: 2 },
];

fn rule(aggregation: AggregationSpec) -> RobustAggregation {
    RobustAggregation::new(&aggregation).expect("it is not the mean")
}

/// Returns an adapter of rank 1 with these values, of which there is an even number.
pub(super) fn adapter(values: &[f32]) -> Adapter {
    let features = values.len() / 2;
    let modules = vec![Module { path: "m".into(), in_features: features, out_features: features }];
    Adapter::new(
        Arc::new(Layout { rank: 1, alpha: 1.0, rank_stabilized: false, has_core: false, modules }),
        values.to_vec(),
    )
}

/// Combines changes from a server whose values are all 1, so that they are not the adapters' values.
fn aggregate(aggregation: AggregationSpec, changes: &[Vec<f32>], weights: &[f64]) -> MeanUpdate {
    let server = adapter(&vec![1.0; changes[0].len()]);
    let trained: Vec<Adapter> =
        changes.iter().map(|change| adapter(&change.iter().map(|value| 1.0 + value).collect::<Vec<_>>())).collect();
    let pairs = trained.iter().zip(weights);
    let updates: Vec<Update> =
        pairs.map(|(adapter, &weight)| Update { adapter, base: &server, weight, discount: 1.0 }).collect();
    rule(aggregation).aggregate(changes[0].len(), RobustContext::default(), &updates)
}

fn first(count: usize) -> Vec<Vec<f32>> {
    UPDATES[..count].iter().map(|update| update.to_vec()).collect()
}

#[track_caller]
fn assert_close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= 1e-12, "{place}: {found} against {expected}");
    }
}

#[track_caller]
fn check(aggregation: AggregationSpec, clients: usize, change: [f64; 6], weights: &[f64]) {
    let found = aggregate(aggregation, &first(clients), &SAMPLES[..clients]);
    assert_close(&found.change.expect("there are enough updates"), &change);
    assert_close(&found.weights, weights);
}

#[test]
fn rules_that_ignore_weights_give_the_numbers_of_numpy() {
    let third = 1.0 / 3.0;
    check(
        AggregationSpec::Median,
        5,
        [0.625, -0.875, 0.25, 1.75, 0.0625, -0.75],
        &[third, 0.0, 0.0, 0.6666666666666666, 0.0],
    );
    check(
        AggregationSpec::TrimmedMean { trim: 0.2 },
        5,
        [0.625, -0.7916666666666666, 0.20833333333333331, 1.7499999999999998, 0.0625, -0.6875],
        &[third, 0.2222222222222222, 0.1111111111111111, third, 0.0],
    );
    let fourth = [0.625, -0.875, 0.375, 1.75, 0.0625, -0.8125];
    check(AggregationSpec::Krum { byzantine: 1 }, 5, fourth, &[0.0, 0.0, 0.0, 1.0, 0.0]);
    check(
        AggregationSpec::MultiKrum { byzantine: 1, selected: None },
        5,
        [0.5625, -0.9375, 0.3125, 1.875, 0.03125, -0.78125],
        &[0.5, 0.0, 0.0, 0.5, 0.0],
    );
    check(
        AggregationSpec::MultiKrum { byzantine: 0, selected: Some(3) },
        5,
        [0.625, -0.7916666666666666, 0.375, 1.75, 0.0625, -0.8541666666666666],
        &[third, third, 0.0, third, 0.0],
    );
    check(
        AggregationSpec::Bulyan { byzantine: 1 },
        7,
        [0.5, -1.0416666666666665, 0.24999999999999997, 2.0, -0.020833333333333332, -0.7291666666666665],
        &[0.3333333333333333, 0.0, 0.05555555555555555, 0.3333333333333333, 0.0, 0.27777777777777773, 0.0],
    );
}

#[test]
fn rules_of_norms_give_the_numbers_of_numpy() {
    check(
        AggregationSpec::GeometricMedian { smoothing: 1e-6, iterations: 3 },
        5,
        [
            0.7203193609407139,
            -0.7350632348991865,
            0.13364898136682538,
            1.751744352160794,
            0.10858393527324803,
            -0.6671336661952734,
        ],
        &[0.3827640088267879, 0.1357178224087936, 0.14086134427168612, 0.31928092737693, 0.021375897115802445],
    );
    check(
        AggregationSpec::GeometricMedian { smoothing: 1e-6, iterations: 200 },
        5,
        [
            0.61721217732447,
            -0.863931572733692,
            0.23232034629297005,
            1.842656691654774,
            0.055188127259424215,
            -0.7289706452262161,
        ],
        &[0.45823086042352923, 0.058295878366526235, 0.0787310554249625, 0.3961776450845693, 0.008564560700412695],
    );
    check(
        AggregationSpec::NormBounding { bound: 2.5 },
        5,
        [
            0.7836635567839667,
            -0.2145505189838583,
            -0.1876830978846257,
            0.9769816539933724,
            0.23753597231861795,
            -0.27657309164482413,
        ],
        &[0.25, 0.08333333333333333, 0.14561734277683963, 0.16666666666666666, 0.05062139493589891],
    );
}

#[test]
fn centered_clipping_goes_on_from_the_aggregate_of_the_round_before() {
    let clipping = AggregationSpec::CenteredClipping { radius: 1.5, iterations: 2 };
    let first_round = [
        0.6758448726664548,
        -0.5920998204635625,
        0.10562557079487225,
        1.521210290353178,
        0.10939160300684667,
        -0.5920853409059534,
    ];
    check(
        clipping,
        5,
        first_round,
        &[0.2282728577191425, 0.23294001143289456, 0.1776287486051809, 0.23057546998763562, 0.02205406437096057],
    );
    let server = adapter(&[0.0; 6]);
    let trained: Vec<Adapter> = first(5).iter().map(|values| adapter(values)).collect();
    let updates: Vec<Update> =
        trained.iter().map(|adapter| Update { adapter, base: &server, weight: 1.0, discount: 1.0 }).collect();
    let center = rule(clipping).next_center(&server, None, Some(&first_round)).expect("it keeps one");
    let second = rule(clipping).aggregate(6, RobustContext { center: Some(&center), root: None }, &updates);
    assert_close(
        &second.change.expect("there are updates"),
        &[
            0.7096655406524887,
            -0.7132121402128105,
            0.12614120454305125,
            1.760913520956068,
            0.09135503152990374,
            -0.6621513386118258,
        ],
    );
    // A round without a change keeps the center, and other rules have none.
    assert_eq!(rule(clipping).next_center(&server, Some(&center), None), Some(center.clone()));
    assert_eq!(rule(AggregationSpec::Median).next_center(&server, Some(&center), Some(&first_round)), None);
}

#[test]
fn identical_updates_give_that_update() {
    // Values with few bits in common, which thirds and fifths would round away.
    let update: Vec<f32> = vec![0.1, -3.3e-7, 1234.567, 0.0, -0.7, 2.2e-20];
    let server = adapter(&[0.0; 6]);
    let trained = adapter(&update);
    let updates = [Update { adapter: &trained, base: &server, weight: 3.0, discount: 1.0 }; 7];
    for aggregation in RULES {
        // The norms of these two are not bounded here.
        let aggregation = match aggregation {
            AggregationSpec::NormBounding { .. } => AggregationSpec::NormBounding { bound: 1e4 },
            AggregationSpec::CenteredClipping { .. } => {
                AggregationSpec::CenteredClipping { radius: 1e4, iterations: 1 }
            }
            other => other,
        };
        let found = rule(aggregation).aggregate(6, RobustContext::default(), &updates);
        let (next, _) = ServerRule::PLAIN.apply(&server, &ServerState::default(), found.change.as_deref());
        assert_eq!(next.values, update, "{aggregation:?}");
        assert!((found.weights.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{aggregation:?}");
    }
}

#[test]
fn too_few_updates_change_nothing() {
    let too_few = [
        (AggregationSpec::TrimmedMean { trim: 0.2 }, 5),
        (AggregationSpec::Krum { byzantine: 1 }, 5),
        (AggregationSpec::MultiKrum { byzantine: 1, selected: Some(4) }, 7),
        (AggregationSpec::Bulyan { byzantine: 1 }, 7),
        (AggregationSpec::Median, 1),
    ];
    for (aggregation, least) in too_few {
        assert!(aggregate(aggregation, &first(least), &SAMPLES[..least]).change.is_some(), "{aggregation:?}");
        let mut weights = SAMPLES[..least].to_vec();
        weights[0] = 0.0;
        let found = aggregate(aggregation, &first(least), &weights);
        assert_eq!(found, MeanUpdate { change: None, weights: vec![0.0; least] }, "{aggregation:?}");
    }
}

#[test]
fn updates_without_weight_or_with_values_that_are_no_numbers_leave_no_trace() {
    for aggregation in RULES {
        let (mut more, mut weights) = (first(7), SAMPLES.to_vec());
        let expected = aggregate(aggregation, &more, &weights);
        more.extend([vec![f32::NAN; 6], vec![f32::INFINITY; 6], vec![5.0; 6]]);
        weights.extend([1.0, 1.0, 0.0]);
        let found = aggregate(aggregation, &more, &weights);
        assert_eq!(found.change, expected.change, "{aggregation:?}");
        assert_eq!(found.weights, [&expected.weights[..], &[0.0; 3]].concat(), "{aggregation:?}");
    }
}

#[test]
fn discounts_shorten_updates_before_the_rule() {
    let server = adapter(&[0.0; 6]);
    let trained: Vec<Adapter> = first(7).iter().map(|values| adapter(values)).collect();
    let halved: Vec<Adapter> =
        first(7).iter().map(|values| adapter(&values.iter().map(|value| value / 2.0).collect::<Vec<_>>())).collect();
    for aggregation in RULES {
        let combine = |adapters: &[Adapter], discount| {
            let updates: Vec<Update> =
                adapters.iter().map(|adapter| Update { adapter, base: &server, weight: 1.0, discount }).collect();
            rule(aggregation).aggregate(6, RobustContext::default(), &updates)
        };
        let (discounted, plain) = (combine(&trained, 0.5), combine(&halved, 1.0));
        assert_eq!(discounted.change, plain.change, "{aggregation:?}");
        let expected: Vec<f64> = plain.weights.iter().map(|weight| 0.5 * weight).collect();
        assert_close(&discounted.weights, &expected);
    }
}

/// Adapters of more values than one thread works on at a time: the six numbers again and again.
#[test]
fn long_adapters_give_the_same_on_any_number_of_threads() {
    let long: Vec<Vec<f32>> = first(7).iter().map(|update| update.repeat(30_000)).collect();
    for aggregation in RULES {
        let on_threads = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            pool.install(|| aggregate(aggregation, &long, &SAMPLES))
        };
        let found = on_threads(1);
        assert_eq!(found, on_threads(3), "{aggregation:?}");
        if matches!(aggregation, AggregationSpec::NormBounding { .. } | AggregationSpec::CenteredClipping { .. }) {
            continue;
        }
        let expected = aggregate(aggregation, &first(7), &SAMPLES);
        let change = found.change.expect("there are enough updates");
        assert_close(&change, &expected.change.expect("there are enough updates").repeat(30_000));
        assert_close(&found.weights, &expected.weights);
    }
}

/// Returns `count` updates of `coordinates` values from -1 to 1, of which some are equal.
fn honest(seed: u64, count: usize, coordinates: usize) -> Vec<Vec<f32>> {
    let mut stream = Stream::new(Seed(seed), Purpose::SyntheticData, 0);
    let mut value = || (stream.below(33) as f32 - 16.0) / 16.0;
    (0..count).map(|_| (0..coordinates).map(|_| value()).collect()).collect()
}

/// Values of an attacker: near those of honest clients, or far beyond them.
fn attack() -> impl Strategy<Value = Vec<f32>> {
    let value = prop_oneof![-1.0f32..1.0, Just(1e30f32), Just(-1e30f32), Just(f32::MAX), Just(0.0f32), -9.0f32..9.0];
    proptest::collection::vec(value, 6)
}

/// Returns the smallest and the largest honest value at a coordinate.
fn range(honest: &[Vec<f32>], at: usize) -> (f64, f64) {
    let values = honest.iter().map(|update| f64::from(1.0 + update[at]) - 1.0);
    (values.clone().fold(f64::INFINITY, f64::min), values.fold(f64::NEG_INFINITY, f64::max))
}

/// Squared L2 distance in f64.
fn distance(left: &[f64], right: &[f32]) -> f64 {
    left.iter().zip(right).map(|(left, &right)| (left - f64::from(right)).powi(2)).sum()
}

/// Combines honest updates with attacks.
fn attacked(aggregation: AggregationSpec, honest: &[Vec<f32>], attacks: &[Vec<f32>]) -> Vec<f64> {
    let all = [attacks, honest].concat();
    aggregate(aggregation, &all, &vec![1.0; all.len()]).change.expect("there are enough updates")
}

proptest! {
    #[test]
    fn the_order_of_updates_changes_no_bit(seed: u64, order in Just((0..7).collect::<Vec<usize>>()).prop_shuffle()) {
        let updates = honest(seed, 7, 6);
        let weights: Vec<f64> = (0..7).map(|place| f64::from(place % 3 + 1)).collect();
        let shuffled: Vec<Vec<f32>> = order.iter().map(|&place| updates[place].clone()).collect();
        let shuffled_weights: Vec<f64> = order.iter().map(|&place| weights[place]).collect();
        for aggregation in RULES {
            let found = aggregate(aggregation, &updates, &weights);
            let again = aggregate(aggregation, &shuffled, &shuffled_weights);
            prop_assert_eq!(&found.change, &again.change, "{:?}", aggregation);
            let expected: Vec<f64> = order.iter().map(|&place| found.weights[place]).collect();
            prop_assert_eq!(expected, again.weights, "{:?}", aggregation);
        }
    }

    #[test]
    fn median_and_trimmed_mean_stay_among_honest_values(seed: u64, attacks in proptest::collection::vec(attack(), 2)) {
        let honest = honest(seed, 3, 6);
        for aggregation in [AggregationSpec::Median, AggregationSpec::TrimmedMean { trim: 0.4 }] {
            for (at, value) in attacked(aggregation, &honest, &attacks).into_iter().enumerate() {
                let (least, most) = range(&honest, at);
                prop_assert!(value >= least - 1e-12 && value <= most + 1e-12, "{:?}: {}", aggregation, value);
            }
        }
    }

    /// The best score is at most (n - f - 2) D^2 with the diameter D of the honest updates. A selected update has an honest one
    /// among its n - f - 2 neighbors, which is no farther than the root of its score.
    #[test]
    fn krum_selects_near_honest_updates(seed: u64, attacks in proptest::collection::vec(attack(), 2)) {
        let honest = honest(seed, 5, 6);
        let of_two = |left: &[f32], right: &[f32]| distance(&left.iter().map(|&v| f64::from(v)).collect::<Vec<_>>(), right);
        let pairs = honest.iter().flat_map(|left| honest.iter().map(move |right| of_two(left, right)));
        let diameter = pairs.fold(0.0, f64::max).sqrt();
        let found = attacked(AggregationSpec::Krum { byzantine: 2 }, &honest, &attacks);
        let nearest = honest.iter().map(|update| distance(&found, update)).fold(f64::INFINITY, f64::min).sqrt();
        prop_assert!(nearest <= 3f64.sqrt() * diameter + 1e-6, "{} from them", nearest);
        // A mean of such updates is that far from some honest one, and D more from each.
        let found = attacked(AggregationSpec::MultiKrum { byzantine: 2, selected: None }, &honest, &attacks);
        let farthest = honest.iter().map(|update| distance(&found, update)).fold(0.0, f64::max).sqrt();
        prop_assert!(farthest <= (3f64.sqrt() + 1.0) * diameter + 1e-6, "{} from them", farthest);
    }

    /// At most f of the selected values are an attacker's, so the median is among honest values, and as many honest values
    /// as are kept are no farther from it than their range.
    #[test]
    fn bulyan_stays_within_the_range_of_honest_values(seed: u64, attacks in proptest::collection::vec(attack(), 2)) {
        let honest = honest(seed, 9, 6);
        for (at, value) in attacked(AggregationSpec::Bulyan { byzantine: 2 }, &honest, &attacks).into_iter().enumerate() {
            let (least, most) = range(&honest, at);
            let range = most - least;
            prop_assert!(value >= least - range - 1e-12 && value <= most + range + 1e-12, "{}", value);
        }
    }

    /// A minority with the share rho moves the geometric median at most 2 (1 - rho) / (1 - 2 rho) times the largest honest norm.
    #[test]
    fn the_geometric_median_stays_near_honest_updates(seed: u64, attacks in proptest::collection::vec(attack(), 2)) {
        let honest = honest(seed, 3, 6);
        let norm = honest.iter().map(|update| distance(&[0.0; 6], update)).fold(0.0, f64::max).sqrt();
        let found = attacked(AggregationSpec::GeometricMedian { smoothing: 1e-6, iterations: 300 }, &honest, &attacks);
        let length = found.iter().map(|value| value * value).sum::<f64>().sqrt();
        prop_assert!(length <= 6.0 * norm + 1e-3, "{} against {}", length, norm);
    }

    #[test]
    fn an_attacker_moves_clipped_aggregates_by_its_share_of_the_bound(seed: u64, attack in attack()) {
        let honest = honest(seed, 4, 6);
        for aggregation in [
            AggregationSpec::NormBounding { bound: 2.0 },
            AggregationSpec::CenteredClipping { radius: 2.0, iterations: 1 },
        ] {
            let without = attacked(aggregation, &honest, &[vec![0.0; 6]]);
            let found = attacked(aggregation, &honest, std::slice::from_ref(&attack));
            let moved = found.iter().zip(&without).map(|(found, without)| (found - without).powi(2)).sum::<f64>().sqrt();
            prop_assert!(moved <= 2.0 / 5.0 + 1e-9, "{:?}: {}", aggregation, moved);
        }
    }
}

/// The rules hold no longer than they promise: with enough attackers that send the same, the aggregate is theirs.
#[test]
fn more_attackers_than_a_rule_takes_move_it_at_will() {
    let far = vec![1e30; 6];
    let taken = [
        // A rule, its clients, and the fewest attackers that move it.
        (AggregationSpec::Median, 5, 3),
        (AggregationSpec::TrimmedMean { trim: 0.2 }, 5, 2),
        (AggregationSpec::Krum { byzantine: 1 }, 5, 3),
        (AggregationSpec::MultiKrum { byzantine: 1, selected: None }, 5, 3),
        (AggregationSpec::Bulyan { byzantine: 1 }, 7, 4),
        (AggregationSpec::GeometricMedian { smoothing: 1e-6, iterations: 300 }, 5, 3),
    ];
    for (aggregation, clients, attackers) in taken {
        let largest = |attackers: usize| {
            let honest = honest(7, clients - attackers, 6);
            let found = attacked(aggregation, &honest, &vec![far.clone(); attackers]);
            found.into_iter().fold(0.0, f64::max)
        };
        assert!(largest(attackers) > 1e29, "{aggregation:?} with {attackers}");
        assert!(largest(attackers - 1) < 10.0, "{aggregation:?} with {}", attackers - 1);
    }
}
