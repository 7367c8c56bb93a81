//! Inputs of a run: reads, checks and hashes everything that a scenario refers to (rows as tokens, the base model behind a
//! trainer on each device, traces and questions), and translates the scenario to the settings of the engines.

mod benchmarks;
mod cache;
mod determinism;
mod error;
mod files;
mod grid;
mod load;
mod own_rule;
mod row_account;
mod rows;
mod self_test_cache;
mod table;
mod token_cache;
mod trace;
pub(crate) mod translate;

pub use benchmarks::{BenchmarkForecast, ScheduledBenchmark};
pub use cache::InputCache;
pub(crate) use determinism::{DeterminismCheck, TrainingBatches, most_in_a_pass};
pub use error::InputError;
pub(crate) use files::model_folder;
pub use load::{Inputs, PlanInputs, check_initial_adapter};
pub use own_rule::OwnRules;
pub use row_account::refuse_bad_rows;
pub(crate) use rows::{say_date, warn_of_differences};
