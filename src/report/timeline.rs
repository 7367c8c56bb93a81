//! When it happened: the phases of every task in virtual time, a line a client.

use arrow::array::{Array, UInt64Array};

use super::figure::{Column, Draw, Figure, Section};
use super::record::RunRecord;

/// Tasks that a report draws at most, of all of its runs together: enough for 200 rounds of 100 clients, and a page that
/// stays below 3 MB.
pub const MOST_TASKS: usize = 25_000;

/// The timeline with at most `most` tasks; none where no task was recorded.
pub fn section(run: &RunRecord, most: usize) -> Section {
    Section { title: "When: clients in virtual time", figures: timeline(run, most.max(1)).into_iter().collect() }
}

/// The tasks that are drawn, and what was left out. Whole clients are left out, so that a line is never half of a client's work.
struct Drawn {
    tasks: Vec<usize>,
    note: Option<String>,
}

impl Drawn {
    fn of(run: &RunRecord, most: usize) -> Self {
        let clients = &run.tasks.client;
        let mut of_client = vec![0usize; run.clients()];
        clients.iter().flatten().for_each(|client| of_client[client as usize] += 1);
        let asked: Vec<usize> = (0..of_client.len()).filter(|&client| of_client[client] > 0).collect();
        let mut step = clients.len().div_ceil(most).max(1);
        let chosen = loop {
            let chosen: Vec<usize> = asked.iter().copied().step_by(step).collect();
            if chosen.iter().map(|&client| of_client[client]).sum::<usize>() <= most || chosen.len() == 1 {
                break chosen;
            }
            step += step.div_ceil(8);
        };
        let mut is_chosen = vec![false; of_client.len()];
        chosen.iter().for_each(|&client| is_chosen[client] = true);
        let mut tasks: Vec<usize> =
            (0..clients.len()).filter(|&task| is_chosen[clients.value(task) as usize]).collect();
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

fn timeline(run: &RunRecord, most: usize) -> Option<Figure> {
    let tasks = &run.tasks;
    if tasks.task.is_empty() {
        return None;
    }
    let Drawn { tasks: drawn, note } = Drawn::of(run, most);
    let phases: Vec<Phases> = drawn.iter().map(|&task| Phases::of(run, task)).collect();
    let client = |task: usize| tasks.client.value(task) as usize;
    let seconds = |name, title, of: fn(&Phases) -> Option<u64>| {
        Column::numbers(name, title, "s", phases.iter().map(move |phases| of(phases).map(|ns| ns as f64 / 1e9)))
    };
    let mut columns = vec![
        Column::names(
            "client_id",
            "client",
            drawn.iter().map(|&task| Some(run.population.client_id.value(client(task)))),
        ),
        Column::counts("client", "client's number", "index", drawn.iter().map(|&task| tasks.client.value(task))),
        Column::names("device", "device", drawn.iter().map(|&task| Some(run.population.device.value(client(task))))),
        Column::counts("task", "task", "index", drawn.iter().map(|&task| tasks.task.value(task))),
        Column::counts("round", "round", "index", drawn.iter().map(|&task| tasks.round.value(task))),
        seconds("dispatched_at_s", "dispatched at", |phases| Some(phases.from)),
        seconds("download_s", "download", |phases| phases.download),
        seconds("training_s", "training", |phases| phases.training),
        seconds("upload_s", "upload", |phases| phases.upload),
        seconds("wait_s", "wait for the round's end", |phases| phases.wait),
        Column::names("fate", "fate", drawn.iter().map(|&task| Some(tasks.fate.value(task)))),
        Column::names("outcome", "outcome", drawn.iter().map(|&task| Some(tasks.outcome.value(task)))),
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
            "A line a client, a bar a task, from its dispatch to its end; what arrived waits for its round to close \
                  (`tasks`, `rounds.closed_at_ns`). Drag to zoom, filter by fate, device, client and round."
                .into(),
        draw: Draw::Timeline,
        columns,
        notes: note.into_iter().collect(),
    })
}

/// How long each phase of a task took [ns]; a phase that the task did not reach is none.
struct Phases {
    from: u64,
    download: Option<u64>,
    training: Option<u64>,
    upload: Option<u64>,
    wait: Option<u64>,
}

impl Phases {
    fn of(run: &RunRecord, task: usize) -> Self {
        let tasks = &run.tasks;
        let ended = tasks.ended_at_ns.value(task);
        let at = |column: &UInt64Array| column.is_valid(task).then(|| column.value(task));
        let (from, had) = (tasks.dispatched_at_ns.value(task), at(&tasks.download_done_at_ns));
        let (trained, arrived) = (at(&tasks.training_done_at_ns), at(&tasks.upload_done_at_ns));
        // A phase that began lasts until it was done, or until the task ended.
        let lasts =
            |began: Option<u64>, done: Option<u64>| began.map(|began| done.unwrap_or(ended).saturating_sub(began));
        let closed = run.round_of(task).map(|round| run.rounds.closed_at_ns.value(round));
        let waits = matches!(tasks.outcome.value(task), "counted" | "discarded");
        Self {
            from,
            download: lasts(Some(from), had),
            training: lasts(had, trained),
            upload: lasts(trained, arrived),
            wait: closed.filter(|_| waits).map(|closed| closed.saturating_sub(ended)),
        }
    }
}
