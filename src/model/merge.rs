//! An adapter folded into its base, or taken out again: W plus or minus scale B A, written as a new folder.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use tch::{Kind, Tensor};

use super::base::kind_of;
use super::{Folder, ModelError, tensor_specs};
use crate::adapter::Adapter;

/// Whether an adapter is folded in or taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// W + scale B A.
    In,
    /// W - scale B A.
    Out,
}

/// Writes the model of `source` with `adapter` folded in or taken out to `target`, as config.json and one f32 file.
///
/// The sum is computed in f64 and rounded once, so taking out what was folded in returns each weight to within the
/// rounding of the sum.
///
/// # Errors
/// If a folder cannot be read or written, or the adapter has a module that the model has not.
pub fn merge(source: &Path, adapter: &Adapter, direction: Merge, target: &Path) -> Result<(), ModelError> {
    let folder = Folder::open(source)?;
    let mut changes = changes(adapter, direction)?;
    let mut written = Vec::new();
    for spec in tensor_specs(folder.config()) {
        let raw = folder.read(&spec.name)?;
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
        written.push((spec.name, spec.shape, values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()));
    }
    if let Some(name) = changes.keys().min() {
        return Err(ModelError::Lora(format!("the model has no {name}")));
    }
    write(source, target, &written)
}

/// The change of each weight by name, in f64.
fn changes(adapter: &Adapter, direction: Merge) -> Result<HashMap<String, Tensor>, ModelError> {
    let scale = adapter.layout.scale() * if direction == Merge::In { 1.0 } else { -1.0 };
    let matrix = |range: std::ops::Range<usize>, rows: usize| {
        let columns = (range.len() / rows) as i64;
        Tensor::f_from_slice(&adapter.values[range])?.f_to_kind(Kind::Double)?.f_view([rows as i64, columns])
    };
    let modules = adapter.layout.modules.iter().zip(adapter.layout.ranges());
    modules
        .map(|(module, (a, b))| {
            let product = matrix(b, module.out_features)?.f_mm(&matrix(a, adapter.layout.rank)?)?;
            Ok((format!("{}.weight", module.path), product.f_mul_scalar(scale)?))
        })
        .collect()
}

fn write(source: &Path, target: &Path, tensors: &[(String, Vec<usize>, Vec<u8>)]) -> Result<(), ModelError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| ModelError::Io { path, source }
    };
    fs::create_dir_all(target).map_err(io(target))?;
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).expect("the values fill the shape"))
    });
    let header = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let file = safetensors::serialize(views, Some(header)).expect("names are distinct");
    let weights = target.join("model.safetensors");
    fs::write(&weights, file).map_err(io(&weights))?;
    let config = target.join("config.json");
    fs::copy(source.join("config.json"), &config).map(drop).map_err(io(&config))
}
