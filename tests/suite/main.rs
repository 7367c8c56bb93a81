//! End-to-end tests: the real binary in a fresh folder. Each file covers one kind of failure.

mod adapters;
mod bad_input;
mod data;
mod determinism;
mod execution;
mod exports;
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
mod scenarios;
mod support;
mod sweeps;
mod traces;
mod training;
mod views;
mod virtual_time;
