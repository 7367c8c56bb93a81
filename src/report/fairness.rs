//! Fairness: the distribution of losses over clients.

use std::collections::BTreeMap;

use super::figure::{Column, Draw, Figure, Section};
use super::grouping::Bins;
use super::learning::{AXES, axes};
use crate::results::statistics::worst_tenth;
use crate::results::{CurvePoint, Fairness, Learning, RunRecord};

/// Number of bins of the histogram of clients.
const BINS: usize = 24;
/// Greatest number of clients that are listed or drawn; of more, those with the greatest losses are.
const MOST_CLIENTS: usize = 2000;

/// Returns the figures of fairness. There are none if clients have no held-out rows, or there is only one client.
pub fn section(run: &RunRecord, learning: &Learning) -> Section {
    let figures = match run.clients() {
        0 | 1 => [None, None, None],
        _ => [spread(run, learning), distribution(learning), clients(run, learning)],
    };
    Section { title: "For whom: fairness between clients", figures: figures.into_iter().flatten().collect() }
}

/// Names the models whose losses the curves show.
fn models(learning: &Learning) -> &'static str {
    if learning.is_local { "Each client's own model" } else { "The server model" }
}

/// Returns the chart of the quantiles of losses over the run. `None` if they were not measured.
fn spread(run: &RunRecord, learning: &Learning) -> Option<Figure> {
    let by_round: Vec<Fairness> = learning.points.iter().filter_map(Fairness::of).collect();
    by_round.first()?;
    let unit = learning.unit();
    let mut columns = Vec::from(axes(run, by_round.iter().map(|losses| losses.round)));
    columns.extend([
        Column::numbers("worst_decile_loss", "worst tenth, mean", unit, by_round.iter().map(|of| of.worst_decile)),
        Column::numbers("p90_loss", "90th percentile", unit, by_round.iter().map(|of| of.p90)),
        Column::numbers("median_loss", "median client", unit, by_round.iter().map(|of| of.median)),
        Column::numbers("mean_loss", "mean client", unit, by_round.iter().map(|of| of.mean)),
        Column::numbers("p10_loss", "10th percentile", unit, by_round.iter().map(|of| of.p10)),
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
            x: AXES.to_vec(),
            y: vec!["worst_decile_loss", "p90_loss", "median_loss", "mean_loss", "p10_loss"],
            split: None,
            band: Some(["p90_loss", "p10_loss"]),
        },
        columns,
        notes: vec![],
    })
}

/// Returns the histogram of clients by their loss at the end. `None` if it was not measured.
fn distribution(learning: &Learning) -> Option<Figure> {
    let last = learning.points.last()?;
    let after = last.client_losses();
    let alone = learning.alone.as_ref().map(CurvePoint::client_losses).unwrap_or_default();
    let fine_tuned = learning.fine_tuned.as_ref().map(CurvePoint::client_losses).unwrap_or_default();
    let personal = learning.personal.last().map(CurvePoint::client_losses).unwrap_or_default();
    let bins = Bins::of(&[&after, &alone, &fine_tuned, &personal], BINS, false)?;
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
    if !personal.is_empty() {
        y.push("clients_personal");
        columns.push(Column::counts("clients_personal", "clients, own model", "clients", bins.counts[3].clone()));
    }
    if !fine_tuned.is_empty() {
        y.push("clients_fine_tuned");
        let counts = bins.counts[2].clone();
        columns.push(Column::counts(
            "clients_fine_tuned",
            "clients, model fine-tuned on their rows",
            "clients",
            counts,
        ));
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

/// Returns the chart with one point per client: its loss with federation against its loss without. `None` if there is
/// none.
fn clients(run: &RunRecord, learning: &Learning) -> Option<Figure> {
    let last = learning.points.last()?;
    let mut ranked = last.clients.clone();
    if ranked.is_empty() {
        return None;
    }
    // The greatest losses first; equal ones by the client's number, so that the order is deterministic.
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let worst = worst_tenth(ranked.len());
    let all = ranked.len();
    ranked.truncate(MOST_CLIENTS);
    let mut columns = client_columns(run, learning, &ranked, worst);
    // The horizontal axis is the loss of the client alone if it was measured: below the diagonal, federation helped.
    let x = if columns[2].is_blank() { "train_rows" } else { "alone_loss" };
    columns.retain(|column| !column.is_blank());
    let caption = match x {
        "alone_loss" => {
            "One point per client: its held-out loss under the server model against that of its own model, trained alone. \
             Below the line, federation helped (`evaluations`)."
                .to_owned()
        }
        _ => format!(
            "One point per client: {} on its held-out rows, against its training rows (`evaluations`, `population`).",
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

/// Returns the columns of [`clients`], of which the third is the loss of the client alone. `ranked` are clients with
/// their losses, the greatest first; the first `worst` are the worst tenth.
fn client_columns(run: &RunRecord, learning: &Learning, ranked: &[(u32, f64)], worst: usize) -> Vec<Column> {
    let unit = learning.unit();
    let population = &run.population;
    let before: BTreeMap<u32, f64> = learning.points[0].clients.iter().copied().collect();
    let names = ranked.iter().map(|&(client, _)| Some(population.client_id(client)));
    let title = if learning.is_local { "loss, own model" } else { "loss, server model" };
    let losses = ranked.iter().map(|&(_, loss)| loss);
    let alone_losses = learning.alone_losses();
    let alone = ranked.iter().map(|(client, _)| alone_losses.get(client).copied());
    let of_clients = |point: Option<&CurvePoint>| -> BTreeMap<u32, f64> {
        point.iter().flat_map(|point| point.clients.iter().copied()).collect()
    };
    let personal_losses = of_clients(learning.personal.last());
    let personal = ranked.iter().map(|(client, _)| personal_losses.get(client).copied());
    let fine_tuned = of_clients(learning.fine_tuned.as_ref());
    let tuned = ranked.iter().map(|(client, _)| fine_tuned.get(client).copied());
    let first = ranked.iter().map(|(client, _)| before.get(client).copied());
    let rows = ranked.iter().map(|&(client, _)| population.train_rows(client));
    let devices = ranked.iter().map(|&(client, _)| Some(population.device(client)));
    let groups = (0..ranked.len()).map(|rank| Some(if rank < worst { "worst tenth" } else { "others" }));
    vec![
        Column::names("client_id", "client", names),
        Column::numbers("loss", title, unit, losses),
        Column::numbers("alone_loss", "loss, trained alone", unit, alone),
        Column::numbers("personal_loss", "loss, own model", unit, personal),
        Column::numbers("fine_tuned_loss", "loss, fine-tuned", unit, tuned),
        Column::numbers("first_loss", "loss at the start", unit, first),
        Column::counts("train_rows", "training rows", "rows", rows),
        Column::names("device", "device", devices),
        Column::names("group", "group", groups),
    ]
}
