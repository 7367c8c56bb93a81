//! Loads the base model behind a trainer on each device.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::InputError;
use super::files::{model_folder, only_planned};
use crate::data::ClientRows;
use crate::model::Device;
use crate::scenario::Scenario;
use crate::schedule::model_shape;
use crate::training::{Numerics, Trainer};

/// Loads the base model to each device and logs its precision. `clients` supply the row on which a quantized base is
/// measured. Returns the trainers and the folder of the base model.
pub(super) fn load_trainers(
    scenario: &Scenario,
    devices: &[Device],
    numerics: &Numerics,
    clients: &[ClientRows],
) -> Result<(Vec<Arc<Trainer>>, PathBuf), InputError> {
    let spec = &scenario.scenario;
    let folder = model_folder(scenario)?.ok_or_else(|| only_planned("model.folder is missing"))?;
    let precision = model_shape::precision(&spec.model);
    let lora = model_shape::lora_spec(spec);
    let mut trainers = Vec::with_capacity(devices.len());
    for &device in devices {
        trainers.push(Trainer::load(&folder, precision, device, &lora, numerics).map_err(InputError::Model)?);
    }
    report_precision(&mut trainers[0], &folder, clients)?;
    Ok((trainers.into_iter().map(Arc::new).collect(), folder))
}

/// [token] -- Number of tokens whose logits are compared between a quantized base and one in bfloat16.
const COMPARED_TOKENS: usize = 128;

/// Logs the precision of the base, and measures the deviation of a quantized base from bfloat16 for the manifest.
fn report_precision(trainer: &mut Trainer, folder: &Path, clients: &[ClientRows]) -> Result<(), InputError> {
    let row = clients.iter().find_map(|client| client.train.samples.first());
    if let Some(row) = row.filter(|_| trainer.fingerprint().base.precision.is_quantised()) {
        let ids = &row.ids[..row.ids.len().min(COMPARED_TOKENS)];
        trainer.measure_logit_error(folder, ids).map_err(InputError::Model)?;
    }
    tracing::info!(target: "fedreplay::run", "base model: {}", trainer.fingerprint().base);
    Ok(())
}
