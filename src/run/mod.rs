//! One run, from a scenario to a folder: the schedule is played, its orders are computed, the ledger is written.
//!
//! Virtual time comes first and whole: which tasks count is known before a tensor is touched, so an update that is
//! dropped, late or cancelled is never trained.

mod error;
mod estimate;
mod examine;
mod examined;
mod exams;
mod folder;
mod inputs;
mod outline;
mod plan;
mod play;
mod privacy;
mod prompting;
mod replay;
mod room;
mod rows;
mod stage;
mod summary;
mod sweep;
mod task;
mod timeline;
mod timing;
mod trace;
mod trust;

pub use error::RunError;
pub use estimate::Estimate;
pub use examine::{Examination, Findings, LOSSES, Opened};
pub use examined::{Examined, ExaminedModel, ExaminedRows};
pub use exams::ScheduledExam;
pub use inputs::{ClientRows, Inputs, PlanInputs};
pub use play::{Observer, RoundReport, Settings, play, resume};
pub use privacy::Spent;
pub use replay::replay;
pub use room::Rules;
pub use summary::Summary;
pub use sweep::{CellRun, SweepObserver, sweep};
pub use timing::{PlanDetail, PlanSettings, PlanSummary, STAND_IN_LOSS, plan};
