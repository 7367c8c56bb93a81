//! Repeats of a plan: its schedule with other draws of jitter, latency, shares, dropout, availability and crashes, in parallel.

use std::sync::atomic::{AtomicBool, Ordering};

use fedreplay_sim::{Detail, Purpose, Record, RoundRecord, Seed, Stream};
use rayon::prelude::*;

use super::error::RunError;
use super::ledger_rows;
use super::observer::PlanWatch;
use crate::graph::GraphError;
use crate::inputs::PlanInputs;
use crate::ledger::RepeatRow;
use crate::privacy::PrivacyPlan;
use crate::scenario::Scenario;
use crate::scenario::schema::Protocol;
use crate::schedule::{Next, SERVER, STAND_IN_LOSS, Timeline};

/// [repeats] -- Repeats that are computed between two reports of progress.
const REPORT_EVERY: u32 = 64;

/// Simulates the schedule `count` times, the first time with the draws of the scenario itself, and returns the rows of all rounds.
///
/// # Errors
/// If the federation cannot be simulated, or `stop` is set.
pub(super) fn repeats(
    scenario: &Scenario,
    inputs: &PlanInputs,
    privacy: Option<&PrivacyPlan>,
    count: u32,
    stop: &AtomicBool,
    watch: &mut dyn PlanWatch,
) -> Result<Vec<RepeatRow>, RunError> {
    let start = Timeline::of(scenario, privacy, &inputs.clients, Detail::Rounds)?;
    let seeds = Stream::new(Seed(scenario.scenario.seed), Purpose::Repeats, 0);
    let mut rows = Vec::new();
    for first in (0..count).step_by(REPORT_EVERY as usize) {
        watch.repeated(first, count);
        let until = count.min(first + REPORT_EVERY);
        // Results are collected in the order of their numbers, whichever thread computes them.
        let computed = (first..until).into_par_iter().map(|repeat| {
            let mut timeline = start.clone();
            if repeat > 0 {
                timeline.reseed(Seed(seeds.clone().at(repeat.into()).next_u64()))?;
            }
            rounds_of(scenario, timeline, repeat, stop)
        });
        rows.extend(computed.collect::<Result<Vec<_>, RunError>>()?.into_iter().flatten());
    }
    watch.repeated(count, count);
    Ok(rows)
}

/// Simulates one repeat to its end.
fn rounds_of(
    scenario: &Scenario,
    mut timeline: Timeline,
    repeat: u32,
    stop: &AtomicBool,
) -> Result<Vec<RepeatRow>, RunError> {
    let mut rows = Vec::new();
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(GraphError::Interrupted.into());
        }
        match timeline.next()? {
            Next::Record(Record::Round(round)) => {
                let timed = ledger_rows::timed_round(&round, rows.len() as u32 + 1);
                rows.push(RepeatRow {
                    repeat,
                    round: timed.round,
                    aggregator: timed.aggregator,
                    opened_at_ns: timed.opened_at_ns,
                    closed_at_ns: timed.closed_at_ns,
                    status: timed.status,
                    at_deadline: is_at_deadline(scenario, &round),
                    counted: timed.counted,
                    late: timed.late,
                    dropped: timed.dropped,
                    cancelled: timed.cancelled,
                    wire_bytes_down: timed.wire_bytes_down,
                    wire_bytes_up: timed.wire_bytes_up,
                });
            }
            Next::Record(_) => {}
            Next::Needs(task) => timeline.supply(task, STAND_IN_LOSS),
            Next::End => return Ok(rows),
        }
    }
}

/// Whether the deadline ended a round. That of tiers and edges is the same in the whole run, which cannot change it.
fn is_at_deadline(scenario: &Scenario, round: &RoundRecord) -> bool {
    let spec = scenario.at(round.round + 1);
    let deadline = match &spec.server.protocol {
        Protocol::Synchronous { deadline, .. } | Protocol::Tiered { deadline, .. } => *deadline,
        Protocol::Hierarchical { deadline, .. } if round.aggregator != SERVER => *deadline,
        _ => None,
    };
    deadline.is_some_and(|deadline| round.closed_at.0 - round.opened_at.0 >= deadline.0)
}
