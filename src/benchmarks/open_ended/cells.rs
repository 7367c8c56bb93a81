//! From scores to the cells of the table.

use super::advbench::Rates;
use super::scores::{JudgedScores, Tally, Unparsable};
use crate::benchmarks::catalog::OpenEnded;
use crate::benchmarks::table::Cell;

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
