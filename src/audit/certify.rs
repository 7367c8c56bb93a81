//! Signed statements about finished runs.

use std::path::{Path, PathBuf};

use crate::ledger::{LedgerError, Manifest, OLDEST_SCHEMA, RunState};
use crate::run::{
    Certificate, Claims, RunError, SignatureError, SigningKey, Unsuitability, refuse_plan, verify_run, write_statement,
};
use crate::store::next_to;

/// Returns the file of a run's statement where no other is named: next to its folder, under its name.
///
/// # Errors
/// If the folder cannot be found.
pub fn default_statement(run_folder: &Path) -> Result<PathBuf, RunError> {
    // The path may end with a dot, or be one.
    let folder = run_folder.canonicalize().map_err(LedgerError::io(run_folder))?;
    Ok(next_to(&folder, ".intoto.json"))
}

/// Writes a statement about the run in `run_folder`, signed with `key`, to the file `out`, and returns the certificate in it.
/// The run is verified before.
///
/// # Errors
/// If the run is not finished or not what its hashes say, is a plan, or a file cannot be read or written.
pub fn certify(run_folder: &Path, key: &SigningKey, out: &Path) -> Result<Certificate, RunError> {
    let manifest = Manifest::read(run_folder)?;
    refuse_plan("certify", run_folder, &manifest)?;
    if manifest.schema_version == OLDEST_SCHEMA {
        // Its certificate, if it has one, is not compared with it.
        let made_by = manifest.fedreplay_version.clone();
        let reason = Unsuitability::OtherVersion { made_by, tables: manifest.schema_version };
        return Err(RunError::Unsuitable { action: "certify", run: run_folder.to_owned(), reason });
    }
    if manifest.state != RunState::Done {
        let reason = Unsuitability::Unfinished;
        return Err(RunError::Unsuitable { action: "certify", run: run_folder.to_owned(), reason });
    }
    if let Some(difference) = verify_run(run_folder, &Claims::default())?.into_iter().next() {
        return Err(SignatureError::Different { run: run_folder.to_owned(), difference: difference.0 }.into());
    }
    let certificate = Certificate::read(run_folder)?;
    write_statement(&manifest.name, certificate.clone(), key, out)?;
    Ok(certificate)
}
