//! Aggregation of updates and the privacy it spent: weights, norms, errors, epsilon.

use arrow::array::{Array, Float64Array};

use super::figure::{Column, Draw, Figure, Section};
use super::grouping::Groups;
use super::learning::{AXES, axes};
use super::reported_run::ReportedRun;
use crate::results::statistics::{mean, quantile, sorted};
use crate::results::{ModuleErrors, RunRecord, ranks};

/// Greatest number of updates that are drawn one by one.
const MOST_UPDATES: usize = 5000;

/// Returns the figures of aggregation; a plan has none.
pub fn section(run: &ReportedRun) -> Section {
    let figures = [
        norms(&run.record),
        weights(&run.record),
        errors(&run.record, &run.module_errors),
        kept_ranks(&run.record),
        client_ranks(&run.record),
    ];
    Section { title: "How updates were combined", figures: figures.into_iter().flatten().collect() }
}

/// Returns the figure of the privacy spent; runs without protection have none.
pub fn privacy(run: &RunRecord) -> Section {
    Section { title: "Privacy", figures: epsilon(run).into_iter().collect() }
}

/// Returns the value in a row, if there is one.
fn value(column: &Float64Array, row: usize) -> Option<f64> {
    column.is_valid(row).then(|| column.value(row))
}

/// Returns the chart of update norms over the run. `None` if there are none.
fn norms(run: &RunRecord) -> Option<Figure> {
    let groups = Groups::of(run.rounds.counted.len());
    let mut by_group: Vec<Vec<f64>> = Vec::new();
    for range in groups.ranges() {
        let tasks = range.clone().flat_map(|round| run.round_tasks[round].clone());
        by_group.push(sorted(tasks.filter_map(|task| value(&run.tasks.update_norm, task))));
    }
    let of_server = groups.last().map(|row| value(&run.rounds.update_norm, row));
    let p90 = by_group.iter().map(|norms| quantile(norms, 0.9));
    let median = by_group.iter().map(|norms| quantile(norms, 0.5));
    let p10 = by_group.iter().map(|norms| quantile(norms, 0.1));
    let mut columns = Vec::from(axes(run, groups.last().map(|row| row as u32 + 1)));
    columns.extend([
        Column::numbers("server_norm", "server's update", "1", of_server),
        Column::numbers("p90_norm", "clients' updates, 90th percentile", "1", p90),
        Column::numbers("median_norm", "clients' updates, median", "1", median),
        Column::numbers("p10_norm", "clients' updates, 10th percentile", "1", p10),
    ]);
    // The first columns are the axis; a plan has no norms in the others.
    if columns[AXES.len()..].iter().all(Column::is_blank) {
        return None;
    }
    Some(Figure {
        id: "norms",
        title: "Norms of updates".into(),
        caption: "L2 norm of the server's step (`rounds.update_norm`) and of the updates that counted (`tasks.update_norm`). \
                  A step much shorter than the updates says that clients pull in different directions."
            .into(),
        draw: Draw::Lines {
            x: AXES.to_vec(),
            y: vec!["server_norm", "p90_norm", "median_norm", "p10_norm"],
            split: None,
            band: Some(["p90_norm", "p10_norm"]),
        },
        columns,
        notes: groups.note("the server's step is the last of each").into_iter().collect(),
    })
}

/// Returns the chart of weights in the aggregate against norms. `None` if no update was aggregated.
fn weights(run: &RunRecord) -> Option<Figure> {
    let tasks = &run.tasks;
    let weighted: Vec<usize> = (0..tasks.task.len()).filter(|&task| tasks.weight.is_valid(task)).collect();
    if weighted.is_empty() {
        return None;
    }
    // Every n-th update, so that those that are drawn are spread evenly over the run.
    let step = weighted.len().div_ceil(MOST_UPDATES);
    let drawn: Vec<usize> = weighted.iter().copied().step_by(step).collect();
    let clients: Vec<u32> = drawn.iter().map(|&task| tasks.client.value(task)).collect();
    let note = (step > 1).then(|| format!("{} of {} updates are drawn, every {step}th.", drawn.len(), weighted.len()));
    Some(Figure {
        id: "weights",
        title: "Weights in the aggregate".into(),
        caption: "One point per update that counted: its share in the aggregate against its norm (`tasks.weight`, \
                  `tasks.update_norm`)."
            .into(),
        draw: Draw::Points { x: "update_norm", y: "weight", split: Some("device"), diagonal: false },
        columns: vec![
            Column::counts("task", "task", "index", drawn.iter().map(|&task| tasks.task.value(task))),
            Column::counts("round", "round", "index", drawn.iter().map(|&task| tasks.round.value(task))),
            Column::names("client_id", "client", clients.iter().map(|&client| Some(run.population.client_id(client)))),
            Column::names("device", "device", clients.iter().map(|&client| Some(run.population.device(client)))),
            Column::numbers(
                "update_norm",
                "norm of the update",
                "1",
                drawn.iter().map(|&task| value(&tasks.update_norm, task)),
            ),
            Column::numbers(
                "weight",
                "share in the aggregate",
                "1",
                drawn.iter().map(|&task| value(&tasks.weight, task)),
            ),
            Column::numbers(
                "loss",
                "training loss",
                run.loss_unit(),
                drawn.iter().map(|&task| value(&tasks.loss_mean, task)),
            ),
        ],
        notes: note.into_iter().collect(),
    })
}

/// Returns the chart of the aggregations' errors over the run. `None` if no round has one.
fn errors(run: &RunRecord, modules: &[Option<ModuleErrors>]) -> Option<Figure> {
    let total = &run.rounds.aggregation_error;
    let last = modules.iter().rposition(Option::is_some)?;
    let groups = Groups::of(total.len());
    let mut columns = Vec::from(axes(run, groups.last().map(|row| row as u32 + 1)));
    columns.extend([
        Column::numbers("total_error", "all modules", "1", groups.last().map(|row| total[row])),
        Column::numbers(
            "largest_error",
            "largest of the modules",
            "1",
            groups.last().map(|row| modules[row].as_ref().map(|errors| errors.largest)),
        ),
        Column::numbers(
            "median_error",
            "median of the modules",
            "1",
            groups.last().map(|row| modules[row].as_ref().map(|errors| errors.median)),
        ),
    ]);
    let mut notes = Vec::from_iter(groups.note("errors are those of the last of each"));
    if let Some(errors) = &modules[last] {
        notes.push(format!("In round {}, the largest error is that of {}.", last + 1, errors.module));
    }
    Some(Figure {
        id: "aggregation_errors",
        title: "Error of aggregation".into(),
        caption: "How far the aggregated product B A is from the mean of the clients' products, relative to that mean \
                  (`rounds.aggregation_error`, `aggregation.error`): 0 is an exact aggregation."
            .into(),
        draw: Draw::Lines {
            x: AXES.to_vec(),
            y: vec!["total_error", "largest_error", "median_error"],
            split: None,
            band: None,
        },
        columns,
        notes,
    })
}

/// Returns the chart of the ranks that the server has kept of means of products. `None` if it cut none.
fn kept_ranks(run: &RunRecord) -> Option<Figure> {
    let kept = &run.rounds.kept_rank;
    if kept.iter().all(Option::is_none) {
        return None;
    }
    let groups = Groups::of(kept.len());
    let mut columns = Vec::from(axes(run, groups.last().map(|row| row as u32 + 1)));
    columns.push(Column::numbers("kept_rank", "all modules", "components", groups.last().map(|row| kept[row])));
    Some(Figure {
        id: "kept_ranks",
        title: "Ranks that the server keeps".into(),
        caption: "Singular values of the mean of the clients' products that each round has added to the base, summed over modules \
                  (`rounds.kept_rank`; by module `aggregation.kept_rank`)."
            .into(),
        draw: Draw::Lines { x: AXES.to_vec(), y: vec!["kept_rank"], split: None, band: None },
        columns,
        notes: Vec::from_iter(groups.note("ranks are those of the last of each")),
    })
}

/// Returns the chart of the ranks that clients have pruned. `None` if they prune none.
fn client_ranks(run: &RunRecord) -> Option<Figure> {
    let groups = Groups::of(run.rounds.counted.len());
    let by_round: Vec<Vec<f64>> = groups.last().map(|row| ranks(run, row)).collect();
    if by_round.iter().all(Vec::is_empty) {
        return None;
    }
    let mut columns = Vec::from(axes(run, groups.last().map(|row| row as u32 + 1)));
    columns.extend([
        Column::numbers("mean_rank", "mean", "components", by_round.iter().map(|ranks| mean(ranks))),
        Column::numbers("least_rank", "least", "components", by_round.iter().map(|ranks| ranks.first().copied())),
        Column::numbers("greatest_rank", "greatest", "components", by_round.iter().map(|ranks| ranks.last().copied())),
    ]);
    Some(Figure {
        id: "client_ranks",
        title: "Ranks of clients".into(),
        caption: "Ranks that clients have after the tasks that counted in a round (`tasks.rank_after`).".into(),
        draw: Draw::Lines {
            x: AXES.to_vec(),
            y: vec!["mean_rank", "least_rank", "greatest_rank"],
            split: None,
            band: None,
        },
        columns,
        notes: Vec::from_iter(groups.note("ranks are those of the last of each")),
    })
}

/// Returns the chart of epsilon over the run. `None` if it was not accounted.
fn epsilon(run: &RunRecord) -> Option<Figure> {
    let spent = &run.rounds.epsilon_spent;
    if spent.null_count() == spent.len() {
        return None;
    }
    let groups = Groups::of(spent.len());
    let mut columns = Vec::from(axes(run, groups.last().map(|row| row as u32 + 1)));
    columns.push(Column::numbers("epsilon", "epsilon spent", "1", groups.last().map(|row| value(spent, row))));
    let infinite = spent.iter().flatten().any(f64::is_infinite);
    Some(Figure {
        id: "epsilon",
        title: "Epsilon".into(),
        caption: "Privacy spent up to each round at the scenario's delta (`rounds.epsilon_spent`).".into(),
        draw: Draw::Lines { x: AXES.to_vec(), y: vec!["epsilon"], split: None, band: None },
        columns,
        notes: infinite.then(|| "Epsilon is infinite: there is no guarantee.".to_owned()).into_iter().collect(),
    })
}
