//! Support of tests, shared by the library's own tests and by the programs in `tests/`: servers on loopback, the reference
//! model, readers of datasets. Nothing of it is in the library.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub mod chat_endpoint;
pub mod dataset_readers;
pub mod loopback;
pub mod model_hub;
pub mod reference_model;
