//! Attacks: what a client that attacks sends in the place of its trained update.

use fedreplay_sim::random::normal_quantile;
use serde::Serialize;

use super::averaging::Update;
use super::robust::{Changes, largest_squared_distance, squared_distance, weighted_sum};

/// Change that an attacker sends, with the numbers that follow from its round. `own` is its own change by honest training.
/// `known` are the changes that colluders know of, of which mean and deviation are those of each coordinate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum AttackRule {
    /// `factor * own`: sign flip with a negative one, scaling and model replacement (Bagdasaryan et al. 2020) with a
    /// positive one.
    Scaled { factor: f64 },
    /// Gaussian noise of this standard deviation instead of a change.
    Noise { deviation: f64 },
    /// `mean - z * deviation` of what is known (ALIE, Baruch et al. 2019, arXiv 1902.06156, algorithm 3).
    Alie { z: f64 },
    /// `-factor * mean` of what is known (IPM, Xie et al. 2020, arXiv 1903.03936).
    InnerProduct { factor: f64 },
    /// `mean + gamma * direction` with the largest gamma for which no known change is farther from the result than any two
    /// are from each other (min-max, Shejwalkar and Houmansadr 2021).
    MinMax { direction: Perturbation },
}

/// Direction of the min-max attack.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum Perturbation {
    /// Against the mean, of length 1.
    Unit,
    /// The negative deviation of each coordinate.
    Deviation,
    /// The negative sign of each coordinate of the mean.
    Sign,
}

impl AttackRule {
    /// Returns whether the attack depends on what is known.
    pub fn reads_known(&self) -> bool {
        !matches!(self, Self::Scaled { .. } | Self::Noise { .. })
    }

    /// Computes the change, of adapters with this number of values.
    ///
    /// Unless the rule reads what is known, `known` may be empty.
    ///
    /// # Panics
    /// If a rule that reads what is known gets nothing, and for noise, which has streams of its own.
    pub fn change(&self, parameters: usize, own: Update, known: &[Update]) -> Vec<f64> {
        assert!(!known.is_empty() || !self.reads_known(), "an attacker knows its own update");
        let known = Changes::new(parameters, known);
        match *self {
            Self::Noise { .. } => panic!("noise is drawn and not computed"),
            Self::Scaled { factor } => scaled(factor, &Changes::new(parameters, &[own])),
            Self::InnerProduct { factor } => {
                let mean = mean(&known);
                mean.into_iter().map(|value| -factor * value).collect()
            }
            Self::Alie { z } => {
                let mean = mean(&known);
                let deviations = deviations(&known, &mean);
                mean.iter().zip(deviations).map(|(mean, deviation)| mean - z * deviation).collect()
            }
            Self::MinMax { direction } => min_max(&known, direction),
        }
    }
}

fn scaled(factor: f64, own: &Changes) -> Vec<f64> {
    weighted_sum(own, &vec![factor; own.count()])
}

fn mean(changes: &Changes) -> Vec<f64> {
    weighted_sum(changes, &vec![1.0 / changes.count() as f64; changes.count()])
}

/// Computes the standard deviation of each coordinate, with the number of changes as the divisor, as in the authors' code.
fn deviations(changes: &Changes, mean: &[f64]) -> Vec<f64> {
    let (deviations, _) = changes.map(0, |block, values, _| {
        let mean = &mean[block.range.clone()];
        for point in block.points() {
            for ((sum, value), mean) in values.iter_mut().zip(point).zip(mean) {
                *sum += (value - mean) * (value - mean);
            }
        }
        values.iter_mut().for_each(|sum| *sum = (*sum / changes.count() as f64).sqrt());
    });
    deviations
}

/// Computes the min-max attack. The largest gamma is the smallest solution over the known changes x of
/// |mean + gamma direction - x| = D, the largest distance of two of them.
fn min_max(known: &Changes, direction: Perturbation) -> Vec<f64> {
    let mean = mean(known);
    let direction = along(known, &mean, direction);
    let squared_length = product(&direction, &direction);
    if squared_length == 0.0 {
        return mean;
    }
    let count = known.count();
    let largest = largest_squared_distance(known);
    // For each change x: |mean - x|^2 and (mean - x) . direction.
    let sums = known.sums(2 * count, |block, sums| {
        let range = block.range.clone();
        for (index, point) in block.points().enumerate() {
            sums[2 * index] += squared_distance(&mean[range.clone()], point);
            let along = mean[range.clone()].iter().zip(point).zip(&direction[range.clone()]);
            sums[2 * index + 1] += along.map(|((mean, value), direction)| (mean - value) * direction).sum::<f64>();
        }
    });
    let gammas = sums.chunks_exact(2).map(|pair| {
        let [squared_away, along] = [pair[0], pair[1]];
        // No change is farther from the mean than D, but for rounding.
        let room = (largest - squared_away).max(0.0);
        ((along * along + squared_length * room).sqrt() - along) / squared_length
    });
    let gamma = gammas.fold(f64::INFINITY, f64::min);
    mean.iter().zip(&direction).map(|(mean, direction)| mean + gamma * direction).collect()
}

/// Returns the direction of the min-max attack.
fn along(known: &Changes, mean: &[f64], direction: Perturbation) -> Vec<f64> {
    match direction {
        Perturbation::Unit => {
            let length = product(mean, mean).sqrt();
            mean.iter().map(|value| if length > 0.0 { -value / length } else { 0.0 }).collect()
        }
        Perturbation::Deviation => deviations(known, mean).into_iter().map(|deviation| -deviation).collect(),
        Perturbation::Sign => mean.iter().map(|&value| if value == 0.0 { 0.0 } else { -value.signum() }).collect(),
    }
}

/// Computes the scalar product of two vectors, in the order of their values.
fn product(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}

/// Returns z of ALIE for a round of `updates` updates of which `attackers` are attackers': the quantile at (n - m - s) / (n - m)
/// of the standard normal distribution, with s = floor(n / 2 + 1) - m honest updates that a majority still needs, at least 1.
/// 0 where no honest update is left on the other side.
pub fn alie_z(updates: usize, attackers: usize) -> f64 {
    let honest = updates - attackers;
    let needed = (updates / 2 + 1).saturating_sub(attackers).max(1);
    if honest <= needed {
        return 0.0;
    }
    normal_quantile((honest - needed) as f64 / honest as f64)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::adapter::{Adapter, Layout, Module};

    /// The updates of `tests/reference/make_attacks.py`.
    const KNOWN: [[f32; 6]; 4] = [
        [0.5, -1.0, 0.25, 2.0, 0.0, -0.75],
        [0.75, -0.5, 0.5, 1.5, 0.125, -1.0],
        [0.25, -1.25, 0.0, 2.5, -0.25, -0.5],
        [0.625, -0.875, 0.375, 1.75, 0.0625, -0.8125],
    ];

    fn adapter(values: &[f32]) -> Adapter {
        let modules = vec![Module { path: "m".into(), in_features: 3, out_features: 3 }];
        Adapter::new(
            Arc::new(Layout { rank: 1, alpha: 1.0, rank_stabilized: false, has_core: false, modules }),
            values.to_vec(),
        )
    }

    /// What the first of some clients sends, who knows of all of them.
    fn sent(rule: AttackRule, changes: &[[f32; 6]]) -> Vec<f64> {
        let base = adapter(&[1.0; 6]);
        let trained: Vec<Adapter> = changes.iter().map(|change| adapter(&change.map(|value| 1.0 + value))).collect();
        let updates: Vec<Update> =
            trained.iter().map(|adapter| Update { adapter, base: &base, weight: 1.0, discount: 1.0 }).collect();
        rule.change(6, updates[0], &updates)
    }

    #[track_caller]
    fn check(rule: AttackRule, expected: [f64; 6]) {
        for (found, expected) in sent(rule, &KNOWN).iter().zip(expected) {
            assert!((found - expected).abs() <= 1e-12, "{rule:?}: {found} against {expected}");
        }
    }

    #[test]
    fn attacks_give_the_numbers_of_numpy() {
        check(
            AttackRule::Alie { z: 1.5 },
            [
                0.2539337601672055,
                -1.3121994080239556,
                0.00393376016720548,
                1.382867520334411,
                -0.2291507870111945,
                -1.0338794486467093,
            ],
        );
        check(
            AttackRule::InnerProduct { factor: 0.5 },
            [-0.265625, 0.453125, -0.140625, -0.96875, 0.0078125, 0.3828125],
        );
        check(AttackRule::Scaled { factor: -2.0 }, [-1.0, 2.0, -0.5, -4.0, 0.0, 1.5]);
        check(
            AttackRule::MinMax { direction: Perturbation::Unit },
            [
                0.31274277952085233,
                -0.5335023885943951,
                0.16556970680515715,
                1.1405913135466381,
                -0.00919831704473095,
                -0.4507175351918166,
            ],
        );
        check(
            AttackRule::MinMax { direction: Perturbation::Deviation },
            [
                0.12152406372105368,
                -1.5060273566552946,
                -0.12847593627894632,
                1.1180481274421075,
                -0.33110256833718116,
                -1.1619624276206661,
            ],
        );
        check(
            AttackRule::MinMax { direction: Perturbation::Sign },
            [
                0.04309583572747078,
                -0.4180958357274708,
                -0.20690416427252922,
                1.4493458357274709,
                0.4725291642725292,
                -0.2774708357274708,
            ],
        );
    }

    #[test]
    fn z_is_the_quantile_of_the_paper_and_0_where_it_has_none() {
        for (updates, attackers, expected) in
            [(50, 24, 1.4260768722728479), (5, 2, 0.43072729929545733), (10, 1, -0.1397102988818621)]
        {
            let found = alie_z(updates, attackers);
            assert!((found - expected).abs() < 1e-12, "{found} against {expected}");
        }
        assert_eq!([alie_z(3, 3), alie_z(3, 2), alie_z(1, 1), alie_z(2, 1)], [0.0; 4]);
    }

    #[test]
    fn what_is_known_of_one_client_is_its_update() {
        let alone = KNOWN[1].map(f64::from);
        for rule in [
            AttackRule::Alie { z: 1.5 },
            AttackRule::MinMax { direction: Perturbation::Unit },
            AttackRule::MinMax { direction: Perturbation::Deviation },
        ] {
            assert_eq!(sent(rule, &KNOWN[1..2]), alone, "{rule:?}");
        }
        assert_eq!(sent(AttackRule::MinMax { direction: Perturbation::Sign }, &[[0.0; 6]; 2]), [0.0; 6]);
    }

    fn distance(left: &[f64], right: &[f64]) -> f64 {
        left.iter().zip(right).map(|(left, right)| (left - right).powi(2)).sum::<f64>().sqrt()
    }

    proptest! {
        /// It is as far as the farthest two are apart from one of the known updates, and no farther from any.
        #[test]
        fn min_max_hides_behind_the_farthest_two(
            values in proptest::collection::vec(proptest::array::uniform6(-8i8..8), 2..6),
            which in 0..3usize,
        ) {
            let direction = [Perturbation::Unit, Perturbation::Deviation, Perturbation::Sign][which];
            let known: Vec<[f32; 6]> = values.iter().map(|values| values.map(|value| f32::from(value) / 4.0)).collect();
            let wide: Vec<Vec<f64>> = known.iter().map(|known| known.map(f64::from).to_vec()).collect();
            let pairs = wide.iter().flat_map(|left| wide.iter().map(move |right| distance(left, right)));
            let most = pairs.fold(0.0, f64::max);
            let found = sent(AttackRule::MinMax { direction }, &known);
            let farthest = wide.iter().map(|known| distance(&found, known)).fold(0.0, f64::max);
            prop_assert!(farthest <= most + 1e-9, "{} of {}", farthest, most);
            let mean: Vec<f64> =
                (0..6).map(|at| wide.iter().map(|known| known[at]).sum::<f64>() / wide.len() as f64).collect();
            // Without a direction, it is the mean.
            prop_assert!((farthest - most).abs() < 1e-9 || distance(&found, &mean) < 1e-9, "{} of {}", farthest, most);
        }
    }
}
