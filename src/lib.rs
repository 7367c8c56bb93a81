//! Federated fine-tuning of language models in virtual time, reproducible to the bit.

pub mod dataset;
pub mod ledger;
pub mod store;
