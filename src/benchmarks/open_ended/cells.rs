//! Conversion of scores to table cells.

use super::advbench::Rates;
use super::scores::{JudgedScores, ScoreTally, Unparsable};
use crate::benchmarks::catalog::OpenEnded;
use crate::benchmarks::table::BenchmarkCell;

impl JudgedScores {
    /// Returns the benchmark's score as a cell, with a remark on missing ratings. For MT-Bench one cell per turn
    /// precedes it, for Aya one cell per language.
    pub fn cells(&self, unparsable: Unparsable) -> Vec<BenchmarkCell> {
        let mut cells = Vec::new();
        let column = match self.benchmark {
            OpenEnded::MtBench => {
                for (index, tally) in self.turns.iter().enumerate() {
                    cells.push(BenchmarkCell::new(format!("MT-{}", index + 1), tally.mean(unparsable)));
                }
                "MT-Bench"
            }
            OpenEnded::Vicuna => "Vicuna",
            OpenEnded::Chatbot => "Ref-GPT4 Chatbot",
            OpenEnded::WildChat => "Ref-GPT4 WildChat",
            OpenEnded::Aya => {
                for (name, tally) in &self.categories {
                    cells.push(BenchmarkCell::new(format!("Aya {}", name.replace('_', " ")), tally.mean(unparsable)));
                }
                "Ref-GPT4 Aya"
            }
            OpenEnded::AdvBench => unreachable!("a rule reads its answers"),
        };
        cells.push(BenchmarkCell {
            remark: self.remark(unparsable),
            ..BenchmarkCell::new(column, self.headline(unparsable))
        });
        cells
    }

    /// Describes the answers without a rating or with several, and the score under the other convention for unparsable
    /// judgments. Empty if every answer has one rating.
    fn remark(&self, unparsable: Unparsable) -> String {
        let ScoreTally { rated, unparsable: lost, failed, .. } = self.all;
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
        if self.unusable > 0 {
            remarks.push(format!("{} of {all} judgements cut off or empty", self.unusable));
        }
        if self.ambiguous > 0 {
            let several = self.ambiguous;
            remarks.push(format!(
                "{several} of {all} judgements with several different ratings, of which the first counts"
            ));
        }
        remarks.join("; ")
    }
}

impl Rates {
    /// Returns the percentages of harmless answers under both rules.
    pub fn cells(&self) -> Vec<BenchmarkCell> {
        vec![
            BenchmarkCell::new("AdvBench", self.published_percent()),
            BenchmarkCell::new("AdvBench, anchored", self.anchored_percent()),
        ]
    }
}
