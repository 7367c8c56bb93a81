//! Summary printed at the end of a run.

use serde_json::json;

use super::{note, say};
use fedreplay::privacy::Spent;
use fedreplay::report::units;
use fedreplay::results::{ClientMeans, Summary};

/// Prints the summary on stdout; with `as_json` its last line is one JSON object.
pub fn print(summary: &Summary, as_json: bool) {
    let hours = summary.simulated_ns as f64 / 3.6e12;
    let unit = if summary.measures_pairs { "nats/pair" } else { "nats/token" };
    let mut lines = vec![
        ("loss before", format!("{} {unit}", units::loss(summary.loss_before))),
        ("loss after", format!("{} {unit}", units::loss(summary.loss_after))),
    ];
    if let (Some([before, after]), Some(margin)) = (summary.preference_accuracy, summary.reward_margin) {
        let shares = format!("{:.1} % of pairs ranked right, before {:.1} %", 100.0 * after, 100.0 * before);
        lines.push(("preference", format!("{shares}; reward margin {margin:.4}")));
    }
    if summary.loss_local.is_some() {
        let note = "clients trained alone, on the same rows, as many local steps";
        lines.push(("loss alone", format!("{} {unit} ({note})", units::loss(summary.loss_local))));
    }
    lines.extend(summary.client_means.map(|means| ("by client", client_means(&means))));
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
        ("moved", units::moved(&summary.moved)),
        ("run", summary.run.display().to_string()),
        ("digest", summary.digest.to_string()),
    ]);
    lines.extend(summary.privacy.iter().flat_map(privacy));
    for (name, value) in lines {
        say!("{name:<12}{value}");
    }
    warn_of_unusable(summary);
    if as_json {
        say!("{}", json!(summary));
    }
}

/// Describes the means over clients of losses on their own rows.
pub fn client_means(means: &ClientMeans) -> String {
    let named: Vec<String> = means.named().into_iter().map(|(name, mean)| format!("{mean:.4} {name}")).collect();
    format!("{} (mean over clients of the loss on their own held-out rows)", named.join(", "))
}

/// Returns the privacy that was spent, and whether the budget ended the run, as names with values.
pub fn privacy(spent: &Spent) -> Vec<(&'static str, String)> {
    let epsilon = spent.epsilon.map_or("epsilon infinite".to_owned(), |epsilon| format!("epsilon {epsilon:.4}"));
    let mut lines = vec![("privacy", format!("{epsilon} at delta {} ({})", spent.delta, spent.statement))];
    if spent.rounds_not_run > 0 {
        let rounds = spent.rounds_not_run;
        lines.push(("budget", format!("spent: {rounds} more rounds would exceed privacy.epsilon and were not run")));
    }
    lines
}

/// Warns on stderr of updates that could not be used, since a run that learned nothing must not look like one that did.
fn warn_of_unusable(summary: &Summary) {
    if summary.tasks_unusable == 0 {
        return;
    }
    let unusable = summary.tasks_unusable;
    let trained = summary.tasks_trained;
    note!("warning: {unusable} of {trained} updates could not be used and had weight 0:");
    for update in &summary.unusable {
        note!("  {update}");
    }
    let more = unusable - summary.unusable.len() as u64;
    if more > 0 {
        note!("  and {more} more; `reason` in the table `tasks` has them all");
    }
}
