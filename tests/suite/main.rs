//! End-to-end tests: the real binary in a fresh folder. Each file covers one kind of failure.

mod bad_input;
mod determinism;
mod gpu_scenario;
mod interruption;
mod methods;
mod parity;
mod precisions;
mod privacy;
mod quickstart;
mod real_data;
mod record;
mod support;
mod sweeps;
mod traces;
mod training;
mod virtual_time;
