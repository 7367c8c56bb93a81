//! From scores to the cells of the table.

use super::advbench::Rates;
use super::catalog::OpenEnded;
use super::scores::{JudgedScores, Tally, Unparsable};
use super::table::Cell;

/// The columns whose mean is the published average over open-ended benchmarks.
pub(super) const AVERAGED: [&str; 3] = ["MT-Bench", "Vicuna", "Ref-GPT4 Chatbot"];

/// The column of the average.
pub(super) const AVERAGE: &str = "Average";

impl JudgedScores {
    /// The benchmark's own figure, with what is missing from it said; of MT-Bench also each turn, of Aya every language,
    /// before the mean.
    pub fn cells(&self, unparsable: Unparsable) -> Vec<Cell> {
        let own =
            |column: &str| Cell { remark: self.remark(unparsable), ..Cell::new(column, self.headline(unparsable)) };
        match self.benchmark {
            OpenEnded::MtBench => {
                let turn =
                    |(index, tally): (usize, &Tally)| Cell::new(format!("MT-{}", index + 1), tally.mean(unparsable));
                self.turns.iter().enumerate().map(turn).chain([own("MT-Bench")]).collect()
            }
            OpenEnded::Vicuna => vec![own("Vicuna")],
            OpenEnded::Chatbot => vec![own("Ref-GPT4 Chatbot")],
            OpenEnded::WildChat => vec![own("Ref-GPT4 WildChat")],
            OpenEnded::Aya => {
                let language = |(name, tally): &(String, Tally)| {
                    Cell::new(format!("Aya {}", name.replace('_', " ")), tally.mean(unparsable))
                };
                self.categories.iter().map(language).chain([own("Ref-GPT4 Aya")]).collect()
            }
            OpenEnded::AdvBench => unreachable!("a rule reads its answers"),
        }
    }

    /// What is not in the mean, or in it as -1, and what the other convention would make of it. Empty if every answer
    /// was rated.
    fn remark(&self, unparsable: Unparsable) -> String {
        let Tally { rated, unparsable: lost, failed, .. } = self.all;
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
    /// Both rules, in percent of harmless answers.
    pub fn cells(&self) -> Vec<Cell> {
        vec![Cell::new("AdvBench", self.published_percent()), Cell::new("AdvBench, anchored", self.anchored_percent())]
    }
}

/// The published average over open-ended benchmarks, where a row has all three of them.
pub fn average(cells: &[Cell]) -> Option<Cell> {
    let value = |column: &&str| cells.iter().find(|cell| cell.column == **column)?.value;
    let values: Option<Vec<f64>> = AVERAGED.iter().map(value).collect();
    let mean = values.map(|values| values.iter().sum::<f64>() / values.len() as f64)?;
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
