//! Costs of a run: traffic, energy and device time.

use super::figure::{Column, Draw, Figure, Section};
use super::grouping::Groups;
use crate::results::{RoundCosts, RunRecord};

/// Returns the figures of traffic and energy. There are none if no round ended.
pub fn section(run: &RunRecord) -> Section {
    let figures = if run.rounds.counted.is_empty() {
        vec![]
    } else {
        [Some(traffic(run)), energy(run), energy_by_phase(run), carbon(run)].into_iter().flatten().collect()
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

/// Returns the chart of bytes by round; with headers on the wire where links have any.
fn traffic(run: &RunRecord) -> Figure {
    let rounds = &run.rounds;
    let groups = Groups::of(rounds.counted.len());
    let mut columns = axes(run, &groups);
    let mut drawn = Vec::new();
    let mut caption =
        "Bytes that moved, completed transfers or not, in the round that recorded the task (`rounds`).".to_owned();
    let ways = [
        (
            ["down_bytes", "from the server"],
            ["down_header_bytes", "headers from the server"],
            &rounds.bytes_down,
            &rounds.wire_bytes_down,
        ),
        (
            ["up_bytes", "to the server"],
            ["up_header_bytes", "headers to the server"],
            &rounds.bytes_up,
            &rounds.wire_bytes_up,
        ),
    ];
    for ([name, title], [headers_name, headers_title], bytes, on_wire) in ways {
        columns.push(Column::numbers(name, title, "B", groups.sum(|row| bytes.value(row) as f64)));
        drawn.push(name);
        let headers: Vec<u64> = bytes
            .values()
            .iter()
            .zip(on_wire)
            .map(|(&bytes, wire)| wire.map_or(0, |wire| wire - bytes.min(wire)))
            .collect();
        if headers.iter().any(|&headers| headers > 0) {
            columns.push(Column::numbers(headers_name, headers_title, "B", groups.sum(|row| headers[row] as f64)));
            drawn.push(headers_name);
        }
    }
    if drawn.len() > ways.len() {
        caption.push_str(" Headers are what the links' transport adds to messages on the wire.");
    }
    Figure {
        id: "traffic",
        title: "Traffic".into(),
        caption,
        draw: Draw::Bars { x: "round", y: drawn, stacked: true },
        columns,
        notes: groups.note("bytes are added up").into_iter().collect(),
    }
}

/// Returns the chart of energy by phase. `None` if no device has power, or the run is of a version without these figures.
fn energy_by_phase(run: &RunRecord) -> Option<Figure> {
    let tasks = &run.tasks;
    let phases = [
        ("download_joules", "until the model had arrived", &tasks.download_mj),
        ("training_joules", "from then to the end of training", &tasks.training_mj),
        ("upload_joules", "after training", &tasks.upload_mj),
    ];
    if !phases.iter().any(|(.., energy)| energy.iter().flatten().any(|&energy| energy > 0)) {
        return None;
    }
    let groups = Groups::of(run.rounds.counted.len());
    let mut columns = axes(run, &groups);
    for (name, title, energy) in phases {
        let rounds = run.round_tasks.iter().map(|tasks| energy[tasks.clone()].iter().flatten().sum::<u64>());
        let joules: Vec<f64> = rounds.map(|mj| mj as f64 / 1e3).collect();
        columns.push(Column::numbers(name, title, "J", groups.sum(|round| joules[round])));
    }
    Some(Figure {
        id: "energy_by_phase",
        title: "Energy of devices, by phase".into(),
        caption: "Energy of all tasks until the model had arrived, until they were trained, and after that: of waiting, the radio and training \
                  (`tasks.download_mj`, `training_mj`, `upload_mj`)."
            .into(),
        draw: Draw::Bars { x: "round", y: phases.map(|(name, ..)| name).to_vec(), stacked: true },
        columns,
        notes: groups.note("all is added up").into_iter().collect(),
    })
}

/// Returns the chart of carbon by round. `None` if the scenario counts none.
fn carbon(run: &RunRecord) -> Option<Figure> {
    let emitted: Vec<f64> =
        run.rounds.carbon_ug.iter().map(|ug| ug.map(|ug| ug as f64 / 1e6)).collect::<Option<_>>()?;
    let groups = Groups::of(emitted.len());
    let mut columns = axes(run, &groups);
    columns.push(Column::numbers("carbon_g", "CO2", "g", groups.sum(|round| emitted[round])));
    Some(Figure {
        id: "carbon",
        title: "CO2 of devices".into(),
        caption:
            "Energy of the tasks that the round recorded, times the intensity of their electricity grids at that time \
                  (`rounds.carbon_ug`)."
                .into(),
        draw: Draw::Bars { x: "round", y: vec!["carbon_g"], stacked: true },
        columns,
        notes: groups.note("all is added up").into_iter().collect(),
    })
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
