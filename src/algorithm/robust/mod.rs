//! Robust aggregation: rules that take the place of the mean of a round's updates, and that a minority of attackers cannot
//! move at will.
//!
//! A rule sees each update as one vector, the change of all values of the adapter times the update's discount, and computes in
//! f64. Its result takes the place of the mean change, which the server's rule ([`super::ServerRule`]) applies.

mod changes;
mod clipping;
mod coordinates;
mod geometric_median;
mod krum;
#[cfg(test)]
mod tests;
mod trust;

use std::sync::Arc;

use serde::Serialize;

pub(super) use self::changes::Changes;
pub(super) use self::geometric_median::weighted_sum;
pub(super) use self::krum::{largest_squared_distance, squared_distance};
use super::averaging::{MeanUpdate, Update};
use super::server::ServerState;
use crate::adapter::Adapter;
use crate::scenario::{AggregationSpec, share_of};

/// Rule that takes the place of the mean.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum RobustRule {
    /// Coordinate-wise median.
    Median,
    /// Coordinate-wise mean without this share of the values at either end.
    TrimmedMean {
        trim: f64,
    },
    /// Mean of the `selected` updates with the smallest Krum scores; `None` selects n - f - 2 of n updates.
    Krum {
        byzantine: usize,
        selected: Option<usize>,
    },
    Bulyan {
        byzantine: usize,
    },
    /// Smoothed Weiszfeld iterations.
    GeometricMedian {
        smoothing: f64,
        iterations: u32,
    },
    /// Weighted mean of updates clipped to an L2 norm.
    NormBounding {
        bound: f64,
    },
    /// Steps from the aggregate of the round before, clipped to an L2 norm.
    CenteredClipping {
        radius: f64,
        iterations: u32,
    },
    /// Mean by trust scores, of updates with the length of the server's own.
    FlTrust,
}

/// State and update of the server that a rule reads besides the updates of clients.
#[derive(Clone, Copy, Default)]
pub struct RobustContext<'a> {
    /// State that [`RobustAggregation::next_center`] returned after the round before.
    pub center: Option<&'a Adapter>,
    /// Update that the server has trained by itself (FLTrust).
    pub root: Option<Update<'a>>,
}

/// Robust rule, and the number of updates that it needs.
///
/// # Examples
///
/// The median of three updates, of which one is an attacker's:
///
/// ```
/// use std::sync::Arc;
///
/// use fedreplay::adapter::{Adapter, Layout, Module};
/// use fedreplay::algorithm::{RobustAggregation, RobustContext, Update};
/// use fedreplay::scenario::AggregationSpec;
///
/// let module = Module { path: "m".into(), in_features: 1, out_features: 1 };
/// let layout = Layout { rank: 1, alpha: 1.0, rank_stabilized: false, has_core: false, modules: vec![module] };
/// let server = Adapter::zeros(Arc::new(layout));
/// let trained = [[1.0, 0.0], [2.0, 4.0], [1e30, -1e30]].map(|values| Adapter { values: values.to_vec(), ..server.clone() });
/// let updates: Vec<Update> = trained
///     .iter()
///     .map(|adapter| Update { adapter, base: &server, weight: 1.0, discount: 1.0 })
///     .collect();
/// let median = RobustAggregation::new(&AggregationSpec::Median).expect("it is not the mean");
/// let found = median.aggregate(2, RobustContext::default(), &updates);
/// assert_eq!(found.change, Some(vec![2.0, 0.0]));
/// // Each of the first two has the median of one of two coordinates.
/// assert_eq!(found.weights, [0.5, 0.5, 0.0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RobustAggregation {
    pub rule: RobustRule,
    /// [update] -- Fewest updates from which the rule makes a change.
    pub least_updates: u64,
}

impl RobustAggregation {
    /// Creates the rule that a scenario names; `None` for the mean.
    pub fn new(aggregation: &AggregationSpec) -> Option<Self> {
        let rule = match *aggregation {
            AggregationSpec::Mean => return None,
            AggregationSpec::Median => RobustRule::Median,
            AggregationSpec::TrimmedMean { trim } => RobustRule::TrimmedMean { trim },
            AggregationSpec::Krum { byzantine } => {
                RobustRule::Krum { byzantine: byzantine as usize, selected: Some(1) }
            }
            AggregationSpec::MultiKrum { byzantine, selected } => {
                RobustRule::Krum { byzantine: byzantine as usize, selected: selected.map(|count| count as usize) }
            }
            AggregationSpec::Bulyan { byzantine } => RobustRule::Bulyan { byzantine: byzantine as usize },
            AggregationSpec::GeometricMedian { smoothing, iterations } => {
                RobustRule::GeometricMedian { smoothing, iterations }
            }
            AggregationSpec::NormBounding { bound } => RobustRule::NormBounding { bound },
            AggregationSpec::CenteredClipping { radius, iterations } => {
                RobustRule::CenteredClipping { radius, iterations }
            }
            AggregationSpec::FlTrust { .. } => RobustRule::FlTrust,
        };
        Some(Self { rule, least_updates: aggregation.least_updates() })
    }

    /// Combines a round's updates of adapters with this number of values.
    ///
    /// The weights of the result are, for each update, the mean over all values of the factor with which the update's
    /// change is part of the result, its discount included. Updates without weight and those with values that are not
    /// finite are left out. If fewer are left than the rule needs, or if FLTrust trusts none, there is no change, and all
    /// weights are 0.
    pub fn aggregate(&self, parameters: usize, context: RobustContext, updates: &[Update]) -> MeanUpdate {
        let no_change = MeanUpdate { change: None, weights: vec![0.0; updates.len()] };
        let changes = Changes::new(parameters, updates);
        let count = changes.count();
        if (count as u64) < self.least_updates.max(1) {
            return no_change;
        }
        let (change, factors) = match self.rule {
            RobustRule::Median => coordinates::median(&changes),
            RobustRule::TrimmedMean { trim } => {
                // Below half by the scenario's range; the product with a large count may be rounded up to half.
                let trimmed = share_of(trim, count as u64) as usize;
                coordinates::trimmed_mean(&changes, trimmed.min((count - 1) / 2))
            }
            RobustRule::Krum { byzantine, selected } => {
                krum::multi_krum(&changes, byzantine, selected.unwrap_or(count - byzantine - 2))
            }
            RobustRule::Bulyan { byzantine } => krum::bulyan(&changes, byzantine),
            RobustRule::GeometricMedian { smoothing, iterations } => {
                geometric_median::geometric_median(&changes, smoothing, iterations)
            }
            RobustRule::NormBounding { bound } => clipping::norm_bounding(&changes, bound),
            RobustRule::CenteredClipping { radius, iterations } => {
                let center = match context.center {
                    Some(center) => center.values.iter().map(|&value| f64::from(value)).collect(),
                    None => vec![0.0; parameters],
                };
                clipping::centered_clipping(&changes, center, radius, iterations)
            }
            RobustRule::FlTrust => {
                let root = Changes::new(parameters, context.root.as_slice());
                match trust::fl_trust(&changes, &root) {
                    Some(found) => found,
                    None => return no_change,
                }
            }
        };
        MeanUpdate { change: Some(change), weights: changes.by_update(updates.len(), &factors) }
    }

    /// Returns the center of the next round's clipping, in the layout of `model`: the change of this round, or the center
    /// before it if there is none. `None` for rules without a center.
    pub fn next_center(
        &self,
        model: &Adapter,
        before: Option<&Arc<Adapter>>,
        change: Option<&[f64]>,
    ) -> Option<Arc<Adapter>> {
        match self.rule {
            RobustRule::CenteredClipping { .. } => match change {
                Some(change) => Some(ServerState::adapter_like(model, change)),
                None => before.cloned(),
            },
            _ => None,
        }
    }
}
