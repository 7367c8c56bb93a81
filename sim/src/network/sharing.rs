//! Weights of flows that share links.

use super::{FlowWork, Rate};
use crate::kernel::Span;
use crate::random::Quantiles;
use serde::{Deserialize, Serialize};

/// Weights by which flows share links. By default all are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sharing {
    /// Weights before noise.
    pub weights: Weights,
    /// [10^-9] -- Factor on the weight of a transfer, drawn once for each; above zero. `None` is no noise.
    pub noise: Option<Quantiles>,
}

/// Weights of flows before noise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Weights {
    /// Equal shares.
    #[default]
    Equal,
    /// In inverse proportion to the round-trip time of a flow, as connections of TCP Reno with equal losses share a link (Mathis, Semke,
    /// Mahdavi and Ott, "The macroscopic behavior of the TCP congestion avoidance algorithm", CCR 1997: rate = C segment / (round trip
    /// x sqrt(loss))).
    ByRoundTrip {
        /// Least round-trip time: shorter ones count as this; above zero.
        least: Span,
        /// [byte] -- Queue before each link on the way of the data, whose time at the link's capacity adds to the round trip. Twice
        /// SimGrid's `network/weight-S`.
        queue_bytes: u64,
    },
}

/// [10^-9] -- Factor of a weight without noise, and the weight of an equal share.
const ONE_PPB: u64 = 1_000_000_000;

/// [ns] -- A round trip has this number divided by its nanoseconds as its weight: a second has 10^9.
const WEIGHT_NS: u64 = 1_000_000_000_000_000_000;

impl Sharing {
    /// Returns whether all flows have the same weight.
    pub fn is_equal(&self) -> bool {
        self.weights == Weights::Equal && self.noise.is_none()
    }

    /// Returns the weight of a flow whose way and way back have these latencies together, and whose data cross links of these capacities.
    /// `draw` is the uniform number of its noise.
    pub fn weight(&self, latencies: Span, capacities: &[Rate], draw: u64) -> u64 {
        let base = match self.weights {
            Weights::Equal => ONE_PPB,
            Weights::ByRoundTrip { least, queue_bytes } => {
                let round_trip = round_trip(latencies, capacities, queue_bytes);
                WEIGHT_NS / round_trip.max(least).0
            }
        };
        let factor = self.noise.as_ref().map_or(ONE_PPB, |table| table.at(draw));
        let weight = u128::from(base) * u128::from(factor) / u128::from(ONE_PPB);
        u64::try_from(weight).unwrap_or(u64::MAX).max(1)
    }
}

/// Returns the sum of latencies and of the times that queues of this size need at these capacities. A link without capacity has no
/// queue.
fn round_trip(latencies: Span, capacities: &[Rate], queue_bytes: u64) -> Span {
    let queue = FlowWork::of_bytes(queue_bytes);
    let mut total = latencies.0;
    for capacity in capacities {
        let waits = queue.duration(*capacity).unwrap_or(Span::ZERO);
        total = total.saturating_add(waits.0);
    }
    Span(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_round_trip(queue_bytes: u64) -> Sharing {
        Sharing { weights: Weights::ByRoundTrip { least: Span::from_millis(1), queue_bytes }, noise: None }
    }

    #[test]
    fn a_weight_is_the_inverse_of_the_round_trip() {
        let weight = |ms| by_round_trip(0).weight(Span::from_millis(ms), &[], 0);
        assert_eq!([1_000, 500, 20, 1].map(weight), [1, 2, 50, 1_000].map(|share| share * ONE_PPB));
        assert_eq!(weight(0), weight(1));
        assert_eq!(by_round_trip(0).weight(Span(u64::MAX), &[], 0), 1);
    }

    #[test]
    fn queues_add_their_time_at_each_link() {
        // 1 MB at 10 MB/s and at 2.5 MB/s takes 0.1 and 0.4 s.
        let capacities = [10_000_000, 2_500_000, 0].map(Rate::from_bytes_per_s);
        assert_eq!(by_round_trip(1_000_000).weight(Span::from_millis(500), &capacities, 0), ONE_PPB);
    }

    #[test]
    fn noise_multiplies_any_weight() {
        let noise = Quantiles::new(vec![ONE_PPB / 4, ONE_PPB, 3 * ONE_PPB]);
        let equal = Sharing { noise: noise.clone(), ..Sharing::default() };
        let half = 1 << 63;
        assert_eq!(
            [0, half, half + half / 2].map(|draw| equal.weight(Span::ZERO, &[], draw)),
            [250_000_000, ONE_PPB, 2 * ONE_PPB]
        );
        assert!(!equal.is_equal() && Sharing::default().is_equal());
        let noisy = Sharing { noise, ..by_round_trip(0) };
        assert_eq!(noisy.weight(Span::from_millis(500), &[], 0), ONE_PPB / 2);
    }
}
