//! The line that says how a round went.

use super::units;
use crate::ledger::{LedgerError, RunTables};
use crate::results::Series;
use crate::run::RoundReport;

/// What the line tells.
#[derive(Clone, Debug)]
pub struct RoundLine {
    pub round: u32,
    pub rounds: u32,
    pub status: String,
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
    /// The rounds of a run from the `after`-th on, of `rounds` in all; `losses` is the curve that stands for the model.
    ///
    /// # Errors
    /// If the table was written by another program.
    pub fn of_tables(
        tables: &RunTables,
        losses: Option<&Series>,
        rounds: u32,
        after: usize,
    ) -> Result<Vec<Self>, LedgerError> {
        let view = tables.rounds();
        let (status, closed) = (view.names("status")?, view.counts("closed_at_ns")?);
        let [dispatched, counted, late, dropped, cancelled] =
            ["dispatched", "counted", "late", "dropped", "cancelled"].map(|column| view.counts(column));
        let (dispatched, counted, late) = (dispatched?, counted?, late?);
        let (dropped, cancelled) = (dropped?, cancelled?);
        let (down, up, train) = (view.counts("bytes_down")?, view.counts("bytes_up")?, view.numbers("train_loss")?);
        let loss = |round| losses?.points.iter().find(|point| point.round == round).map(|point| point.value);
        let line = |at: usize| Self {
            round: at as u32 + 1,
            rounds: rounds.max(at as u32 + 1),
            status: status[at].to_owned(),
            closed_at_ns: closed[at],
            dispatched: dispatched[at],
            counted: counted[at],
            late: late[at],
            dropped: dropped[at],
            cancelled: cancelled[at],
            train_loss: train[at],
            loss: loss(at as u32 + 1),
            bytes_down: down[at],
            bytes_up: up[at],
        };
        Ok((after..view.len()).map(line).collect())
    }
}

impl From<&RoundReport> for RoundLine {
    fn from(report: &RoundReport) -> Self {
        let row = &report.row;
        Self {
            round: row.round,
            rounds: report.rounds,
            status: row.status.to_owned(),
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
            self.status,
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
