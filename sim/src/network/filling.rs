//! Progressive filling: max-min fair rates of flows over any set of links.
//!
//! This is the reference implementation, whose results every faster one equals.

use super::Rate;

/// A group of `count` equal flows, each limited to `cap` and crossing all of `links`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand<'a> {
    /// Number of flows.
    pub count: u64,
    /// Rate that each flow never exceeds.
    pub cap: Rate,
    /// Links that each flow crosses, by index.
    pub links: &'a [u32],
}

/// Remaining capacity and flows of a link while rates are being fixed.
#[derive(Clone, Copy)]
struct Rest {
    rate: u64,
    flows: u64,
}

impl Rest {
    /// Returns the equal share of each remaining flow, or `None` without flows.
    fn share(self) -> Option<u64> {
        self.rate.checked_div(self.flows)
    }
}

/// Returns the rate of one flow of each demand, in the order of demands.
///
/// All rates rise together. A flow stops at its cap, or when a link that it crosses is full, whose remaining flows then
/// have `floor(remaining capacity / remaining flows)` each. A cap that equals a link's share stops first; among links
/// with equal shares, the one with the lowest index.
///
/// # Examples
///
/// ```
/// use fedreplay_sim::Rate;
/// use fedreplay_sim::network::{Demand, max_min_rates};
///
/// // Five flows share a link of 100 Mbit/s; one of them has a slow link of its own.
/// let mbit = |rate: u64| Rate::from_bits_per_s(rate * 1_000_000);
/// let slow = Demand { count: 1, cap: mbit(8), links: &[0] };
/// let fast = Demand { count: 4, cap: mbit(50), links: &[0] };
/// assert_eq!(max_min_rates(&[mbit(100)], &[slow, fast]), [mbit(8), mbit(23)]);
/// ```
pub fn max_min_rates(capacities: &[Rate], demands: &[Demand<'_>]) -> Vec<Rate> {
    let mut rests: Vec<Rest> =
        capacities.iter().map(|capacity| Rest { rate: capacity.microbytes_per_s(), flows: 0 }).collect();
    let mut open: Vec<usize> = (0..demands.len()).filter(|i| demands[*i].count > 0).collect();
    open.sort_by_key(|i| demands[*i].cap);
    for i in &open {
        for link in demands[*i].links {
            rests[*link as usize].flows += demands[*i].count;
        }
    }
    let mut rates = vec![Rate::ZERO; demands.len()];
    // `open[first..]` are the demands without a rate, by ascending cap. Fixing a flow at or below a link's share never
    // lowers the share, so the smallest share found remains a lower bound, and caps up to it can be fixed without
    // another search.
    let mut first = 0;
    let mut bound = None;
    while first < open.len() {
        let next = open[first];
        let cap = demands[next].cap.microbytes_per_s();
        if bound.is_none_or(|bound| cap > bound) {
            let shares = (0..rests.len()).filter_map(|link| Some((rests[link].share()?, link as u32)));
            let tightest = shares.min();
            bound = tightest.map(|(share, _)| share);
            // The tightest link is full before the smallest cap is reached: all of its flows get the share.
            if let Some((share, link)) = tightest.filter(|(share, _)| *share < cap) {
                open.drain(..first);
                first = 0;
                open.retain(|i| {
                    let crosses = demands[*i].links.contains(&link);
                    if crosses {
                        rates[*i] = fix(&demands[*i], share, &mut rests);
                    }
                    !crosses
                });
                continue;
            }
        }
        rates[next] = fix(&demands[next], cap, &mut rests);
        first += 1;
    }
    rates
}

/// Fixes the rate of each flow of `demand` and subtracts the flows from the links that they cross.
fn fix(demand: &Demand<'_>, rate: u64, rests: &mut [Rest]) -> Rate {
    for link in demand.links {
        let rest = &mut rests[*link as usize];
        let taken = rate.checked_mul(demand.count).expect("flows at a link's share fit into the link");
        rest.rate = rest.rate.checked_sub(taken).expect("rates never exceed a link's capacity");
        rest.flows -= demand.count;
    }
    Rate::from_microbytes_per_s(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(capacities: &[u64], demands: &[(u64, &[u32])]) -> Vec<u64> {
        let capacities: Vec<Rate> = capacities.iter().map(|c| Rate::from_microbytes_per_s(*c)).collect();
        let demands: Vec<Demand> = demands
            .iter()
            .map(|(cap, links)| Demand { count: 1, cap: Rate::from_microbytes_per_s(*cap), links })
            .collect();
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
}
