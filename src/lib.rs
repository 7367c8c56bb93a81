//! Federated fine-tuning of language models in virtual time, reproducible to the bit.

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
