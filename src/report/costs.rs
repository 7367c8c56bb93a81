//! Costs of a run: traffic, energy and device time.

use fedreplay_sim::Tally;

use super::figure::{Column, Draw, Figure, Section};
use super::record::RunRecord;
use super::statistics::Groups;

/// Returns the figures of traffic and energy. There are none if no round ended.
pub fn section(run: &RunRecord) -> Section {
    let figures = if run.rounds.counted.is_empty() {
        vec![]
    } else {
        [Some(traffic(run)), energy(run)].into_iter().flatten().collect()
    };
    Section { title: "What it cost: traffic and energy", figures }
}

/// Returns the columns that can be the horizontal axis.
fn axes(run: &RunRecord, groups: &Groups) -> Vec<Column> {
    vec![
        Column::counts("round", "round", "rounds", groups.last().map(|row| row as u64 + 1)),
        Column::numbers("virtual_time_s", "virtual time", "s", groups.last().map(|row| run.closed_at_s(row))),
    ]
}

/// Returns the chart of bytes by round.
fn traffic(run: &RunRecord) -> Figure {
    let groups = Groups::of(run.rounds.counted.len());
    let mut columns = axes(run, &groups);
    columns.push(Column::numbers(
        "down_bytes",
        "from the server",
        "B",
        groups.sum(|row| run.rounds.bytes_down.value(row) as f64),
    ));
    columns.push(Column::numbers(
        "up_bytes",
        "to the server",
        "B",
        groups.sum(|row| run.rounds.bytes_up.value(row) as f64),
    ));
    Figure {
        id: "traffic",
        title: "Traffic".into(),
        caption: "Bytes that moved, completed transfers or not, in the round that recorded the task (`rounds`).".into(),
        draw: Draw::Bars { x: "round", y: vec!["down_bytes", "up_bytes"], stacked: true },
        columns,
        notes: groups.note("bytes are added up").into_iter().collect(),
    }
}

/// Returns the sum of a quantity over the tasks of each group of rounds.
fn over_tasks(run: &RunRecord, groups: &Groups, of: impl Fn(usize) -> f64) -> Vec<f64> {
    groups.sum(|round| run.round_tasks[round].clone().map(&of).sum()).collect()
}

/// Returns the chart of energy, or of device time if the scenario states no power. `None` if no task was recorded.
fn energy(run: &RunRecord) -> Option<Figure> {
    let tasks = &run.tasks;
    if tasks.task.is_empty() {
        return None;
    }
    let groups = Groups::of(run.rounds.counted.len());
    // Per task: joules of counted updates, joules of lost work, seconds of training, seconds from dispatch to end.
    let mut counted = Vec::new();
    let mut lost = Vec::new();
    let mut training = Vec::new();
    let mut busy = Vec::new();
    for task in 0..tasks.task.len() {
        let joules = tasks.energy_mj.value(task) as f64 / 1e3;
        let is_counted = tasks.fate[task] == Tally::Counted;
        counted.push(if is_counted { joules } else { 0.0 });
        lost.push(if is_counted { 0.0 } else { joules });
        training.push(tasks.training_ns.value(task) as f64 / 1e9);
        let ns = tasks.ended_at_ns.value(task).saturating_sub(tasks.dispatched_at_ns.value(task));
        busy.push(ns as f64 / 1e9);
    }
    let counted = over_tasks(run, &groups, |task| counted[task]);
    let lost = over_tasks(run, &groups, |task| lost[task]);
    let training = over_tasks(run, &groups, |task| training[task]);
    let busy = over_tasks(run, &groups, |task| busy[task]);
    let mut columns = axes(run, &groups);
    columns.extend([
        Column::numbers("counted_joules", "updates that counted", "J", counted),
        Column::numbers("lost_joules", "work that was lost", "J", lost),
        Column::numbers("training_s", "devices training", "s", training),
        Column::numbers("busy_s", "devices on tasks", "s", busy),
    ]);
    // Without the power of any device all energies are zero; device time is drawn instead.
    let (title, caption, y, stacked) = if tasks.energy_mj.iter().flatten().any(|energy| energy > 0) {
        let caption = "Energy from dispatch to end, of tasks whose update counted and of those whose work was lost \
                       (`tasks.energy_mj`).";
        ("Energy of devices", caption, vec!["counted_joules", "lost_joules"], true)
    } else {
        let caption = "Virtual time that devices trained, and that they were on tasks (`tasks`). The scenario says of no \
                       device what it draws, so that there is no energy.";
        ("Time of devices", caption, vec!["training_s", "busy_s"], false)
    };
    Some(Figure {
        id: "energy",
        title: title.into(),
        caption: caption.into(),
        draw: Draw::Bars { x: "round", y, stacked },
        columns,
        notes: groups.note("all is added up").into_iter().collect(),
    })
}
