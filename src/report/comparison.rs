//! Several runs beside each other: their essentials, their curves, and paired differences from the first.

use std::collections::BTreeMap;

use super::essentials::Essentials;
use super::figure::{Column, Draw, Figure, Section};
use super::learning::{COURSE, Learning, course};
use super::record::RunRecord;
use super::settings;
use crate::results::Estimate;

/// A run with what is compared of it.
struct Compared<'a> {
    run: &'a RunRecord,
    label: &'a str,
    learning: Learning,
    essentials: Essentials,
}

/// The comparison of these runs, each under its label. The first is what the others are compared with.
pub fn section(runs: &[RunRecord], labels: &[String]) -> Section {
    let compare = |(run, label): (_, &'_ String)| (run, label.clone());
    let named: Vec<(&RunRecord, String)> = runs.iter().zip(labels).map(compare).collect();
    let compared: Vec<Compared> = named
        .iter()
        .map(|(run, label)| {
            let learning = Learning::of(run);
            Compared { run, label, essentials: Essentials::of(run, &learning), learning }
        })
        .collect();
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

fn essentials(runs: &[Compared]) -> Figure {
    let number = |name, title, unit, of: fn(&Essentials) -> Option<f64>| {
        Column::numbers(name, title, unit, runs.iter().map(move |run| of(&run.essentials)))
    };
    let unit = runs[0].learning.unit();
    let digest = |run: &Compared| run.run.manifest.digest.map(|digest| digest.to_string()[..12].to_owned());
    let mut columns = vec![
        Column::names("run", "run", runs.iter().map(|run| Some(run.label))),
        Column::counts("seed", "seed", "1", runs.iter().map(|run| run.run.manifest.seed)),
        number("rounds", "rounds", "rounds", |run| Some(run.rounds as f64)),
        number("loss_before", "loss before", unit, |run| run.loss_before),
        number("loss_after", "loss after", unit, |run| run.loss_after),
        number("loss_alone", "mean client alone", unit, |run| run.loss_alone),
        number("worst_decile_loss", "worst tenth of clients", unit, |run| run.client_loss_worst_decile),
        number("preference_accuracy", "pairs ranked right", "share", |run| run.accuracy_after),
        number("virtual_time_s", "virtual time", "s", |run| Some(run.simulated_s)),
        number("moved_bytes", "bytes moved", "B", |run| Some(run.bytes_down as f64 + run.bytes_up as f64)),
        number("dispatched", "tasks", "tasks", |run| Some(run.dispatched as f64)),
        number("counted", "counted", "tasks", |run| Some(run.counted as f64)),
        number("energy_kwh", "energy", "kWh", |run| run.energy_kwh),
        number("epsilon", "epsilon", "1", |run| run.epsilon),
        Column::names("digest", "digest", runs.iter().map(digest)),
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

/// In what the scenarios differ.
fn fields(runs: &[Compared]) -> Option<Figure> {
    let first = &runs[0].run.scenario;
    let mut rows = Vec::new();
    for run in &runs[1..] {
        let differing = settings::differences(first, &run.run.scenario);
        rows.extend(differing.into_iter().map(|(field, ours, theirs)| (run.label, field, ours, theirs)));
    }
    let absent = |value: &Option<String>| Some(value.clone().unwrap_or_else(|| "absent".into()));
    (!rows.is_empty()).then(|| Figure {
        id: "settings",
        title: "In what the scenarios differ".into(),
        caption: "Fields of the resolved scenarios that are not those of the first run.".into(),
        draw: Draw::Table,
        columns: vec![
            Column::names("run", "run", rows.iter().map(|row| Some(row.0))),
            Column::names("field", "field", rows.iter().map(|row| Some(row.1.as_str()))),
            Column::names("first", "in the first", rows.iter().map(|row| absent(&row.2))),
            Column::names("here", "here", rows.iter().map(|row| absent(&row.3))),
        ],
        notes: vec![],
    })
}

/// The loss that stands for a run, after each round that was evaluated.
fn main_losses<'a>(run: &'a Compared) -> impl Iterator<Item = (u32, f64)> + Clone + 'a {
    let learning = &run.learning;
    learning.points.iter().filter_map(|point| Some((point.round, point.model.main(learning.has_test)?)))
}

/// Columns of several runs, one below the other.
fn stacked(parts: Vec<Vec<Column>>) -> Vec<Column> {
    let mut parts = parts.into_iter();
    let Some(mut columns) = parts.next() else { return vec![] };
    for part in parts {
        columns.iter_mut().zip(part).for_each(|(column, more)| column.append(more));
    }
    columns
}

fn curves(runs: &[Compared]) -> Option<Figure> {
    let measured: Vec<&Compared> = runs.iter().filter(|run| main_losses(run).next().is_some()).collect();
    if measured.is_empty() {
        return None;
    }
    let columns = stacked(
        measured
            .iter()
            .map(|run| {
                let losses = main_losses(run);
                let mut columns = vec![Column::names("run", "run", losses.clone().map(|_| Some(run.label)))];
                columns.extend(course(run.run, losses.clone().map(|(round, _)| round)));
                columns.push(Column::numbers("loss", "loss", run.learning.unit(), losses.map(|(_, loss)| loss)));
                columns
            })
            .collect(),
    );
    Some(Figure {
        id: "compared-losses",
        title: "Loss of each run".into(),
        caption: "The server model, or the mean of clients' own where there is none, on the test rows, or else on all \
                  held-out rows (`evaluations`). Choose what it costs: rounds, virtual time or bytes."
            .into(),
        draw: Draw::Lines { x: COURSE.to_vec(), y: vec!["loss"], split: Some("run"), band: None },
        columns,
        notes: kinds_note(runs).into_iter().collect(),
    })
}

/// Losses of unlike rows are no pairs.
fn kinds_note(runs: &[Compared]) -> Option<String> {
    let kinds = |run: &Compared| (run.learning.main_name(), run.learning.unit());
    let unlike = runs.iter().any(|run| kinds(run) != kinds(&runs[0]));
    unlike.then(|| "The losses of these runs are of unlike kinds (test or held-out rows, tokens or pairs).".to_owned())
}

/// One kind of pairs between two runs or settings.
struct Pairing {
    with: String,
    pairs: &'static str,
    differences: Vec<f64>,
    /// Whether the pairs are independent enough for an interval.
    has_interval: bool,
}

fn differences(runs: &[Compared]) -> Option<Figure> {
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
    if pairings.is_empty() {
        return None;
    }
    let estimates: Vec<Option<Estimate>> =
        pairings.iter().map(|pairing| Estimate::of(pairing.differences.iter().copied())).collect();
    let better = |pairing: &Pairing| {
        let better = pairing.differences.iter().filter(|&&difference| difference < 0.0).count();
        better as f64 / pairing.differences.len() as f64
    };
    let unit = runs[0].learning.unit();
    let half = |(pairing, estimate): (&Pairing, &Option<Estimate>)| {
        estimate.and_then(|estimate| estimate.half_interval).filter(|_| pairing.has_interval)
    };
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
            Column::numbers("mean_difference", "mean difference", unit, estimates.iter().map(|e| e.map(|e| e.mean))),
            Column::numbers("half_interval", "± 95 % interval", unit, pairings.iter().zip(&estimates).map(half)),
            Column::numbers("better", "better", "share", pairings.iter().map(better)),
        ],
        notes: kinds_note(runs).into_iter().chain(seeds_note(runs)).collect(),
    })
}

fn seeds_note(runs: &[Compared]) -> Option<String> {
    let others = runs.iter().any(|run| run.run.manifest.seed != runs[0].run.manifest.seed);
    others.then(|| {
        "Runs of one seed meet the same clients, faults and batches; pairs of runs of unlike seeds share no draws."
            .to_owned()
    })
}

/// Differences of losses after the rounds that both evaluated.
fn round_differences<'a>(first: &'a Compared, other: &'a Compared) -> impl Iterator<Item = (u32, f64)> + Clone + 'a {
    let theirs: BTreeMap<u32, f64> = main_losses(other).collect();
    main_losses(first).filter_map(move |(round, loss)| Some((round, theirs.get(&round)? - loss)))
}

/// Clients with their last held-out losses under both runs, paired by their names.
fn client_pairs<'a>(first: &'a Compared, other: &Compared) -> Vec<(&'a str, f64, f64)> {
    fn last<'a>(run: &Compared<'a>) -> BTreeMap<&'a str, f64> {
        let clients = run.learning.points.last().map(|point| point.clients.as_slice()).unwrap_or_default();
        clients.iter().map(|&(client, loss)| (run.run.population.client_id.value(client as usize), loss)).collect()
    }
    let theirs = last(other);
    last(first).into_iter().filter_map(|(client, ours)| Some((client, ours, *theirs.get(client)?))).collect()
}

/// Settings of several seeds against the first run's setting, seed by seed.
fn seed_pairings(runs: &[Compared]) -> Vec<Pairing> {
    let mut groups: Vec<(BTreeMap<String, String>, Vec<&Compared>)> = Vec::new();
    for run in runs {
        let setting = settings::setting(&run.run.scenario);
        match groups.iter_mut().find(|(known, _)| *known == setting) {
            Some((_, members)) => members.push(run),
            None => groups.push((setting, vec![run])),
        }
    }
    let by_seed = |members: &[&Compared]| -> BTreeMap<u64, f64> {
        members.iter().filter_map(|run| Some((run.run.manifest.seed, run.essentials.loss_after?))).collect()
    };
    let ours = by_seed(&groups[0].1);
    let pairing = |(_, members): &(_, Vec<&Compared>)| {
        let theirs = by_seed(members);
        let differences: Vec<f64> = ours.iter().filter_map(|(seed, loss)| Some(theirs.get(seed)? - loss)).collect();
        Pairing {
            with: format!("setting of {}", members[0].label),
            pairs: "seeds, after the last round",
            differences,
            has_interval: true,
        }
    };
    groups[1..].iter().map(pairing).filter(|pairing| pairing.differences.len() > 1).collect()
}

fn by_round(runs: &[Compared]) -> Option<Figure> {
    let parts: Vec<Vec<Column>> = runs[1..]
        .iter()
        .map(|run| {
            let pairs = round_differences(&runs[0], run);
            vec![
                Column::names("run", "run", pairs.clone().map(|_| Some(run.label))),
                Column::counts("round", "round", "rounds", pairs.clone().map(|(round, _)| round)),
                Column::numbers(
                    "difference",
                    "loss less that of the first",
                    runs[0].learning.unit(),
                    pairs.map(|(_, difference)| difference),
                ),
            ]
        })
        .collect();
    let columns = stacked(parts);
    (!columns.iter().all(Column::is_blank)).then(|| Figure {
        id: "differences-by-round",
        title: "Difference after each round".into(),
        caption: "Loss of each run less that of the first after the same round; below zero is better (`evaluations`)."
            .into(),
        draw: Draw::Lines { x: vec!["round"], y: vec!["difference"], split: Some("run"), band: None },
        columns,
        notes: vec![],
    })
}

fn by_client(runs: &[Compared]) -> Option<Figure> {
    let parts: Vec<Vec<Column>> = runs[1..]
        .iter()
        .map(|run| {
            let pairs = client_pairs(&runs[0], run);
            vec![
                Column::names("run", "run", pairs.iter().map(|_| Some(run.label))),
                Column::names("client_id", "client", pairs.iter().map(|pair| Some(pair.0))),
                Column::numbers(
                    "first_loss",
                    "held-out loss under the first run",
                    runs[0].learning.unit(),
                    pairs.iter().map(|pair| pair.1),
                ),
                Column::numbers("loss", "held-out loss here", run.learning.unit(), pairs.iter().map(|pair| pair.2)),
            ]
        })
        .collect();
    let columns = stacked(parts);
    (!columns.iter().all(Column::is_blank)).then(|| Figure {
        id: "differences-by-client",
        title: "Clients under both runs".into(),
        caption:
            "A point a client, by its last held-out loss under the first run and here; below the line it is better off \
                  here (`evaluations`)."
                .into(),
        draw: Draw::Points { x: "first_loss", y: "loss", split: Some("run"), diagonal: true },
        columns,
        notes: vec![],
    })
}
