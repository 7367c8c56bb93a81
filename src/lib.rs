//! Federated fine-tuning of language models in virtual time, reproducible to the bit.

pub mod adapter;
pub mod algorithm;
pub mod cli;
pub mod data;
pub mod diversity;
pub mod evaluation;
pub mod export;
pub mod graph;
pub mod ledger;
pub mod model;
pub mod privacy;
pub mod report;
pub mod run;
pub mod scenario;
pub mod store;
pub mod training;
