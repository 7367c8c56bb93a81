//! What a run may claim of its determinism: what the start-up test showed on this machine, and never more.
//!
//! The test takes the largest pass that the run will make, so the claim holds for every shape of the run; the manifest names
//! the shapes.

use std::sync::Arc;

use super::error::InputError;
use super::self_test_cache::{Tested, tested};
use crate::model::Device;
use crate::scenario::{Execution, Grouping};
use crate::store::Store;
use crate::training::{Grade, LargestWork, SelfTest, TestedShapes, Trainer};

/// [clients] Trainings in one pass on a GPU, where the scenario does not say.
const GPU_COHORT: u32 = 8;

/// What the start-up test showed.
#[derive(Clone, Copy, Debug)]
pub struct Trust {
    found: SelfTest,
    tested: TestedShapes,
    /// The grade that the run may claim.
    pub grade: Grade,
}

/// Who trains beside whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    /// Up to so many trainings that are ready.
    Ready(usize),
    /// So many trainings from one model in plan order; the grouping is in their keys.
    Keyed(usize),
}

impl Trust {
    /// Tests the loaded trainers, one on each device, with the largest work of the run.
    ///
    /// # Errors
    /// If the same training twice gave different bits: nothing could be promised of such a run. And if several threads or
    /// devices were asked for and gave other bits than one: keys of results name neither.
    pub fn shown_by(trainers: &[Arc<Trainer>], work: &LargestWork, store: &Store) -> Result<Self, InputError> {
        let (trainer, others) = trainers.split_first().expect("something trains");
        check_devices(trainer, others)?;
        let Tested { found, shapes } = tested(trainer, work, store)?;
        let fingerprint = trainer.fingerprint();
        check_threads(&found, fingerprint.threads)?;
        let grade = claim(found.grade(), trainer.uses_own_kernels()).ok_or_else(|| InputError::NotRepeatable {
            device: format!("{} ({})", fingerprint.class.device, fingerprint.processor),
        })?;
        Ok(Self { found, tested: shapes, grade })
    }

    /// Whether what was shown holds for the largest work of another run on the same trainers.
    pub fn covers(&self, work: &LargestWork, threads: usize) -> bool {
        self.tested.cover(&work.shapes(threads))
    }

    /// Who trains beside whom under a scenario's wishes.
    pub fn company(&self, execution: Execution, device: Device) -> Company {
        let most = most_in_a_pass(execution, device);
        match execution.grouping {
            Grouping::Auto if self.grade >= Grade::B => Company::Ready(most),
            _ => Company::Keyed(most),
        }
    }

    /// Machine, settings and test as the manifest records them.
    pub fn record(&self, trainers: &[Arc<Trainer>]) -> serde_json::Value {
        let mut record = serde_json::to_value(trainers[0].fingerprint()).expect("a fingerprint has only text keys");
        let devices: Vec<_> = trainers.iter().map(|trainer| trainer.fingerprint().device.to_string()).collect();
        record["devices"] = devices.into();
        record["self_test"] = serde_json::to_value(self.found).expect("it holds flags alone");
        record["tested_up_to"] = serde_json::to_value(self.tested).expect("it holds numbers alone");
        record
    }
}

/// [clients] Trainings that share a pass, where they are ready.
pub fn most_in_a_pass(execution: Execution, device: Device) -> usize {
    let default = if matches!(device, Device::Cpu) { 1 } else { GPU_COHORT };
    execution.cohort_batch.unwrap_or(default) as usize
}

/// The grade that may be claimed of what was found, if any. LibTorch chooses its kernels by shapes, of which the test has
/// few: on a GPU, or where its operations were asked for, no more than `A` is.
fn claim(found: Grade, own_kernels: bool) -> Option<Grade> {
    let most = if own_kernels { Grade::C } else { Grade::A };
    Some(found.min(most)).filter(|&grade| grade != Grade::None)
}

fn check_devices(first: &Trainer, others: &[Arc<Trainer>]) -> Result<(), InputError> {
    let Some(other) = first.first_to_differ(others).map_err(InputError::SelfTest)? else { return Ok(()) };
    let name = |trainer: &Trainer| format!("{} ({})", trainer.fingerprint().device, trainer.numerics_class().device);
    Err(InputError::Usage(format!(
        "{} gives other bits than {}; name devices of one model with --device",
        name(other),
        name(first)
    )))
}

fn check_threads(found: &SelfTest, threads: usize) -> Result<(), InputError> {
    if threads == 1 || found.threads {
        return Ok(());
    }
    Err(InputError::Usage(format!(
        "--threads {threads} gives other bits than one thread on this machine in this precision; use --threads 1"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_refused_where_they_change_bits() {
        let found = |threads| SelfTest { repeats: true, company: true, threads, portable: false };
        assert!(check_threads(&found(false), 1).is_ok() && check_threads(&found(true), 3).is_ok());
        assert!(check_threads(&found(false), 3).unwrap_err().to_string().contains("--threads 3"));
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
        let trust = |grade| {
            let found = SelfTest { repeats: true, company: grade >= Grade::B, threads: true, portable: false };
            Trust { found, tested: LargestWork::default().shapes(1), grade }
        };
        let of = |cohort_batch, grouping| Execution { cohort_batch, grouping, ..Execution::default() };
        let auto = of(None, Grouping::Auto);
        assert_eq!(trust(Grade::B).company(auto, Device::Cpu), Company::Ready(1));
        assert_eq!(trust(Grade::A).company(auto, Device::Cuda(0)), Company::Keyed(8));
        assert_eq!(trust(Grade::A).company(of(Some(3), Grouping::Auto), Device::Cpu), Company::Keyed(3));
        assert_eq!(trust(Grade::B).company(of(Some(3), Grouping::Keyed), Device::Cpu), Company::Keyed(3));
    }
}
