//! Progressive filling: max-min fair rates of flows over any set of links. The reference that every faster form equals.

use super::Rate;

/// Demands that are alike: `count` flows, none faster than `cap`, each over all of `links`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand<'a> {
    /// How many flows.
    pub count: u64,
    /// The rate that each never exceeds.
    pub cap: Rate,
    /// The links that each crosses, by index.
    pub links: &'a [u32],
}

/// What is left of a link while rates are being fixed.
#[derive(Clone, Copy)]
struct Rest {
    rate: u64,
    flows: u64,
}

impl Rest {
    fn share(self) -> Option<u64> {
        (self.flows > 0).then(|| self.rate / self.flows)
    }
}

/// The rate of one flow of each demand, in their order.
///
/// All rates rise together. A flow stops at its cap, or when a link that it crosses is full; then the link's flows have
/// `floor(what is left / flows)` each. A cap that equals a link's share stops first; of links with equal shares, the
/// one with the lowest index.
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
        demands[*i].links.iter().for_each(|link| rests[*link as usize].flows += demands[*i].count);
    }
    let mut rates = vec![Rate::ZERO; demands.len()];
    // Fixing a flow below a link's share never lowers the share, so the least share found stays a lower bound.
    let (mut first, mut bound) = (0, None);
    while first < open.len() {
        let next = open[first];
        let cap = demands[next].cap.microbytes_per_s();
        if bound.is_none_or(|bound| cap > bound) {
            let shares = (0..rests.len()).filter_map(|link| Some((rests[link].share()?, link as u32)));
            let tightest = shares.min();
            bound = tightest.map(|(share, _)| share);
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

/// Gives each flow of `demand` the rate, and takes them out of what is left.
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
