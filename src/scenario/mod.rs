//! Scenario files: RON is read into a checked [`ScenarioSpec`] in which every default is written out.
//!
//! [`Scenario`] is a scenario that has been read, with overrides and changes applied. [`Sweep`] multiplies it into many
//! runs, [`Reference`] documents its fields, and [`federation()`](crate::schedule::federation()) translates it for the
//! simulator.
//!
//! This module interprets the paths of a scenario but opens no file behind them, except for the catalog of devices,
//! whose classes become part of the scenario. It does not depend on LibTorch.

mod catalog;
mod changes;
mod check;
mod check_aggregation;
mod check_codec;
mod check_privacy;
mod combinations;
mod compare;
mod error;
mod federated_lora;
mod import;
mod in_code;
mod load;
mod method;
mod overrides;
mod quantity;
mod range;
mod reference;
mod ron_syntax;
pub mod schema;
mod sweep;

pub use changes::Phase;
pub(crate) use check::regions;
pub use combinations::combinations;
pub use compare::{FieldDifference, field_differences, value_differences};
pub use error::{ScenarioError, UnknownCell, UnknownField};
pub use federated_lora::{
    Averages, FirstStepSettings, LoraMethod, Pruning, check_first_step, check_layers, truncated_rank_max,
};
pub use import::{ImportError, Imported, import_script};
pub use load::Scenario;
pub use quantity::{Bandwidth, Bytes, Duration, QuantityError, Rate, Speed};
pub use reference::{Default as FieldDefault, Entry, Reference};
pub use schema::*;
pub use sweep::{Axis, PublishedFigure, Sweep, SweepBase, SweepCell, TwinFiles, Variant};
