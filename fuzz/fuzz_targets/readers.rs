//! Any bytes, as a dataset. `tests/suite/damaged_datasets.rs` calls the same function with damage from known seeds.

#![no_main]

#[path = "../../tests/support/dataset_readers.rs"]
mod dataset_readers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dataset_readers::read_in_every_way(bytes));
