//! Counters of an executor's work in progress, for progress displays. Nothing here enters a key, a result or a hashed
//! table.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use super::node::{Node, TrainingOrder};

/// Amount of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkAmount {
    /// [tasks] -- Trainings.
    pub trainings: u64,
    /// [token] -- Tokens of all steps of the trainings, prompts included.
    pub trained_tokens: u64,
    /// [rows] -- Rows of evaluations.
    pub evaluated_rows: u64,
    /// [token] -- Tokens of these rows, prompts included.
    pub evaluated_tokens: u64,
    /// [questions] -- Questions of benchmarks.
    pub questions: u64,
}

impl WorkAmount {
    /// Returns the work of a node as far as it is known in advance; the number of a benchmark's questions is not.
    pub fn of(node: &Node) -> Self {
        match node {
            Node::Train { training, .. } => {
                Self { trainings: 1, trained_tokens: training_tokens(training), ..Self::default() }
            }
            Node::Cohort(members) => {
                let mut sum = Self::default();
                for member in members {
                    sum.add(&Self::of(member));
                }
                sum
            }
            Node::Evaluate { groups, .. } => Self {
                evaluated_rows: groups.iter().map(|rows| rows.count() as u64).sum(),
                evaluated_tokens: groups.iter().map(|rows| rows.tokens()).sum(),
                ..Self::default()
            },
            _ => Self::default(),
        }
    }

    fn add(&mut self, other: &Self) {
        self.trainings += other.trainings;
        self.trained_tokens += other.trained_tokens;
        self.evaluated_rows += other.evaluated_rows;
        self.evaluated_tokens += other.evaluated_tokens;
        self.questions += other.questions;
    }

    fn subtract(&mut self, other: &Self) {
        self.trainings = self.trainings.saturating_sub(other.trainings);
        self.trained_tokens = self.trained_tokens.saturating_sub(other.trained_tokens);
        self.evaluated_rows = self.evaluated_rows.saturating_sub(other.evaluated_rows);
        self.evaluated_tokens = self.evaluated_tokens.saturating_sub(other.evaluated_tokens);
        self.questions = self.questions.saturating_sub(other.questions);
    }

    /// Returns the element-wise maximum.
    fn or_more(&self, other: &Self) -> Self {
        Self {
            trainings: self.trainings.max(other.trainings),
            trained_tokens: self.trained_tokens.max(other.trained_tokens),
            evaluated_rows: self.evaluated_rows.max(other.evaluated_rows),
            evaluated_tokens: self.evaluated_tokens.max(other.evaluated_tokens),
            questions: self.questions.max(other.questions),
        }
    }
}

fn training_tokens(training: &TrainingOrder) -> u64 {
    let rows = training.steps.iter().flatten().flatten();
    let samples = rows.flat_map(|&row| training.rows.row(row));
    samples.map(|sample| sample.ids.len() as u64).sum()
}

/// Work done, and all work known to be wanted, done or not. Results found in the store count in neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkCounts {
    pub done: WorkAmount,
    pub wanted: WorkAmount,
}

/// Piece of work that a worker is computing.
#[derive(Clone, Copy, Debug)]
pub struct WorkUnderWay {
    /// Kind of the node, as in [`Node::kind`].
    pub kind: &'static str,
    /// [tasks] -- Number of trainings in it.
    pub trainings: usize,
    /// Time at which the worker began.
    pub since: Instant,
}

/// Counters of an executor's work, which other threads may read at any time.
#[derive(Debug, Default)]
pub struct WorkCounters {
    counts: Mutex<WorkCounts>,
    /// [token] -- Separate from the other counts, because it grows during a training.
    trained_tokens: AtomicU64,
    under_way: Mutex<Ongoing>,
}

/// Work in progress, in the order in which it began.
#[derive(Debug, Default)]
struct Ongoing {
    next: u64,
    by_number: BTreeMap<u64, WorkUnderWay>,
}

impl WorkCounters {
    /// Returns the counts so far.
    pub fn counts(&self) -> WorkCounts {
        let mut counts = *self.lock();
        counts.done.trained_tokens = self.trained_tokens.load(Ordering::Relaxed);
        // A damaged entry of the store is computed without having been wanted.
        counts.wanted = counts.wanted.or_more(&counts.done);
        counts
    }

    /// Returns the work in progress, longest running first.
    pub fn under_way(&self) -> Vec<WorkUnderWay> {
        self.under_way.lock().expect("no thread panics while it counts").by_number.values().copied().collect()
    }

    /// Returns the counter of trained tokens, for [`crate::training::Trainer::train_counting`].
    pub(super) fn trained_tokens(&self) -> &AtomicU64 {
        &self.trained_tokens
    }

    /// Records that a node will be computed.
    pub(super) fn want(&self, node: &Node) {
        self.lock().wanted.add(&WorkAmount::of(node));
    }

    /// Records that the result of a wanted node was found in the store after all.
    pub(super) fn found(&self, node: &Node) {
        self.lock().wanted.subtract(&WorkAmount::of(node));
    }

    /// Records that a wanted node was computed. Its trainings took this many tokens, which are fewer than planned if one of
    /// them ended early. Rows of evaluations are counted part by part by [`Self::evaluated`].
    pub(super) fn trained(&self, node: &Node, trained_tokens: u64) {
        let planned = WorkAmount::of(node);
        if planned.trainings == 0 {
            return;
        }
        let mut counts = self.lock();
        counts.done.trainings += planned.trainings;
        // Replaces the planned tokens by the actual ones, so that done and wanted meet at the end.
        counts.wanted.trained_tokens += trained_tokens;
        counts.wanted.trained_tokens = counts.wanted.trained_tokens.saturating_sub(planned.trained_tokens);
    }

    /// Records that a part of an evaluation was computed.
    pub(super) fn evaluated(&self, rows: u64, tokens: u64) {
        let part = WorkAmount { evaluated_rows: rows, evaluated_tokens: tokens, ..WorkAmount::default() };
        self.lock().done.add(&part);
    }

    /// Records that a benchmark will ask this many more questions.
    pub fn want_questions(&self, questions: u64) {
        self.lock().wanted.questions += questions;
    }

    /// Records that a question was answered: by the model if `is_new`, else from the store.
    pub fn count_answer(&self, is_new: bool) {
        let one = WorkAmount { questions: 1, ..WorkAmount::default() };
        let mut counts = self.lock();
        if is_new {
            counts.done.add(&one);
        } else {
            counts.wanted.subtract(&one);
        }
    }

    /// Records that a worker computes something until the returned guard is dropped.
    pub(super) fn begin(&self, kind: &'static str, trainings: usize) -> BegunWork<'_> {
        let mut ongoing = self.under_way.lock().expect("no thread panics while it counts");
        let number = ongoing.next;
        ongoing.next += 1;
        ongoing.by_number.insert(number, WorkUnderWay { kind, trainings, since: Instant::now() });
        BegunWork { counters: self, number }
    }

    fn lock(&self) -> MutexGuard<'_, WorkCounts> {
        self.counts.lock().expect("no thread panics while it counts")
    }
}

/// Guard of a piece of work in progress, which ends when it is dropped.
pub(super) struct BegunWork<'a> {
    counters: &'a WorkCounters,
    number: u64,
}

impl Drop for BegunWork<'_> {
    fn drop(&mut self) {
        // A poisoned lock means that another thread panicked, which is reported elsewhere.
        if let Ok(mut ongoing) = self.counters.under_way.lock() {
            ongoing.by_number.remove(&self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use petgraph::graph::NodeIndex;

    use super::*;
    use crate::data::{Rows, Sample};
    use crate::training::Objective;

    fn evaluation(lengths: &[usize]) -> Node {
        let sample = |&length: &usize| Sample { ids: vec![1; length], targets: vec![] };
        let rows = Arc::new(Rows::new(lengths.iter().map(sample).collect()));
        Node::Evaluate { model: NodeIndex::new(0), groups: vec![rows.clone(), rows], objective: Objective::Sft }
    }

    #[test]
    fn rows_and_tokens_of_an_evaluation_are_wanted_and_done_part_by_part() {
        let counters = WorkCounters::default();
        counters.want(&evaluation(&[3, 4]));
        counters.evaluated(1, 3);
        let WorkCounts { done, wanted } = counters.counts();
        assert_eq!((wanted.evaluated_rows, wanted.evaluated_tokens), (4, 14));
        assert_eq!((done.evaluated_rows, done.evaluated_tokens), (1, 3));
    }

    #[test]
    fn what_is_found_in_the_store_is_not_wanted() {
        let counters = WorkCounters::default();
        counters.want(&evaluation(&[3, 4]));
        counters.found(&evaluation(&[3, 4]));
        counters.want_questions(2);
        counters.count_answer(false);
        counters.count_answer(true);
        let WorkCounts { done, wanted } = counters.counts();
        assert_eq!(done, WorkAmount { questions: 1, ..WorkAmount::default() });
        assert_eq!(wanted, done);
    }

    #[test]
    fn work_is_under_way_until_its_guard_is_dropped() {
        let counters = WorkCounters::default();
        let first = counters.begin("train", 2);
        let second = counters.begin("evaluate", 0);
        let kinds = || counters.under_way().iter().map(|work| work.kind).collect::<Vec<_>>();
        assert_eq!(kinds(), ["train", "evaluate"]);
        drop(first);
        assert_eq!(kinds(), ["evaluate"]);
        drop(second);
        assert!(kinds().is_empty());
    }
}
