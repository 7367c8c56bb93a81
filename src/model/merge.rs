//! Merging of an adapter into its base, and the reverse: W plus or minus scale B A, written as a new folder.

use std::collections::HashMap;
use std::fs;
use std::ops::Range;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use tch::{Kind, TchError, Tensor};

use super::base::kind_of;
use super::{Folder, ModelError, tensor_specs};
use crate::adapter::Adapter;

/// The direction of a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// Adds the adapter: W + scale B A.
    In,
    /// Subtracts the adapter: W - scale B A.
    Out,
}

/// Merges `adapter` into the model of `source`, or takes it out, and writes the result to `target` as config.json and
/// one f32 file.
///
/// The sum is computed in f64 and rounded once, so taking an adapter out again restores each weight to within the
/// rounding of the sum.
///
/// # Errors
/// If a folder cannot be read or written, or the adapter has a module that the model does not have.
pub fn merge(source: &Path, adapter: &Adapter, direction: Merge, target: &Path) -> Result<(), ModelError> {
    let folder = Folder::open(source)?;
    let mut changes = changes(adapter, direction)?;
    let mut written = Vec::new();
    for spec in tensor_specs(folder.config()) {
        let raw = folder.read(&spec.name)?;
        // All supported types convert to f64 exactly.
        let mut weight =
            Tensor::f_from_data_size(&raw.bytes, &raw.shape, kind_of(raw.dtype))?.f_to_kind(Kind::Double)?;
        if let Some(change) = changes.remove(&spec.name) {
            if change.size() != raw.shape {
                let reason = format!("{} is {:?}, the adapter's product is {:?}", spec.name, raw.shape, change.size());
                return Err(ModelError::Lora(reason));
            }
            weight = weight.f_add(&change)?;
        }
        let values = Vec::<f32>::try_from(weight.f_to_kind(Kind::Float)?.f_flatten(0, -1)?)?;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        written.push((spec.name, spec.shape, bytes));
    }
    // Changes that are left belong to modules that the model does not have. The smallest name makes the error stable.
    if let Some(name) = changes.keys().min() {
        return Err(ModelError::Lora(format!("the model has no {name}")));
    }
    write(source, target, &written)
}

/// Returns the change of each weight by name, in f64.
fn changes(adapter: &Adapter, direction: Merge) -> Result<HashMap<String, Tensor>, ModelError> {
    let sign = if direction == Merge::In { 1.0 } else { -1.0 };
    let scale = adapter.layout.scale() * sign;
    let mut changes = HashMap::new();
    for (module, (a, b)) in adapter.layout.modules.iter().zip(adapter.layout.ranges()) {
        let b = matrix(adapter, b, module.out_features)?;
        let a = matrix(adapter, a, adapter.layout.rank)?;
        let change = b.f_mm(&a)?.f_mul_scalar(scale)?;
        changes.insert(format!("{}.weight", module.path), change);
    }
    Ok(changes)
}

/// Returns a range of the adapter's values as an f64 matrix with `rows` rows.
fn matrix(adapter: &Adapter, range: Range<usize>, rows: usize) -> Result<Tensor, TchError> {
    let columns = (range.len() / rows) as i64;
    Tensor::f_from_slice(&adapter.values[range])?.f_to_kind(Kind::Double)?.f_view([rows as i64, columns])
}

fn write(source: &Path, target: &Path, tensors: &[(String, Vec<usize>, Vec<u8>)]) -> Result<(), ModelError> {
    fs::create_dir_all(target).map_err(ModelError::io(target))?;
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).expect("the values fill the shape"))
    });
    let header = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let file = safetensors::serialize(views, Some(header)).expect("names are distinct");
    let weights = target.join("model.safetensors");
    fs::write(&weights, file).map_err(ModelError::io(&weights))?;
    let config = target.join("config.json");
    fs::copy(source.join("config.json"), &config).map_err(ModelError::io(&config))?;
    Ok(())
}
