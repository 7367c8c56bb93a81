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
//! use fedreplay::scenario::Scenario;
//!
//! let scenario = Scenario::read(Path::new("scenarios/quickstart.ron"), &["rounds=100".to_owned()])?;
//! let settings = PlanSettings { out: None, detail: PlanDetail::Rounds, stop: &AtomicBool::new(false) };
//! let summary = plan(&scenario, &settings, &mut ())?;
//! assert_eq!(summary.rounds, 100);
//! assert_eq!(summary.clients, 24);
//! assert!(summary.energy_kwh > 0.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`run::run`](run::run()) trains as well, and [`ledger::read_table`] reads what was recorded.

pub mod adapter;
pub mod algorithm;
pub mod audit;
pub mod benchmarks;
pub mod cli;
pub mod data;
pub mod diversity;
pub mod evaluate;
pub mod export;
pub mod generation;
pub mod graph;
pub mod inputs;
pub mod judge;
pub mod ledger;
pub mod model;
pub mod privacy;
pub mod report;
pub mod results;
pub mod run;
pub mod sandbox;
pub mod scenario;
pub mod schedule;
pub mod store;
pub mod training;
