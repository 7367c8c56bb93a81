//! Merging of an adapter into its base, and the reverse: W plus or minus scale B A, or B R A, written as a new folder.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use tch::{Kind, TchError, Tensor};

use super::tensors::is_linear;
use super::weight::Weight;
use super::{Folder, ModelError, Precision, tensor_specs};
use crate::adapter::{Adapter, Module, ModuleChange};
use crate::store::{parse_json, read_limited};

/// The direction of a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// Adds the adapter, and the change of the base that it belongs to: W + scale B A.
    In,
    /// Subtracts the adapter: W - scale B A.
    Out,
}

/// Merges `adapter` into the model of `source`, or takes it out, and writes the result to `target` as config.json and
/// one f32 file.
///
/// The sum is computed in f64 and rounded once, so taking an adapter out again restores each weight to within the
/// rounding of the sum. With `rounding`, the model's weights are first rounded as a model that is loaded in that precision.
///
/// # Errors
/// If a folder cannot be read or written, or the adapter has a module that the model does not have.
pub fn merge(
    source: &Path,
    adapter: &Adapter,
    direction: Merge,
    rounding: Option<Precision>,
    target: &Path,
) -> Result<(), ModelError> {
    let folder = Folder::open(source)?;
    let mut changes = changes(adapter, direction)?;
    let mut written = Vec::new();
    for spec in tensor_specs(folder.config()) {
        let read = folder.tensor(&spec.name, None)?;
        let read = match rounding {
            Some(precision) => rounded(read, &spec.name, precision)?,
            None => read,
        };
        // All supported types convert to f64 exactly.
        let mut weight = read.f_to_kind(Kind::Double)?;
        if let Some(change) = changes.remove(&spec.name) {
            if change.size() != weight.size() {
                let reason =
                    format!("{} is {:?}, the adapter's product is {:?}", spec.name, weight.size(), change.size());
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

/// Rounds a tensor as a base model that is loaded in `precision` has it.
fn rounded(tensor: Tensor, name: &str, precision: Precision) -> Result<Tensor, TchError> {
    if is_linear(name) {
        return Weight::new(&[tensor], precision, tch::Device::Cpu)?.expanded();
    }
    tensor.f_to_kind(precision.kind())
}

/// Returns the change of each weight by name, in f64.
fn changes(adapter: &Adapter, direction: Merge) -> Result<HashMap<String, Tensor>, ModelError> {
    let sign = if direction == Merge::In { 1.0 } else { -1.0 };
    let scale = adapter.layout.scale() * sign;
    let cores = adapter.layout.core_ranges();
    let mut changes = HashMap::new();
    for (index, (module, (a, b))) in adapter.layout.modules.iter().zip(adapter.layout.ranges()).enumerate() {
        let mut b = matrix(&adapter.values[b], module.out_features)?;
        if adapter.layout.has_core {
            b = b.f_mm(&matrix(&adapter.values[cores[index].clone()], adapter.layout.rank)?)?;
        }
        let a = matrix(&adapter.values[a], adapter.layout.rank)?;
        let mut change = b.f_mm(&a)?.f_mul_scalar(scale)?;
        if let Some(of_base) = &adapter.base_change {
            change = change.f_add(&product(&of_base.modules[index], module)?.f_mul_scalar(sign)?)?;
        }
        changes.insert(format!("{}.weight", module.path), change);
    }
    Ok(changes)
}

/// Returns values as an f64 matrix with `rows` rows.
fn matrix(values: &[f32], rows: usize) -> Result<Tensor, TchError> {
    let columns = (values.len() / rows) as i64;
    Tensor::f_from_slice(values)?.f_to_kind(Kind::Double)?.f_view([rows as i64, columns])
}

/// Returns the change of a weight of the base as an f64 matrix `[out, in]`.
fn product(change: &ModuleChange, module: &Module) -> Result<Tensor, TchError> {
    match change {
        ModuleChange::Factors { rank: 0, .. } => {
            Tensor::f_zeros([module.out_features as i64, module.in_features as i64], (Kind::Double, tch::Device::Cpu))
        }
        ModuleChange::Factors { rank, columns, rows } => matrix(columns, *rank)?.f_tr()?.f_mm(&matrix(rows, *rank)?),
        ModuleChange::Dense(values) => matrix(values, module.out_features),
    }
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
    write_config(&source.join("config.json"), &target.join("config.json"))
}

/// Writes a model's config with the type of the weights that were written. Transformers reads the type under either of two
/// names, of which all versions know the older one.
fn write_config(source: &Path, target: &Path) -> Result<(), ModelError> {
    let bytes = read_limited(source).map_err(ModelError::io(source))?;
    let mut config: serde_json::Map<String, serde_json::Value> = parse_json(&bytes)
        .map_err(|error| ModelError::Config { path: source.to_owned(), reason: error.to_string() })?;
    config.remove("dtype");
    config.insert("torch_dtype".into(), "float32".into());
    let text = serde_json::to_string_pretty(&config).expect("it was read as JSON") + "\n";
    fs::write(target, text).map_err(ModelError::io(target))
}
