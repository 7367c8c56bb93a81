//! `fedreplay plan`: simulates a scenario's schedule without training.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::cli::args::run::ScenarioFileArguments;
use crate::cli::errors::CommandError;
use crate::cli::output::progress::ProgressDisplay;
use crate::cli::output::say;
use crate::cli::output::signals::STOP;
use fedreplay::report::units;
use fedreplay::results::{Bands, SHARES};
use fedreplay::run::{PlanDetail, PlanSettings, PlanSummary, plan};

/// Description of a plan's work, shown in the progress display.
pub const SIMULATING: &str = "simulating the schedule";

#[derive(Args)]
pub struct PlanArguments {
    #[command(flatten)]
    scenario: ScenarioFileArguments,
    /// Folder to write the tables to [default: none, only the figures are printed].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Tables to fill: rounds only; tasks and rounds; or events too.
    #[arg(long, value_enum, default_value = "events")]
    detail: DetailName,
    /// Simulate the schedule N times, with other draws of jitter, latency, shares, dropout, availability and crashes from the second time on, and print
    /// quantiles of ends of rounds, counted updates and bytes.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=10_000))]
    repeat: Option<u32>,
    /// End stdout with one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Names of the levels of detail.
#[derive(Clone, Copy, ValueEnum)]
enum DetailName {
    Rounds,
    Tasks,
    Events,
}

/// Simulates the schedule and prints its figures.
pub fn main(arguments: &PlanArguments) -> Result<ExitCode, CommandError> {
    let scenario = arguments.scenario.read()?;
    let detail = match arguments.detail {
        DetailName::Rounds => PlanDetail::Rounds,
        DetailName::Tasks => PlanDetail::Tasks,
        DetailName::Events => PlanDetail::Events,
    };
    let mut progress = ProgressDisplay::new(SIMULATING);
    let settings = PlanSettings { out: arguments.out.clone(), detail, repeats: arguments.repeat, stop: &STOP };
    let summary = plan(&scenario, &settings, &mut progress)?;
    // The display ends before results are printed, so that the bar is not drawn between them.
    drop(progress);
    print(&summary, arguments.json);
    Ok(ExitCode::SUCCESS)
}

/// Prints the figures of a plan on stdout; with `as_json_too` the last line is one JSON object.
pub fn print(summary: &PlanSummary, as_json_too: bool) {
    for (name, value) in lines(summary) {
        say!("{name:<14}{value}");
    }
    for line in summary.bands.iter().flat_map(band_lines) {
        say!("{line}");
    }
    if as_json_too {
        say!("{}", json!(summary));
    }
}

/// Returns the figures as names with values.
fn lines(summary: &PlanSummary) -> Vec<(&'static str, String)> {
    let mut lines = round_lines(summary);
    let outcomes: Vec<String> = summary.outcomes.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
    lines.extend([
        ("simulated", format!("{:.2} hours", summary.simulated_ns as f64 / 3.6e12)),
        ("tasks", format!("{}: {}", summary.tasks, outcomes.join(", "))),
        (
            "participation",
            format!(
                "{} of {} clients asked, {} counted, at most {} tasks per client",
                summary.clients_asked, summary.clients, summary.clients_counted, summary.tasks_per_client_max
            ),
        ),
    ]);
    if let Some(staleness) = summary.staleness_mean.filter(|&staleness| staleness > 0.0) {
        lines.push(("staleness", format!("{staleness:.2} versions on average")));
    }
    lines.extend([
        ("moved", units::moved(&summary.moved)),
        ("devices", format!("{:.1} hours training, {:.1} hours on tasks", summary.training_hours, summary.busy_hours)),
        ("energy", format!("{:.3} kWh", summary.energy_kwh)),
    ]);
    lines.extend(summary.carbon_g.map(|grams| ("carbon", units::carbon(grams))));
    for (role, left_out) in &summary.left_out {
        lines.extend(left_out.sentences(role).into_iter().map(|sentence| ("left out", sentence)));
    }
    lines.extend(summary.privacy.iter().flat_map(crate::cli::output::summary::privacy));
    lines.extend([("wall clock", format!("{:.1} s", summary.wall_seconds))]);
    if let (Some(run), Some(digest)) = (&summary.run, &summary.digest) {
        lines.push(("run", run.display().to_string()));
        lines.push(("digest", digest.to_string()));
    }
    lines
}

/// [rounds] -- Most rounds whose bands are printed.
const MOST_ROUNDS: usize = 20;

/// Returns the bands of repeats as a table: of the whole schedule, and of its rounds or some of them at equal distances.
fn band_lines(bands: &Bands) -> Vec<String> {
    let mut lines = vec![format!(
        "repeats       {}: jitter, latency, shares, dropout, availability and crashes are drawn again, clients are selected as before",
        bands.repeats
    )];
    if bands.at_deadline > 0.0 {
        lines.push(format!("deadline      it ended {:.1} % of the rounds", 100.0 * bands.at_deadline));
    }
    if bands.failed > 0.0 {
        lines.push(format!("failed        {:.1} % of the rounds", 100.0 * bands.failed));
    }
    let bytes = |value: f64| units::bytes(value as u64);
    let clock = |value: f64| units::clock((value * 1e9) as u64);
    let mut row = |name: &str, values: &[f64; SHARES.len()], shown: &dyn Fn(f64) -> String| {
        let cells: String = values.iter().map(|&value| format!("{:>12}", shown(value))).collect();
        lines.push(format!("{name:<14}{cells}"));
    };
    row("quantiles", &bands.shares, &|share| format!("{:.0} %", 100.0 * share));
    row("end", &bands.end_s, &clock);
    row("round time", &bands.duration_s, &clock);
    row("counted", &bands.counted, &|count| format!("{count:.0}"));
    row("on the wire", &bands.wire_bytes, &bytes);
    let step = bands.rounds.len().div_ceil(MOST_ROUNDS).max(1);
    // The last round is shown, whatever the distance.
    for band in bands.rounds.iter().rev().step_by(step).rev() {
        row(&format!("round {} ends", band.round), &band.end_s, &clock);
        row("  counted", &band.counted, &|count| format!("{count:.0}"));
    }
    lines
}

/// Returns the figures of rounds as names with values.
fn round_lines(summary: &PlanSummary) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if let Some(loss) = summary.stand_in_loss {
        lines
            .push(("stand-in", format!("selection reads losses: {loss} nats/token stands for each, so a run differs")));
    }
    // A failed round makes no version of the model.
    let failed: u32 = summary.failed.values().sum();
    let mut rounds = format!("{}: {} closed, {failed} failed", summary.rounds, summary.rounds - failed);
    if failed > 0 {
        let reasons: Vec<String> = summary.failed.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        rounds += &format!(" ({})", reasons.join(", "));
    }
    lines.push(("rounds", rounds));
    if let Some([least, median, most]) = summary.round_ns {
        let [least, median, most] = [least, median, most].map(units::clock);
        lines.push(("round time", format!("{least} shortest, {median} median, {most} longest")));
    }
    lines
}
