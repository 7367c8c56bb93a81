//! Scores from ratings, under both published conventions for unparsable judgments.

use serde::{Deserialize, Serialize};

use super::judge_request::JudgeRequest;
use super::questions::Questions;
use super::rating::{Rating, RatingRule, has_several_ratings, rating_in};
use crate::benchmarks::catalog::OpenEnded;
use crate::judge::Verdict;

/// How a judgment without a rating enters a mean. Both means are always available.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unparsable {
    /// It is left out.
    #[default]
    Dropped,
    /// It counts as -1, as in FedLLM-Bench's script for Vicuna.
    MinusOne,
}

impl Unparsable {
    /// Returns FedLLM-Bench's convention for this benchmark.
    pub fn published(benchmark: OpenEnded) -> Self {
        if benchmark == OpenEnded::Vicuna { Self::MinusOne } else { Self::Dropped }
    }
}

/// The rating of one answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredRequest {
    /// Index of the question.
    pub question: usize,
    /// Turn of the dialog, from 0.
    pub turn: usize,
    /// The rating. `None` if there is no judgment.
    pub rating: Option<Rating>,
}

/// Counts and sums of ratings.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ScoreTally {
    /// Number of judgments with a rating.
    pub rated: usize,
    /// Number of judgments without a rating.
    pub unparsable: usize,
    /// Number of answers without a judgment. They enter no mean.
    pub failed: usize,
    /// Sum of the ratings.
    sum: f64,
    /// Sum of the squared ratings.
    squares: f64,
}

/// Scores of one judged benchmark.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgedScores {
    pub benchmark: OpenEnded,
    /// Ratings in the order of the judge requests.
    pub judge_requests: Vec<ScoredRequest>,
    /// Tally of all ratings.
    pub all: ScoreTally,
    /// Number of answers that count as failed because their judgment was cut off or is empty.
    pub unusable: usize,
    /// Number of judgments with several different ratings, of which the first counts.
    pub ambiguous: usize,
    /// Tallies by turn.
    pub turns: Vec<ScoreTally>,
    /// Tallies by category or language, in the order of their first question.
    pub categories: Vec<(String, ScoreTally)>,
}

impl ScoreTally {
    fn of<'a>(judge_requests: impl Iterator<Item = &'a ScoredRequest>) -> Self {
        let mut tally = Self::default();
        for judge_request in judge_requests {
            tally.add(judge_request.rating);
        }
        tally
    }

    fn add(&mut self, rating: Option<Rating>) {
        match rating {
            Some(Rating::Rated(rating)) => {
                self.rated += 1;
                self.sum += rating;
                self.squares += rating * rating;
            }
            Some(Rating::Unparsable) => self.unparsable += 1,
            None => self.failed += 1,
        }
    }

    /// Returns the mean rating. `None` if there are no judgments that count.
    pub fn mean(&self, unparsable: Unparsable) -> Option<f64> {
        let (sum, count) = match unparsable {
            Unparsable::Dropped => (self.sum, self.rated),
            // Each unparsable judgment adds -1 to the sum.
            Unparsable::MinusOne => (self.sum - self.unparsable as f64, self.rated + self.unparsable),
        };
        (count > 0).then(|| sum / count as f64)
    }

    /// Returns the population standard deviation of the ratings, without unparsable ones.
    pub fn deviation(&self) -> Option<f64> {
        let mean = self.mean(Unparsable::Dropped)?;
        // E[x^2] - E[x]^2, which rounding may make slightly negative if all ratings are equal.
        Some((self.squares / self.rated as f64 - mean * mean).max(0.0).sqrt())
    }
}

impl JudgedScores {
    /// Computes the scores of `judge_requests` from their `verdicts`, which are in the same order.
    ///
    /// # Panics
    /// Unless there is one verdict per judge request.
    pub fn of(questions: &Questions, judge_requests: &[JudgeRequest], verdicts: &[Verdict], rule: RatingRule) -> Self {
        assert_eq!(judge_requests.len(), verdicts.len(), "every exam has its verdict");
        let mut scored = Vec::with_capacity(judge_requests.len());
        for (judge_request, verdict) in judge_requests.iter().zip(verdicts) {
            let rating = verdict.judgment().map(|judgment| rating_in(&judgment.text, rule));
            scored.push(ScoredRequest { question: judge_request.question, turn: judge_request.turn, rating });
        }
        let mut turns = Vec::new();
        for turn in 0..questions.benchmark.turns() {
            turns.push(ScoreTally::of(scored.iter().filter(|judge_request| judge_request.turn == turn)));
        }
        // Categories in the order of their first question. There are few, so a search beats a map.
        let mut categories: Vec<(String, ScoreTally)> = Vec::new();
        for judge_request in &scored {
            let name = &questions.questions[judge_request.question].category;
            let place = categories.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
                categories.push((name.clone(), ScoreTally::default()));
                categories.len() - 1
            });
            categories[place].1.add(judge_request.rating);
        }
        let mut ambiguous = 0;
        for judgment in verdicts.iter().filter_map(Verdict::judgment) {
            ambiguous += usize::from(has_several_ratings(&judgment.text, rule));
        }
        let unusable = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Unusable(..))).count();
        Self {
            benchmark: questions.benchmark,
            all: ScoreTally::of(scored.iter()),
            unusable,
            ambiguous,
            turns,
            categories,
            judge_requests: scored,
        }
    }

    /// Returns the benchmark's score: the mean over all ratings, or for Aya the unweighted mean of the languages'
    /// means. `None` if nothing was rated, or for Aya if a language has no rating.
    pub fn headline(&self, unparsable: Unparsable) -> Option<f64> {
        if self.benchmark != OpenEnded::Aya {
            return self.all.mean(unparsable);
        }
        let means: Option<Vec<f64>> = self.categories.iter().map(|(_, tally)| tally.mean(unparsable)).collect();
        let means = means?;
        if means.is_empty() { None } else { Some(means.iter().sum::<f64>() / means.len() as f64) }
    }
}
