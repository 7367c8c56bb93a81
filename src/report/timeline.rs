//! Timeline: the phases of tasks in virtual time, with one line per client.

use arrow::array::{Array, Int64Array};
use fedreplay_sim::Outcome;

use super::figure::{Column, Draw, Figure, Section};
use crate::results::{RunRecord, span_ns};

/// Maximum number of tasks in a report, over all of its runs: enough for 200 rounds of 100 clients, with a page below
/// 3 MB.
pub const MOST_TASKS: usize = 25_000;

/// Returns the timeline with at most `most` tasks. There is none if no task was recorded.
pub fn section(run: &RunRecord, most: usize) -> Section {
    Section { title: "When: clients in virtual time", figures: timeline(run, most.max(1)).into_iter().collect() }
}

/// Tasks that are drawn, with a note on those that are left out. All tasks of a client are left out together, so that
/// every line is complete.
struct Drawn {
    tasks: Vec<usize>,
    note: Option<String>,
}

impl Drawn {
    /// Chooses every n-th client, with n as small as `most` allows.
    fn of(run: &RunRecord, most: usize) -> Self {
        let clients = &run.tasks.client;
        let mut of_client = vec![0usize; run.clients()];
        for client in clients.iter().flatten() {
            of_client[client as usize] += 1;
        }
        let asked: Vec<usize> = (0..of_client.len()).filter(|&client| of_client[client] > 0).collect();
        // The first step is right if all clients have equally many tasks; it grows by an eighth until the tasks fit.
        let mut step = clients.len().div_ceil(most).max(1);
        let chosen = loop {
            let chosen: Vec<usize> = asked.iter().copied().step_by(step).collect();
            if chosen.iter().map(|&client| of_client[client]).sum::<usize>() <= most || chosen.len() == 1 {
                break chosen;
            }
            step += step.div_ceil(8);
        };
        let mut is_chosen = vec![false; of_client.len()];
        for &client in &chosen {
            is_chosen[client] = true;
        }
        let mut tasks: Vec<usize> =
            (0..clients.len()).filter(|&task| is_chosen[clients.value(task) as usize]).collect();
        // A single client can have more tasks than fit.
        let whole = tasks.len();
        tasks.truncate(most);
        let note = (tasks.len() < clients.len()).then(|| {
            let cut = if whole > most { format!(", of them the first {most}") } else { String::new() };
            format!(
                "{} of {} clients that were asked are drawn, every {step}th in the order of the data, with {whole} \
                 of {} tasks{cut}. All other figures count all tasks.",
                chosen.len(),
                asked.len(),
                clients.len()
            )
        });
        Self { tasks, note }
    }
}

/// Returns the figure. `None` if no task was recorded.
fn timeline(run: &RunRecord, most: usize) -> Option<Figure> {
    let tasks = &run.tasks;
    if tasks.task.is_empty() {
        return None;
    }
    let Drawn { tasks: drawn, note } = Drawn::of(run, most);
    let phases: Vec<Phases> = drawn.iter().map(|&task| Phases::of(run, task)).collect();
    let clients: Vec<u32> = drawn.iter().map(|&task| tasks.client.value(task)).collect();
    let names = clients.iter().map(|&client| Some(run.population.client_id(client)));
    let devices = clients.iter().map(|&client| Some(run.population.device(client)));
    let mut columns = vec![
        Column::names("client_id", "client", names),
        Column::counts("client", "client's number", "index", clients.iter().copied()),
        Column::names("device", "device", devices),
        Column::counts("task", "task", "index", drawn.iter().map(|&task| tasks.task.value(task))),
        Column::counts("round", "round", "index", drawn.iter().map(|&task| tasks.round.value(task))),
        seconds(&phases, "dispatched_at_s", "dispatched at", |phases| Some(phases.from)),
        seconds(&phases, "download_s", "download", |phases| phases.download),
        seconds(&phases, "training_s", "training", |phases| phases.training),
        seconds(&phases, "upload_s", "upload", |phases| phases.upload),
        seconds(&phases, "wait_s", "wait for the round's end", |phases| phases.wait),
        Column::names("fate", "fate", drawn.iter().map(|&task| Some(tasks.fate[task].name()))),
        Column::names("outcome", "outcome", drawn.iter().map(|&task| Some(tasks.outcome[task].name()))),
    ];
    if run.has_aggregators() {
        columns.insert(
            5,
            Column::counts("aggregator", "aggregator", "index", drawn.iter().map(|&task| tasks.aggregator.value(task))),
        );
    }
    Some(Figure {
        id: "timeline",
        title: "Timeline of clients".into(),
        caption:
            "One line per client, one bar per task, from its dispatch to its end; what arrived waits for its round to close \
                  (`tasks`, `rounds.closed_at_ns`). Drag to zoom, filter by fate, device, client and round."
                .into(),
        draw: Draw::Timeline,
        columns,
        notes: note.into_iter().collect(),
    })
}

/// Returns a column of times in seconds.
fn seconds(phases: &[Phases], name: &'static str, title: &'static str, of: fn(&Phases) -> Option<u64>) -> Column {
    Column::numbers(name, title, "s", phases.iter().map(|phases| of(phases).map(|ns| ns as f64 / 1e9)))
}

/// [ns] -- Start of a task and durations of its phases; `None` for phases that the task did not reach.
struct Phases {
    from: u64,
    download: Option<u64>,
    training: Option<u64>,
    upload: Option<u64>,
    wait: Option<u64>,
}

impl Phases {
    /// Computes the phases of a task.
    fn of(run: &RunRecord, task: usize) -> Self {
        let tasks = &run.tasks;
        let ended = tasks.ended_at_ns.value(task);
        let from = tasks.dispatched_at_ns.value(task);
        let downloaded = time(&tasks.download_done_at_ns, task);
        let trained = time(&tasks.training_done_at_ns, task);
        let arrived = time(&tasks.upload_done_at_ns, task);
        // Only updates that arrived wait for the round to close.
        let waits = matches!(tasks.outcome[task], Outcome::Counted | Outcome::Discarded);
        let closed = run.round_of(task).map(|round| run.rounds.closed_at_ns.value(round));
        Self {
            from: span_ns(0, from),
            download: duration(Some(from), downloaded, ended),
            training: duration(downloaded, trained, ended),
            upload: duration(trained, arrived, ended),
            wait: closed.filter(|_| waits).map(|closed| span_ns(ended, closed)),
        }
    }
}

/// Returns the time in a row, if there is one.
fn time(column: &Int64Array, row: usize) -> Option<i64> {
    column.is_valid(row).then(|| column.value(row))
}

/// Returns the duration of a phase: if it was not completed, it lasted until the task ended. `None` if it did not
/// begin.
fn duration(began: Option<i64>, done: Option<i64>, ended: i64) -> Option<u64> {
    Some(span_ns(began?, done.unwrap_or(ended)))
}
