//! Any bytes, as a dataset. `src/dataset/exercise.rs` plays the same function with damage from known seeds.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fedreplay::dataset::read_in_every_way(bytes));
