//! Oort: prefers clients with high loss and short tasks, and explores new clients.
//!
//! Follows Lai et al., "Oort: efficient federated learning via guided participant selection" (OSDI 2021), algorithm 1,
//! with two simplifications: the statistical utility uses the mean loss of a task in place of the root mean square of
//! its samples' losses, and the preferred duration is a setting and not adapted by the pacer.

use super::{View, weighted};
use crate::kernel::Span;
use crate::random::{Permutation, Probability};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;

/// Settings of Oort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Oort {
    /// Initial fraction of a cohort to fill with clients that have no counted task; 0.9 in the paper.
    pub explore: Probability,
    /// Factor on this fraction after each selection; 0.98 in the paper.
    pub explore_decay: Probability,
    /// Lower bound of this fraction; 0.2 in the paper.
    pub explore_min: Probability,
    /// Task duration beyond which a client is penalized; above zero.
    pub preferred: Span,
    /// Exponent of the penalty; 2 in the paper.
    pub penalty: u32,
    /// Fraction of the utility at the cutoff that admits a client to the draw; 0.95 in the paper.
    pub cutoff: Probability,
}

impl Oort {
    /// Selects clients: known ones by utility, new ones uniformly.
    pub(super) fn select(&self, mut view: View<'_>) -> Vec<u32> {
        let explore_ppb = self.explore_ppb(view.memory.selections);
        view.memory.selections += 1;
        let candidates = view.candidates();
        let (known, unknown): (Vec<u32>, Vec<u32>) =
            candidates.into_iter().partition(|client| view.memory.last(*client).is_some());
        // If there are too few new clients, known ones take their places, and the other way around.
        let wanted = u64::from(view.wanted);
        let explored = (wanted * explore_ppb).div_ceil(u64::from(Probability::SCALE)).min(unknown.len() as u64);
        let exploited = (wanted - explored).min(known.len() as u64);
        let mut chosen = self.exploit(&mut view, known, exploited as usize);
        let more = (wanted - exploited) as usize;
        let fresh = Permutation::new(view.stream, unknown.len() as u32, more as u32).take(more);
        chosen.extend(fresh.map(|index| unknown[index as usize]));
        chosen
    }

    /// Returns the fraction of a cohort to explore [10^-9] after this many selections.
    fn explore_ppb(&self, selections: u32) -> u64 {
        let mut part = u64::from(self.explore.ppb());
        let least = u64::from(self.explore_min.ppb());
        for _ in 0..selections {
            if part <= least {
                break;
            }
            // Rounded down in every step: a power in floating point could differ between platforms.
            part = part * u64::from(self.explore_decay.ppb()) / u64::from(Probability::SCALE);
        }
        part.max(least)
    }

    /// Draws `count` clients in proportion to utility, among those whose utility is at least `cutoff` times that of the
    /// count-th best.
    fn exploit(&self, view: &mut View<'_>, known: Vec<u32>, count: usize) -> Vec<u32> {
        if count == 0 {
            return Vec::new();
        }
        let mut ranked: Vec<(u64, u32)> =
            known.into_iter().map(|client| (self.utility(view, client), client)).collect();
        ranked.sort_unstable_by_key(|(utility, client)| (Reverse(*utility), *client));
        let cut = u128::from(ranked[count - 1].0) * u128::from(self.cutoff.ppb()) / u128::from(Probability::SCALE);
        ranked.retain(|(utility, _)| u128::from(*utility) >= cut);
        let clients: Vec<u32> = (0..ranked.len() as u32).collect();
        let drawn = weighted::draw(&mut view.stream, &clients, count as u32, |index| ranked[index as usize].0);
        drawn.into_iter().map(|index| ranked[index as usize].1).collect()
    }

    /// Returns a client's utility: rows times loss, plus a bonus for clients not seen for long, times a penalty for
    /// slow ones. It is an integer number of millionths, so that no float decides an order, and is clamped to 1..=2^32,
    /// so that sums fit.
    fn utility(&self, view: &View<'_>, client: u32) -> u64 {
        let last = view.memory.last(client).expect("only clients with a counted task have a utility");
        let loss = (last.loss_nanonats as f64 / 1e9).min(1e3);
        let round = f64::from(view.round.max(1));
        // sqrt(0.1 ln R / L), for current round R and last round L; then (T / t)^penalty for a task of duration t > T.
        let bonus = libm::sqrt(0.1 * libm::log(round) / f64::from(last.round.max(1)));
        let slowness = last.duration_ns as f64 / self.preferred.0 as f64;
        let penalty = if slowness > 1.0 { libm::pow(slowness, -f64::from(self.penalty)) } else { 1.0 };
        let utility = (f64::from((view.samples)(client)) * loss + bonus) * penalty;
        (libm::rint(utility * 1e6) as u64).clamp(1, 1 << 32)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Selection;
    use super::super::testing::Bench;
    use super::*;

    fn oort(explore: f64) -> Oort {
        let p = |value| Probability::from_f64(value).unwrap();
        Oort {
            explore: p(explore),
            explore_decay: p(0.5),
            explore_min: p(0.1),
            preferred: Span(100),
            penalty: 2,
            cutoff: p(0.95),
        }
    }

    /// Rows are number + 1. Clients 0..6 have reported; 3 has by far the greatest loss, 5 is ten times too slow.
    fn bench() -> Bench {
        let mut bench = Bench::default();
        for client in 0..6 {
            bench.memory.count(client, 1, if client == 5 { 1_000 } else { 50 });
            bench.memory.report(client, if client == 3 { 900_000_000_000 } else { 1_000_000_000 });
        }
        bench
    }

    #[test]
    fn the_useful_and_fast_are_exploited() {
        let greedy = Selection::Oort(Oort { explore_min: Probability::ZERO, ..oort(0.0) });
        assert_eq!(bench().select(greedy, 1, 1), [3]);
        // Utilities 1, 2, 3, 3600, 5 and 6/100: the second best is 5, so 3 and 4 are admitted.
        assert_eq!(bench().select(greedy, 1, 2), [3, 4]);
    }

    #[test]
    fn exploring_takes_the_unknown_and_decays() {
        let mut bench = bench();
        let unknown = |chosen: Vec<u32>| chosen.into_iter().filter(|client| *client >= 6).count();
        let counts: Vec<usize> =
            (1..5).map(|round| unknown(bench.select(Selection::Oort(oort(1.0)), round, 4))).collect();
        assert_eq!(counts, [4, 2, 1, 1]);
    }
}
