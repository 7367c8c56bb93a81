//! Determinism claim of a run, which is limited to what the start-up test showed on this machine.
//!
//! The test uses the largest pass that the run will make, so the claim holds for every shape of the run. The manifest
//! records the shapes.

use std::sync::Arc;

use super::error::InputError;
use super::self_test_cache::{Tested, tested};
use crate::model::Device;
use crate::scenario::{Execution, Grouping};
use crate::store::Store;
use crate::training::{Grade, LargestWork, SelfTest, TestedShapes, Trainer};

/// [clients] -- Default number of trainings in one pass on a GPU.
const GPU_COHORT: u32 = 8;

/// Result of the start-up test.
#[derive(Clone, Copy, Debug)]
pub struct DeterminismCheck {
    found: SelfTest,
    tested: TestedShapes,
    /// Determinism grade that the run may claim.
    pub grade: Grade,
}

/// Grouping of trainings into passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrainingBatches {
    /// Up to this many trainings that are ready. Requires batch-invariant training.
    Ready(usize),
    /// This many trainings from one model, in plan order. The grouping is part of their keys.
    Keyed(usize),
}

impl DeterminismCheck {
    /// Tests the loaded trainers, one on each device, with the largest work of the run.
    ///
    /// # Errors
    /// If the same training gave different bits twice, as nothing could be claimed of such a run; and if several threads or
    /// devices give other bits than one, as keys of results contain neither.
    pub fn shown_by(trainers: &[Arc<Trainer>], work: &LargestWork, store: &Store) -> Result<Self, InputError> {
        let (trainer, others) = trainers.split_first().expect("something trains");
        // Devices are compared first: the rest of the test runs on the first one and holds for all of them.
        check_devices(trainer, others)?;
        let Tested { found, shapes } = tested(trainer, work, store)?;
        let fingerprint = trainer.fingerprint();
        check_threads(&found, fingerprint.threads)?;
        let grade = claim(found.grade(), trainer.uses_own_kernels()).ok_or_else(|| InputError::NotRepeatable {
            device: format!("{} ({})", fingerprint.class.device, fingerprint.processor),
        })?;
        Ok(Self { found, tested: shapes, grade })
    }

    /// Whether the result holds for the largest work of another run on the same trainers.
    pub fn covers(&self, work: &LargestWork, threads: usize) -> bool {
        self.tested.cover(&work.shapes(threads))
    }

    /// Returns the grouping of trainings by a scenario's settings.
    pub fn batches(&self, execution: Execution, device: Device) -> TrainingBatches {
        let most = most_in_a_pass(execution, device);
        match execution.grouping {
            // From grade B on, the test has shown that training is batch-invariant.
            Grouping::Auto if self.grade >= Grade::B => TrainingBatches::Ready(most),
            _ => TrainingBatches::Keyed(most),
        }
    }

    /// Returns the machine, its settings and the test as the manifest records them.
    pub fn record(&self, trainers: &[Arc<Trainer>]) -> serde_json::Value {
        let mut record = serde_json::to_value(trainers[0].fingerprint()).expect("a fingerprint has only text keys");
        let devices: Vec<_> = trainers.iter().map(|trainer| trainer.fingerprint().device.to_string()).collect();
        record["devices"] = devices.into();
        record["self_test"] = serde_json::to_value(self.found).expect("it holds flags alone");
        record["tested_up_to"] = serde_json::to_value(self.tested).expect("it holds numbers alone");
        record
    }
}

/// [clients] -- Returns the maximum number of trainings that share a pass.
pub fn most_in_a_pass(execution: Execution, device: Device) -> usize {
    let default = if matches!(device, Device::Cpu) { 1 } else { GPU_COHORT };
    execution.cohort_batch.unwrap_or(default) as usize
}

/// Returns the grade that may be claimed for a test result, if any. LibTorch chooses its kernels by shape, and the test has
/// few shapes: with LibTorch's operations, as on a GPU, the claim is at most `A`.
fn claim(found: Grade, own_kernels: bool) -> Option<Grade> {
    let most = if own_kernels { Grade::C } else { Grade::A };
    Some(found.min(most)).filter(|&grade| grade != Grade::None)
}

/// Refuses devices that give different bits.
fn check_devices(first: &Trainer, others: &[Arc<Trainer>]) -> Result<(), InputError> {
    let Some(other) = first.first_to_differ(others).map_err(InputError::SelfTest)? else { return Ok(()) };
    Err(InputError::DevicesDiffer { first: device_name(first), other: device_name(other) })
}

/// Returns the name of a trainer's device and its model.
fn device_name(trainer: &Trainer) -> String {
    format!("{} ({})", trainer.fingerprint().device, trainer.numerics_class().device)
}

/// Refuses several threads if they give other bits than one.
fn check_threads(found: &SelfTest, threads: usize) -> Result<(), InputError> {
    if threads == 1 || found.threads {
        return Ok(());
    }
    Err(InputError::ThreadsDiffer { threads })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_refused_where_they_change_bits() {
        let found = |threads| SelfTest { repeats: true, company: true, threads, portable: false };
        assert!(check_threads(&found(false), 1).is_ok() && check_threads(&found(true), 3).is_ok());
        assert!(check_threads(&found(false), 3).unwrap_err().to_string().contains("3 threads"));
    }

    #[test]
    fn no_more_is_claimed_than_was_found_or_could_be() {
        for own_kernels in [true, false] {
            assert_eq!(claim(Grade::None, own_kernels), None);
        }
        for found in [Grade::A, Grade::B, Grade::C] {
            assert_eq!(claim(found, true), Some(found));
            assert_eq!(claim(found, false), Some(Grade::A));
        }
    }

    #[test]
    fn company_is_keyed_unless_it_was_shown_to_change_no_bit() {
        let check = |grade| {
            let found = SelfTest { repeats: true, company: grade >= Grade::B, threads: true, portable: false };
            DeterminismCheck { found, tested: LargestWork::default().shapes(1), grade }
        };
        let of = |cohort_batch, grouping| Execution { cohort_batch, grouping, ..Execution::default() };
        let auto = of(None, Grouping::Auto);
        assert_eq!(check(Grade::B).batches(auto, Device::Cpu), TrainingBatches::Ready(1));
        assert_eq!(check(Grade::A).batches(auto, Device::Cuda(0)), TrainingBatches::Keyed(8));
        assert_eq!(check(Grade::A).batches(of(Some(3), Grouping::Auto), Device::Cpu), TrainingBatches::Keyed(3));
        assert_eq!(check(Grade::B).batches(of(Some(3), Grouping::Keyed), Device::Cpu), TrainingBatches::Keyed(3));
    }
}
