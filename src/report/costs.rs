//! Costs of a run: traffic, energy and device time.

use super::figure::{Column, Draw, Figure, Section};
use super::grouping::Groups;
use crate::results::{RoundCosts, RunRecord};

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

/// Returns the chart of energy, or of device time if the scenario states no power. `None` if no task was recorded.
fn energy(run: &RunRecord) -> Option<Figure> {
    let tasks = &run.tasks;
    if tasks.task.is_empty() {
        return None;
    }
    let groups = Groups::of(run.rounds.counted.len());
    let costs = RoundCosts::of(run);
    let mut columns = axes(run, &groups);
    columns.extend([
        Column::numbers("counted_joules", "updates that counted", "J", groups.sum(|round| costs[round].counted_joules)),
        Column::numbers("lost_joules", "work that was lost", "J", groups.sum(|round| costs[round].lost_joules)),
        Column::numbers("training_s", "devices training", "s", groups.sum(|round| costs[round].training_s)),
        Column::numbers("busy_s", "devices on tasks", "s", groups.sum(|round| costs[round].busy_s)),
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
