//! Fields of the carbon of devices' energy: where the intensity of the electricity grid comes from.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::quantity::Duration;

/// Carbon of the energy that devices spend on tasks, by the intensity of the electricity grid. [time.md](time.md#carbon) says how it
/// is computed. It changes no time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[serde(rename = "Carbon")]
pub struct CarbonSpec {
    /// Table of intensities, in Parquet or CSV according to its name: `from_hour`, hours since the table's first midnight, in equal steps
    /// that fill whole days and then repeat; `grams_per_kwh`, from 0 to 10,000; and `region`, without which all regions have the same
    /// grid. Relative to the scenario file.
    pub intensity: PathBuf,
    /// [time] Time of the table at which virtual time begins -- within the table.
    #[serde(default)]
    pub starts_at: Duration,
    /// Region of the table for clients that have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_region: Option<String>,
}
