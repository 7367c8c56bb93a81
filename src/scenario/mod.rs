//! Scenario files: RON is read into a checked [`Scenario`] in which every default is written out.
//!
//! [`Loaded`] is a scenario that has been read, with overrides and changes applied; [`federation()`] translates it for
//! the simulator, [`Sweep`] multiplies it into many runs, and [`Reference`] documents its fields.
//!
//! This module interprets the paths of a scenario but opens no file behind them, except for the catalog of devices,
//! whose classes become part of the scenario. It does not depend on LibTorch.

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
mod spec;
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
pub use spec::*;
pub use sweep::{Axis, Base, Cell, Published, Sweep, TwinFiles, Variant};
pub use trace::{Trace, TraceRow};
