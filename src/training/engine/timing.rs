//! Wall-clock times of the passes and updates of one job, for measurements of a machine.

use std::time::Instant;

use super::job::{Job, TrainingOutcome};
use super::pack;
use super::trainer::Trainer;
use crate::model::Device;
use crate::training::Error;

/// Wall-clock times of one micro-batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PassTime {
    /// [s] -- Packing of the rows, forward and backward pass, until the device has finished them.
    pub micro_batch: f64,
    /// [s] -- Update of the adapter, with the clipping of its gradient; `None` unless the micro-batch was the last of its step.
    pub update: Option<f64>,
}

impl Trainer {
    /// Trains a job alone as [`Self::train`] does, and passes the times of each micro-batch to `goes_on`, which ends the training by
    /// `false`. Returns the outcome of the steps that were taken.
    ///
    /// Reading the adapter in and out, once per job, is in none of the times.
    ///
    /// # Errors
    /// As [`Self::train`].
    pub fn train_timed(&self, job: &Job, goes_on: &mut dyn FnMut(PassTime) -> bool) -> Result<TrainingOutcome, Error> {
        let _guard = self.enter();
        self.check(0, job)?;
        let mut runner = self.runner(job)?;
        // The adapter may still be on its way to the device.
        self.wait_for_device();
        while runner.is_active() {
            let began = Instant::now();
            let packed = pack::pack(&self.base, &[runner.share()])?;
            let nats = self.forward_backward(&packed, &[&mut runner])?;
            runner.add_losses(&packed.predictions.samples[0], &nats);
            self.wait_for_device();
            let micro_batch = began.elapsed().as_secs_f64();
            let mut update = None;
            if runner.has_whole_gradient() {
                let began = Instant::now();
                runner.update()?;
                self.wait_for_device();
                update = Some(began.elapsed().as_secs_f64());
            }
            if !goes_on(PassTime { micro_batch, update }) {
                break;
            }
        }
        runner.finish()
    }

    /// Waits until the device has computed everything that it was given. A CPU computes at once.
    fn wait_for_device(&self) {
        if let Device::Cuda(index) = self.base.device {
            tch::Cuda::synchronize(index as i64);
        }
    }
}
