//! Distribution of losses over clients.

use serde::Serialize;

use super::losses::CurvePoint;
use super::statistics::{mean, quantile, worst_decile};

/// Distribution of losses over clients, of which each counts once.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Fairness {
    pub round: u32,
    pub clients: u64,
    pub least: f64,
    pub median: f64,
    pub mean: f64,
    /// Mean over the tenth of the clients with the greatest losses, at least one.
    pub worst_decile: f64,
    pub most: f64,
    /// 10th percentile.
    #[serde(skip)]
    pub p10: f64,
    /// 90th percentile.
    #[serde(skip)]
    pub p90: f64,
}

impl Fairness {
    /// Computes the distribution at a point of a run; `None` without losses of clients.
    pub fn of(point: &CurvePoint) -> Option<Self> {
        Self::of_losses(point.round, &point.client_losses())
    }

    /// Computes the distribution of these losses in ascending order, one per client.
    fn of_losses(round: u32, losses: &[f64]) -> Option<Self> {
        Some(Self {
            round,
            clients: losses.len() as u64,
            least: *losses.first()?,
            median: quantile(losses, 0.5)?,
            mean: mean(losses)?,
            worst_decile: worst_decile(losses)?,
            most: *losses.last()?,
            p10: quantile(losses, 0.1)?,
            p90: quantile(losses, 0.9)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_tenth_is_at_least_one_client() {
        assert_eq!(Fairness::of_losses(3, &[]), None);
        let one = Fairness::of_losses(3, &[2.0]).expect("a client");
        assert_eq!((one.least, one.median, one.worst_decile, one.most), (2.0, 2.0, 2.0, 2.0));
        let many: Vec<f64> = (1..=20).map(f64::from).collect();
        let many = Fairness::of_losses(3, &many).expect("clients");
        assert_eq!((many.least, many.median, many.mean, many.worst_decile), (1.0, 10.5, 10.5, 19.5));
    }
}
