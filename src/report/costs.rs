//! What it cost: bytes, energy and the time of devices.

use super::figure::{Column, Draw, Figure, Section};
use super::record::RunRecord;
use super::statistics::Groups;

/// The figures of traffic and energy.
pub fn section(run: &RunRecord) -> Section {
    let figures = if run.rounds.counted.is_empty() {
        vec![]
    } else {
        [Some(traffic(run)), energy(run)].into_iter().flatten().collect()
    };
    Section { title: "What it cost: traffic and energy", figures }
}

fn course(run: &RunRecord, groups: &Groups) -> Vec<Column> {
    vec![
        Column::counts("round", "round", "rounds", groups.last().map(|row| row as u64 + 1)),
        Column::numbers("virtual_time_s", "virtual time", "s", groups.last().map(|row| run.closed_at_s(row))),
    ]
}

fn traffic(run: &RunRecord) -> Figure {
    let groups = Groups::of(run.rounds.counted.len());
    let mut columns = course(run, &groups);
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

fn energy(run: &RunRecord) -> Option<Figure> {
    let tasks = &run.tasks;
    if tasks.task.is_empty() {
        return None;
    }
    let groups = Groups::of(run.rounds.counted.len());
    let over = |of: &dyn Fn(usize) -> f64| -> Vec<f64> {
        groups.sum(|round| run.round_tasks[round].clone().map(of).sum()).collect()
    };
    let is_counted = |task: usize| tasks.fate.value(task) == "counted";
    let energy = |task: usize| tasks.energy_mj.value(task) as f64 / 1e3;
    let busy =
        |task: usize| tasks.ended_at_ns.value(task).saturating_sub(tasks.dispatched_at_ns.value(task)) as f64 / 1e9;
    let mut columns = course(run, &groups);
    columns.extend([
        Column::numbers(
            "counted_joules",
            "updates that counted",
            "J",
            over(&|task| if is_counted(task) { energy(task) } else { 0.0 }),
        ),
        Column::numbers(
            "lost_joules",
            "work that was lost",
            "J",
            over(&|task| if is_counted(task) { 0.0 } else { energy(task) }),
        ),
        Column::numbers(
            "training_s",
            "devices training",
            "s",
            over(&|task| tasks.training_ns.value(task) as f64 / 1e9),
        ),
        Column::numbers("busy_s", "devices on tasks", "s", over(&busy)),
    ]);
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
