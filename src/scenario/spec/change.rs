//! Changes of fields during a run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Change of fields from a round on. Earlier rounds are the same as without the change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// [rounds] First server round with the new values -- at least 2.
    pub at_round: u32,
    /// New values, each `path=value` as for `--set`.
    pub set: Vec<String>,
}
