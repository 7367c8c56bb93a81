//! A run in the forms of other programs: traces, event files, CSV, adapters. Nothing here is read back, and nothing is
//! written into the run's folder.

mod adapter;
mod csv;
mod event_file;
mod perfetto;
mod tensorboard;
mod wandb;

pub use adapter::{Chosen, find_adapter, merged, peft_folder};
pub use csv::csv;
pub use perfetto::perfetto;
pub use tensorboard::tensorboard;
pub use wandb::wandb;

use std::path::Path;

use crate::ledger::{LedgerError, Manifest};
use crate::run::RunError;
use crate::store::atomic;

/// Refuses a place that already holds something, and one in the folder of a run, which answers for every file there.
pub(crate) fn refuse_occupied(out: &Path) -> Result<(), RunError> {
    if let Some(run) = Manifest::folder_around(out) {
        let (out, run) = (out.display(), run.display());
        let what =
            format!("failed to export to {out}: the run in {run} answers for every file there; choose another --out");
        return Err(RunError::Usage(what));
    }
    match out.symlink_metadata() {
        Ok(_) => Err(RunError::Usage(format!(
            "failed to export to {}: it is there already; choose another --out, or remove it",
            out.display()
        ))),
        Err(_) => Ok(()),
    }
}

/// Writes one file whole.
fn write(path: &Path, bytes: &[u8]) -> Result<(), LedgerError> {
    let io = LedgerError::io(path);
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => std::fs::create_dir_all(folder).and_then(|()| atomic::write(path, bytes)).map_err(io),
        None => atomic::write(path, bytes).map_err(io),
    }
}
