//! For whom it was learnt: how losses spread over clients, and who is served worst.

use std::collections::BTreeMap;

use super::figure::{Column, Draw, Figure, Section};
use super::learning::{COURSE, Learning, Point, course};
use super::record::RunRecord;
use super::statistics::{Bins, mean, quantile, sorted, worst_decile};

/// Bins of a distribution over clients.
const BINS: usize = 24;
/// Clients that are listed or drawn one by one; beyond that, those with the greatest loss are.
const MOST_CLIENTS: usize = 2000;

/// The figures of who gains; none where clients hold no rows out, or there is but one.
pub fn section(run: &RunRecord, learning: &Learning) -> Section {
    let figures = match run.clients() {
        0 | 1 => [None, None, None],
        _ => [spread(run, learning), distribution(learning), clients(run, learning)],
    };
    Section { title: "For whom: fairness between clients", figures: figures.into_iter().flatten().collect() }
}

/// Whose losses a run's course shows.
fn models(learning: &Learning) -> &'static str {
    if learning.is_local { "Each client's own model" } else { "The server model" }
}

fn losses(point: &Point) -> Vec<f64> {
    sorted(point.clients.iter().map(|&(_, loss)| loss))
}

fn spread(run: &RunRecord, learning: &Learning) -> Option<Figure> {
    let measured: Vec<(u32, Vec<f64>)> = learning
        .points
        .iter()
        .map(|point| (point.round, losses(point)))
        .filter(|(_, losses)| !losses.is_empty())
        .collect();
    measured.first()?;
    let mut columns = Vec::from(course(run, measured.iter().map(|(round, _)| *round)));
    let unit = learning.unit();
    let at = |name, title, figure: &dyn Fn(&[f64]) -> Option<f64>| {
        Column::numbers(name, title, unit, measured.iter().map(|(_, losses)| figure(losses)))
    };
    columns.extend([
        at("worst_decile_loss", "worst tenth, mean", &worst_decile),
        at("p90_loss", "90th percentile", &|losses| quantile(losses, 0.9)),
        at("median_loss", "median client", &|losses| quantile(losses, 0.5)),
        at("mean_loss", "mean client", &mean),
        at("p10_loss", "10th percentile", &|losses| quantile(losses, 0.1)),
    ]);
    Some(Figure {
        id: "fairness",
        title: "Losses of clients over the run".into(),
        caption: format!(
            "{} on the client's own held-out rows (`evaluations`): the band holds the middle 80 % of clients, each \
             counting once.",
            models(learning)
        ),
        draw: Draw::Lines {
            x: COURSE.to_vec(),
            y: vec!["worst_decile_loss", "p90_loss", "median_loss", "mean_loss", "p10_loss"],
            split: None,
            band: Some(["p90_loss", "p10_loss"]),
        },
        columns,
        notes: vec![],
    })
}

fn distribution(learning: &Learning) -> Option<Figure> {
    let last = learning.points.last()?;
    let (after, alone) = (losses(last), sorted(learning.alone_clients.values().copied()));
    let bins = Bins::of(&[&after, &alone], BINS, false)?;
    let mut columns = vec![
        Column::numbers("loss", "held-out loss", learning.unit(), bins.middles()),
        Column::counts(
            "clients",
            if learning.is_local { "clients, own model" } else { "clients, server model" },
            "clients",
            bins.counts[0].clone(),
        ),
    ];
    let mut y = vec!["clients"];
    if !alone.is_empty() {
        y.push("clients_alone");
        columns.push(Column::counts("clients_alone", "clients trained alone", "clients", bins.counts[1].clone()));
    }
    Some(Figure {
        id: "client-losses",
        title: "Clients by their loss at the end".into(),
        caption: "How many clients end with which loss on their own held-out rows (`evaluations`).".into(),
        draw: Draw::Bars { x: "loss", y, stacked: false },
        columns,
        notes: vec![],
    })
}

/// One row a client: what federation gave it. The worst come first.
fn clients(run: &RunRecord, learning: &Learning) -> Option<Figure> {
    let last = learning.points.last()?;
    let mut ranked = last.clients.clone();
    if ranked.is_empty() {
        return None;
    }
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let worst = ranked.len().div_ceil(10);
    let all = ranked.len();
    ranked.truncate(MOST_CLIENTS);
    let before: BTreeMap<u32, f64> = learning.points[0].clients.iter().copied().collect();
    let population = &run.population;
    let of = |client: u32| client as usize;
    let mut columns = vec![
        Column::names(
            "client_id",
            "client",
            ranked.iter().map(|&(client, _)| Some(population.client_id.value(of(client)))),
        ),
        Column::numbers(
            "loss",
            if learning.is_local { "loss, own model" } else { "loss, server model" },
            learning.unit(),
            ranked.iter().map(|&(_, loss)| loss),
        ),
        Column::numbers(
            "alone_loss",
            "loss, trained alone",
            learning.unit(),
            ranked.iter().map(|(client, _)| learning.alone_clients.get(client).copied()),
        ),
        Column::numbers(
            "first_loss",
            "loss at the start",
            learning.unit(),
            ranked.iter().map(|(client, _)| before.get(client).copied()),
        ),
        Column::counts(
            "train_rows",
            "training rows",
            "rows",
            ranked.iter().map(|&(client, _)| population.train_rows.value(of(client))),
        ),
        Column::names("device", "device", ranked.iter().map(|&(client, _)| Some(population.device.value(of(client))))),
        Column::names(
            "group",
            "group",
            (0..ranked.len()).map(|rank| Some(if rank < worst { "worst tenth" } else { "others" })),
        ),
    ];
    // Against the loss of the client alone where that was measured: below the diagonal, federation helped.
    let x = if columns[2].is_blank() { "train_rows" } else { "alone_loss" };
    columns.retain(|column| !column.is_blank());
    let caption = match x {
        "alone_loss" => {
            "A point a client: its held-out loss under the server model against that of its own model, trained alone. \
             Below the line, federation helped (`evaluations`)."
                .to_owned()
        }
        _ => format!(
            "A point a client: {} on its held-out rows, against its training rows (`evaluations`, `population`).",
            if learning.is_local { "its own model" } else { "the server model" }
        ),
    };
    let note =
        (all > MOST_CLIENTS).then(|| format!("The {MOST_CLIENTS} clients with the greatest loss of {all} are shown."));
    Some(Figure {
        id: "clients",
        title: "Each client".into(),
        caption,
        draw: Draw::Points { x, y: "loss", split: Some("group"), diagonal: x == "alone_loss" },
        columns,
        notes: note.into_iter().collect(),
    })
}
