//! Fields of the codecs of what clients send and receive.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scenario::range;

/// Lossy code of the changes that clients send, or of the models that they receive, whose size follows from the number of values.
/// `docs/compression.md` has formulas and sizes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[serde(rename = "Codec")]
pub enum CodecSpec {
    /// The values of largest magnitude of the whole change, with their places (Stich et al. 2018).
    TopK {
        /// [1] Share of the values that is sent, rounded down to a number of values, at least one -- above 0, at most 1.
        #[serde(deserialize_with = "range::positive_share")]
        share: f64,
        /// Whether a client adds what it has not sent to its next change.
        #[serde(default = "yes")]
        error_feedback: bool,
    },
    /// Magnitudes in units of their bucket's L2 norm / `levels`, rounded up or down at random so that the mean is exact
    /// (QSGD, Alistarh et al. 2017).
    Qsgd {
        /// [levels] Levels above zero -- 1 to 32,767.
        #[serde(deserialize_with = "range::at_least_one")]
        levels: u32,
        /// [values] Neighboring values of a matrix that share a norm -- at least 1.
        #[serde(default = "bucket", deserialize_with = "range::at_least_one")]
        bucket: u32,
    },
    /// The sign of each value, and the mean magnitude of each matrix (EF-signSGD, Karimireddy et al. 2019).
    SignSgd {
        /// Whether a client adds what it has not sent to its next change, without which signSGD need not converge.
        #[serde(default = "yes")]
        error_feedback: bool,
    },
    /// Whole numbers from -127 to 127, scaled by the absolute maximum of each 64 neighboring values of a matrix.
    Int8,
    /// NormalFloat4 (Dettmers et al. 2023), scaled by the absolute maximum of each 64 neighboring values of a matrix.
    Nf4,
}

impl CodecSpec {
    /// Returns its name in a scenario.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TopK { .. } => "TopK",
            Self::Qsgd { .. } => "Qsgd",
            Self::SignSgd { .. } => "SignSgd",
            Self::Int8 => "Int8",
            Self::Nf4 => "Nf4",
        }
    }

    /// Whether a client adds what it has not sent to its next change.
    pub fn has_error_feedback(&self) -> bool {
        match *self {
            Self::TopK { error_feedback, .. } | Self::SignSgd { error_feedback } => error_feedback,
            Self::Qsgd { .. } | Self::Int8 | Self::Nf4 => false,
        }
    }
}

fn yes() -> bool {
    true
}

fn bucket() -> u32 {
    512
}
