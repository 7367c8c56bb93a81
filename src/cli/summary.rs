//! The closing summary of a run.

use serde_json::json;

use super::output::say;
use super::units;
use crate::run::Summary;

/// Prints the summary on stdout; with `as_json` its last line is one JSON object.
pub fn print(summary: &Summary, as_json: bool) {
    let hours = summary.simulated_ns as f64 / 3.6e12;
    let mut lines = vec![
        ("loss before", format!("{} nats/token", units::loss(summary.loss_before))),
        ("loss after", format!("{} nats/token", units::loss(summary.loss_after))),
    ];
    if summary.loss_local.is_some() {
        let note = "mean client trained alone, as many local steps";
        lines.push(("loss alone", format!("{} nats/token ({note})", units::loss(summary.loss_local))));
    }
    lines.extend([
        ("simulated", format!("{hours:.2} hours in {} rounds", summary.rounds)),
        ("wall clock", format!("{:.1} s", summary.wall_seconds)),
        (
            "tasks",
            format!(
                "{} dispatched: {} trained, {} dropped, {} late, {} cancelled",
                summary.tasks_dispatched,
                summary.tasks_trained,
                summary.tasks_dropped,
                summary.tasks_late,
                summary.tasks_cancelled
            ),
        ),
        ("moved", format!("{} down, {} up", units::bytes(summary.bytes_down), units::bytes(summary.bytes_up))),
        ("run", summary.run.display().to_string()),
        ("digest", summary.digest.to_string()),
    ]);
    if let Some(privacy) = &summary.privacy {
        let epsilon = privacy.epsilon.map_or("epsilon infinite".to_owned(), |epsilon| format!("epsilon {epsilon:.4}"));
        lines.push(("privacy", format!("{epsilon} at delta {} ({})", privacy.delta, privacy.statement)));
        if privacy.rounds_not_run > 0 {
            let rounds = privacy.rounds_not_run;
            lines
                .push(("budget", format!("spent: {rounds} more rounds would exceed privacy.epsilon and were not run")));
        }
    }
    for (name, value) in lines {
        say!("{name:<12}{value}");
    }
    if as_json {
        say!("{}", json!(summary));
    }
}
