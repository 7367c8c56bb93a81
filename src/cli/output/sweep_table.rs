//! Tables of a sweep's runs: one table per scenario, one line per setting.

use super::say;
use fedreplay::report::units;
use fedreplay::results::{ClientMeans, Estimate};
use fedreplay::run::CellRun;
use fedreplay::scenario::Sweep;

/// Prints means over seeds, and the paired differences of each setting from the first of its scenario.
pub fn print(sweep: &Sweep, runs: &[CellRun]) {
    // Cells that differ only in their seed are adjacent.
    let settings: Vec<&[CellRun]> =
        runs.chunk_by(|a, b| (&a.scenario, &a.setting) == (&b.scenario, &b.setting)).collect();
    let width = settings.iter().map(|cells| cells[0].setting.chars().count()).max().unwrap_or(0).max(7);
    let has_client_means = runs.iter().any(|run| run.summary.client_means.is_some());
    let has_published = runs.iter().any(|run| published(sweep, run).is_some());
    for (place, table) in settings.chunk_by(|a, b| a[0].scenario == b[0].scenario).enumerate() {
        if !table[0][0].scenario.is_empty() {
            if place > 0 {
                say!("");
            }
            say!("{}", table[0][0].scenario);
        }
        let of_clients = if has_client_means { "  by client: own, server's, fine-tuned" } else { "" };
        let figures = if has_published { "  published, of the original" } else { "" };
        say!(
            "{:<width$}  seeds  loss before  loss after       against the first     simulated   up a run{of_clients}{figures}",
            "setting"
        );
        for cells in table {
            let of_clients = if has_client_means { client_means(cells) } else { String::new() };
            let line = line(table[0], cells, &of_clients, published(sweep, &cells[0]));
            say!("{:<width$}{line}", cells[0].setting);
        }
    }
    if runs.len() > settings.len() {
        say!(
            "loss after: mean ± standard deviation over seeds; against the first: mean of the differences seed by seed,"
        );
        say!("with its 95 % confidence interval (Student's t)");
    }
    if runs.iter().any(|run| run.summary.loss_after.is_none() && run.summary.loss_local.is_some()) {
        say!("loss after of Local: mean over its clients' own models, on the same rows");
    }
    if has_client_means {
        say!("by client: means over clients of the loss on their own held-out rows, and over seeds");
    }
    if has_published {
        say!("published: figures of others, on their models, data and judges; none of them was measured here");
    }
}

/// Formats one setting, compared with the first of its scenario.
fn line(first: &[CellRun], cells: &[CellRun], of_clients: &str, published: Option<&str>) -> String {
    let before = Estimate::of(cells.iter().filter_map(|cell| cell.summary.loss_before));
    let after = Estimate::of(cells.iter().filter_map(loss_after));
    let took = Estimate::of(cells.iter().map(|cell| cell.summary.simulated_ns as f64));
    let up = Estimate::of(cells.iter().map(|cell| cell.summary.moved.up as f64));
    // Cells of both settings are in the order of the seeds, so that equal places have equal seeds.
    let pairs = first.iter().zip(cells).filter_map(|(first, cell)| Some(loss_after(cell)? - loss_after(first)?));
    let is_first = first[0].setting == cells[0].setting;
    let against = if is_first { String::new() } else { difference(Estimate::of(pairs)) };
    let line = format!(
        "  {:>5}  {:>11}  {:<15}  {against:<19}  {:>10}  {:>9}  {of_clients}{}",
        cells.len(),
        units::loss(before.map(|before| before.mean)),
        after.map_or_else(|| "-".into(), with_deviation),
        took.map_or_else(String::new, |took| units::clock(took.mean as u64)),
        up.map_or_else(String::new, |up| units::bytes(up.mean as u64)),
        published.unwrap_or_default(),
    );
    line.trim_end().to_owned()
}

/// Formats the means over seeds of the losses by client, as a column.
fn client_means(cells: &[CellRun]) -> String {
    let of = |mean: fn(&ClientMeans) -> Option<f64>| {
        let means = cells.iter().filter_map(|cell| mean(&cell.summary.client_means?));
        Estimate::of(means).map_or_else(|| "-".to_owned(), |estimate| format!("{:.4}", estimate.mean))
    };
    let all = [of(|means| means.personal), of(|means| means.global), of(|means| means.fine_tuned)];
    format!("{:<38}", all.map(|mean| format!("{mean:>6}")).join("  "))
}

/// Returns the server model's final loss, or that of the clients' own models if there is no server model.
fn loss_after(cell: &CellRun) -> Option<f64> {
    cell.summary.loss_after.or(cell.summary.loss_local)
}

/// Returns the published figure of a setting. Only unmodified variants have one, not settings with values of axes.
fn published<'a>(sweep: &'a Sweep, run: &CellRun) -> Option<&'a str> {
    sweep.published(&run.scenario, &run.variant).filter(|_| run.setting == run.variant)
}

/// Formats a mean with its standard deviation.
fn with_deviation(estimate: Estimate) -> String {
    let deviation = estimate.deviation.map(|deviation| format!(" ± {deviation:.4}")).unwrap_or_default();
    format!("{:.4}{deviation}", estimate.mean)
}

/// Formats a mean difference with half of its confidence interval.
fn difference(estimate: Option<Estimate>) -> String {
    let Some(estimate) = estimate else { return "-".into() };
    let half = estimate.half_interval.map(|half| format!(" ± {half:.4}")).unwrap_or_default();
    format!("{:+.4}{half}", estimate.mean)
}
