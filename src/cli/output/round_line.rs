//! One-line summary of a round.

use fedreplay::ledger::{ColumnValue, LedgerError, RoundEnd, RunTables};
use fedreplay::report::units;
use fedreplay::results::Series;
use fedreplay::run::RoundReport;

/// Figures of one round, displayed as one line.
#[derive(Clone, Debug)]
pub struct RoundLine {
    pub round: u32,
    pub rounds: u32,
    pub status: RoundEnd,
    pub closed_at_ns: u64,
    pub dispatched: u64,
    pub counted: u64,
    pub late: u64,
    pub dropped: u64,
    pub cancelled: u64,
    pub train_loss: Option<f64>,
    pub loss: Option<f64>,
    pub bytes_down: u64,
    pub bytes_up: u64,
}

impl RoundLine {
    /// Returns the rounds of a run after the first `after`. `rounds` is the planned number of rounds, `losses` the
    /// curve of the run's main loss.
    ///
    /// # Errors
    /// If a column is missing or has another type.
    pub fn of_tables(
        tables: &RunTables,
        losses: Option<&Series>,
        rounds: u32,
        after: usize,
    ) -> Result<Vec<Self>, LedgerError> {
        let view = tables.rounds();
        let status = view.values::<RoundEnd>("status")?;
        let closed_at_ns = view.counts("closed_at_ns")?;
        let dispatched = view.counts("dispatched")?;
        let counted = view.counts("counted")?;
        let late = view.counts("late")?;
        let dropped = view.counts("dropped")?;
        let cancelled = view.counts("cancelled")?;
        let bytes_down = view.counts("bytes_down")?;
        let bytes_up = view.counts("bytes_up")?;
        let train_loss = view.numbers("train_loss")?;
        let mut lines = Vec::new();
        for row in after..view.len() {
            let round = row as u32 + 1;
            // Not every round is evaluated.
            let point = losses.and_then(|losses| losses.points.iter().find(|point| point.round == round));
            lines.push(Self {
                round,
                // The tables may already hold a round that the manifest, which was read at another moment, does not
                // count.
                rounds: rounds.max(round),
                status: status[row],
                closed_at_ns: closed_at_ns[row],
                dispatched: dispatched[row],
                counted: counted[row],
                late: late[row],
                dropped: dropped[row],
                cancelled: cancelled[row],
                train_loss: train_loss[row],
                loss: point.map(|point| point.value),
                bytes_down: bytes_down[row],
                bytes_up: bytes_up[row],
            });
        }
        Ok(lines)
    }
}

impl From<&RoundReport> for RoundLine {
    fn from(report: &RoundReport) -> Self {
        let row = &report.row;
        Self {
            round: row.round,
            rounds: report.rounds,
            status: row.status,
            closed_at_ns: row.closed_at_ns,
            dispatched: row.dispatched.into(),
            counted: row.counted.into(),
            late: row.late.into(),
            dropped: row.dropped.into(),
            cancelled: row.cancelled.into(),
            train_loss: row.train_loss,
            loss: report.loss,
            bytes_down: row.bytes_down,
            bytes_up: row.bytes_up,
        }
    }
}

impl std::fmt::Display for RoundLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "[ROUND {}/{}] {} at {} | {} clients: {} counted, {} late, {} dropped, {} cancelled | train loss {}, loss {} | {} down, {} up",
            self.round,
            self.rounds,
            self.status.name(),
            units::clock(self.closed_at_ns),
            self.dispatched,
            self.counted,
            self.late,
            self.dropped,
            self.cancelled,
            units::loss(self.train_loss),
            units::loss(self.loss),
            units::bytes(self.bytes_down),
            units::bytes(self.bytes_up),
        )
    }
}
