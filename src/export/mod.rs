//! Export of runs in the formats of other programs: Perfetto traces, TensorBoard event files, Weights & Biases, CSV,
//! and PEFT adapters. Exports are never read back, and nothing is written into the run's folder.

mod adapter;
mod csv;
mod perfetto;
mod protobuf;
mod run_log;
mod tensorboard;
mod wandb;

pub use adapter::{Chosen, MergedBase, find_adapter, merged, merged_into, peft_folder, trained_on};
pub use csv::csv;
pub use perfetto::perfetto;
pub use tensorboard::tensorboard;
pub use wandb::wandb;

use std::path::Path;

use crate::ledger::{LedgerError, Manifest};
use crate::run::RunError;
use crate::store::atomic;

/// Checks that nothing exists at `out` yet, and that it is not in the folder of a run, whose manifest lists every file.
///
/// # Errors
/// If the path is taken or inside of a run.
pub fn refuse_occupied(out: &Path) -> Result<(), RunError> {
    if let Some(run) = Manifest::folder_around(out) {
        return Err(RunError::OutputInRun { out: out.to_owned(), run });
    }
    match out.symlink_metadata() {
        Ok(_) => Err(RunError::OutputExists { out: out.to_owned() }),
        Err(_) => Ok(()),
    }
}

/// Writes a file atomically, and creates its folder if it does not exist.
fn write(path: &Path, bytes: &[u8]) -> Result<(), LedgerError> {
    atomic::write(path, bytes).map_err(LedgerError::io(path))
}
