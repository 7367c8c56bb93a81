//! One run, from a scenario to a folder: the schedule is played, its orders are computed, the ledger is written.
//!
//! Virtual time comes first and whole: which tasks count is known before a tensor is touched, so an update that is
//! dropped, late or cancelled is never trained.

mod error;
mod estimate;
mod folder;
mod forecast;
mod inputs;
mod outline;
mod overview;
mod participants;
mod plan;
mod play;
mod privacy;
mod replay;
mod rows;
mod series;
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
pub use folder::is_being_written;
pub use forecast::{Forecast, forecast};
pub use inputs::{ClientRows, Inputs, PlanInputs};
pub use overview::{Fairness, Overview, Progress, Standing};
pub use participants::{ClientFigures, GroupFigures};
pub use play::{Observer, RoundReport, Settings, play, resume};
pub use privacy::Spent;
pub use replay::replay;
pub use series::{Point, Series, main_curve};
pub use summary::Summary;
pub use sweep::{CellRun, SweepObserver, sweep};
pub use timing::{PlanDetail, PlanSettings, PlanSummary, PlanWatch, STAND_IN_LOSS, plan};
