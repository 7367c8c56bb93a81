//! Randomly initialized models as Hugging Face folders, for tests, for measurements, and as the start of pretraining.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use fedreplay_sim::{Purpose, Seed, Stream};
use safetensors::tensor::{Dtype, TensorView};

use super::{Config, ModelError, TensorSpec, tensor_specs};

/// Standard deviation of initial weights, as in `initializer_range` of Transformers.
const DEVIATION: f64 = 0.02;

/// Writes config.json and model.safetensors (f32) of a model with random weights.
///
/// Element n of tensor i is a function of draws 2n and 2n + 1 of the stream (seed, ModelInit, i).
///
/// # Errors
/// If the folder cannot be written.
pub fn write_folder(folder: &Path, config: &Config, seed: Seed) -> Result<(), ModelError> {
    let mut tensors = Vec::new();
    for (index, spec) in tensor_specs(config).into_iter().enumerate() {
        let values = initial_values(&spec, seed, index as u64);
        tensors.push((spec.name, spec.shape, values));
    }
    write_values(folder, config, &tensors)
}

/// Writes config.json and model.safetensors with the given f32 tensors: name, shape and row-major values of each.
///
/// # Errors
/// If the folder cannot be written.
pub fn write_values(
    folder: &Path,
    config: &Config,
    tensors: &[(String, Vec<usize>, Vec<f32>)],
) -> Result<(), ModelError> {
    fs::create_dir_all(folder).map_err(ModelError::io(folder))?;
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(_, _, values)| values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).expect("the values fill the shape"))
    });
    // Older releases of Transformers refuse a file whose header does not name the format.
    let header = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let file = safetensors::serialize(views, Some(header)).expect("names are distinct");
    let weights = folder.join("model.safetensors");
    fs::write(&weights, file).map_err(ModelError::io(&weights))?;
    let path = folder.join("config.json");
    let text = serde_json::to_string_pretty(&config.to_json()).expect("plain data") + "\n";
    fs::write(&path, text).map_err(ModelError::io(&path))
}

/// Returns the initial values of a tensor: 1 for weights of norms, 0 for biases, and normal numbers with standard
/// deviation `DEVIATION` for all others.
pub fn initial_values(spec: &TensorSpec, seed: Seed, index: u64) -> Vec<f32> {
    let length = spec.shape.iter().product();
    if spec.shape.len() == 1 {
        let value = if spec.name.ends_with("bias") { 0.0 } else { 1.0 };
        return vec![value; length];
    }
    let mut stream = Stream::new(seed, Purpose::ModelInit, index);
    (0..length).map(|_| (normal(&mut stream) * DEVIATION) as f32).collect()
}

/// Draws a standard normal number from two uniform ones (Box and Muller 1958, the cosine branch).
fn normal(stream: &mut Stream) -> f64 {
    let radius = (-2.0 * (1.0 - stream.unit()).ln()).sqrt();
    radius * (2.0 * std::f64::consts::PI * stream.unit()).cos()
}
