//! Pretraining of all weights of a small base from scratch, with AdamW through autograd.
//!
//! It is made for the tiny fixture model. The same spec, batches and instruction set give the same bits, since all
//! operations are deterministic for a fixed number of threads.

use std::path::Path;

use fedreplay_sim::Seed;
use tch::{Kind, Tensor};

use super::error::Error;
use super::kernels::native;
use super::oracle::{Oracle, Pairs, Weights};
use crate::model::{Config, random, tensor_specs};

/// Settings of pretraining.
#[derive(Clone, Debug, PartialEq)]
pub struct PretrainSpec {
    /// Number of optimizer steps.
    pub steps: usize,
    /// Highest learning rate, which is reached after the warm-up and then decreases along a cosine.
    pub learning_rate: f64,
    /// Final learning rate as a fraction of the highest.
    pub final_fraction: f64,
    /// Number of steps over which the learning rate rises linearly from zero.
    pub warmup_steps: usize,
    /// Weight decay of matrices; norms and biases have none.
    pub weight_decay: f64,
    /// Decay rate of the mean square.
    pub beta2: f64,
    /// Greatest global norm of the gradient.
    pub clip_norm: f64,
    /// Seed of the initial weights.
    pub seed: Seed,
    /// Threads inside an operation. Bits depend on it.
    pub threads: usize,
}

impl PretrainSpec {
    /// Returns the learning rate of a step.
    fn rate(&self, step: usize) -> f64 {
        if step < self.warmup_steps {
            return self.learning_rate * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let span = (self.steps - self.warmup_steps).max(1) as f64;
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * (step - self.warmup_steps) as f64 / span).cos());
        self.learning_rate * (self.final_fraction + (1.0 - self.final_fraction) * cosine)
    }
}

/// Pretrains a model of shape `config` and writes it to `folder` as config.json and model.safetensors (f32).
///
/// `batches` returns the token rows of each step, all of equal length; every token but a row's first is a target.
/// `progress` is called with each step's number and loss in nat/token.
///
/// # Errors
/// If the folder cannot be written, a batch is ragged or holds an unknown token, or LibTorch fails.
pub fn pretrain(
    folder: &Path,
    config: &Config,
    spec: &PretrainSpec,
    mut batches: impl FnMut(usize) -> Vec<Vec<u32>>,
    mut progress: impl FnMut(usize, f64),
) -> Result<(), Error> {
    native::switches();
    tch::set_num_threads(spec.threads.max(1) as i32);
    let mut learner = Learner::new(config, spec.seed)?;
    for step in 0..spec.steps {
        let ids = batch(config, &batches(step), step)?;
        let loss = learner.step(&ids, spec, step)?;
        progress(step, loss);
    }
    learner.write(folder)
}

/// Checks rows and returns them as a tensor `[batch, length]`.
fn batch(config: &Config, rows: &[Vec<u32>], step: usize) -> Result<Tensor, Error> {
    let length = rows.first().map_or(0, Vec::len);
    if length < 2 {
        return Err(Error::Row { job: 0, step, row: 0, reason: "a row needs at least two tokens".into() });
    }
    for (index, row) in rows.iter().enumerate() {
        check_row(config, row, length).map_err(|reason| Error::Row { job: 0, step, row: index, reason })?;
    }
    let flat: Vec<i64> = rows.iter().flatten().map(|&id| i64::from(id)).collect();
    Ok(Tensor::f_from_slice(&flat)?.f_view([rows.len() as i64, length as i64])?)
}

/// Checks one row of a batch; the error is a reason.
fn check_row(config: &Config, row: &[u32], length: usize) -> Result<(), String> {
    if row.len() != length {
        return Err(format!("it has {} tokens, the first row has {length}", row.len()));
    }
    match row.iter().find(|&&id| id as usize >= config.vocab_size) {
        Some(id) => Err(format!("token id {id} is beyond the embedding of {} tokens", config.vocab_size)),
        None => Ok(()),
    }
}

/// Model in training. All weights are views into one flat vector, so that an update takes few operations.
struct Learner {
    config: Config,
    weights: Weights,
    /// Names of the weights, in the order of the flat vector.
    names: Vec<String>,
    flat: Tensor,
    /// 1 for values with weight decay, 0 for others.
    decayed: Tensor,
    mean: Tensor,
    square: Tensor,
}

impl Learner {
    /// Draws the initial weights.
    fn new(config: &Config, seed: Seed) -> Result<Self, Error> {
        let specs = tensor_specs(config);
        let mut values: Vec<Vec<f32>> = Vec::with_capacity(specs.len());
        let mut mask: Vec<f32> = Vec::new();
        for (index, spec) in specs.iter().enumerate() {
            let initial = random::initial_values(spec, seed, index as u64);
            // Matrices decay, vectors (norms and biases) do not.
            mask.extend(std::iter::repeat_n(f32::from(spec.shape.len() > 1), initial.len()));
            values.push(initial);
        }
        let flat = Tensor::f_from_slice(&values.concat())?;
        let mut weights = Weights::new();
        let mut start = 0;
        for (spec, values) in specs.iter().zip(&values) {
            let shape: Vec<i64> = spec.shape.iter().map(|&n| n as i64).collect();
            let view = flat.f_narrow(0, start, values.len() as i64)?.f_view(shape.as_slice())?;
            // A detached leaf that shares the memory: autograd fills its gradient, and an update of `flat` changes it.
            weights.insert(spec.name.clone(), view.f_detach()?.f_set_requires_grad(true)?);
            start += values.len() as i64;
        }
        Ok(Self {
            config: config.clone(),
            weights,
            names: specs.into_iter().map(|spec| spec.name).collect(),
            decayed: Tensor::f_from_slice(&mask)?,
            mean: flat.f_zeros_like()?,
            square: flat.f_zeros_like()?,
            flat,
        })
    }

    /// Takes one step and returns the loss before it.
    fn step(&mut self, ids: &Tensor, spec: &PretrainSpec, step: usize) -> Result<f64, Error> {
        let pairs = Pairs::new();
        let length = ids.size()[1];
        let oracle = Oracle { config: &self.config, weights: &self.weights, pairs: &pairs };
        let logits = oracle.logits(&ids.f_narrow(1, 0, length - 1)?)?.f_flatten(0, 1)?;
        let labels = ids.f_narrow(1, 1, length - 1)?.f_flatten(0, 1)?;
        let loss = logits.f_cross_entropy_loss::<Tensor>(&labels, None, tch::Reduction::Mean, -100, 0.0)?;
        let weights: Vec<&Tensor> = self.names.iter().map(|name| &self.weights[name]).collect();
        let gradients = Tensor::f_run_backward(&[&loss], &weights, false, false)?;
        let gradients = gradients.iter().map(|gradient| gradient.f_flatten(0, -1)).collect::<Result<Vec<_>, _>>()?;
        tch::no_grad(|| self.update(Tensor::f_cat(&gradients, 0)?, spec, step))?;
        Ok(f64::try_from(loss)?)
    }

    /// Takes an AdamW step (arXiv 1711.05101), in place.
    fn update(&mut self, mut gradient: Tensor, spec: &PretrainSpec, step: usize) -> Result<(), tch::TchError> {
        let norm = super::engine::optimizer::norm(&gradient)?;
        let _ = gradient.f_mul_scalar_((spec.clip_norm / (norm + 1e-6)).min(1.0))?;
        let rate = spec.rate(step);
        let decay = self.decayed.f_mul_scalar(-rate * spec.weight_decay)?.f_add_scalar(1.0)?;
        let _ = self.flat.f_mul_(&decay)?;
        const BETA1: f64 = 0.9;
        let count = step as i32 + 1;
        let _ = self.mean.f_lerp_(&gradient, 1.0 - BETA1)?;
        let _ = self.square.f_lerp_(&gradient.f_square()?, 1.0 - spec.beta2)?;
        let root = self.square.f_div_scalar(1.0 - spec.beta2.powi(count))?.f_sqrt()?.f_add_scalar(1e-8)?;
        let change = self.mean.f_div(&root)?.f_mul_scalar(rate / (1.0 - BETA1.powi(count)))?;
        self.flat.f_sub_(&change).map(drop)
    }

    /// Writes the model to a folder.
    fn write(&self, folder: &Path) -> Result<(), Error> {
        let mut tensors = Vec::with_capacity(self.names.len());
        for name in &self.names {
            let tensor = self.weights[name].f_detach()?;
            let shape = tensor.size().iter().map(|&n| n as usize).collect();
            tensors.push((
                name.clone(),
                shape,
                Vec::<f32>::try_from(tensor.f_to_kind(Kind::Float)?.f_flatten(0, -1)?)?,
            ));
        }
        Ok(random::write_values(folder, &self.config, &tensors)?)
    }
}
