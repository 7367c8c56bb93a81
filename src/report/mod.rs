//! HTML report of a run, or of several side by side, as one self-contained file.
//!
//! The figures of a run come from [`crate::results`] and are laid out here as columns with captions; the page only draws,
//! tabulates and offers those columns for download. A report contains no wall-clock time and no path of the machine, so the same run
//! always gives the same bytes. Nothing here trains a model or writes to a ledger.

mod aggregation;
mod comparison;
mod costs;
mod evaluations;
mod fairness;
mod figure;
mod grouping;
mod learning;
mod page;
mod participation;
mod repeats;
mod reported_run;
mod settings;
mod summary;
mod timeline;
pub mod units;

use std::path::Path;

pub use reported_run::ReportError;

use self::page::RunPart;
use self::reported_run::ReportedRun;

/// Returns the report of these runs as HTML. If there are several, they are also compared with the first.
///
/// # Errors
/// If a folder contains no run, or one of the tables is missing, damaged or of another version.
pub fn html(runs: &[impl AsRef<Path>]) -> Result<String, ReportError> {
    let records = runs.iter().map(|run| ReportedRun::read(run.as_ref())).collect::<Result<Vec<_>, _>>()?;
    let labels = settings::labels(&records);
    // The timelines of all runs share one limit, which bounds the size of the page.
    let share = timeline::MOST_TASKS / records.len().max(1);
    let parts: Vec<RunPart> =
        records.iter().zip(&labels).map(|(record, label)| RunPart::of(record, label, share)).collect();
    let compared = (records.len() > 1).then(|| comparison::section(&records, &labels));
    Ok(page::html(&parts, compared))
}
