//! Training times and memory of tasks on devices with measured profiles, and what a profile must have in common with the scenario.

use std::collections::BTreeMap;

use fedreplay_sim::Span;

use super::ScheduleError;
use super::placement::DeviceClass;
use super::trace::Trace;
use crate::profile::{DeviceProfile, MicroBatchShape, Workload};
use crate::scenario::ScenarioSpec;

/// Contents of the files that a scenario's population names.
#[derive(Clone, Debug, Default)]
pub struct PopulationFiles {
    pub trace: Trace,
    /// Profiles of device classes, by class.
    pub profiles: BTreeMap<String, DeviceProfile>,
}

/// Steps of a client's task, and the rows that they train on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskSize {
    /// [columns] -- Rank of the client's adapter.
    pub rank: u32,
    pub steps: u32,
    /// [token] -- Mean length of the client's rows.
    pub mean_tokens: u64,
    /// [token] -- Length of its longest row.
    pub longest_tokens: u64,
}

impl TaskSize {
    /// Returns the shape of a micro-batch of this number of rows of the mean length.
    pub fn micro_batch(self, rows: u32) -> MicroBatchShape {
        MicroBatchShape { rank: self.rank, rows, length: self.mean_tokens.max(1) }
    }
}

/// Device class with a profile.
#[derive(Clone, Copy, Debug)]
pub struct MeasuredClass<'a> {
    pub name: &'a str,
    pub profile: &'a DeviceProfile,
    /// Whether shapes beyond the profile's grid are allowed.
    pub extrapolates: bool,
}

impl PopulationFiles {
    /// Returns a device class with its profile; `None` if it has a speed.
    pub fn measured<'a>(&'a self, class: &'a DeviceClass) -> Option<MeasuredClass<'a>> {
        class.device.profile.as_ref()?;
        let profile = &self.profiles[&class.name];
        Some(MeasuredClass { name: &class.name, profile, extrapolates: class.device.extrapolate })
    }
}

impl MeasuredClass<'_> {
    /// Checks that the profile was measured with what the scenario trains.
    ///
    /// # Errors
    /// The first field that differs.
    pub(super) fn check(&self, scenario: &ScenarioSpec, wanted: &Workload) -> Result<(), ScheduleError> {
        if scenario.trains_core() {
            let method = scenario.lora_method().name;
            return Err(
                self.misfit(format!("{method} trains a matrix between the factors, and a profile is of the factors"))
            );
        }
        match self.profile.workload.difference(wanted) {
            Some((field, here, there)) => {
                Err(self.misfit(format!("{field} is `{here}` in the profile, and `{there}` in the scenario")))
            }
            None => Ok(()),
        }
    }

    /// Checks that the steps of a client's task are within the grid of the profile, if they must be.
    ///
    /// # Errors
    /// If they are beyond it, with their shape and the grid.
    pub(super) fn check_task(&self, size: TaskSize, batch: u32, client: &str) -> Result<(), ScheduleError> {
        let MicroBatchShape { rank, rows, length } = size.micro_batch(batch);
        let profile = self.profile;
        if self.extrapolates || profile.micro_batch_seconds(size.micro_batch(batch)).is_some() {
            return Ok(());
        }
        Err(self.misfit(format!(
            "client \"{client}\" trains on {rows} rows of {length} tokens on average at rank {rank}, and the profile has {} rows of {} \
             tokens at rank {}; with `extrapolate: true` fitted terms go beyond them",
            range(&profile.rows),
            range(&profile.lengths),
            range(&profile.ranks)
        )))
    }

    fn misfit(&self, message: String) -> ScheduleError {
        ScheduleError::Profile { class: self.name.to_owned(), message }
    }

    /// Returns the training time of a task without slowdown: its steps, each of `accumulation` micro-batches of `batch` rows of the mean
    /// length and a step of the optimizer. Rounded once, to nanoseconds.
    pub(super) fn training_span(&self, size: TaskSize, batch: u32, accumulation: u32) -> Span {
        let micro_batch = self.profile.extrapolated_seconds(size.micro_batch(batch));
        let step = f64::from(accumulation) * micro_batch + self.profile.optimizer_seconds(size.rank);
        Span((f64::from(size.steps) * step * 1e9).round() as u64)
    }

    /// [byte] -- Returns the peak memory with a micro-batch of the longest rows; `None` where it was not measured.
    pub(super) fn peak_memory_bytes(&self, size: TaskSize, batch: u32) -> Option<u64> {
        let longest = MicroBatchShape { length: size.longest_tokens, ..size.micro_batch(batch) };
        self.profile.peak_memory_bytes(longest)
    }
}

/// Returns the range of an ascending axis in words.
fn range(axis: &[u32]) -> String {
    match axis {
        [only] => only.to_string(),
        [least, .., most] => format!("{least} to {most}"),
        [] => String::new(),
    }
}
