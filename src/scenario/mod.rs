//! A scenario: RON as written becomes a validated [`Scenario`] in which every default stands written out.
//!
//! Paths are read here and nowhere else; what they point to is opened by the rooms that need it, but for the catalog of
//! devices, whose classes become part of the scenario. No torch.

mod catalog;
mod check;
mod check_privacy;
mod cost;
mod error;
mod federation;
mod load;
mod overrides;
mod protocol;
mod quantity;
mod range;
mod spec;

pub use cost::TaskCosts;
pub use error::ScenarioError;
pub use federation::{ClientFacts, Clients, assign_groups, federation};
pub use load::Loaded;
pub use quantity::{Bandwidth, Bytes, Duration, QuantityError, Rate, Speed};
pub use spec::*;
