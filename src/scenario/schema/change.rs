//! Fields that change in the middle of a run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Fields that have other values from a round on. What came before is what it would have been without the change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// [rounds] The first round of the server under the new values -- at least 2.
    pub at_round: u32,
    /// The new values, each `path=value` as `--set` takes it.
    pub set: Vec<String>,
}
