//! Figures of a run, computed from its ledger: summary, curves, participation and fairness.

mod estimate;
mod overview;
mod participants;
mod series;
mod summary;

pub use estimate::Estimate;
pub use overview::{Fairness, LifecycleState, Overview, RunEssentials};
pub use participants::{ClientFigures, GroupFigures};
pub use series::{Point, Series, main_curve};
pub use summary::Summary;
pub(crate) use summary::{Totals, main_loss, main_ranking};
