//! Checks that forbid resuming, forking or replaying a run: a plan without training, secret noise, and changed inputs.

use std::path::Path;

use super::RunError;
use crate::ledger::{Manifest, RunKind};

/// Refuses a plan where a run with training is required.
pub(crate) fn refuse_plan(folder: &Path, manifest: &Manifest) -> Result<(), RunError> {
    match manifest.kind {
        RunKind::Run => Ok(()),
        RunKind::Plan => {
            let folder = folder.display();
            Err(RunError::Usage(format!("failed to continue {folder}: it is a plan, which trained nothing")))
        }
    }
}

/// Role of the input by which a manifest records that the noise was secret.
pub(super) const SECRET_NOISE: &str = "secret_noise";

/// Refuses to compute a run with secret noise again: fresh noise on the same updates would spend privacy twice, and would
/// give other bits.
pub(crate) fn refuse_secret(folder: &Path, manifest: &Manifest) -> Result<(), RunError> {
    if !manifest.inputs.contains_key(SECRET_NOISE) {
        return Ok(());
    }
    Err(RunError::Usage(format!(
        "failed to continue {}: its noise is secret and kept nowhere, and fresh noise would spend its privacy twice",
        folder.display()
    )))
}

/// Describes which input of a run has changed.
pub(crate) fn what_changed(then: &Manifest, now: &Manifest) -> String {
    if then.scenario_hash != now.scenario_hash {
        return "its scenario was changed".into();
    }
    if then.numerics_class != now.numerics_class {
        return format!(
            "the machine's arithmetic is {}, the run was made with {}",
            now.numerics_class, then.numerics_class
        );
    }
    let changed = then.inputs.iter().find(|(role, input)| now.inputs.get(*role).map(|i| i.hash) != Some(input.hash));
    match changed {
        Some((role, input)) => {
            format!("the {} at {} is not what the run was made from", role.replace('_', " "), input.path.display())
        }
        None => "it was made by another version of the tables".into(),
    }
}
