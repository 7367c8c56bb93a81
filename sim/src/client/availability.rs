//! When a client can be reached, as a pure function of time.

use serde::{Deserialize, Serialize};

/// A class of availability.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Availability {
    /// At every instant.
    #[default]
    Always,
}
