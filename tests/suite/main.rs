//! End-to-end tests: the real binary in a fresh folder. Each file covers one kind of failure.

mod adapters;
mod bad_input;
mod data;
mod determinism;
mod evaluation;
mod execution;
mod fedllm_bench;
mod gpu_scenario;
mod hub;
mod interruption;
mod methods;
mod objectives;
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
