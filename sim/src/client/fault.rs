//! Faults: dropout, drawn in advance for each task; device crashes, region cuts, and the handling of interrupted tasks.

use crate::kernel::{Span, Time};
use crate::random::{Probability, Purpose, Seeds};
use serde::{Deserialize, Serialize};

/// Probability that a task is given up at each stage. The stages are mutually exclusive, so the sum is at most 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropout {
    /// After the download, before any training.
    pub before_training: Probability,
    /// At a uniform fraction of the training.
    pub during_training: Probability,
    /// After training, before the upload.
    pub after_training: Probability,
}

/// Stage at which a task is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Stage {
    /// After the download, before any training.
    BeforeTraining,
    /// During the training.
    DuringTraining,
    /// After training, before the upload.
    AfterTraining,
}

/// Fate of a task with respect to dropout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Fate {
    /// It is not given up.
    Completes,
    /// It is given up before training.
    DropsBefore,
    /// It is given up after this fraction of the training [10^-9].
    DropsDuring(u32),
    /// It is given up after training.
    DropsAfter,
}

impl Dropout {
    /// Returns the fate of task `number` of `client`, from draws 2n and 2n + 1 of the client's stream for task n.
    pub(crate) fn fate(&self, seeds: &Seeds, client: u32, number: u32) -> Fate {
        if self.total_ppb() == 0 {
            return Fate::Completes;
        }
        // One draw selects the stage by the cumulative probabilities; the second is used only for dropout during
        // training.
        let mut stream = seeds.stream(Purpose::Dropout, u64::from(client)).at(2 * u64::from(number));
        let stage = stream.below(u64::from(Probability::SCALE));
        let before = u64::from(self.before_training.ppb());
        let during = before + u64::from(self.during_training.ppb());
        match stage {
            _ if stage < before => Fate::DropsBefore,
            _ if stage < during => Fate::DropsDuring(stream.below(u64::from(Probability::SCALE)) as u32),
            _ if stage < self.total_ppb() => Fate::DropsAfter,
            _ => Fate::Completes,
        }
    }

    /// Returns the sum of the probabilities [10^-9].
    pub fn total_ppb(&self) -> u64 {
        [self.before_training, self.during_training, self.after_training].iter().map(|p| u64::from(p.ppb())).sum()
    }
}

/// Crashes of a device: alternating exponential times up and down, starting up. A crash loses the running task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crashes {
    /// Mean time from the start or a return to the next crash; above zero.
    pub mean_up: Span,
    /// Mean time from a crash to the return; above zero.
    pub mean_down: Span,
}

/// A period in which a region is disconnected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionCut {
    /// Region number.
    pub region: u32,
    /// First instant of the cut.
    pub from: Time,
    /// First instant after the cut.
    pub until: Time,
}

/// Number of interruptions that a task survives. Otherwise, a client whose every online window is shorter than its
/// transfer would start over forever, and its round would never close.
pub const INTERRUPTIONS_MAX: u16 = 100;

/// Handling of the task of a client that goes offline, or whose region is cut off. A task that is interrupted more than
/// [`INTERRUPTIONS_MAX`] times is lost in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Interruption {
    /// The task is lost.
    #[default]
    Abandon,
    /// Training continues. A transfer is suspended, and resumes from where it stopped when the client returns.
    Resume,
    /// Training continues. A transfer is stopped, and starts over when the client returns.
    Restart,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Seed;

    #[test]
    fn stages_are_hit_as_often_as_stated() {
        let p = |value| Probability::from_f64(value).unwrap();
        let dropout = Dropout { before_training: p(0.1), during_training: p(0.2), after_training: p(0.3) };
        let mut counts = [0u32; 4];
        for number in 0..100_000 {
            match dropout.fate(&Seeds::new(Seed(1)), 3, number) {
                Fate::DropsBefore => counts[0] += 1,
                Fate::DropsDuring(_) => counts[1] += 1,
                Fate::DropsAfter => counts[2] += 1,
                Fate::Completes => counts[3] += 1,
            }
        }
        for (count, expected) in counts.iter().zip([10_000u32, 20_000, 30_000, 40_000]) {
            assert!(count.abs_diff(expected) < 600, "{counts:?}");
        }
    }
}
