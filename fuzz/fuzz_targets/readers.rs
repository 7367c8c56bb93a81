//! Any bytes, as a dataset. `src/data/exercise.rs` plays the same function with damage from known seeds.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fedreplay::data::read_in_every_way(bytes));
