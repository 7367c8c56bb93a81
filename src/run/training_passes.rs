//! Passes of a run: which rows are trained together, as far as the schedule is known in advance.
//!
//! The start-up test uses the largest of them, and a forecast counts them all.

use std::sync::Arc;

use super::local_training::Tasks;
use super::round_writer::ScheduleSource;
use crate::data::{Rows, Sample};
use crate::graph::TrainingOrder;
use crate::schedule::ScheduledRound;
use crate::training::LargestWork;

/// Returns the trainings that a round of a known schedule counts, in plan order, and the server's own if it makes a version.
pub(super) fn counted_trainings(tasks: &Tasks, scheduled: &ScheduledRound) -> Vec<TrainingOrder> {
    let mut trainings = Vec::with_capacity(scheduled.round.counted_tasks.len());
    for counted in &scheduled.round.counted_tasks {
        let task = scheduled.counted(counted.task);
        let (number, round) = (u64::from(task.client_task_number), tasks.round_of(task));
        trainings.push(tasks.training(counted.client, number, round));
        trainings.extend(tasks.own_adapter(counted.client, number, round));
    }
    if scheduled.round.version.is_some() {
        trainings.extend(tasks.of_server(scheduled.number));
    }
    trainings
}

/// Returns the trainings for the evaluation alone, as far as the scenario asks for them: those of local baselines, client by client
/// and round by round, then those of the last model.
pub(super) fn trainings_apart(tasks: &Tasks) -> Vec<TrainingOrder> {
    let spec = &tasks.scenario.scenario;
    let clients = 0..tasks.inputs.clients.len() as u32;
    let mut trainings = Vec::new();
    if spec.evaluation.local_baseline {
        for client in clients.clone() {
            trainings.extend((1..=spec.rounds).map(|round| tasks.alone(client, u64::from(round - 1), round)));
        }
    }
    if let Some(steps) = spec.evaluation.fine_tuning_steps {
        trainings.extend(clients.map(|client| tasks.fine_tuning(client, steps.get())));
    }
    trainings
}

/// Returns the samples of a micro-batch, given by indices into `rows`.
pub(super) fn samples_of(rows: &Rows, micro_batch: &[usize]) -> Vec<Arc<Sample>> {
    micro_batch.iter().flat_map(|&place| rows.row(place).iter().cloned()).collect()
}

/// [token] -- Returns the tokens of samples, prompts included.
pub(super) fn tokens_of(samples: &[Arc<Sample>]) -> u64 {
    samples.iter().map(|sample| sample.ids.len() as u64).sum()
}

/// [token] -- Returns the tokens of samples that a loss is taken on.
pub(super) fn targets_of(samples: &[Arc<Sample>]) -> u64 {
    samples.iter().map(|sample| sample.target_tokens()).sum()
}

/// Returns the largest work of a run in which up to `jobs` trainings share a pass.
pub(super) fn largest_work(tasks: &Tasks, source: &ScheduleSource, jobs: usize) -> LargestWork {
    let micro_batch = match source {
        ScheduleSource::Known(schedule) => largest_scheduled(tasks, schedule),
        ScheduleSource::Live(_) => largest_possible(tasks),
    };
    // A run of few trainings never has more of them in a pass.
    let jobs = match source {
        ScheduleSource::Known(schedule) => jobs.min(trainings_of(tasks, schedule)).max(1),
        ScheduleSource::Live(_) => jobs,
    };
    let part_tokens = tasks.inputs.trainer().evaluation_part_tokens();
    LargestWork {
        micro_batch,
        objective: tasks.objective(),
        hyper: tasks.hyper(1),
        jobs,
        evaluated: evaluated_with_longest(&evaluated_rows(tasks), part_tokens),
        changes_base: tasks.scenario.scenario.lora_method().averages.changes_base(),
    }
}

/// Counts the trainings of a run with a known schedule, those for the evaluation alone included.
fn trainings_of(tasks: &Tasks, schedule: &[ScheduledRound]) -> usize {
    let of_clients: usize = schedule.iter().map(|scheduled| scheduled.round.counted_tasks.len()).sum();
    let of_server = if tasks.inputs.root.is_some() { schedule.len() } else { 0 };
    let spec = &tasks.scenario.scenario;
    let of_clients = of_clients * spec.trainings_per_task() as usize;
    let clients = tasks.inputs.clients.len();
    let alone = if spec.evaluation.local_baseline { clients * spec.rounds as usize } else { 0 };
    let fine_tuned = if spec.evaluation.fine_tuning_steps.is_some() { clients } else { 0 };
    of_clients + of_server + alone + fine_tuned
}

/// Returns the micro-batch with the most tokens in a schedule.
fn largest_scheduled(tasks: &Tasks, schedule: &[ScheduledRound]) -> Vec<Arc<Sample>> {
    let mut largest = Vec::new();
    for scheduled in schedule {
        for training in counted_trainings(tasks, scheduled) {
            keep_largest(&mut largest, &training);
        }
    }
    for training in trainings_apart(tasks) {
        keep_largest(&mut largest, &training);
    }
    largest
}

/// Replaces `largest` by a micro-batch of the training that has more tokens.
fn keep_largest(largest: &mut Vec<Arc<Sample>>, training: &TrainingOrder) {
    for micro_batch in training.steps.iter().flatten() {
        let samples = samples_of(&training.rows, micro_batch);
        if tokens_of(&samples) > tokens_of(largest) {
            *largest = samples;
        }
    }
}

/// Returns the longest rows of one client, or of the server, as many as a micro-batch has. No possible micro-batch has more tokens.
fn largest_possible(tasks: &Tasks) -> Vec<Arc<Sample>> {
    // The schedule is not known, so no batch is either: an upper bound over all clients takes its place.
    let batch_size = tasks.scenario.scenario.training.batch_size as usize;
    let mut largest = Vec::new();
    for rows in tasks.inputs.clients.iter().map(|client| &client.train).chain(&tasks.inputs.root) {
        let mut places: Vec<usize> = (0..rows.count()).collect();
        places.sort_by_key(|&place| std::cmp::Reverse(tokens_of(rows.row(place))));
        places.truncate(batch_size);
        let samples = samples_of(rows, &places);
        if tokens_of(&samples) > tokens_of(&largest) {
            largest = samples;
        }
    }
    largest
}

/// Returns all rows that a run evaluates: the test rows, then the held-out rows of each client.
pub(super) fn evaluated_rows(tasks: &Tasks) -> Vec<Arc<Sample>> {
    let test = tasks.inputs.test.iter().flat_map(|rows| rows.samples.iter().cloned());
    let held_out = tasks.inputs.clients.iter().flat_map(|client| client.held_out.samples.iter().cloned());
    test.chain(held_out).collect()
}

/// Returns the longest row, preceded by as many other rows as fit into one evaluation pass with it.
fn evaluated_with_longest(rows: &[Arc<Sample>], part_tokens: usize) -> Vec<Arc<Sample>> {
    let Some((place, longest)) = rows.iter().enumerate().max_by_key(|(_, row)| row.ids.len()) else {
        return vec![];
    };
    // The longest row goes last, and other rows fill the pass up to its budget of tokens.
    let mut tokens = longest.ids.len();
    let mut chosen = Vec::new();
    for (other, row) in rows.iter().enumerate() {
        if other == place {
            continue;
        }
        if tokens + row.ids.len() > part_tokens {
            break;
        }
        tokens += row.ids.len();
        chosen.push(row.clone());
    }
    chosen.push(longest.clone());
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_row_is_evaluated_last_of_a_full_pass() {
        let row = |length: usize| Arc::new(Sample { ids: vec![0; length], targets: vec![] });
        let lengths = |rows: &[Arc<Sample>]| rows.iter().map(|row| row.ids.len()).collect::<Vec<_>>();
        assert!(evaluated_with_longest(&[], 4096).is_empty());
        assert_eq!(lengths(&evaluated_with_longest(&[row(5), row(90), row(7)], 4096)), [5, 7, 90]);
        let full = evaluated_with_longest(&[row(2000), row(2050), row(40), row(2000)], 4096);
        assert_eq!(lengths(&full), [2000, 40, 2050]);
        let long = evaluated_with_longest(&[row(9), row(4097)], 4096);
        assert_eq!(lengths(&long), [4097]);
    }
}
