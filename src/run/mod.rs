//! Execution of a scenario: simulates its schedule, computes the nodes of each round and writes the ledger.
//!
//! Virtual time is simulated first: which tasks count is known before any training, so an update that is dropped, late or
//! cancelled is never trained. [`crate::audit`] compares and checks finished runs, and [`crate::evaluate`] evaluates their
//! models.

mod attacks;
mod certificate;
mod client_states;
mod error;
mod execute;
mod folder;
mod forecast;
mod forecast_load;
mod forecast_memory;
mod fork;
mod guards;
pub(crate) mod ledger_rows;
mod local_training;
mod observer;
mod plan_only;
mod planned_round;
mod planner;
mod recorded_models;
mod repeats;
mod round_writer;
mod scheduled_benchmarks;
mod signature;
mod statements;
mod sweep;
mod training_passes;
mod verification;

pub use crate::schedule::STAND_IN_LOSS;
pub use certificate::{Certificate, CertificateComparison, CertificateDifference, CertificateError, CertifiedRound};
pub use error::{RunChange, RunError, SignatureError, Unsuitability};
pub(crate) use execute::Prepared;
pub use execute::{RunOptions, resume, run, run_sharing};
pub use forecast::{Forecast, forecast};
pub use forecast_memory::MemoryForecast;
pub use fork::{ForkPoint, fork};
pub use guards::{refuse_inside_run, scenario_of};
pub(crate) use guards::{refuse_other_version, refuse_plan, refuse_secret, what_changed};
pub use observer::{Observer, PlanWatch, RoundReport};
pub use plan_only::{PlanDetail, PlanSettings, PlanSummary, plan, resume_plan};
pub(crate) use planned_round::{Evaluations, PlannedRound};
pub(crate) use planner::Planner;
pub use recorded_models::{RecordedModel, RecordedModels, adapter_notes, quantized_precision};
pub(crate) use round_writer::ScheduleSource;
pub(crate) use scheduled_benchmarks::BenchmarkRows;
pub(crate) use signature::write_statement;
pub use signature::{SigningKey, VerifyingKey, signed_certificate};
pub use sweep::{CellRun, SweepObserver, sweep, write_twins};
pub(crate) use verification::check_record;
pub use verification::{Claims, Signed, verify_run};
