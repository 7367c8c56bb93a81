//! Bands of a plan's repeats: quantiles of ends of rounds, counted updates and bytes over other draws of chance.

use std::path::Path;

use serde::Serialize;

use super::statistics::{quantile, sorted};
use crate::ledger::{LedgerError, RepeatRow, RoundEnd, Table, TableView};

/// [1] -- Shares of the repeats at which quantiles are taken.
pub const SHARES: [f64; 5] = [0.05, 0.25, 0.5, 0.75, 0.95];

/// Quantiles over repeats at [`SHARES`].
pub type Quantiles = [f64; SHARES.len()];

/// Quantiles of one round over the repeats that have it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RoundBand {
    /// Number among the rounds that are compared, from 1.
    pub round: u32,
    /// Number of repeats that have this round.
    pub repeats: u32,
    /// [s] -- Virtual time at its end.
    pub end_s: Quantiles,
    /// [s] -- Its duration.
    pub duration_s: Quantiles,
    /// [tasks] -- Updates that counted.
    pub counted: Quantiles,
    /// [B] -- On the wire in both directions, of the tasks that ended since the round before.
    pub wire_bytes: Quantiles,
    /// [1] -- Share of the repeats in which its deadline ended it.
    pub at_deadline: f64,
    /// [1] -- Share of the repeats in which it failed.
    pub failed: f64,
}

/// Quantiles of whole schedules, and of their rounds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bands {
    pub repeats: u32,
    pub shares: Quantiles,
    /// [s] -- Virtual time at the end of the last round.
    pub end_s: Quantiles,
    /// [tasks] -- Updates that counted in all rounds.
    pub counted: Quantiles,
    /// [B] -- On the wire in both directions, in all rounds.
    pub wire_bytes: Quantiles,
    /// [s] -- Durations of all rounds of all repeats.
    pub duration_s: Quantiles,
    /// [1] -- Share of all rounds that their deadline ended.
    pub at_deadline: f64,
    /// [1] -- Share of all rounds that failed.
    pub failed: f64,
    pub rounds: Vec<RoundBand>,
}

impl Bands {
    /// Computes the bands of these rows, over the rounds of the server, or over those of all tiers where there are no others. `None` without rows.
    pub fn of(rows: &[RepeatRow]) -> Option<Self> {
        let has_server = rows.iter().any(|row| row.aggregator == SERVER);
        let mut by_repeat: Vec<Vec<Played>> = Vec::new();
        // Rows are in the order of repeats, and of ends of rounds; those of edges precede the round of the server that merges them.
        for repeat in rows.chunk_by(|one, next| one.repeat == next.repeat) {
            let mut rounds = Vec::new();
            let mut open = Played::default();
            for row in repeat {
                open.add(row);
                if row.aggregator == SERVER || !has_server {
                    rounds.push(std::mem::take(&mut open));
                }
            }
            by_repeat.push(rounds);
        }
        let all: Vec<&Played> = by_repeat.iter().flatten().collect();
        let last = by_repeat.iter().map(Vec::len).max()?;
        let mut rounds = Vec::with_capacity(last);
        for place in 0..last {
            let of_round: Vec<&Played> = by_repeat.iter().filter_map(|rounds| rounds.get(place)).collect();
            rounds.push(RoundBand {
                round: place as u32 + 1,
                repeats: of_round.len() as u32,
                end_s: quantiles(of_round.iter().map(|round| seconds(round.closed_at_ns)))?,
                duration_s: quantiles(of_round.iter().map(|round| round.duration_s()))?,
                counted: quantiles(of_round.iter().map(|round| round.counted))?,
                wire_bytes: quantiles(of_round.iter().map(|round| round.wire_bytes))?,
                at_deadline: share(&of_round, |round| round.at_deadline),
                failed: share(&of_round, |round| round.failed),
            });
        }
        Some(Self {
            repeats: by_repeat.len() as u32,
            shares: SHARES,
            end_s: quantiles(by_repeat.iter().filter_map(|rounds| Some(seconds(rounds.last()?.closed_at_ns))))?,
            counted: quantiles(by_repeat.iter().map(|rounds| rounds.iter().map(|round| round.counted).sum()))?,
            wire_bytes: quantiles(by_repeat.iter().map(|rounds| rounds.iter().map(|round| round.wire_bytes).sum()))?,
            duration_s: quantiles(all.iter().map(|round| round.duration_s()))?,
            at_deadline: share(&all, |round| round.at_deadline),
            failed: share(&all, |round| round.failed),
            rounds,
        })
    }

    /// Whether the run in `run_folder` is a plan with repeats.
    pub fn exist(run_folder: &Path) -> bool {
        run_folder.join("ledger").join(RepeatRow::NAME).exists()
    }

    /// Reads the repeats of the plan in `run_folder`; `None` if it has none.
    ///
    /// # Errors
    /// If their table cannot be read.
    pub fn read(run_folder: &Path) -> Result<Option<Self>, LedgerError> {
        if !Self::exist(run_folder) {
            return Ok(None);
        }
        let view = TableView::read::<RepeatRow>(run_folder)?;
        let repeats = view.counts("repeat")?;
        let rounds = view.counts("round")?;
        let aggregators = view.counts("aggregator")?;
        let opened = view.counts("opened_at_ns")?;
        let closed = view.counts("closed_at_ns")?;
        let counted = view.counts("counted")?;
        let down = view.counts("wire_bytes_down")?;
        let up = view.counts("wire_bytes_up")?;
        let status = view.values::<RoundEnd>("status")?;
        let at_deadline = view.flags("at_deadline")?;
        let mut rows = Vec::with_capacity(view.len());
        for at in 0..view.len() {
            rows.push(RepeatRow {
                repeat: repeats[at] as u32,
                round: rounds[at] as u32,
                aggregator: aggregators[at] as u32,
                opened_at_ns: opened[at],
                closed_at_ns: closed[at],
                status: status[at],
                at_deadline: at_deadline[at],
                counted: counted[at] as u32,
                wire_bytes_down: down[at],
                wire_bytes_up: up[at],
                ..RepeatRow::default()
            });
        }
        Ok(Self::of(&rows))
    }
}

/// Number of the server among the aggregators.
const SERVER: u32 = 0;

/// Round that is compared, with the rounds of edges that it merges.
#[derive(Clone, Copy, Debug, Default)]
struct Played {
    opened_at_ns: u64,
    closed_at_ns: u64,
    counted: f64,
    wire_bytes: f64,
    /// Number of rounds, its own and those of edges.
    rounds: u32,
    at_deadline: u32,
    failed: u32,
}

impl Played {
    /// Adds a round of an edge, or last its own.
    fn add(&mut self, row: &RepeatRow) {
        self.opened_at_ns = row.opened_at_ns;
        self.closed_at_ns = row.closed_at_ns;
        self.counted += f64::from(row.counted);
        self.wire_bytes += row.wire_bytes_down as f64 + row.wire_bytes_up as f64;
        self.rounds += 1;
        self.at_deadline += u32::from(row.at_deadline);
        self.failed += u32::from(row.status == RoundEnd::Failed);
    }

    fn duration_s(&self) -> f64 {
        seconds(self.closed_at_ns.saturating_sub(self.opened_at_ns))
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Returns the share of all rounds that `count` counts.
fn share(rounds: &[&Played], count: fn(&Played) -> u32) -> f64 {
    let all: u32 = rounds.iter().map(|round| round.rounds).sum();
    f64::from(rounds.iter().map(|round| count(round)).sum::<u32>()) / f64::from(all)
}

fn quantiles(values: impl Iterator<Item = f64>) -> Option<Quantiles> {
    let sorted = sorted(values);
    let mut all = [0.0; SHARES.len()];
    for (value, share) in all.iter_mut().zip(SHARES) {
        *value = quantile(&sorted, share)?;
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five repeats of two rounds: round 1 ends at 10, 20, ... 50 s and counts 1 to 5 updates, round 2 takes 5 s and counts one. The third repeat
    /// fails in its first round, the fifth ends it by its deadline and has no second round.
    fn rows() -> Vec<RepeatRow> {
        let mut rows = Vec::new();
        for repeat in 0..5u32 {
            let end = 10_000_000_000 * u64::from(repeat + 1);
            let status = if repeat == 2 { RoundEnd::Failed } else { RoundEnd::Closed };
            let first = RepeatRow {
                repeat,
                round: 1,
                closed_at_ns: end,
                status,
                at_deadline: repeat == 4,
                counted: repeat + 1,
                wire_bytes_down: 100,
                wire_bytes_up: u64::from(repeat),
                ..RepeatRow::default()
            };
            rows.push(first.clone());
            if repeat < 4 {
                let at = end + 5_000_000_000;
                rows.push(RepeatRow {
                    round: 2,
                    opened_at_ns: end,
                    closed_at_ns: at,
                    counted: 1,
                    status: RoundEnd::Closed,
                    ..first
                });
            }
        }
        rows
    }

    #[test]
    fn quantiles_are_over_repeats() {
        let bands = Bands::of(&rows()).expect("there are rows");
        assert_eq!(bands.repeats, 5);
        let [first, second] = &bands.rounds[..] else { panic!("two rounds") };
        assert_eq!(first.end_s, [12.0, 20.0, 30.0, 40.0, 48.0]);
        assert_eq!(first.counted, [1.2, 2.0, 3.0, 4.0, 4.8]);
        assert_eq!(first.wire_bytes, [100.2, 101.0, 102.0, 103.0, 103.8]);
        assert_eq!((first.failed, first.at_deadline), (0.2, 0.2));
        assert_eq!((second.repeats, second.duration_s), (4, [5.0; 5]));
        // The last rounds end at 15, 25, 35, 45 and 50 s.
        assert_eq!(bands.end_s, [17.0, 25.0, 35.0, 45.0, 49.0]);
        assert_eq!(bands.counted, [2.2, 3.0, 4.0, 5.0, 5.0]);
        assert_eq!(bands.failed, 1.0 / 9.0);
        assert_eq!(Bands::of(&[]), None);
    }

    #[test]
    fn a_round_of_the_server_has_what_its_edges_counted() {
        let row = |round, aggregator, counted, at_deadline| RepeatRow {
            round,
            aggregator,
            closed_at_ns: u64::from(round) * 1_000_000_000,
            counted,
            at_deadline,
            wire_bytes_down: 10,
            ..RepeatRow::default()
        };
        // Two edges with 3 and 4 updates, one of them by its deadline; then one edge with 2, and one whose round the server never merges.
        let rows = [
            row(1, 1, 3, true),
            row(2, 2, 4, false),
            row(3, 0, 0, false),
            row(4, 1, 2, false),
            row(5, 0, 0, false),
            row(6, 2, 9, true),
        ];
        let bands = Bands::of(&rows).expect("there are rows");
        assert_eq!(
            (bands.rounds.len(), bands.end_s, bands.counted, bands.wire_bytes),
            (2, [5.0; 5], [9.0; 5], [50.0; 5])
        );
        assert_eq!(
            (bands.rounds[0].counted, bands.rounds[0].at_deadline, bands.rounds[1].at_deadline),
            ([7.0; 5], 1.0 / 3.0, 0.0)
        );
        assert_eq!(bands.at_deadline, 0.2);
    }
}
