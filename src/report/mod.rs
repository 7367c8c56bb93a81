//! What people look at: a run, or several beside each other, as one HTML file that needs nothing else.
//!
//! Figures are computed here, from the ledger alone, as columns with their captions; the page draws, tables and hands out
//! those columns and computes nothing of its own. No clock and no path of this machine enters a report, so that the same run
//! gives the same bytes. Nothing here trains, or writes to a ledger.

mod aggregation;
mod comparison;
mod costs;
mod essentials;
mod evaluations;
mod fairness;
mod figure;
mod learning;
mod page;
mod participation;
mod record;
mod settings;
mod statistics;
mod summary;
mod timeline;
pub mod units;

use std::path::Path;

pub use record::ReportError;

use self::page::RunPart;
use self::record::RunRecord;

/// The report of these runs as HTML. One run is shown alone; several are compared with the first.
///
/// # Errors
/// If a folder holds no run, or one of the tables that figures are made of is missing, damaged or of another version.
pub fn html(runs: &[impl AsRef<Path>]) -> Result<String, ReportError> {
    let records = runs.iter().map(|run| RunRecord::read(run.as_ref())).collect::<Result<Vec<_>, _>>()?;
    let labels = settings::labels(&records);
    let share = timeline::MOST_TASKS / records.len().max(1);
    let parts: Vec<RunPart> =
        records.iter().zip(&labels).map(|(record, label)| RunPart::of(record, label, share)).collect();
    let compared = (records.len() > 1).then(|| comparison::section(&records, &labels));
    Ok(page::html(&parts, compared))
}
