//! Federated fine-tuning of language models in virtual time, reproducible to the bit.
//!
//! # Examples
//!
//! Reads a scenario with one field changed and simulates it without training:
//!
//! ```
//! use std::path::Path;
//! use std::sync::atomic::AtomicBool;
//!
//! use fedreplay::run::{PlanDetail, PlanSettings, plan};
//! use fedreplay::scenario::Loaded;
//!
//! let scenario = Loaded::read(Path::new("scenarios/quickstart.ron"), &["rounds=100".to_owned()])?;
//! let settings = PlanSettings { out: None, detail: PlanDetail::Rounds, stop: &AtomicBool::new(false) };
//! let summary = plan(&scenario, &settings, &mut ())?;
//! assert_eq!(summary.rounds, 100);
//! assert_eq!(summary.clients, 24);
//! assert!(summary.energy_kwh > 0.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`run::play`] trains as well, and [`ledger::read_table`] reads what was recorded.

pub mod adapter;
pub mod algorithm;
pub mod cli;
pub mod dataset;
pub mod diversity;
pub mod evaluation;
pub mod export;
pub mod ledger;
pub mod lineage;
pub mod model;
pub mod privacy;
pub mod report;
pub mod run;
pub mod scenario;
pub mod store;
pub mod training;
