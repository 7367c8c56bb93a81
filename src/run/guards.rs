//! Checks that forbid resuming, forking or replaying a run: a plan without training, secret noise, and changed inputs.

use std::path::Path;

use super::error::{RunChange, RunError, Unsuitability, VERSION};
use crate::ledger::{Manifest, RunKind, SCHEMA_VERSION};
use crate::scenario::Scenario;

/// Reads the scenario of the run in `run_folder`.
///
/// # Errors
/// If it cannot be read, or is not the one that the run was made from.
pub fn scenario_of(run_folder: &Path, manifest: &Manifest) -> Result<Scenario, RunError> {
    let scenario = Scenario::of_run(run_folder, &manifest.scenario_folder, &[])?;
    manifest.check_scenario(run_folder, scenario.identity().0)?;
    Ok(scenario)
}

/// Refuses to write to a path in the folder of a run, whose manifest lists every file.
///
/// # Errors
/// [`RunError::OutputInRun`].
pub fn refuse_inside_run(out: &Path) -> Result<(), RunError> {
    // The path may be the folder of the run itself, so the search begins below it.
    match Manifest::folder_around(&out.join("file")) {
        Some(run) => Err(RunError::OutputInRun { out: out.to_owned(), run }),
        None => Ok(()),
    }
}

/// Refuses a plan where a run with training is required. `action` is named in the error, such as `fork`.
pub(crate) fn refuse_plan(action: &'static str, folder: &Path, manifest: &Manifest) -> Result<(), RunError> {
    match manifest.kind {
        RunKind::Run => Ok(()),
        RunKind::Plan => Err(RunError::Unsuitable { action, run: folder.to_owned(), reason: Unsuitability::Plan }),
    }
}

/// Refuses to compute a run again that another version of this program made: other versions have other tables, or results
/// with other bits. Released versions that differ in their last number alone have the same.
pub(crate) fn refuse_other_version(action: &'static str, folder: &Path, manifest: &Manifest) -> Result<(), RunError> {
    let made_by = &manifest.fedreplay_version;
    if manifest.schema_version == SCHEMA_VERSION && has_same_rules(made_by, VERSION) {
        return Ok(());
    }
    let reason = Unsuitability::OtherVersion { made_by: made_by.clone(), tables: manifest.schema_version };
    Err(RunError::Unsuitable { action, run: folder.to_owned(), reason })
}

/// Whether two versions have the same tables and compute the same bits. Of a version before its release, such as `0.3.0-dev`,
/// nothing is known but that it is itself.
fn has_same_rules(one: &str, other: &str) -> bool {
    if one.contains('-') || other.contains('-') {
        return one == other;
    }
    one.split('.').take(2).eq(other.split('.').take(2))
}

/// Role of the input by which a manifest records that the noise was secret.
pub(super) const SECRET_NOISE: &str = "secret_noise";

/// Grade of a run with secret noise.
pub(super) const SECRET_GRADE: &str = "none: secret noise";

/// Refuses to compute a run with secret noise again: fresh noise on the same updates would spend privacy twice, and would
/// give other bits.
pub(crate) fn refuse_secret(action: &'static str, folder: &Path, manifest: &Manifest) -> Result<(), RunError> {
    if !manifest.inputs.contains_key(SECRET_NOISE) {
        return Ok(());
    }
    Err(RunError::Unsuitable { action, run: folder.to_owned(), reason: Unsuitability::SecretNoise })
}

/// Returns which input of a run has changed.
pub(crate) fn what_changed(then: &Manifest, now: &Manifest) -> RunChange {
    if then.scenario_hash != now.scenario_hash {
        return RunChange::Scenario;
    }
    if then.numerics_class != now.numerics_class {
        return RunChange::Numerics { then: then.numerics_class.clone(), now: now.numerics_class.clone() };
    }
    let changed = then.inputs.iter().find(|(role, input)| now.inputs.get(*role).map(|i| i.hash) != Some(input.hash));
    match changed {
        Some((role, input)) => RunChange::Input { role: role.clone(), path: input.path.clone() },
        None => RunChange::Genesis,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_before_their_release_are_like_no_other_and_patches_like_their_release() {
        let alike = |one, other| has_same_rules(one, other) && has_same_rules(other, one);
        assert!(alike("0.2.0", "0.2.7") && alike("0.2.0-dev", "0.2.0-dev") && alike("1.0.0", "1.0.1"));
        let different = [
            ("0.1.0", "0.2.0"),
            ("0.2.0-dev", "0.2.0"),
            ("0.2.0-dev", "0.2.1"),
            ("0.3.0-dev", "0.3.0-rc1"),
            ("1.0.0", "2.0.0"),
        ];
        for (one, other) in different {
            assert!(!has_same_rules(one, other) && !has_same_rules(other, one), "{one} {other}");
        }
    }
}
