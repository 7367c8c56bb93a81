//! Simulated distribution of a run's passes over its workers: how long they take, and which are in memory at once.

use super::local_training::Tasks;
use super::training_passes::{counted_trainings, samples_of, targets_of, tokens_of, trainings_apart};
use crate::graph::TrainingOrder;
use crate::inputs::Inputs;
use crate::scenario::Scenario;
use crate::schedule::ScheduledRound;

/// One micro-batch of a training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pass {
    /// [token] -- Tokens, prompts included.
    pub tokens: u64,
    /// [token] -- Tokens that a loss is taken on.
    pub targets: u64,
}

impl Pass {
    /// [token, token] -- Returns the tokens and target tokens of this many such passes in one.
    pub fn times(self, count: u64) -> (u64, u64) {
        (count * self.tokens, count * self.targets)
    }
}

/// Trainings of a run: those of each round, which waits for the round before, and last the local baselines.
#[derive(Debug, Default)]
pub(super) struct Workload {
    rounds: Vec<Vec<Vec<Pass>>>,
}

impl Workload {
    /// Collects the trainings that a known schedule counts.
    pub fn of(scenario: &Scenario, inputs: &Inputs, schedule: &[ScheduledRound]) -> Self {
        let tasks = Tasks { scenario, inputs };
        let mut rounds = Vec::with_capacity(schedule.len() + 1);
        for scheduled in schedule {
            rounds.push(counted_trainings(&tasks, scheduled).iter().map(passes_of).collect());
        }
        rounds.push(trainings_apart(&tasks).iter().map(passes_of).collect());
        Self { rounds }
    }

    /// [token] -- Returns the tokens of all passes.
    pub fn tokens(&self) -> u64 {
        self.rounds.iter().flatten().flatten().map(|pass| pass.tokens).sum()
    }

    /// [token] -- Returns the tokens of the longest chain: the time at which the last worker ends, at one unit per token.
    pub fn tokens_in_a_row(&self, workers: usize) -> u64 {
        self.laid_out(workers).iter().map(|interval| interval.end).max().unwrap_or(0)
    }

    /// Returns the maximum number of trainings in one round.
    pub fn trainings_of_a_round(&self) -> u64 {
        let counted = self.rounds.split_last().map_or(&[][..], |(_, counted)| counted);
        counted.iter().map(|round| round.len() as u64).max().unwrap_or(0)
    }

    /// Returns the number of trainings in all rounds.
    pub fn trainings_in_rounds(&self) -> u64 {
        let counted = self.rounds.split_last().map_or(&[][..], |(_, counted)| counted);
        counted.iter().map(|round| round.len() as u64).sum()
    }

    /// [byte] -- Returns the maximum that concurrent passes on `workers` workers take together, if each takes `bytes`.
    pub fn most_together(&self, workers: usize, bytes: impl Fn(Pass) -> u64) -> u64 {
        let mut changes = Vec::new();
        for interval in self.laid_out(workers) {
            let used = bytes(interval.pass) as i64;
            changes.push((interval.start, used));
            changes.push((interval.end, -used));
        }
        // Sweep over the ends of intervals. At equal times the negative change sorts first, so a pass that ends frees its
        // memory before one that begins there takes its own.
        changes.sort_unstable();
        let mut together = 0;
        let mut most = 0;
        for (_, change) in changes {
            together += change;
            most = most.max(together);
        }
        most as u64
    }

    /// Assigns each training of a round to the worker that is free first. A token takes one unit of time.
    fn laid_out(&self, workers: usize) -> Vec<Interval> {
        let mut intervals = Vec::new();
        let mut begin = 0;
        for round in &self.rounds {
            let mut free_from = vec![begin; workers.max(1)];
            for training in round {
                let clock = free_from.iter_mut().min().expect("there is a worker");
                for &pass in training {
                    let start = *clock;
                    *clock += pass.tokens;
                    intervals.push(Interval { start, end: *clock, pass });
                }
            }
            begin = free_from.into_iter().max().expect("there is a worker");
        }
        intervals
    }
}

/// Pass with the interval in which it runs, in units of one token.
struct Interval {
    start: u64,
    end: u64,
    pass: Pass,
}

fn passes_of(training: &TrainingOrder) -> Vec<Pass> {
    let mut passes = Vec::new();
    for micro_batch in training.steps.iter().flatten() {
        let samples = samples_of(&training.rows, micro_batch);
        passes.push(Pass { tokens: tokens_of(&samples), targets: targets_of(&samples) });
    }
    passes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload() -> Workload {
        let training = |tokens: &[u64]| tokens.iter().map(|&tokens| Pass { tokens, targets: 1 }).collect::<Vec<_>>();
        Workload {
            rounds: vec![vec![training(&[10, 20]), training(&[5]), training(&[40])], vec![training(&[7])], vec![]],
        }
    }

    #[test]
    fn one_worker_does_everything_in_a_row() {
        assert_eq!((workload().tokens(), workload().tokens_in_a_row(1)), (82, 82));
        assert_eq!(workload().most_together(1, |pass| pass.tokens), 40);
        assert_eq!(workload().trainings_of_a_round(), 3);
    }

    #[test]
    fn a_round_waits_for_the_one_before() {
        // The second worker runs 5 and then 40 while the first runs 10 and 20; 7 follows alone.
        assert_eq!(workload().tokens_in_a_row(2), 45 + 7);
        assert_eq!(workload().most_together(2, |pass| pass.tokens), 60);
        assert_eq!(workload().tokens_in_a_row(9), 40 + 7, "more workers than trainings");
    }

    #[test]
    fn nothing_takes_nothing() {
        let nothing = Workload::default();
        assert_eq!((nothing.tokens_in_a_row(2), nothing.most_together(2, |pass| pass.tokens)), (0, 0));
        assert_eq!(nothing.trainings_of_a_round(), 0);
    }
}
