//! Fields of clients that attack.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::unit;
use crate::scenario::range;

/// Clients that send something else than their trained update. `docs/robust.md` has the formulas.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[serde(rename = "Attackers")]
pub struct AttackersSpec {
    /// Clients that attack.
    pub clients: AttackingClients,
    /// Change that they send.
    pub attack: AttackSpec,
    /// Updates that they know of. Attacks that read none ignore it.
    #[serde(default)]
    pub knowledge: Knowledge,
    /// Times at which their updates arrive. `Honest` is not written out.
    #[serde(default, skip_serializing_if = "AttackTiming::is_honest")]
    #[schemars(extend("default" = "Honest"))]
    pub timing: AttackTiming,
}

/// Selection of the clients that attack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub enum AttackingClients {
    /// [clients] This number of clients, drawn at random from the seed -- at least 1.
    Number(#[serde(deserialize_with = "range::at_least_one")] u32),
    /// [1] This share of the clients, rounded down to a number, drawn at random from the seed -- above 0, at most 1.
    Share(#[serde(deserialize_with = "range::positive_share")] f64),
    /// Clients by their ids in the data.
    Ids(Vec<String>),
}

/// Change that an attacker sends in the place of its own.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[serde(rename = "Attack")]
pub enum AttackSpec {
    /// Its own change times -`factor`.
    SignFlip {
        /// [1] Factor -- above 0.
        #[serde(default = "unit", deserialize_with = "range::positive")]
        factor: f64,
    },
    /// Its own change times `factor`.
    Scaling {
        /// [1] Factor -- above 0.
        #[serde(deserialize_with = "range::positive")]
        factor: f64,
    },
    /// Its own change, scaled up so that the mean of the round becomes that of the attackers if honest changes cancel out
    /// (Bagdasaryan et al. 2020).
    ModelReplacement,
    /// Gaussian noise instead of a change.
    Noise {
        /// [1] Standard deviation of each value -- above 0.
        #[serde(deserialize_with = "range::positive")]
        deviation: f64,
    },
    /// A little is enough: mean - z times the deviation, by coordinate, of the known changes (Baruch et al. 2019).
    Alie {
        /// [deviations] z; `None` is the paper's, from the number of updates and attackers of the round -- above 0.
        #[serde(default, deserialize_with = "range::positive_or_none")]
        z: Option<f64>,
    },
    /// Inner product manipulation: the mean of the known changes times -`factor` (IPM, Xie et al. 2020).
    InnerProduct {
        /// [1] Factor -- above 0.
        #[serde(deserialize_with = "range::positive")]
        factor: f64,
    },
    /// Mean of the known changes, moved as far as it is no farther from any of them than two of them are from each other
    /// (Shejwalkar and Houmansadr 2021).
    MinMax {
        /// Direction of the move.
        #[serde(default)]
        direction: MinMaxDirection,
    },
}

/// Direction in which the min-max attack moves the mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MinMaxDirection {
    /// Against the mean.
    #[default]
    Unit,
    /// Against the deviation of each coordinate.
    Deviation,
    /// Against the sign of each coordinate of the mean.
    Sign,
}

/// Times at which the updates of attackers arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AttackTiming {
    /// Those that follow from their devices and links.
    #[default]
    Honest,
    /// As early as can be: they have devices of 10^18 FLOP/s without variation, dropout and crashes, and links of 100 Tbit/s without
    /// latency. Links of the server, of edges and of the network are shared with them as with all.
    AlwaysFirst,
    /// Together: an attacker keeps its finished update back until every attacker that has a task has finished, and the
    /// buffer has room for the updates of all. `Buffered` only.
    SameBuffer,
}

impl AttackTiming {
    /// Returns whether it is the default.
    pub fn is_honest(&self) -> bool {
        *self == Self::Honest
    }
}

/// Updates that attackers know of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Knowledge {
    /// The updates of all honest clients in their round or buffer.
    #[default]
    Round,
    /// Their own updates, by honest training, in their round or buffer.
    Own,
}
