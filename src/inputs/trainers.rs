//! Loads the base model behind a trainer on each device.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::InputError;
use super::files::{model_folder, only_planned};
use crate::data::ClientRows;
use crate::model::Device;
use crate::scenario::Loaded;
use crate::schedule::model_shape;
use crate::training::{Numerics, Trainer};

/// Loads the base model to each device and says what it takes. `clients` have the row that a quantised base is measured on.
pub(super) fn load_trainers(
    loaded: &Loaded,
    devices: &[Device],
    numerics: &Numerics,
    clients: &[ClientRows],
) -> Result<(Vec<Arc<Trainer>>, PathBuf), InputError> {
    let scenario = &loaded.scenario;
    let folder = model_folder(loaded)?.ok_or_else(|| only_planned("model.folder is missing"))?;
    let (precision, lora) = (model_shape::precision(&scenario.model), model_shape::lora_spec(scenario));
    let load = |&device: &Device| Trainer::load(&folder, precision, device, &lora, numerics).map_err(InputError::Model);
    let mut trainers = devices.iter().map(load).collect::<Result<Vec<_>, _>>()?;
    report_precision(&mut trainers[0], &folder, clients)?;
    Ok((trainers.into_iter().map(Arc::new).collect(), folder))
}

/// Tokens whose logits say how far a quantised base is from one in bfloat16.
const COMPARED_TOKENS: usize = 128;

/// Says what the base takes, and how far it is from bfloat16 where it is quantised; the manifest records it.
fn report_precision(trainer: &mut Trainer, folder: &Path, clients: &[ClientRows]) -> Result<(), InputError> {
    let row = clients.iter().find_map(|client| client.train.samples.first());
    if let Some(row) = row.filter(|_| trainer.fingerprint().base.precision.is_quantised()) {
        let ids = &row.ids[..row.ids.len().min(COMPARED_TOKENS)];
        trainer.measure_logit_error(folder, ids).map_err(InputError::Model)?;
    }
    tracing::info!(target: "fedreplay::run", "base model: {}", trainer.fingerprint().base);
    Ok(())
}
