//! Checks that forbid resuming, forking or replaying a run: a plan without training, secret noise, and changed inputs.

use std::path::Path;

use super::error::{RunChange, RunError, Unsuitability};
use crate::ledger::{Manifest, RunKind};

/// Refuses a plan where a run with training is required. `action` is named in the error, such as `fork`.
pub(crate) fn refuse_plan(action: &'static str, folder: &Path, manifest: &Manifest) -> Result<(), RunError> {
    match manifest.kind {
        RunKind::Run => Ok(()),
        RunKind::Plan => Err(RunError::Unsuitable { action, run: folder.to_owned(), reason: Unsuitability::Plan }),
    }
}

/// Role of the input by which a manifest records that the noise was secret.
pub(super) const SECRET_NOISE: &str = "secret_noise";

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
        None => RunChange::TableVersion,
    }
}
