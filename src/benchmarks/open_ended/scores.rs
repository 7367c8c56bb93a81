//! What ratings come to, in both published conventions.

use serde::{Deserialize, Serialize};

use super::judge_request::Exam;
use super::questions::Questions;
use super::rating::{Rating, RatingRange, rating_in};
use crate::benchmarks::catalog::OpenEnded;
use crate::judge::Verdict;

/// What becomes of a judgement without a rating in a mean. Both means are always at hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unparsable {
    /// It is left out.
    #[default]
    Dropped,
    /// It counts as -1, as FedLLM-Bench's script for Vicuna has it.
    MinusOne,
}

impl Unparsable {
    /// What FedLLM-Bench does for this benchmark.
    pub fn published(benchmark: OpenEnded) -> Self {
        if benchmark == OpenEnded::Vicuna { Self::MinusOne } else { Self::Dropped }
    }
}

/// One exam and its score.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredExam {
    /// Index of the question.
    pub question: usize,
    /// Turn of the dialogue, from 0.
    pub turn: usize,
    /// The rating; none where there was no judgement.
    pub rating: Option<Rating>,
}

/// Ratings added up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Judgements with a rating.
    pub rated: usize,
    /// Judgements without one.
    pub unparsable: usize,
    /// Answers that no judgement could be had for; they are in no mean.
    pub failed: usize,
    /// Sum of the ratings.
    sum: f64,
    /// Sum of their squares.
    squares: f64,
}

/// The ratings of one benchmark.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgedScores {
    pub benchmark: OpenEnded,
    /// In the order of the exams.
    pub exams: Vec<ScoredExam>,
    /// All ratings together.
    pub all: Tally,
    /// By turn.
    pub turns: Vec<Tally>,
    /// By category or language, in the order of their first question.
    pub categories: Vec<(String, Tally)>,
}

impl Tally {
    fn of<'a>(exams: impl Iterator<Item = &'a ScoredExam>) -> Self {
        exams.fold(Self::default(), |tally, exam| tally.with(exam.rating))
    }

    fn with(mut self, rating: Option<Rating>) -> Self {
        match rating {
            Some(Rating::Rated(rating)) => {
                self.rated += 1;
                self.sum += rating;
                self.squares += rating * rating;
            }
            Some(Rating::Unparsable) => self.unparsable += 1,
            None => self.failed += 1,
        }
        self
    }

    /// Mean rating, or none of no judgements.
    pub fn mean(&self, unparsable: Unparsable) -> Option<f64> {
        let (sum, count) = match unparsable {
            Unparsable::Dropped => (self.sum, self.rated),
            Unparsable::MinusOne => (self.sum - self.unparsable as f64, self.rated + self.unparsable),
        };
        (count > 0).then(|| sum / count as f64)
    }

    /// Population standard deviation of the ratings, unparsable ones left out.
    pub fn deviation(&self) -> Option<f64> {
        let mean = self.mean(Unparsable::Dropped)?;
        Some((self.squares / self.rated as f64 - mean * mean).max(0.0).sqrt())
    }
}

impl JudgedScores {
    /// The scores of `exams`, whose verdicts are in the same order.
    ///
    /// # Panics
    /// Unless there is a verdict for each exam.
    pub fn of(questions: &Questions, exams: &[Exam], verdicts: &[Verdict], range: RatingRange) -> Self {
        assert_eq!(exams.len(), verdicts.len(), "every exam has its verdict");
        let scored = exams.iter().zip(verdicts).map(|(exam, verdict)| ScoredExam {
            question: exam.question,
            turn: exam.turn,
            rating: verdict.judgement().map(|judgement| rating_in(&judgement.text, range)),
        });
        let exams: Vec<ScoredExam> = scored.collect();
        let category = |exam: &ScoredExam| &questions.questions[exam.question].category;
        let mut names: Vec<&String> = Vec::new();
        for exam in &exams {
            if !names.contains(&category(exam)) {
                names.push(category(exam));
            }
        }
        let of_category = |name: &String| Tally::of(exams.iter().filter(|exam| category(exam) == name));
        let of_turn = |turn| Tally::of(exams.iter().filter(|exam| exam.turn == turn));
        Self {
            benchmark: questions.benchmark,
            all: Tally::of(exams.iter()),
            turns: (0..questions.benchmark.turns()).map(of_turn).collect(),
            categories: names.into_iter().map(|name| (name.clone(), of_category(name))).collect(),
            exams,
        }
    }

    /// The figure of the table: the mean over all ratings, but of Aya the unweighted mean of the languages' means. None
    /// where nothing was rated, or not every language was.
    pub fn headline(&self, unparsable: Unparsable) -> Option<f64> {
        if self.benchmark != OpenEnded::Aya {
            return self.all.mean(unparsable);
        }
        let means: Option<Vec<f64>> = self.categories.iter().map(|(_, tally)| tally.mean(unparsable)).collect();
        means.filter(|means| !means.is_empty()).map(|means| means.iter().sum::<f64>() / means.len() as f64)
    }
}
