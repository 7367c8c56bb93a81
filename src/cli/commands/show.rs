//! `fedreplay show`: overview of a run in the terminal.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::errors::CommandError;
use crate::cli::errors::hint::RESUME;
use crate::cli::output::summary::client_means;
use crate::cli::output::table::Align::{Left, Right};
use crate::cli::output::table::{TextTable, sparkline};
use crate::cli::output::{say, shown};
use fedreplay::ledger::RunKind;
use fedreplay::report::units;
use fedreplay::results::{LifecycleState, Overview, Series};

/// [character] -- Width of a curve.
const CURVE: usize = 40;

#[derive(Args)]
pub struct ShowArguments {
    /// Folder of the run, finished or not.
    run: PathBuf,
    /// End stdout with one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Prints all parts of the overview.
pub fn main(arguments: &ShowArguments) -> Result<ExitCode, CommandError> {
    let overview = Overview::read(&arguments.run)?;
    say!("{}", arguments.run.display());
    for (name, value) in essentials(&overview) {
        say!("  {name:<14}{value}");
    }
    print_curves(&overview.series);
    print_outcomes(&overview);
    print_devices(&overview);
    print_stragglers(&overview);
    if arguments.json {
        let mut line = json!(overview);
        line["run"] = json!(shown(&arguments.run));
        say!("{line}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the figures at the top as names with values.
fn essentials(overview: &Overview) -> Vec<(&'static str, String)> {
    let essentials = &overview.essentials;
    let mut lines = vec![("state", state(overview))];
    if let Some(digest) = &essentials.digest {
        let note = if essentials.state == LifecycleState::Done { "" } else { " (of the rounds so far)" };
        lines.push(("digest", format!("{digest}{note}")));
    }
    lines.push(("seed, grade", format!("{}, {}", essentials.seed, overview.grade)));
    lines.push(("simulated", units::clock(essentials.simulated_ns)));
    if essentials.kind == RunKind::Run {
        let before = units::loss(essentials.loss_before);
        let after = units::loss(essentials.loss_after);
        lines.push(("loss", format!("{before} before, {after} after")));
    }
    lines.extend(overview.client_means.map(|means| ("by client", client_means(&means))));
    if let Some(fair) = &overview.fairness {
        let losses = format!("{:.4} best, {:.4} median, {:.4} worst tenth", fair.least, fair.median, fair.worst_decile);
        lines.push(("over clients", format!("{losses}, {:.4} worst (held-out loss, round {})", fair.most, fair.round)));
    }
    let asked = overview.clients_asked;
    let counted = overview.clients_counted;
    lines.push(("participation", format!("{asked} of {} clients asked, {counted} counted", overview.clients)));
    lines.push(("moved", units::moved(&overview.moved)));
    if let Some(energy) = overview.energy_kwh {
        lines.push(("energy", format!("{energy:.3} kWh")));
    }
    lines.extend(overview.carbon_g.map(|grams| ("carbon", units::carbon(grams))));
    lines
}

/// Describes the state of the run.
fn state(overview: &Overview) -> String {
    let essentials = &overview.essentials;
    let kind = if essentials.kind == RunKind::Plan { ", a plan: nothing was trained" } else { "" };
    match essentials.state {
        LifecycleState::Done => format!("done, {} rounds{kind}", essentials.rounds),
        LifecycleState::Running => {
            format!("running, {} of {} rounds{kind}", essentials.rounds, essentials.rounds_planned)
        }
        LifecycleState::Interrupted => {
            format!("interrupted, {} of {} rounds{kind}; {RESUME}", essentials.rounds, essentials.rounds_planned)
        }
    }
}

/// Prints one line per metric, with its curve over the rounds.
fn print_curves(series: &[Series]) {
    if series.is_empty() {
        return;
    }
    say!("");
    let columns = [("over rounds", Left), ("first", Right), ("last", Right), ("least", Right), ("greatest", Right)];
    let mut table = TextTable::new(&[&columns[..], &[("unit", Left), ("curve", Left)]].concat());
    for series in series {
        let values: Vec<f64> = series.points.iter().map(|point| point.value).collect();
        // A series has at least one point.
        let first = values[0];
        let last = values[values.len() - 1];
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let figures = [first, last, least, most].map(units::figure);
        let curve = [series.unit.to_owned(), sparkline(&values, CURVE)];
        table.row(std::iter::once(series.name.clone()).chain(figures).chain(curve));
    }
    table.print("  ");
}

/// Prints the number of tasks per outcome.
fn print_outcomes(overview: &Overview) {
    let total: u64 = overview.outcomes.values().sum();
    if total == 0 {
        return;
    }
    say!("");
    let mut table = TextTable::new(&[("tasks ended as", Left), ("tasks", Right), ("share", Right)]);
    for (outcome, &count) in &overview.outcomes {
        table.row([outcome.to_string(), count.to_string(), format!("{:.1} %", 100.0 * count as f64 / total as f64)]);
    }
    table.print("  ");
}

/// Columns of the tables of devices and of stragglers.
const COUNTS: [(&str, crate::cli::output::table::Align); 6] = [
    ("asked", Right),
    ("counted", Right),
    ("late", Right),
    ("dropped", Right),
    ("cancelled", Right),
    ("arrives after", Right),
];

/// Prints the outcomes of tasks per kind of device.
fn print_devices(overview: &Overview) {
    if overview.devices.is_empty() {
        return;
    }
    say!("");
    let mut table = TextTable::new(&[&[("device", Left), ("clients", Right)][..], &COUNTS].concat());
    for group in &overview.devices {
        let counts = [group.clients, group.asked, group.counted, group.late, group.dropped, group.cancelled];
        let counts = counts.map(|count| count.to_string());
        table.row([group.device.clone()].into_iter().chain(counts).chain([after(group.arrival_ns)]));
    }
    table.print("  ");
}

/// Prints the clients whose tasks were late most often.
fn print_stragglers(overview: &Overview) {
    if overview.stragglers.is_empty() {
        return;
    }
    say!("");
    let mut table =
        TextTable::new(&[&[("too slow most often", Left), ("device", Left), ("link", Left)][..], &COUNTS].concat());
    for client in &overview.stragglers {
        let counts = [client.asked, client.counted, client.late, client.dropped, client.cancelled];
        let counts = counts.map(|count| count.to_string());
        let names = [&client.client_id, &client.device, &client.link].map(String::clone);
        table.row(names.into_iter().chain(counts).chain([after(client.arrival_ns)]));
    }
    table.print("  ");
}

/// Formats a mean time of arrival, or a dash if no update arrived.
fn after(arrival_ns: Option<u64>) -> String {
    arrival_ns.map_or_else(|| "-".into(), |ns| format!("{:.1} s", ns as f64 / 1e9))
}
