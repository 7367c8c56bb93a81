//! Federated fine-tuning of language models in virtual time, reproducible to the bit.
//!
//! A [`Scenario`] describes a federation: clients with data, devices and links, a server, and how clients train. [`run`](run())
//! simulates it in virtual time, trains LoRA adapters for the updates that count, and writes a folder of tables, adapters and
//! hashes. [`read_table`] reads the tables as Arrow record batches.
//!
//! # Examples
//!
//! One round of two clients, built in code, and the table of its tasks as an Arrow record batch:
//!
//! ```
//! use std::path::Path;
//!
//! use fedreplay::scenario::ScenarioSpec;
//! use fedreplay::{RunOptions, Scenario, init_process, read_table, run};
//!
//! init_process();
//! let mut spec = ScenarioSpec::new("first", "fixtures/tiny-base", "fixtures/skills/train.json");
//! spec.rounds = 1;
//! spec.training.local_steps = 2;
//! let scenario = Scenario::new(spec, Path::new("."))?;
//! let folder = tempfile::tempdir()?;
//! let out = folder.path().join("run");
//! let summary = run(&scenario, &RunOptions::new(&out), &mut ())?;
//! let tasks = read_table(&out, "tasks")?;
//! assert_eq!(tasks.num_rows(), 2);
//! assert!(tasks.column_by_name("loss_mean").is_some());
//! println!("digest {}", summary.digest);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A scenario file with two fields changed, and a store, in which a later run finds the results:
//!
//! ```
//! use std::path::Path;
//!
//! use fedreplay::{RunOptions, Scenario, Store, init_process, run};
//!
//! init_process();
//! let sets = ["rounds=1", "server.protocol.clients_per_round=2", "evaluation.local_baseline=false"];
//! let scenario = Scenario::read(Path::new("scenarios/quickstart.ron"), &sets.map(str::to_owned))?;
//! let folder = tempfile::tempdir()?;
//! let store = Store::open(&folder.path().join("store"))?;
//! let out = folder.path().join("run");
//! let summary = run(&scenario, &RunOptions { store, ..RunOptions::new(&out) }, &mut ())?;
//! assert_eq!(summary.digest.to_string().len(), 64);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The schedule alone, without training:
//!
//! ```
//! use std::path::Path;
//! use std::sync::atomic::AtomicBool;
//!
//! use fedreplay::Scenario;
//! use fedreplay::run::{PlanDetail, PlanSettings, plan};
//!
//! let scenario = Scenario::read(Path::new("scenarios/quickstart.ron"), &["rounds=100".to_owned()])?;
//! let settings = PlanSettings { out: None, detail: PlanDetail::Rounds, repeats: None, stop: &AtomicBool::new(false) };
//! let summary = plan(&scenario, &settings, &mut ())?;
//! assert_eq!(summary.rounds, 100);
//! assert_eq!(summary.clients, 24);
//! assert!(summary.energy_kwh > 0.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Before anything else
//!
//! LibTorch reads its environment when it is loaded, so a program calls [`init_process`] first. It executes the program once
//! again with the variables set that decide how LibTorch computes.
//!
//! # Building
//!
//! A build needs LibTorch in the folder that the variable `LIBTORCH` names; `make libtorch` in the repository downloads the right
//! version. The feature `doc-only` builds this documentation without LibTorch, as docs.rs does. It is of no other use, since
//! nothing is linked.

// So that the support of tests names this crate as it does in other programs.
#[cfg(test)]
extern crate self as fedreplay;

pub mod adapter;
pub mod algorithm;
pub mod audit;
pub mod benchmarks;
pub mod calibration;
pub mod compression;
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
pub mod profile;
pub mod python_rule;
pub mod report;
pub mod results;
pub mod run;
pub mod sandbox;
pub mod scenario;
pub mod schedule;
pub mod store;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod test_support;
pub mod training;

pub use ledger::read_table;
pub use results::Summary;
pub use run::{Observer, RunError, RunOptions, run};
pub use scenario::Scenario;
pub use store::Store;
pub use training::init_process;
