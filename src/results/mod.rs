//! Figures of a run, computed from its ledger: summary, curves, participation, costs and fairness. Whatever shows a figure of a
//! run takes it from here.

mod costs;
mod fairness;
mod losses;
mod main_figures;
mod overview;
mod participants;
mod population;
mod record;
mod repeats;
mod series;
pub mod statistics;
mod summary;

pub use costs::{Moved, RoundCosts, Traffic};
pub use fairness::Fairness;
pub(crate) use losses::MainLoss;
pub use losses::{ClientMeans, CurvePoint, Learning, LossGroup, SplitLosses};
pub use main_figures::{ClientCounts, MainFigures};
pub use overview::{LifecycleState, Overview, RunEssentials};
pub use participants::{
    ClientFigures, FateCounts, GroupFigures, Participation, by_client, by_device_and_link, most_lost,
};
pub use population::RunClients;
pub use record::{RunRecord, span_ns};
pub use repeats::{Bands, RoundBand, SHARES};
pub use series::{ModuleErrors, Point, Series, main_curve, module_errors, ranks};
pub use statistics::Estimate;
pub use summary::Summary;
pub(crate) use summary::Totals;
