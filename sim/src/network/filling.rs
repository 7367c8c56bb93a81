//! Progressive filling: max-min fair rates of flows over any set of links, by weight.
//!
//! This is the reference implementation, whose results every faster one equals.

use super::Rate;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// Claim of a flow on the links that it crosses: its own limit, and its weight against other flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Claim {
    /// Rate that the flow never exceeds.
    pub cap: Rate,
    /// Weight: on a full link, flows below their caps have rates in proportion to their weights. At least 1; only ratios matter.
    pub weight: u64,
}

impl Claim {
    /// Returns the claim of a flow that shares equally with all flows that have this weight.
    pub const fn equal(cap: Rate) -> Self {
        Self { cap, weight: 1 }
    }

    /// Compares the levels at which two claims reach their caps.
    fn compare_levels(&self, other: &Claim) -> Ordering {
        let left = u128::from(self.cap.microbytes_per_s()) * u128::from(other.weight);
        let right = u128::from(other.cap.microbytes_per_s()) * u128::from(self.weight);
        left.cmp(&right)
    }
}

/// A group of `count` equal flows, each with `claim` and crossing all of `links`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand<'a> {
    /// Number of flows.
    pub count: u64,
    /// Cap and weight of each flow.
    pub claim: Claim,
    /// Links that each flow crosses, by index.
    pub links: &'a [u32],
}

/// Common height of all rates that are not fixed yet: the rate of a flow with the weight `unit`.
#[derive(Clone, Copy)]
struct Level {
    rate: u128,
    unit: u64,
}

impl Level {
    /// Returns the rate of a flow of this weight, rounded down. The flow crosses a link whose share is at least this level.
    fn rate_of(self, weight: u64) -> u64 {
        // It fits: the level times the weights of all flows on the link is at most the link's capacity times the unit.
        divide(self.rate * u128::from(weight), u128::from(self.unit)) as u64
    }

    /// Returns whether a flow is at its cap before or when the level is reached.
    fn reaches_cap(self, claim: &Claim) -> bool {
        // A product that does not fit is above that of any cap.
        let height = self.rate.saturating_mul(u128::from(claim.weight));
        u128::from(claim.cap.microbytes_per_s()) * u128::from(self.unit) <= height
    }
}

/// Divides, in 64 bits where both numbers fit, which costs a fifth of a division of 128 bits.
fn divide(dividend: u128, divisor: u128) -> u128 {
    match (u64::try_from(dividend), u64::try_from(divisor)) {
        (Ok(dividend), Ok(divisor)) => u128::from(dividend / divisor),
        _ => dividend / divisor,
    }
}

/// Remaining capacity of a link, and the weights of its remaining flows, while rates are being fixed.
#[derive(Clone, Copy)]
struct Rest {
    rate: u64,
    weight: u128,
}

impl Rest {
    /// Returns the share of a flow of weight `unit`, rounded down, or `None` without flows.
    fn share(self, unit: u64) -> Option<u128> {
        (self.weight > 0).then(|| divide(u128::from(self.rate) * u128::from(unit), self.weight))
    }
}

/// Returns the rate of one flow of each demand, in the order of demands.
///
/// All rates rise together, in proportion to their flows' weights. A flow stops at its cap, or when a link that it crosses is full,
/// whose remaining flows then have that link's level: `floor(remaining capacity x unit / remaining weights)` for a flow of the greatest
/// weight, which is the unit, and `floor(level x weight / unit)` for others. If all weights are equal, that is
/// `floor(remaining capacity / remaining flows)` each. A cap that equals a link's share stops first; among links with equal levels, the
/// one with the lowest index.
///
/// # Panics
/// If a weight is zero.
///
/// # Examples
///
/// ```
/// use fedreplay_sim::Rate;
/// use fedreplay_sim::network::{Claim, Demand, max_min_rates};
///
/// // Five flows share a link of 100 Mbit/s; one of them has a slow link of its own.
/// let mbit = |rate: u64| Rate::from_bits_per_s(rate * 1_000_000);
/// let slow = Demand { count: 1, claim: Claim::equal(mbit(8)), links: &[0] };
/// let fast = Demand { count: 4, claim: Claim::equal(mbit(50)), links: &[0] };
/// assert_eq!(max_min_rates(&[mbit(100)], &[slow, fast]), [mbit(8), mbit(23)]);
///
/// // Two flows of weights 1 and 2.
/// let light = Demand { count: 1, claim: Claim { cap: mbit(100), weight: 1 }, links: &[0] };
/// let heavy = Demand { count: 1, claim: Claim { cap: mbit(100), weight: 2 }, links: &[0] };
/// assert_eq!(max_min_rates(&[mbit(90)], &[light, heavy]), [mbit(30), mbit(60)]);
/// ```
pub fn max_min_rates(capacities: &[Rate], demands: &[Demand<'_>]) -> Vec<Rate> {
    let mut rests: Vec<Rest> =
        capacities.iter().map(|capacity| Rest { rate: capacity.microbytes_per_s(), weight: 0 }).collect();
    let mut open: Vec<usize> = (0..demands.len()).filter(|i| demands[*i].count > 0).collect();
    open.sort_by(|a, b| demands[*a].claim.compare_levels(&demands[*b].claim));
    let mut unit = 1;
    for i in &open {
        let demand = &demands[*i];
        assert!(demand.claim.weight > 0, "a flow has a weight above zero");
        unit = unit.max(demand.claim.weight);
        for link in demand.links {
            rests[*link as usize].weight += demand.weight();
        }
    }
    let mut rates = vec![Rate::ZERO; demands.len()];
    // `open[first..]` are the demands without a rate, by the levels of their caps, ascending. Fixing a flow at or below a link's
    // level never lowers the level, so the lowest level found remains a lower bound, and caps up to it can be fixed without
    // another search.
    let mut first = 0;
    let mut bound: Option<Level> = None;
    while first < open.len() {
        let next = open[first];
        let claim = &demands[next].claim;
        if bound.is_none_or(|bound| !bound.reaches_cap(claim)) {
            let shares = (0..rests.len()).filter_map(|link| Some((rests[link].share(unit)?, link as u32)));
            let tightest = shares.min().map(|(rate, link)| (Level { rate, unit }, link));
            bound = tightest.map(|(level, _)| level);
            // The tightest link is full before the lowest cap is reached: all of its flows get their shares.
            if let Some((level, link)) = tightest.filter(|(level, _)| !level.reaches_cap(claim)) {
                open.drain(..first);
                first = 0;
                open.retain(|i| {
                    let crosses = demands[*i].links.contains(&link);
                    if crosses {
                        rates[*i] = fix(&demands[*i], level.rate_of(demands[*i].claim.weight), &mut rests);
                    }
                    !crosses
                });
                continue;
            }
        }
        rates[next] = fix(&demands[next], claim.cap.microbytes_per_s(), &mut rests);
        first += 1;
    }
    rates
}

impl Demand<'_> {
    /// Returns the weight of all flows together.
    fn weight(&self) -> u128 {
        u128::from(self.claim.weight) * u128::from(self.count)
    }
}

/// Fixes the rate of each flow of `demand` and subtracts the flows from the links that they cross.
fn fix(demand: &Demand<'_>, rate: u64, rests: &mut [Rest]) -> Rate {
    for link in demand.links {
        let rest = &mut rests[*link as usize];
        let taken = rate.checked_mul(demand.count).expect("flows at a link's share fit into the link");
        rest.rate = rest.rate.checked_sub(taken).expect("rates never exceed a link's capacity");
        rest.weight -= demand.weight();
    }
    Rate::from_microbytes_per_s(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rates of flows, each by its cap and its links.
    fn rates(capacities: &[u64], flows: &[(u64, &[u32])]) -> Vec<u64> {
        let flows: Vec<_> = flows.iter().map(|(cap, links)| (*cap, 1, *links)).collect();
        weighted(capacities, &flows)
    }

    /// Rates of flows, each by its cap, its weight and its links.
    fn weighted(capacities: &[u64], flows: &[(u64, u64, &[u32])]) -> Vec<u64> {
        let capacities: Vec<Rate> = capacities.iter().map(|c| Rate::from_microbytes_per_s(*c)).collect();
        let mut demands = Vec::new();
        for (cap, weight, links) in flows {
            let claim = Claim { cap: Rate::from_microbytes_per_s(*cap), weight: *weight };
            demands.push(Demand { count: 1, claim, links });
        }
        max_min_rates(&capacities, &demands).into_iter().map(Rate::microbytes_per_s).collect()
    }

    /// The example of Bertsekas and Gallager, "Data Networks", section 6.5: a long flow, and short ones on each link.
    #[test]
    fn a_flow_stops_at_its_first_full_link() {
        assert_eq!(rates(&[100, 60], &[(1000, &[0, 1]), (1000, &[0]), (1000, &[1]), (1000, &[1])]), [20, 80, 20, 20]);
    }

    #[test]
    fn caps_stop_first() {
        assert_eq!(rates(&[100], &[(10, &[0]), (45, &[0]), (99, &[0])]), [10, 45, 45]);
        assert_eq!(rates(&[7], &[(9, &[0]), (9, &[0])]), [3, 3]);
        assert_eq!(rates(&[], &[(9, &[])]), [9]);
    }

    #[test]
    fn rates_are_in_proportion_to_weights() {
        assert_eq!(weighted(&[90], &[(1000, 1, &[0]), (1000, 2, &[0])]), [30, 60]);
        // Only ratios matter, to the greatest numbers.
        assert_eq!(weighted(&[90], &[(1000, u64::MAX / 2, &[0]), (1000, u64::MAX - 1, &[0])]), [30, 60]);
        assert_eq!(weighted(&[u64::MAX], &[(u64::MAX, u64::MAX, &[0])]), [u64::MAX]);
        // Rounded down: the level of the unit, 3, is floor(100 x 3 / 6) = 50, and floor(50 x 1 / 3) = 16.
        assert_eq!(weighted(&[100], &[(99, 1, &[0]), (99, 2, &[0]), (99, 3, &[0])]), [16, 33, 50]);
    }

    #[test]
    fn what_a_capped_flow_leaves_is_shared_by_weight() {
        // The heavy flow stops at 40; the light one gets the rest, although its weight is half.
        assert_eq!(weighted(&[90], &[(1000, 1, &[0]), (40, 2, &[0])]), [50, 40]);
        // The light flow stops at 10 of its 30.
        assert_eq!(weighted(&[90], &[(10, 1, &[0]), (1000, 2, &[0])]), [10, 80]);
        // A greater cap may be reached first: at level 10 for a weight of 1, the flow of weight 5 has 50.
        assert_eq!(weighted(&[100], &[(40, 1, &[0]), (50, 5, &[0]), (1000, 1, &[0])]), [25, 50, 25]);
    }

    /// The long flow, of weight 1, has 20 of the link of 60, whose other flow has weight 2; the first link has 80 left.
    #[test]
    fn a_weighted_flow_stops_at_its_first_full_link() {
        let flows: [(u64, u64, &[u32]); 3] = [(1000, 1, &[0, 1]), (1000, 1, &[0]), (1000, 2, &[1])];
        assert_eq!(weighted(&[100, 60], &flows), [20, 80, 40]);
    }
}
