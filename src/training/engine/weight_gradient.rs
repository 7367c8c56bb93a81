//! Gradients of the frozen weights that a trainer's adapters change.

use std::sync::Arc;

use fedreplay_sim::Seed;

use super::job::{AlgorithmTerms, Hyper, Job, Objective};
use super::pack::{self, BatchPart};
use super::runner::targets;
use super::trainer::Trainer;
use crate::adapter::Adapter;
use crate::data::Sample;
use crate::training::Error;

impl Trainer {
    /// Computes the gradient of each adapted module's weight W at the base as it is, `[out, in]`, row-major, in the order of the layout: the
    /// sum over `batches` of the gradient of a batch's loss divided by its number of rows. The loss of a batch is the mean over its target
    /// tokens.
    ///
    /// # Errors
    /// If a row does not fit the model, a batch has no target token, a gradient is not finite, or LibTorch fails.
    pub fn weight_gradients(&self, batches: &[Vec<Arc<Sample>>]) -> Result<Vec<Vec<f32>>, Error> {
        let _guard = self.enter();
        let job = Job {
            adapter: Arc::new(Adapter::zeros(self.layout())),
            steps: vec![batches.to_vec()],
            objective: Objective::Sft,
            terms: AlgorithmTerms::default(),
            hyper: Hyper::default(),
            seed: Seed(0),
            stream: 0,
        };
        self.check(0, &job)?;
        let mut runner = self.runner(&job)?;
        runner.sum_weight_gradients()?;
        for samples in batches {
            let weight = 1.0 / (targets(samples) as f64 * samples.len() as f64);
            let packed = pack::pack(&self.base, &[BatchPart { samples, weight }])?;
            self.forward_backward(&packed, &[&mut runner])?;
        }
        let gradients = runner.parameters().weight_gradients()?;
        if gradients.iter().flatten().all(|value| value.is_finite()) {
            return Ok(gradients);
        }
        Err(Error::Job { job: 0, reason: "a gradient of the weights of the base is not finite".into() })
    }
}
