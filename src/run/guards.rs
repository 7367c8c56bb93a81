//! What forbids that a run is continued, forked or replayed: its kind, secret noise, inputs that have changed.

use std::path::Path;

use super::RunError;
use crate::ledger::{Manifest, RunKind};

/// Refuses to train what was planned.
pub(crate) fn refuse_plan(folder: &Path, manifest: &Manifest) -> Result<(), RunError> {
    match manifest.kind {
        RunKind::Run => Ok(()),
        RunKind::Plan => {
            let folder = folder.display();
            Err(RunError::Usage(format!("failed to continue {folder}: it is a plan, which trained nothing")))
        }
    }
}

/// The role under which a manifest says that noise was secret.
pub(super) const SECRET_NOISE: &str = "secret_noise";

/// Refuses to compute again what secret noise was added to: fresh noise on the same updates would spend privacy twice, and
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

/// Which input of a run is not what it was.
pub(crate) fn what_changed(then: &Manifest, now: &Manifest) -> String {
    if then.scenario_hash != now.scenario_hash {
        return "its scenario was changed".into();
    }
    if then.numerics_class != now.numerics_class {
        let (then, now) = (&then.numerics_class, &now.numerics_class);
        return format!("the machine's arithmetic is {now}, the run was made with {then}");
    }
    let changed = then.inputs.iter().find(|(role, input)| now.inputs.get(*role).map(|i| i.hash) != Some(input.hash));
    match changed {
        Some((role, input)) => {
            format!("the {} at {} is not what the run was made from", role.replace('_', " "), input.path.display())
        }
        None => "it was made by another version of the tables".into(),
    }
}
