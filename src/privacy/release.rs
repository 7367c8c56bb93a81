//! Private releases: clipped updates are summed, noised and divided into the mean update that a server applies.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::clipping::Clipping;
use super::noise::{DEVIATION_MAX, NoiseSource, NoiseStream};

/// The party that adds the noise, and the values that it adds it to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Placement {
    /// The server, to each sum.
    Central,
    /// Each client, to its own update.
    Local,
    /// The server, to the nodes of a binary tree over releases (DP-FTRL, Kairouz et al. 2021): the noise in the sum of
    /// all releases up to number t is that of the tree nodes that cover 1..=t.
    Tree,
}

/// Settings of the releases of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// How each client's update is clipped.
    pub clipping: Clipping,
    /// Where the noise is added.
    pub placement: Placement,
    /// [clipping norm] -- Standard deviation of the noise; 0 adds none.
    pub noise_multiplier: f64,
    /// [client] -- Divisor of the sum: the expected cohort size, regardless of how many clients reported.
    pub expected_cohort: f64,
    /// [clipping norm] -- Spacing of the grid to which updates and discrete noise are confined; `None` draws continuous
    /// noise.
    pub grid: Option<f64>,
}

/// One client's contribution to a release.
#[derive(Clone, Debug)]
pub struct Part {
    /// The update, module by module.
    pub update: Vec<f64>,
    /// [1] -- Weight from 0 to 1; a contribution of weight 0 is left out.
    pub weight: f64,
    /// Selects the noise stream under local placement: the number of the task.
    pub entity: u64,
}

/// Result of a release.
#[derive(Clone, Debug, PartialEq)]
pub struct Released {
    /// The noised mean update.
    pub mean: Vec<f64>,
    /// [1] -- Clipping norm of the next release, if clipping is adaptive.
    pub next_norm: Option<f64>,
}

/// Tag of client streams. Streams of releases, clients and tree nodes must never coincide, so the two highest bits of
/// the entity number tell them apart; releases have neither bit set.
const CLIENT: u64 = 1 << 62;

/// Tag of streams of tree nodes.
const NODE: u64 = 2 << 62;

/// Position of a node's level in its entity number; the bits below hold the node's first release.
const LEVEL_SHIFT: u32 = 40;

impl Rule {
    /// Computes release number `release` (from 1) of a run from `parts`.
    ///
    /// `learned` is the clipping norm that the previous release returned; `modules` are the ranges of the modules in an
    /// update of `length` values.
    ///
    /// # Panics
    /// If a weight is above 1: it would break the sensitivity bound on which the guarantee rests.
    pub fn release(
        &self,
        parts: Vec<Part>,
        modules: &[Range<usize>],
        length: usize,
        learned: Option<f64>,
        source: &NoiseSource,
        release: u64,
    ) -> Released {
        let norm = self.clipping.norm(learned);
        let deviation = self.clipping.noise_on_sum(self.noise_multiplier) * norm;
        let mut sum = vec![0.0; length];
        let mut unclipped = 0;
        let mut reported = 0;
        for mut part in parts.into_iter().filter(|part| part.weight > 0.0) {
            reported += 1;
            unclipped += usize::from(self.bound(&mut part, modules, norm));
            if self.placement == Placement::Local {
                self.add_noise(&mut source.stream(CLIENT | part.entity), &mut part.update, deviation, norm);
            }
            for (sum, value) in sum.iter_mut().zip(&part.update) {
                *sum += value;
            }
        }
        let mut stream = source.stream(release);
        // The noise of the count is drawn first, so that it does not depend on the number of values.
        let [count_noise, _] = stream.normals();
        match self.placement {
            Placement::Central => self.add_noise(&mut stream, &mut sum, deviation, norm),
            Placement::Local => {}
            Placement::Tree => self.exchange_nodes(&mut sum, source, release, deviation, norm),
        }
        // A divisor that followed the actual cohort would itself depend on who took part, without any noise.
        for value in &mut sum {
            *value /= self.expected_cohort;
        }
        let next_norm = match &self.clipping {
            Clipping::Adaptive(rule) => {
                Some(rule.next_norm(norm, unclipped, reported, self.expected_cohort, count_noise))
            }
            Clipping::Fixed { .. } | Clipping::PerLayer { .. } => None,
        };
        Released { mean: sum, next_norm }
    }

    /// Bounds the update of `part` in place by `norm`. Returns whether it was within the norm before.
    fn bound(&self, part: &mut Part, modules: &[Range<usize>], norm: f64) -> bool {
        assert!(part.weight <= 1.0, "a weight of {} breaks the bound on a client", part.weight);
        // Clipping, a weight of at most 1, and rounding toward zero: none of the three lengthens the update, so one
        // client moves the sum by at most the clipping norm.
        let is_within = self.clipping.clip(&mut part.update, modules, norm);
        for value in &mut part.update {
            *value *= part.weight;
        }
        self.onto_grid(&mut part.update, norm);
        is_within
    }

    /// Rounds `update` in place toward zero onto the grid, which never increases its norm.
    fn onto_grid(&self, update: &mut [f64], norm: f64) {
        if let Some(grid) = self.grid {
            let step = grid * norm;
            for value in update {
                *value = libm::trunc(*value / step) * step;
            }
        }
    }

    /// Adds noise of standard deviation `deviation` to `values` in place: discrete on a grid, else continuous.
    fn add_noise(&self, stream: &mut NoiseStream, values: &mut [f64], deviation: f64, norm: f64) {
        if deviation == 0.0 {
            return;
        }
        match self.grid {
            None => stream.add_gaussian(values, deviation),
            Some(grid) => {
                let step = grid * norm;
                let points = discrete_deviation(deviation / norm, grid);
                // Values are multiples of the step up to rounding. Noise is added to the integer multiples, where sums
                // are exact, so the result has the distribution for which the discrete Gaussian was analyzed.
                for value in values {
                    let point = libm::round(*value / step) as i64 + stream.discrete_gaussian(points);
                    *value = point as f64 * step;
                }
            }
        }
    }

    /// Adds the noise of the tree nodes that cover releases 1..=`release`, and subtracts that of the nodes that cover
    /// 1..=`release - 1`, so that the prefix sum of all releases carries exactly the noise of the current nodes.
    fn exchange_nodes(&self, sum: &mut [f64], source: &NoiseSource, release: u64, deviation: f64, norm: f64) {
        // A node's noise is not stored: its stream is drawn again from the node's level and first release.
        for (sign, upto) in [(1.0, release), (-1.0, release - 1)] {
            for (level, first) in nodes(upto) {
                let mut noise = vec![0.0; sum.len()];
                let entity = NODE | u64::from(level) << LEVEL_SHIFT | first;
                self.add_noise(&mut source.stream(entity), &mut noise, deviation, norm);
                for (sum, noise) in sum.iter_mut().zip(noise) {
                    *sum += sign * noise;
                }
            }
        }
    }
}

/// Returns the parameter of the discrete Gaussian [grid point], rounded up so that there is no less noise than charged.
///
/// # Panics
/// If the grid is too fine for the sampler, whose parameter is at most [`DEVIATION_MAX`].
pub fn discrete_deviation(noise_multiplier: f64, grid: f64) -> u64 {
    let points = libm::ceil(noise_multiplier / grid).max(1.0);
    assert!(points <= DEVIATION_MAX as f64, "a grid of {grid} is too fine");
    points as u64
}

/// Returns the nodes of a binary tree that cover the first `count` leaves: level and first leaf of each.
fn nodes(count: u64) -> impl Iterator<Item = (u32, u64)> {
    // Each set bit of `count` is one complete subtree of that level; the bits above it give its first leaf.
    let levels = (0..u64::BITS).rev().filter(move |level| count >> level & 1 == 1);
    levels.map(move |level| (level, if level + 1 < 64 { count >> (level + 1) << (level + 1) } else { 0 }))
}

/// Returns the number of levels of a tree over `releases` releases: the most nodes to which one release contributes.
pub fn levels(releases: u64) -> u32 {
    u64::BITS - releases.leading_zeros()
}

#[cfg(test)]
mod tests {
    use fedreplay_sim::Seed;
    use proptest::prelude::*;

    use super::super::clipping::{AdaptiveClipping, l2};
    use super::*;

    const SOURCE: NoiseSource = NoiseSource::Seeded(Seed(3));

    fn rule(clipping: Clipping, placement: Placement, noise_multiplier: f64) -> Rule {
        Rule { clipping, placement, noise_multiplier, expected_cohort: 1.0, grid: None }
    }

    fn part(update: Vec<f64>, weight: f64) -> Part {
        Part { update, weight, entity: 1 }
    }

    fn released(rule: &Rule, parts: Vec<Part>, length: usize, release: u64) -> Vec<f64> {
        let modules = [0..length / 2, length / 2..length];
        rule.release(parts, &modules, length, None, &SOURCE, release).mean
    }

    fn clippings() -> impl Strategy<Value = Clipping> {
        (0.01f64..10.0, 0..3).prop_map(|(norm, kind)| match kind {
            0 => Clipping::Fixed { norm },
            1 => Clipping::PerLayer { norm },
            _ => {
                Clipping::Adaptive(AdaptiveClipping { initial_norm: norm, quantile: 0.5, rate: 0.2, count_noise: 1.0 })
            }
        })
    }

    proptest! {
        #[test]
        fn removal_of_one_client_moves_the_noiseless_sum_by_at_most_the_bound(
            clipping in clippings(),
            updates in prop::collection::vec((prop::collection::vec(-1e6f32..1e6, 8), 0.0f64..=1.0), 1..6),
            grid in prop::option::of(1e-4f64..0.3),
        ) {
            let rule = Rule { grid, ..rule(clipping, Placement::Central, 0.0) };
            let parts: Vec<Part> = updates.iter()
                .map(|(update, weight)| part(update.iter().map(|&x| f64::from(x)).collect(), *weight)).collect();
            let whole = released(&rule, parts.clone(), 8, 1);
            for removed in 0..parts.len() {
                let mut others = parts.clone();
                others.remove(removed);
                let rest = released(&rule, others, 8, 1);
                let moved: Vec<f64> = whole.iter().zip(&rest).map(|(a, b)| a - b).collect();
                // Sums of a few clipped updates round at 1e-16 of themselves.
                prop_assert!(l2(&moved) <= clipping.norm(None) * (1.0 + 1e-13), "{} > {}", l2(&moved), clipping.norm(None));
            }
        }

        #[test]
        fn a_clipped_update_is_never_longer_than_its_bound(
            clipping in clippings(), update in prop::collection::vec(-1e30f32..1e30, 9), scale in -60i32..0,
        ) {
            let modules = [0..3, 3..4, 4..9];
            let mut clipped: Vec<f64> = update.iter().map(|&x| f64::from(x) * 2f64.powi(scale)).collect();
            let norm = clipping.norm(None);
            clipping.clip(&mut clipped, &modules, norm);
            prop_assert!(l2(&clipped) <= norm);
        }
    }

    #[test]
    fn central_noise_is_added_once_whoever_came() {
        let rule = Rule { expected_cohort: 4.0, ..rule(Clipping::Fixed { norm: 2.0 }, Placement::Central, 1.5) };
        let none = released(&rule, vec![], 50_000, 1);
        let variance = none.iter().map(|x| x * x).sum::<f64>() / 50_000.0;
        // (1.5 norms of 2, over a cohort of 4) squared.
        assert!((variance / 0.5625 - 1.0).abs() < 0.03, "{variance}");
        let three = released(&rule, vec![part(vec![0.0; 50_000], 1.0); 3], 50_000, 1);
        assert_eq!(none, three);
        assert_ne!(none, released(&rule, vec![], 50_000, 2));
    }

    #[test]
    fn local_noise_grows_with_the_clients() {
        let rule = rule(Clipping::Fixed { norm: 1.0 }, Placement::Local, 1.0);
        let parts = (0..4).map(|entity| Part { update: vec![0.0; 50_000], weight: 1.0, entity }).collect();
        let sum = released(&rule, parts, 50_000, 1);
        let variance = sum.iter().map(|x| x * x).sum::<f64>() / 50_000.0;
        assert!((variance / 4.0 - 1.0).abs() < 0.03, "{variance}");
    }

    #[test]
    fn a_tree_leaves_the_noise_of_the_nodes_that_cover_all_releases() {
        assert_eq!(nodes(6).collect::<Vec<_>>(), [(2, 0), (1, 4)]);
        assert_eq!((levels(1), levels(6), levels(8)), (1, 3, 4));
        let rule = rule(Clipping::Fixed { norm: 1.0 }, Placement::Tree, 1.0);
        let mut total = vec![0.0; 20_000];
        for release in 1..=8u64 {
            let mean = released(&rule, vec![], total.len(), release);
            total.iter_mut().zip(mean).for_each(|(total, value)| *total += value);
            let variance = total.iter().map(|x| x * x).sum::<f64>() / total.len() as f64;
            let expected = f64::from(release.count_ones());
            assert!((variance / expected - 1.0).abs() < 0.05, "{release}: {variance}");
        }
    }

    #[test]
    fn discrete_noise_stays_on_the_grid_with_the_same_variance() {
        let rule = Rule { grid: Some(0.01), ..rule(Clipping::Fixed { norm: 2.0 }, Placement::Central, 1.0) };
        let sum = released(&rule, vec![part(vec![0.013; 20_000], 1.0)], 20_000, 1);
        assert!(sum.iter().all(|x| (x / 0.02 - (x / 0.02).round()).abs() < 1e-9));
        let variance = sum.iter().map(|x| x * x).sum::<f64>() / 20_000.0;
        assert!((variance / 4.0 - 1.0).abs() < 0.05, "{variance}");
    }

    #[test]
    #[should_panic(expected = "breaks the bound")]
    fn a_weight_above_one_is_refused() {
        released(&rule(Clipping::Fixed { norm: 1.0 }, Placement::Central, 0.0), vec![part(vec![1.0; 4], 1.1)], 4, 1);
    }
}
