//! Comparison of several runs: their main figures, their curves, and paired differences from the first run.

use std::collections::BTreeMap;

use fedreplay_sim::Tally;

use super::figure::{Column, Draw, Figure, Section};
use super::learning::{AXES, axes, main_name};
use super::reported_run::ReportedRun;
use super::settings;
use crate::results::{Estimate, Learning, MainFigures};

/// A run with the figures by which it is compared.
struct Compared<'a> {
    run: &'a ReportedRun,
    label: &'a str,
    learning: Learning,
    figures: MainFigures,
}

/// Returns the comparison of these runs, each with its label. The others are compared with the first.
pub fn section(runs: &[ReportedRun], labels: &[String]) -> Section {
    let mut compared = Vec::new();
    for (run, label) in runs.iter().zip(labels) {
        let learning = Learning::of(&run.record.losses);
        let figures = MainFigures::of(&run.record, &learning);
        compared.push(Compared { run, label, learning, figures });
    }
    let figures = [
        Some(essentials(&compared)),
        fields(&compared),
        curves(&compared),
        differences(&compared),
        by_round(&compared),
        by_client(&compared),
    ];
    Section { title: "Side by side", figures: figures.into_iter().flatten().collect() }
}

/// Returns a column with one of the main figures of each run.
fn essential(
    runs: &[Compared],
    name: &'static str,
    title: &'static str,
    unit: &'static str,
    of: fn(&MainFigures) -> Option<f64>,
) -> Column {
    Column::numbers(name, title, unit, runs.iter().map(|run| of(&run.figures)))
}

/// Returns the table of the runs' main figures, one row per run.
fn essentials(runs: &[Compared]) -> Figure {
    let unit = runs[0].learning.unit();
    let mut digests = Vec::new();
    for run in runs {
        // The first characters of a digest are enough to tell runs apart.
        digests.push(run.run.record.manifest.digest.map(|digest| digest.to_string()[..12].to_owned()));
    }
    let mut columns = vec![
        Column::names("run", "run", runs.iter().map(|run| Some(run.label))),
        Column::counts("seed", "seed", "1", runs.iter().map(|run| run.run.record.manifest.seed)),
        essential(runs, "rounds", "rounds", "rounds", |run| Some(run.rounds as f64)),
        essential(runs, "loss_before", "loss before", unit, |run| run.loss_before),
        essential(runs, "loss_after", "loss after", unit, |run| run.loss_after),
        essential(runs, "loss_alone", "clients alone", unit, |run| run.loss_alone),
        essential(runs, "worst_decile_loss", "worst tenth of clients", unit, |run| Some(run.fairness?.worst_decile)),
        essential(runs, "preference_accuracy", "pairs ranked right", "share", |run| run.accuracy_after),
        essential(runs, "virtual_time_s", "virtual time", "s", |run| Some(run.simulated_ns as f64 / 1e9)),
        essential(runs, "moved_bytes", "bytes moved", "B", |run| Some(run.moved.down as f64 + run.moved.up as f64)),
        essential(runs, "dispatched", "tasks", "tasks", |run| Some(run.dispatched as f64)),
        essential(runs, "counted", "counted", "tasks", |run| Some(run.tasks.of(Tally::Counted) as f64)),
        essential(runs, "energy_kwh", "energy", "kWh", |run| run.energy_kwh),
        essential(runs, "carbon_g", "CO2", "g", |run| run.carbon_g),
        essential(runs, "epsilon", "epsilon", "1", |run| run.epsilon),
        Column::names("digest", "digest", digests),
    ];
    columns.retain(|column| !column.is_blank());
    Figure {
        id: "runs",
        title: "The runs".into(),
        caption: "Each run in figures. The others are compared with the first.".into(),
        draw: Draw::Table,
        columns,
        notes: vec![],
    }
}

/// A scenario field in which a run differs from the first one.
struct DifferentField<'a> {
    run: &'a str,
    field: String,
    first: String,
    here: String,
}

/// Returns the table of fields in which the scenarios differ. `None` if there are none.
fn fields(runs: &[Compared]) -> Option<Figure> {
    let first = &runs[0].run.scenario;
    let mut rows = Vec::new();
    for run in &runs[1..] {
        for (field, first, here) in settings::differences(first, &run.run.scenario) {
            rows.push(DifferentField {
                run: run.label,
                field,
                first: first.unwrap_or_else(|| "absent".into()),
                here: here.unwrap_or_else(|| "absent".into()),
            });
        }
    }
    if rows.is_empty() {
        return None;
    }
    Some(Figure {
        id: "settings",
        title: "Differences of the scenarios".into(),
        caption: "Fields of the resolved scenarios that are not those of the first run.".into(),
        draw: Draw::Table,
        columns: vec![
            Column::names("run", "run", rows.iter().map(|row| Some(row.run))),
            Column::names("field", "field", rows.iter().map(|row| Some(row.field.as_str()))),
            Column::names("first", "in the first", rows.iter().map(|row| Some(row.first.as_str()))),
            Column::names("here", "here", rows.iter().map(|row| Some(row.here.as_str()))),
        ],
        notes: vec![],
    })
}

/// Concatenates the columns of several runs row-wise. The first column names the run, by the same number in every figure.
fn stacked(runs: &[Compared], parts: Vec<Vec<Column>>) -> Vec<Column> {
    let mut parts = parts.into_iter();
    let Some(mut columns) = parts.next() else { return vec![] };
    for part in parts {
        // All parts have the same columns in the same order.
        for (column, more) in columns.iter_mut().zip(part) {
            column.append(more);
        }
    }
    let labels: Vec<&str> = runs.iter().map(|run| run.label).collect();
    columns[0].number_as(&labels);
    columns
}

/// Returns the chart of the runs' main losses. `None` if no run was evaluated.
fn curves(runs: &[Compared]) -> Option<Figure> {
    let mut parts = Vec::new();
    for run in runs {
        let losses = run.learning.main_losses();
        if losses.clone().next().is_none() {
            continue;
        }
        let mut columns = vec![Column::names("run", "run", losses.clone().map(|_| Some(run.label)))];
        columns.extend(axes(&run.run.record, losses.clone().map(|(round, _)| round)));
        columns.push(Column::numbers("loss", "loss", run.learning.unit(), losses.map(|(_, loss)| loss)));
        parts.push(columns);
    }
    if parts.is_empty() {
        return None;
    }
    let columns = stacked(runs, parts);
    Some(Figure {
        id: "compared-losses",
        title: "Loss of each run".into(),
        caption: "The server model, or clients' own models if there is none, on the test rows, or else on all \
                  held-out rows (`evaluations`). Choose what it costs: rounds, virtual time or bytes."
            .into(),
        draw: Draw::Lines { x: AXES.to_vec(), y: vec!["loss"], split: Some("run"), band: None },
        columns,
        notes: kinds_note(runs).into_iter().collect(),
    })
}

/// Returns a warning if the losses of the runs are of different kinds, so that their differences mean little.
fn kinds_note(runs: &[Compared]) -> Option<String> {
    let first = &runs[0].learning;
    let is_mixed =
        runs.iter().any(|run| main_name(&run.learning) != main_name(first) || run.learning.unit() != first.unit());
    is_mixed
        .then(|| "The losses of these runs are of unlike kinds (test or held-out rows, tokens or pairs).".to_owned())
}

/// Paired differences between two runs or settings.
struct Pairing {
    with: String,
    pairs: &'static str,
    differences: Vec<f64>,
    /// Whether the pairs are independent enough for an interval.
    has_interval: bool,
}

impl Pairing {
    /// Returns the share of pairs with a lower loss than the first run's.
    fn share_better(&self) -> f64 {
        let better = self.differences.iter().filter(|&&difference| difference < 0.0).count();
        better as f64 / self.differences.len() as f64
    }
}

/// Returns all nonempty pairings with the first run.
fn pairings(runs: &[Compared]) -> Vec<Pairing> {
    let first = &runs[0];
    let mut pairings = Vec::new();
    for run in &runs[1..] {
        let with = run.label.to_owned();
        let rounds = round_differences(first, run).map(|(_, difference)| difference).collect();
        pairings.push(Pairing { with: with.clone(), pairs: "rounds", differences: rounds, has_interval: false });
        let clients = client_pairs(first, run).into_iter().map(|(_, ours, theirs)| theirs - ours).collect();
        pairings.push(Pairing {
            with,
            pairs: "clients, after the last round",
            differences: clients,
            has_interval: true,
        });
    }
    pairings.extend(seed_pairings(runs));
    pairings.retain(|pairing| !pairing.differences.is_empty());
    pairings
}

/// Returns the table of mean paired differences. `None` if nothing can be paired.
fn differences(runs: &[Compared]) -> Option<Figure> {
    let pairings = pairings(runs);
    if pairings.is_empty() {
        return None;
    }
    let mut means = Vec::new();
    let mut half_intervals = Vec::new();
    for pairing in &pairings {
        let estimate = Estimate::of(pairing.differences.iter().copied());
        means.push(estimate.map(|estimate| estimate.mean));
        // Student's t assumes independent differences, which rounds of one run are not.
        let half = estimate.and_then(|estimate| estimate.half_interval);
        half_intervals.push(half.filter(|_| pairing.has_interval));
    }
    let unit = runs[0].learning.unit();
    Some(Figure {
        id: "differences",
        title: "Paired differences of losses".into(),
        caption:
            "Loss here less loss of the first, pair by pair: below zero is better. The interval holds the mean with \
                  95 % confidence (Student's t); rounds of one run depend on each other, so they have none."
                .into(),
        draw: Draw::Table,
        columns: vec![
            Column::names("run", "run or setting", pairings.iter().map(|pairing| Some(pairing.with.as_str()))),
            Column::names("pairs", "paired by", pairings.iter().map(|pairing| Some(pairing.pairs))),
            Column::counts("count", "pairs", "1", pairings.iter().map(|pairing| pairing.differences.len() as u64)),
            Column::numbers("mean_difference", "mean difference", unit, means),
            Column::numbers("half_interval", "± 95 % interval", unit, half_intervals),
            Column::numbers("better", "better", "share", pairings.iter().map(Pairing::share_better)),
        ],
        notes: kinds_note(runs).into_iter().chain(seeds_note(runs)).collect(),
    })
}

/// Returns a note on what runs of different seeds share.
fn seeds_note(runs: &[Compared]) -> Option<String> {
    let others = runs.iter().any(|run| run.run.record.manifest.seed != runs[0].run.record.manifest.seed);
    others.then(|| {
        "Runs of one seed meet the same clients, faults and batches; pairs of runs of unlike seeds share no draws."
            .to_owned()
    })
}

/// Returns the differences of losses after the rounds at which both runs were evaluated.
fn round_differences<'a>(first: &'a Compared, other: &'a Compared) -> impl Iterator<Item = (u32, f64)> + Clone + 'a {
    let theirs: BTreeMap<u32, f64> = other.learning.main_losses().collect();
    first.learning.main_losses().filter_map(move |(round, loss)| Some((round, theirs.get(&round)? - loss)))
}

/// Returns clients with their last held-out losses under both runs, paired by name.
fn client_pairs<'a>(first: &'a Compared, other: &Compared) -> Vec<(&'a str, f64, f64)> {
    fn last<'a>(run: &Compared<'a>) -> BTreeMap<&'a str, f64> {
        let clients = run.learning.points.last().map(|point| point.clients.as_slice()).unwrap_or_default();
        clients.iter().map(|&(client, loss)| (run.run.record.population.client_id(client), loss)).collect()
    }
    // By name, since a client's number depends on the data file.
    let theirs = last(other);
    last(first).into_iter().filter_map(|(client, ours)| Some((client, ours, *theirs.get(client)?))).collect()
}

/// Returns the final losses of a setting by seed.
fn losses_by_seed(members: &[&Compared]) -> BTreeMap<u64, f64> {
    members.iter().filter_map(|run| Some((run.run.record.manifest.seed, run.figures.loss_after?))).collect()
}

/// Pairs each setting that was run with several seeds with the first run's setting, seed by seed.
fn seed_pairings(runs: &[Compared]) -> Vec<Pairing> {
    // Runs whose scenarios are equal but for the seed, in the order of their first run.
    let mut groups: Vec<(BTreeMap<String, String>, Vec<&Compared>)> = Vec::new();
    for run in runs {
        let setting = settings::setting(&run.run.scenario);
        match groups.iter_mut().find(|(known, _)| *known == setting) {
            Some((_, members)) => members.push(run),
            None => groups.push((setting, vec![run])),
        }
    }
    let ours = losses_by_seed(&groups[0].1);
    let mut pairings = Vec::new();
    for (_, members) in &groups[1..] {
        let theirs = losses_by_seed(members);
        let differences: Vec<f64> = ours.iter().filter_map(|(seed, loss)| Some(theirs.get(seed)? - loss)).collect();
        // A single seed tells nothing about the variance.
        if differences.len() > 1 {
            pairings.push(Pairing {
                with: format!("setting of {}", members[0].label),
                pairs: "seeds, after the last round",
                differences,
                has_interval: true,
            });
        }
    }
    pairings
}

/// Returns the chart of differences after each round. `None` if no round was evaluated in two runs.
fn by_round(runs: &[Compared]) -> Option<Figure> {
    let unit = runs[0].learning.unit();
    let mut parts = Vec::new();
    for run in &runs[1..] {
        let pairs = round_differences(&runs[0], run);
        parts.push(vec![
            Column::names("run", "run", pairs.clone().map(|_| Some(run.label))),
            Column::counts("round", "round", "rounds", pairs.clone().map(|(round, _)| round)),
            Column::numbers("difference", "loss less that of the first", unit, pairs.map(|(_, difference)| difference)),
        ]);
    }
    let columns = stacked(runs, parts);
    if columns.iter().all(Column::is_blank) {
        return None;
    }
    Some(Figure {
        id: "differences-by-round",
        title: "Difference after each round".into(),
        caption: "Loss of each run less that of the first after the same round; below zero is better (`evaluations`)."
            .into(),
        draw: Draw::Lines { x: vec!["round"], y: vec!["difference"], split: Some("run"), band: None },
        columns,
        notes: vec![],
    })
}

/// Returns the chart of clients' losses under both runs. `None` if no client was evaluated in two runs.
fn by_client(runs: &[Compared]) -> Option<Figure> {
    let unit = runs[0].learning.unit();
    let mut parts = Vec::new();
    for run in &runs[1..] {
        let pairs = client_pairs(&runs[0], run);
        let first_losses = pairs.iter().map(|pair| pair.1);
        parts.push(vec![
            Column::names("run", "run", pairs.iter().map(|_| Some(run.label))),
            Column::names("client_id", "client", pairs.iter().map(|pair| Some(pair.0))),
            Column::numbers("first_loss", "held-out loss under the first run", unit, first_losses),
            Column::numbers("loss", "held-out loss here", run.learning.unit(), pairs.iter().map(|pair| pair.2)),
        ]);
    }
    let columns = stacked(runs, parts);
    if columns.iter().all(Column::is_blank) {
        return None;
    }
    Some(Figure {
        id: "differences-by-client",
        title: "Clients under both runs".into(),
        caption:
            "One point per client, by its last held-out loss under the first run and here; below the line it is better off \
                  here (`evaluations`)."
                .into(),
        draw: Draw::Points { x: "first_loss", y: "loss", split: Some("run"), diagonal: true },
        columns,
        notes: vec![],
    })
}
