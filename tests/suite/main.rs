//! End-to-end tests: the real binary in a fresh folder. Each file covers one kind of failure.

mod bad_input;
mod determinism;
mod gpu_scenario;
mod interruption;
mod precisions;
mod quickstart;
mod real_data;
mod record;
mod support;
mod virtual_time;
