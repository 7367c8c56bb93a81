//! One run, from a scenario to a folder: the schedule is played, its orders are computed, the ledger is written.
//!
//! Virtual time comes first and whole: which tasks count is known before a tensor is touched, so an update that is
//! dropped, late or cancelled is never trained.

mod certificate;
mod client_states;
mod diff;
mod error;
mod estimate;
mod examine;
mod examined;
mod exams;
mod folder;
mod forecast;
mod fork;
mod inputs;
mod kept;
mod outline;
mod overview;
mod paper;
mod participants;
mod plan;
mod planned;
mod play;
mod privacy;
mod prompting;
mod reader;
mod replay;
mod room;
mod rows;
mod sample;
mod series;
mod shared;
mod stage;
mod summary;
mod sweep;
mod task;
mod timeline;
mod timing;
mod tokens;
mod trace;
mod trust;
mod words;

pub use certificate::{Certificate, CertifiedRound, verify_run};
pub use diff::{Parting, diff};
pub use error::RunError;
pub use estimate::Estimate;
pub use examine::{Examination, Findings, LOSSES, Opened};
pub use examined::{Examined, ExaminedModel, ExaminedRows};
pub use exams::{ExamForecast, ScheduledExam};
pub use folder::is_being_written;
pub use forecast::{Forecast, forecast};
pub use fork::{Departure, fork};
pub use inputs::{ClientRows, Inputs, PlanInputs};
pub use kept::Kept;
pub use overview::{Fairness, Overview, Progress, Standing};
pub use participants::{ClientFigures, GroupFigures};
pub use play::{Observer, RoundReport, Settings, play, play_sharing, resume};
pub use privacy::Spent;
pub use replay::replay;
pub use room::Rules;
pub use sample::{Sample, Sampled, sample};
pub use series::{Point, Series, main_curve};
pub use shared::Shared;
pub use summary::Summary;
pub use sweep::{CellRun, SweepObserver, sweep, write_twins};
pub use timing::{PlanDetail, PlanSettings, PlanSummary, PlanWatch, STAND_IN_LOSS, plan, resume_plan};
