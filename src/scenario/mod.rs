//! A scenario: RON as written becomes a validated [`Scenario`] in which every default stands written out.
//!
//! Paths are read here and nowhere else; what they point to is opened by the rooms that need it. No torch.

mod error;
mod federation;
mod load;
mod overrides;
mod quantity;
mod range;
mod spec;

pub use error::ScenarioError;
pub use federation::{ClientFacts, assign_groups, federation};
pub use load::Loaded;
pub use quantity::{Bytes, Duration, QuantityError, Rate, Speed};
pub use spec::*;
