//! Fields of the rule that combines the updates of a round.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::quantity::Speed;
use super::unit;
use crate::scenario::range;

/// Rule that combines the updates of a round. `docs/robust.md` has the formulas, and says which rules use the weights of
/// `algorithm`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[serde(rename = "Aggregation")]
pub enum AggregationSpec {
    /// Weighted mean, which one attacker can move at will.
    #[default]
    Mean,
    /// Coordinate-wise median (Yin et al. 2018), without weights.
    Median,
    /// Coordinate-wise mean without the smallest and the largest values (Yin et al. 2018), without weights.
    TrimmedMean {
        /// [1] Share of the values that is left out at each end, rounded down to a number of values -- above 0, below 0.5.
        #[serde(deserialize_with = "range::below_half")]
        trim: f64,
    },
    /// The update with the nearest neighbors (Blanchard et al. 2017), without weights. A round needs 2 `byzantine` + 3 updates.
    Krum {
        /// [updates] Updates of a round that may be an attacker's.
        byzantine: u32,
    },
    /// Mean of the updates with the nearest neighbors (Blanchard et al. 2017), without weights. A round needs 2 `byzantine` +
    /// 3 updates.
    MultiKrum {
        /// [updates] Updates of a round that may be an attacker's.
        byzantine: u32,
        /// [updates] Updates that are averaged, at most those of a round less `byzantine` + 2. `None` is that number -- at
        /// least 1.
        #[serde(default, deserialize_with = "range::at_least_one_or_none")]
        selected: Option<u32>,
    },
    /// Updates selected by Krum, of which each coordinate is the mean of the values closest to the median (El Mhamdi et al.
    /// 2018), without weights. A round needs 4 `byzantine` + 3 updates.
    Bulyan {
        /// [updates] Updates of a round that may be an attacker's.
        byzantine: u32,
    },
    /// Weighted geometric median by the smoothed Weiszfeld algorithm (RFA, Pillutla et al. 2019).
    GeometricMedian {
        /// [1] Least L2 distance that counts -- above 0.
        #[serde(default = "millionth", deserialize_with = "range::positive")]
        smoothing: f64,
        /// Iterations -- 1 to 1,000.
        #[serde(default = "three", deserialize_with = "range::at_least_one")]
        iterations: u32,
    },
    /// Weighted mean of updates that are shortened to an L2 norm (Sun et al. 2019).
    NormBounding {
        /// [1] Greatest L2 norm of an update -- above 0.
        #[serde(deserialize_with = "range::positive")]
        bound: f64,
    },
    /// Steps from the aggregate of the round before toward the updates, each step shortened to an L2 norm (Karimireddy et al.
    /// 2021), without weights.
    CenteredClipping {
        /// [1] Greatest L2 distance from the center -- above 0.
        #[serde(default = "unit", deserialize_with = "range::positive")]
        radius: f64,
        /// Iterations in a round -- 1 to 1,000.
        #[serde(default = "one", deserialize_with = "range::at_least_one")]
        iterations: u32,
    },
    /// FLTrust (Cao et al. 2021), without weights: in each round, the server trains on `data.root_file` from the model that
    /// the clients get. Each update is brought to the length of the server's own one, and they are averaged by their
    /// cosine with it, those with a cosine below 0 left out. `Synchronous` only.
    FlTrust {
        /// [FLOP/s] Effective speed of the server in training, which takes the same number of steps as a client's -- above 0.
        speed: Speed,
    },
}

impl AggregationSpec {
    /// Returns whether it is the weighted mean.
    pub fn is_mean(&self) -> bool {
        *self == Self::Mean
    }

    /// Returns the name of the rule, as in a scenario.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Mean => "Mean",
            Self::Median => "Median",
            Self::TrimmedMean { .. } => "TrimmedMean",
            Self::Krum { .. } => "Krum",
            Self::MultiKrum { .. } => "MultiKrum",
            Self::Bulyan { .. } => "Bulyan",
            Self::GeometricMedian { .. } => "GeometricMedian",
            Self::NormBounding { .. } => "NormBounding",
            Self::CenteredClipping { .. } => "CenteredClipping",
            Self::FlTrust { .. } => "FlTrust",
        }
    }

    /// [update] -- Returns the fewest updates of a round from which the rule makes a change.
    pub fn least_updates(&self) -> u64 {
        match *self {
            Self::Mean
            | Self::Median
            | Self::GeometricMedian { .. }
            | Self::NormBounding { .. }
            | Self::CenteredClipping { .. }
            | Self::FlTrust { .. } => 1,
            // The smallest n of which the share trim, rounded down, is at least one value.
            Self::TrimmedMean { trim } => {
                let near = (1.0 / trim).floor() as u64;
                if share_of(trim, near) >= 1 { near } else { near.saturating_add(1) }
            }
            Self::Krum { byzantine } | Self::MultiKrum { byzantine, selected: None } => 2 * u64::from(byzantine) + 3,
            Self::MultiKrum { byzantine, selected: Some(selected) } => {
                let byzantine = u64::from(byzantine);
                (2 * byzantine + 3).max(u64::from(selected) + byzantine + 2)
            }
            Self::Bulyan { byzantine } => 4 * u64::from(byzantine) + 3,
        }
    }
}

/// Returns a share of a number of things, rounded down. A share such as 0.29 has no exact binary form, and 0.29 of 100 are 29.
pub fn share_of(share: f64, count: u64) -> u64 {
    (share * count as f64 * (1.0 + 4.0 * f64::EPSILON)).floor() as u64
}

fn millionth() -> f64 {
    1e-6
}

fn three() -> u32 {
    3
}

fn one() -> u32 {
    1
}
