//! End-to-end tests: the real binary in a fresh folder. Each file covers one kind of failure.

mod bad_input;
mod determinism;
mod interruption;
mod privacy;
mod quickstart;
mod real_data;
mod record;
mod support;
mod virtual_time;
