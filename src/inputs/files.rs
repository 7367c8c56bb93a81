//! Paths and hashes of a scenario's inputs, and the base model, loaded behind a trainer on each device.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::InputError;
use crate::data::ClientRows;
use crate::ledger::Input;
use crate::model::{Device, hub};
use crate::scenario::Scenario;
use crate::schedule::model_shape;
use crate::store::Digest;
use crate::training::{Numerics, Trainer};

/// Returns an input with its absolute path, as the manifest lists it.
pub(super) fn input(path: PathBuf, hash: blake3::Hash) -> Input {
    // An absolute path lets `replay` find the input from anywhere.
    let path = std::path::absolute(&path).unwrap_or(path);
    Input { path, hash: Digest::from(hash) }
}

/// Returns the folder of the base model, which is fetched first if it is on the hub; `None` if only its shape is given.
pub(crate) fn model_folder(scenario: &Scenario) -> Result<Option<PathBuf>, InputError> {
    let model = &scenario.scenario.model;
    match (&model.folder, &model.hub) {
        (Some(folder), _) => Ok(Some(scenario.resolve(folder))),
        (None, Some((repository, revision))) => Ok(Some(hub::fetch(repository, Some(revision))?)),
        (None, None) => Ok(None),
    }
}

/// Loads the base model to each device and logs its precision. `clients` supply the row on which a quantized base is
/// measured. Returns the trainers and the folder of the base model.
pub(super) fn load_trainers(
    scenario: &Scenario,
    devices: &[Device],
    numerics: &Numerics,
    clients: &[ClientRows],
) -> Result<(Vec<Arc<Trainer>>, PathBuf), InputError> {
    let spec = &scenario.scenario;
    let folder = model_folder(scenario)?.ok_or(InputError::TimesOnly { missing: "model.folder" })?;
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
