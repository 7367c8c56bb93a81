//! Rows of table `aggregation`, round by round: a long run of a large model has millions of them.

use super::{AggregationRow, LedgerError, RunTables, TableView};

impl RunTables {
    /// Calls `visit` for each complete round that has rows in table `aggregation`, with the round's index among the rows of
    /// `rounds` and its rows. Runs of older versions have none.
    ///
    /// # Errors
    /// As [`super::TableView::read`], or if the table has other rows than the rounds count.
    pub fn visit_aggregation(&self, mut visit: impl FnMut(usize, &[AggregationRow])) -> Result<(), LedgerError> {
        let counts = self.rounds().newer_numbers("aggregation_rows")?;
        let mut counts = counts.into_iter().map(|count| count.unwrap_or(0.0) as usize).enumerate();
        let mut current = counts.find(|&(_, count)| count > 0);
        let mut pending = Vec::new();
        for part in self.parts::<AggregationRow>()? {
            pending.extend(rows(&part?)?);
            let mut first = 0;
            while let Some((round, count)) = current
                && pending.len() - first >= count
            {
                visit(round, &pending[first..first + count]);
                first += count;
                current = counts.find(|&(_, count)| count > 0);
            }
            pending.drain(..first);
        }
        Ok(())
    }
}

/// Returns the rows of a part of the table.
fn rows(part: &TableView) -> Result<Vec<AggregationRow>, LedgerError> {
    let rounds = part.counts("round")?;
    let modules = part.names("module")?;
    let norms = part.numbers("norm")?;
    let errors = part.numbers("error")?;
    let kept_ranks = part.newer_numbers("kept_rank")?;
    let mut rows = Vec::with_capacity(part.len());
    for at in 0..part.len() {
        let norm = norms[at].ok_or_else(|| part.fault("column norm holds a null".into()))?;
        let round = rounds[at] as u32;
        let kept_rank = kept_ranks[at].map(|rank| rank as u32);
        rows.push(AggregationRow { round, module: modules[at].to_owned(), norm, error: errors[at], kept_rank });
    }
    Ok(rows)
}
