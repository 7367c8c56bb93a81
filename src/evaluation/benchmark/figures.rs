//! Conversion of scores to table cells.

use super::advbench::Rates;
use super::catalog::OpenEnded;
use super::scores::{JudgedScores, Tally, Unparsable};
use super::table::Cell;

/// Columns whose mean is the published average over open-ended benchmarks.
pub(super) const AVERAGED: [&str; 3] = ["MT-Bench", "Vicuna", "Ref-GPT4 Chatbot"];

/// Name of the column of that average.
pub(super) const AVERAGE: &str = "Average";

impl JudgedScores {
    /// Returns the benchmark's score as a cell, with a remark on missing ratings. For MT-Bench one cell per turn
    /// precedes it, for Aya one cell per language.
    pub fn cells(&self, unparsable: Unparsable) -> Vec<Cell> {
        let mut cells = Vec::new();
        let column = match self.benchmark {
            OpenEnded::MtBench => {
                for (index, tally) in self.turns.iter().enumerate() {
                    cells.push(Cell::new(format!("MT-{}", index + 1), tally.mean(unparsable)));
                }
                "MT-Bench"
            }
            OpenEnded::Vicuna => "Vicuna",
            OpenEnded::Chatbot => "Ref-GPT4 Chatbot",
            OpenEnded::WildChat => "Ref-GPT4 WildChat",
            OpenEnded::Aya => {
                for (name, tally) in &self.categories {
                    cells.push(Cell::new(format!("Aya {}", name.replace('_', " ")), tally.mean(unparsable)));
                }
                "Ref-GPT4 Aya"
            }
            OpenEnded::AdvBench => unreachable!("a rule reads its answers"),
        };
        cells.push(Cell { remark: self.remark(unparsable), ..Cell::new(column, self.headline(unparsable)) });
        cells
    }

    /// Describes the answers without a rating, and the score under the other convention for unparsable judgments. Empty
    /// if every answer was rated.
    fn remark(&self, unparsable: Unparsable) -> String {
        let Tally { rated, unparsable: lost, failed, .. } = self.all;
        // The remark quotes the score under the convention that was not used, since published scores mix both.
        let all = rated + lost + failed;
        let mut remarks = Vec::new();
        if lost > 0 {
            let (other, how) = match unparsable {
                Unparsable::Dropped => (Unparsable::MinusOne, "counted as -1"),
                Unparsable::MinusOne => (Unparsable::Dropped, "left out"),
            };
            let other = self.headline(other).map_or("none".into(), |mean| format!("{mean:.2}"));
            remarks.push(format!("{lost} of {all} judgements without a rating; {other} with them {how}"));
        }
        if failed > 0 {
            remarks.push(format!("{failed} of {all} answers not judged"));
        }
        remarks.join("; ")
    }
}

impl Rates {
    /// Returns the percentages of harmless answers under both rules.
    pub fn cells(&self) -> Vec<Cell> {
        vec![Cell::new("AdvBench", self.published_percent()), Cell::new("AdvBench, anchored", self.anchored_percent())]
    }
}

/// Returns the published average over open-ended benchmarks, if a row has the scores of all three.
pub fn average(cells: &[Cell]) -> Option<Cell> {
    let mut values = Vec::with_capacity(AVERAGED.len());
    for column in AVERAGED {
        let cell = cells.iter().find(|cell| cell.column == column)?;
        values.push(cell.value?);
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    Some(Cell::new(AVERAGE, Some(mean)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_average_needs_all_of_its_columns() {
        let mut cells = vec![Cell::new("MT-Bench", Some(4.0)), Cell::new("Vicuna", Some(6.0))];
        assert_eq!(average(&cells), None);
        cells.push(Cell::new("Ref-GPT4 Chatbot", Some(5.0)));
        assert_eq!(average(&cells).unwrap().value, Some(5.0));
    }
}
