//! From scores to the figures of the table.

use super::advbench::Rates;
use super::catalog::OpenEnded;
use super::scores::{JudgedScores, Tally, Unparsable};
use super::table::Figure;

/// The columns whose mean is the published average over open-ended benchmarks.
const AVERAGED: [&str; 3] = ["MT-Bench", "Vicuna", "Ref-GPT4 Chatbot"];

/// The column of the average.
const AVERAGE: &str = "Average";

impl JudgedScores {
    /// The benchmark's own figure, with what is missing from it said; of MT-Bench also its first turn alone, of Aya every
    /// language before the mean.
    pub fn figures(&self, unparsable: Unparsable) -> Vec<Figure> {
        let rating = |column: String, value| Figure { column, value, digits: 2, remark: String::new() };
        let own = |column: &str| Figure {
            remark: self.remark(unparsable),
            ..rating(column.to_owned(), self.headline(unparsable))
        };
        match self.benchmark {
            OpenEnded::MtBench => vec![own("MT-Bench"), rating("MT-1".into(), self.turns[0].mean(unparsable))],
            OpenEnded::Vicuna => vec![own("Vicuna")],
            OpenEnded::Chatbot => vec![own("Ref-GPT4 Chatbot")],
            OpenEnded::WildChat => vec![own("Ref-GPT4 WildChat")],
            OpenEnded::Aya => {
                let language = |(name, tally): &(String, Tally)| rating(name.replace('_', " "), tally.mean(unparsable));
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
    pub fn figures(&self) -> Vec<Figure> {
        let figure = |column: &str, value| Figure { column: column.into(), value, digits: 2, remark: String::new() };
        vec![figure("AdvBench", self.published_percent()), figure("AdvBench, anchored", self.anchored_percent())]
    }
}

/// The published average over open-ended benchmarks, where a row has all three of them.
pub fn average(figures: &[Figure]) -> Option<Figure> {
    let value = |column: &&str| figures.iter().find(|figure| figure.column == **column)?.value;
    let values: Option<Vec<f64>> = AVERAGED.iter().map(value).collect();
    let mean = values.map(|values| values.iter().sum::<f64>() / values.len() as f64)?;
    Some(Figure { column: AVERAGE.into(), value: Some(mean), digits: 2, remark: String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_average_needs_all_of_its_columns() {
        let figure = |column: &str, value| Figure { column: column.into(), value, digits: 2, remark: String::new() };
        let mut figures = vec![figure("MT-Bench", Some(4.0)), figure("Vicuna", Some(6.0))];
        assert_eq!(average(&figures), None);
        figures.push(figure("Ref-GPT4 Chatbot", Some(5.0)));
        assert_eq!(average(&figures).unwrap().value, Some(5.0));
    }
}
