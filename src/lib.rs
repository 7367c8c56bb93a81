//! FedReplay fine-tunes language models federatedly, in virtual time, so that a run can be replayed bit for bit.

pub mod adapter;
pub mod dataset;
pub mod model;
pub mod training;
