//! Participation of clients: outcomes by round, durations, stragglers, staleness.

use std::collections::BTreeMap;

use arrow::array::Array;
use fedreplay_sim::Tally;

use super::figure::{Column, Draw, Figure, Section};
use super::grouping::{Bins, Groups};
use crate::ledger::RoundEnd;
use crate::results::statistics::{mean, quantile, sorted};
use crate::results::{Participation, RunRecord, by_client, by_device_and_link, most_lost};

/// Number of bins of the histograms.
const BINS: usize = 30;
/// Number of clients in the table of stragglers.
const STRAGGLERS: usize = 20;

/// Returns the figures of participation. Those that need tasks are left out if none was recorded.
pub fn section(run: &RunRecord) -> Section {
    let figures = [
        outcomes(run),
        durations(run),
        classes(run),
        stragglers(run),
        participation(run),
        staleness(run),
        failures(run),
    ];
    Section {
        title: "Who took part: outcomes, stragglers, staleness",
        figures: figures.into_iter().flatten().collect(),
    }
}

/// Returns the columns that identify the rounds of a figure.
fn rounds_of(run: &RunRecord, rows: impl Iterator<Item = usize> + Clone) -> Vec<Column> {
    let mut columns = vec![
        Column::counts("round", "round", "rounds", rows.clone().map(|row| row as u64 + 1)),
        Column::numbers("virtual_time_s", "virtual time", "s", rows.clone().map(|row| run.closed_at_s(row))),
    ];
    if run.has_aggregators() {
        let mut names = Vec::new();
        for row in rows {
            names.push(Some(match run.rounds.aggregator.value(row) {
                0 => "server".to_owned(),
                other => format!("aggregator {other}"),
            }));
        }
        columns.push(Column::names("aggregator", "aggregator", names));
    }
    columns
}

/// Returns a column with the sum of a count over each group of rounds.
fn summed(groups: &Groups, name: &'static str, counts: &arrow::array::UInt32Array) -> Column {
    Column::numbers(name, name, "tasks", groups.sum(|row| f64::from(counts.value(row))))
}

/// Returns the chart of tasks by their outcome. `None` if no round ended.
fn outcomes(run: &RunRecord) -> Option<Figure> {
    let rounds = &run.rounds;
    if rounds.counted.is_empty() {
        return None;
    }
    let groups = Groups::of(rounds.counted.len());
    let mut columns = rounds_of(run, groups.last());
    columns.extend([
        summed(&groups, "counted", &rounds.counted),
        summed(&groups, "late", &rounds.late),
        summed(&groups, "dropped", &rounds.dropped),
        summed(&groups, "cancelled", &rounds.cancelled),
        // A level, not a flow: the value of a group is that of its last round.
        Column::counts("in_flight", "still in flight", "tasks", groups.last().map(|row| rounds.in_flight.value(row))),
    ]);
    Some(Figure {
        id: "outcomes",
        title: "What became of tasks".into(),
        caption: "Tasks by how they ended, in the round that recorded it (`rounds`).".into(),
        draw: Draw::Bars { x: "round", y: vec!["counted", "late", "dropped", "cancelled"], stacked: true },
        columns,
        notes: groups.note("tasks are added up").into_iter().collect(),
    })
}

/// Returns the chart of the durations of rounds. `None` if no round ended.
fn durations(run: &RunRecord) -> Option<Figure> {
    let rounds = &run.rounds;
    if rounds.counted.is_empty() {
        return None;
    }
    let groups = Groups::of(rounds.counted.len());
    let mut medians = Vec::new();
    for range in groups.ranges() {
        let seconds = range.clone().map(|row| run.round_seconds(row));
        medians.push(quantile(&sorted(seconds), 0.5));
    }
    let mut columns = rounds_of(run, groups.last());
    columns.push(Column::numbers("duration_s", "round, opened to closed", "s", medians));
    let split = run.has_aggregators().then_some("aggregator");
    Some(Figure {
        id: "round-durations",
        title: "How long rounds took".into(),
        caption: "Virtual time from the opening of a round to its close (`rounds`).".into(),
        draw: Draw::Lines { x: vec!["round", "virtual_time_s"], y: vec!["duration_s"], split, band: None },
        columns,
        notes: groups.note("the median of each is drawn").into_iter().collect(),
    })
}

/// Returns the columns of a table of participations.
fn tallied<'a>(kinds: impl Iterator<Item = &'a Participation> + Clone) -> Vec<Column> {
    let mut columns = vec![Column::counts("tasks", "tasks", "tasks", kinds.clone().map(|kind| kind.tasks.all()))];
    for fate in Tally::ALL {
        columns.push(Column::counts(fate.name(), fate.name(), "tasks", kinds.clone().map(|kind| kind.tasks.of(fate))));
    }
    let medians = kinds.clone().map(|kind| kind.arrival_s(0.5));
    columns.push(Column::numbers("median_s", "median, dispatch to arrival", "s", medians));
    columns.push(Column::numbers("p90_s", "90th percentile", "s", kinds.map(|kind| kind.arrival_s(0.9))));
    columns
}

/// Returns the table of outcomes by device and link. `None` if no task was recorded.
fn classes(run: &RunRecord) -> Option<Figure> {
    let classes = by_device_and_link(run);
    classes.first_key_value()?;
    let mut columns = vec![
        Column::names("device", "device", classes.keys().map(|&(device, _)| Some(device))),
        Column::names("link", "link", classes.keys().map(|&(_, link)| Some(link))),
    ];
    columns.extend(tallied(classes.values()));
    Some(Figure {
        id: "classes",
        title: "By device and link".into(),
        caption: "How tasks ended on each kind of client, and how long updates took to arrive (`tasks`, `population`)."
            .into(),
        draw: Draw::Table,
        columns,
        notes: vec![],
    })
}

/// Returns the table of clients with the most lost tasks. `None` if no task was lost.
fn stragglers(run: &RunRecord) -> Option<Figure> {
    let clients = by_client(run);
    let mut ranked = most_lost(&clients);
    if ranked.is_empty() {
        return None;
    }
    let all = ranked.len();
    ranked.truncate(STRAGGLERS);
    let population = &run.population;
    let mut columns = vec![
        Column::names("client_id", "client", ranked.iter().map(|(client, _)| Some(population.client_id(*client)))),
        Column::names("device", "device", ranked.iter().map(|(client, _)| Some(population.device(*client)))),
        Column::names("link", "link", ranked.iter().map(|(client, _)| Some(population.link(*client)))),
    ];
    columns.extend(tallied(ranked.iter().map(|&(_, participation)| participation)));
    let note = (all > STRAGGLERS)
        .then(|| format!("The {STRAGGLERS} with the most lost tasks, of {all} clients that lost any."));
    Some(Figure {
        id: "stragglers",
        title: "Stragglers".into(),
        caption: "Clients whose tasks were late, dropped or cancelled most often (`tasks.fate`).".into(),
        draw: Draw::Table,
        columns,
        notes: note.into_iter().collect(),
    })
}

/// Returns the histogram of tasks per client. `None` if no task was recorded.
fn participation(run: &RunRecord) -> Option<Figure> {
    let clients = by_client(run);
    clients.first_key_value()?;
    let never = run.clients() - clients.len();
    let mut asked: Vec<f64> = clients.values().map(|client| client.tasks.all() as f64).collect();
    let mut counted: Vec<f64> = clients.values().map(|client| client.tasks.of(Tally::Counted) as f64).collect();
    // Clients without tasks are counted too, as zeros: there may be millions, so one of them takes the place of all.
    asked.extend((never > 0).then_some(0.0));
    counted.extend((never > 0).then_some(0.0));
    let mut bins = Bins::of(&[&asked, &counted], BINS, true)?;
    for counts in &mut bins.counts {
        counts[0] += never.saturating_sub(1) as u64;
    }
    Some(Figure {
        id: "participation",
        title: "Participation".into(),
        caption: "How many clients were asked, and counted, how many times (`tasks`, `population`).".into(),
        draw: Draw::Bars { x: "tasks", y: vec!["clients_asked", "clients_counted"], stacked: false },
        columns: vec![
            Column::counts(
                "tasks",
                "tasks of a client, from",
                "tasks",
                bins.edges.iter().take(bins.counts[0].len()).map(|&edge| edge as u64),
            ),
            Column::counts("clients_asked", "clients asked as often", "clients", bins.counts[0].clone()),
            Column::counts("clients_counted", "clients counted as often", "clients", bins.counts[1].clone()),
        ],
        notes: (never > 0)
            .then(|| format!("{never} of {} clients were never asked.", run.clients()))
            .into_iter()
            .collect(),
    })
}

/// Returns the histogram of the staleness of counted updates. `None` if no update was stale.
fn staleness(run: &RunRecord) -> Option<Figure> {
    let values: Vec<f64> = run.tasks.staleness.iter().flatten().map(f64::from).collect();
    let greatest = values.iter().copied().reduce(f64::max)?;
    if greatest == 0.0 {
        return None;
    }
    let bins = Bins::of(&[&values], BINS, true)?;
    let mean = mean(&values)?;
    Some(Figure {
        id: "staleness",
        title: "Staleness".into(),
        caption: "Versions that the server made between dispatch and aggregation of the updates that counted \
                  (`tasks.staleness`)."
            .into(),
        draw: Draw::Bars { x: "staleness", y: vec!["updates"], stacked: true },
        columns: vec![
            Column::counts(
                "staleness",
                "staleness, from",
                "versions",
                bins.edges.iter().take(bins.counts[0].len()).map(|&edge| edge as u64),
            ),
            Column::counts("updates", "updates that counted", "updates", bins.counts[0].clone()),
        ],
        notes: vec![format!("{mean:.2} versions on average, {greatest} at most.")],
    })
}

/// Returns the table of failed rounds and of updates that could not be used, by reason. `None` if there are none.
fn failures(run: &RunRecord) -> Option<Figure> {
    let rounds = &run.rounds;
    let mut found: BTreeMap<(&str, String), u64> = BTreeMap::new();
    for row in 0..rounds.counted.len() {
        if rounds.status[row] != RoundEnd::Failed {
            continue;
        }
        let reason = if rounds.reason.is_valid(row) { rounds.reason.value(row) } else { "no reason is recorded" };
        *found.entry(("round failed", reason.to_owned())).or_default() += 1;
    }
    for reason in run.tasks.reason.iter().flatten() {
        *found.entry(("update with weight 0", reason.to_owned())).or_default() += 1;
    }
    found.first_key_value()?;
    Some(Figure {
        id: "failures",
        title: "Failed rounds and unusable updates".into(),
        caption:
            "Rounds that made no version (`rounds.reason`), and updates that arrived and got weight 0 (`tasks.reason`)."
                .into(),
        draw: Draw::Table,
        columns: vec![
            Column::names("what", "what", found.keys().map(|(what, _)| Some(*what))),
            Column::names("reason", "reason", found.keys().map(|(_, reason)| Some(reason.as_str()))),
            Column::counts("times", "times", "1", found.values().copied()),
        ],
        notes: vec![],
    })
}
