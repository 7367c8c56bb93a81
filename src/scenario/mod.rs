//! A scenario: RON as written becomes a validated [`Scenario`] in which every default stands written out.
//!
//! Paths are read here and nowhere else; what they point to is opened by the rooms that need it, but for the catalog of
//! devices, whose classes become part of the scenario. No torch.

mod catalog;
mod changes;
mod check;
mod check_privacy;
mod compare;
mod cost;
mod error;
mod federation;
mod import;
mod load;
mod method;
mod nearest;
mod overrides;
mod placement;
mod protocol;
mod quantity;
mod range;
mod reference;
mod ron_value;
mod schema;
mod steps;
mod sweep;
mod trace;

pub use changes::Phase;
pub use compare::{FieldDifference, field_differences, value_differences};
pub use cost::TaskCosts;
pub use error::ScenarioError;
pub use federation::{ClientFacts, Clients, federation};
pub use import::{Imported, import_script};
pub use load::Loaded;
pub use placement::{DeviceClass, LinkClass, Place, Placed};
pub use quantity::{Bandwidth, Bytes, Duration, QuantityError, Rate, Speed};
pub use reference::{Default as FieldDefault, Entry, Reference};
pub use schema::*;
pub use sweep::{Axis, Base, Cell, Published, Sweep, TwinFiles, Variant};
pub use trace::{Trace, TraceRow};
