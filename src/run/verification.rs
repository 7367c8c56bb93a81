//! Verification of a run: its files and tables against their hashes, everything else against the tables, and the whole
//! against what is claimed of it elsewhere.

use std::path::Path;

use super::RunError;
use super::certificate::{BYTES_MAX, Certificate, CertificateComparison, FILE_NAME};
use super::signature::{VerifyingKey, signed_certificate};
use super::statements::check_statements;
use crate::ledger::{
    Difference, LedgerError, Manifest, OLDEST_SCHEMA, RunKind, RunState, UNFINISHED, verify, verify_rows,
};
use crate::store::{Digest, binary_hash, read_up_to};

/// Expectations about a run that come from outside of its folder.
#[derive(Clone, Copy, Debug, Default)]
pub struct Claims<'a> {
    /// File of a certificate: that of the run, or of a run that it repeats.
    pub certificate: Option<&'a Path>,
    /// Digest that the run must have.
    pub digest: Option<Digest>,
    /// Statement whose certificate counts if it is signed.
    pub signed: Option<Signed<'a>>,
}

/// A signed statement, and who must have signed it.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    pub statement: &'a Path,
    pub by: &'a VerifyingKey,
}

/// Checks the run in `run_folder` as [`crate::ledger::verify`] does, compares its manifest, scenario, saved adapters and own
/// certificate with its tables, and the run with what is claimed of it. For an unfinished run, the existing rounds must be
/// as certified.
///
/// # Errors
/// If there is no run, or no such certificate.
pub fn verify_run(run_folder: &Path, claims: &Claims) -> Result<Vec<Difference>, RunError> {
    let mut found = verify(run_folder)?;
    let Ok(manifest) = Manifest::read(run_folder) else { return Ok(found) };
    let mut claimed = Vec::new();
    if let Some(file) = claims.certificate {
        claimed.push(Certificate::read(file)?);
    }
    if let Some(Signed { statement, by }) = claims.signed {
        match signed_certificate(statement, by)? {
            Some(certificate) => claimed.push(certificate),
            None => found.push(Difference(format!("{}: it is not signed with this key", statement.display()))),
        }
    }
    // A signed statement is about a finished run: of an unfinished one, less is checked.
    if claims.signed.is_none() && !claimed.is_empty() && manifest.state == RunState::Running {
        // The run was made for this comparison and need not be finished.
        found.retain(|difference| difference.0 != UNFINISHED);
    }
    found.extend(check_statements(run_folder, &manifest)?);
    found.extend(check_own_certificate(run_folder, &manifest)?);
    for certificate in claimed {
        found.extend(differences(&certificate, run_folder, !found.is_empty())?);
    }
    if let Some(digest) = claims.digest.filter(|&digest| manifest.digest != Some(digest)) {
        let own = manifest.digest.map_or("none".to_owned(), |digest| digest.to_string());
        found.push(Difference(format!("the run's digest is {own}, and {digest} is claimed")));
    }
    Ok(found)
}

/// Checks the certificate in the folder of a finished run, every field of which follows from the run's other files, except
/// for the hashes of the libraries. A plan has none.
///
/// # Errors
/// If the disk cannot be read.
fn check_own_certificate(run_folder: &Path, manifest: &Manifest) -> Result<Vec<Difference>, RunError> {
    // Certificates came after the oldest version of the tables.
    let has_one = manifest.schema_version > OLDEST_SCHEMA && manifest.kind == RunKind::Run;
    if !has_one || manifest.state != RunState::Done {
        return Ok(vec![]);
    }
    let certificate = match Certificate::read(run_folder) {
        Ok(certificate) => certificate,
        Err(error) => return Ok(vec![Difference(format!("{FILE_NAME}: {error}"))]),
    };
    let mut found = Vec::new();
    if let Err(error) = certificate.check() {
        found.push(Difference(format!("certificate: {error}")));
    }
    match certificate.field_unlike(run_folder, manifest) {
        Ok(Some(field)) => found.push(Difference(format!("{FILE_NAME}: {field}, by the run's other files"))),
        Ok(None)
            if manifest.binary_hash == binary_hash()
                && certificate.text().as_bytes()
                    != read_up_to(&run_folder.join(FILE_NAME), BYTES_MAX).unwrap_or_default() =>
        {
            found.push(Difference(format!("{FILE_NAME}: it is not written as a run writes it")));
        }
        Ok(None) => {}
        // Tables that cannot be read are findings of the check of the tables.
        Err(RunError::Ledger(error)) if is_unreadable(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(found)
}

/// Returns what a claimed certificate says otherwise. `is_damaged` says that the run's tables may be unreadable, which has
/// been reported.
fn differences(certificate: &Certificate, run_folder: &Path, is_damaged: bool) -> Result<Vec<Difference>, RunError> {
    let mut found = Vec::new();
    if let Err(error) = certificate.check() {
        found.push(Difference(format!("certificate: {error}")));
    }
    match certificate.against(run_folder) {
        Ok(CertificateComparison::Equal { .. }) => {}
        Ok(CertificateComparison::Differs(difference)) => found.push(Difference(format!("certificate: {difference}"))),
        Err(RunError::Ledger(error)) if is_damaged && is_unreadable(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(found)
}

/// Whether an error is about the contents of a table.
fn is_unreadable(error: &LedgerError) -> bool {
    matches!(error, LedgerError::Malformed { .. } | LedgerError::Incomplete { .. } | LedgerError::Parquet { .. })
}

/// Checks the rows of a run against its digest, and everything outside of its tables that follows from them. Files that the
/// manifest does not list do not matter here.
///
/// # Errors
/// If the disk cannot be read.
pub(crate) fn check_record(run_folder: &Path, manifest: &Manifest) -> Result<Vec<Difference>, RunError> {
    let mut found = verify_rows(run_folder, manifest);
    found.extend(check_statements(run_folder, manifest)?);
    found.extend(check_own_certificate(run_folder, manifest)?);
    Ok(found)
}
