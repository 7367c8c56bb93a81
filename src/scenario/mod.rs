//! A scenario: RON as written becomes a validated [`Scenario`] in which every default stands written out.
//!
//! Paths are read here and nowhere else; what they point to is opened by the rooms that need it, but for the catalog of
//! devices, whose classes become part of the scenario. No torch.

mod catalog;
mod changes;
mod check;
mod check_privacy;
mod compare;
mod error;
mod import;
mod load;
mod method;
mod nearest;
mod overrides;
mod quantity;
mod range;
mod reference;
mod regions;
mod ron_syntax;
mod ron_value;
pub mod schema;
mod sweep;

pub use changes::Phase;
pub use compare::{FieldDifference, field_differences, value_differences};
pub use error::ScenarioError;
pub use import::{Imported, import_script};
pub use load::Loaded;
pub use quantity::{Bandwidth, Bytes, Duration, QuantityError, Rate, Speed};
pub use reference::{Default as FieldDefault, Entry, Reference};
pub(crate) use regions::regions;
pub use schema::*;
pub use sweep::{Axis, Base, Cell, Published, Sweep, TwinFiles, Variant};
