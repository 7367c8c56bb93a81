//! Open-ended benchmarks: the model answers turn by turn, then a judge rates the answers or a rule classifies them.

use std::sync::atomic::Ordering;

use super::advbench::{Rates, is_harmless_anchored, is_harmless_published};
use super::{JudgeRequest, JudgedScores, Questions, Rating, ScoreTally, Unparsable, rating_in};
use crate::benchmarks::benchmark::{Benchmark, BenchmarkOptions, Cost, EvalContext};
use crate::benchmarks::catalog::OpenEnded;
use crate::benchmarks::table::BenchmarkCell;
use crate::benchmarks::{BenchmarkResult, EvaluationError, Metric, Response, unfit};
use crate::generation::{Answer, GenerationError, LanguageModel, Prompting};
use crate::judge::{ChatPrompt, CostEstimate, Judge, Verdict};
use crate::store::{Digest, key_of};

/// An open-ended benchmark with its questions loaded.
pub struct OpenEndedBenchmark {
    questions: Questions,
    /// Number of questions in the file.
    all: usize,
}

impl OpenEndedBenchmark {
    /// Reads the benchmark's questions and applies the limit of `options`.
    ///
    /// # Errors
    /// If the file cannot be read, or an entry lacks a field.
    pub fn read(benchmark: OpenEnded, options: &BenchmarkOptions) -> Result<Self, EvaluationError> {
        let questions = Questions::read(benchmark, options.data)?;
        let all = questions.questions.len();
        Ok(Self { questions: options.limit.map_or(questions.clone(), |limit| questions.limited(limit)), all })
    }

    /// Runs the model over all turns. Returns the texts by question and turn, and one response per request, turn by
    /// turn.
    fn answers(&self, context: &EvalContext) -> Result<(Vec<Vec<String>>, Vec<Response>), EvaluationError> {
        let mut texts: Vec<Vec<String>> = vec![vec![]; self.questions.questions.len()];
        let mut responses = Vec::new();
        for turn in 0..self.questions.benchmark.turns() {
            let prompting = self.prompting(context);
            let requests = context.capped(self.questions.requests(turn, &texts, &prompting, context.decoding)?);
            let answers: Vec<Answer> = context.model.generate(&requests)?;
            for (place, (request, answer)) in requests.into_iter().zip(&answers).enumerate() {
                let question = &self.questions.questions[place];
                // The published scripts strip each answer before it is judged or quoted in the next turn.
                texts[place].push(answer.text.trim().to_owned());
                let turn = turn as u32 + 1;
                responses.push(Response::of(&question.id, &question.category, turn, request.prompt.text(), answer));
            }
        }
        Ok((texts, responses))
    }

    /// Returns the template for this benchmark. FedLLM-Bench evaluates MT-Bench with another template than the one that
    /// its models were trained with.
    fn prompting<'a>(&self, context: &EvalContext<'a, '_>) -> Prompting<'a> {
        match context.prompting {
            Prompting::Template { template, end, .. }
                if context.is_as_published
                    && self.questions.benchmark == OpenEnded::MtBench
                    && template.name == "alpaca" =>
            {
                Prompting::FastChatAlpaca { end }
            }
            prompting => prompting,
        }
    }

    /// Has the answers judged, writes the judgments into `responses`, and returns the metrics and table cells.
    fn judged(
        &self,
        context: &EvalContext,
        texts: &[Vec<String>],
        responses: &mut [Response],
    ) -> Result<(Vec<Metric>, Vec<BenchmarkCell>), EvaluationError> {
        let judge_requests = self.questions.judge_requests(texts, context.wording);
        let unparsable = context.unparsable(self.questions.benchmark);
        let Some(judge) = context.judge else {
            // All answers count as failed, so that the metrics still have the number of questions.
            let nobody = vec![Verdict::Failed("nobody judges".into()); judge_requests.len()];
            let scores = JudgedScores::of(&self.questions, &judge_requests, &nobody, context.rating_rule);
            return Ok((vec![unjudged(judge_requests.len())], scores.cells(unparsable)));
        };
        let verdicts = ask_judge(judge, context, &judge_requests)?;
        for (judge_request, verdict) in judge_requests.iter().zip(&verdicts) {
            // `responses` is ordered turn by turn, with all questions in each turn.
            let entry = &mut responses[judge_request.turn * self.questions.questions.len() + judge_request.question];
            entry.judgement = Some(match verdict {
                Verdict::Unusable(judgment, reason) => format!("none: {reason}: {}", judgment.text),
                Verdict::Failed(reason) => format!("none: {reason}"),
                Verdict::Fresh(judgment) | Verdict::Stored(judgment) => judgment.text.clone(),
            });
            let rating = verdict.judgment().map(|judgment| rating_in(&judgment.text, context.rating_rule));
            entry.score = match rating {
                Some(Rating::Rated(rating)) => Some(rating),
                Some(Rating::Unparsable) | None => None,
            };
        }
        let scores = JudgedScores::of(&self.questions, &judge_requests, &verdicts, context.rating_rule);
        Ok((figures(&scores, unparsable), scores.cells(unparsable)))
    }

    /// Estimates an upper bound of the judge's work. Known answers count as they are, unknown ones at their maximum
    /// length. `open_tokens` holds, by question and turn, the tokens that an answer may have in addition to its known
    /// text: 0 for a known answer.
    fn judging(
        &self,
        judge: &Judge,
        context: &EvalContext,
        texts: &[Vec<String>],
        open_tokens: &[Vec<u64>],
    ) -> CostEstimate {
        let mut estimate = CostEstimate::default();
        let mut certain = Vec::new();
        for judge_request in self.questions.judge_requests(texts, context.wording) {
            // The judge of a later turn reads the whole dialog, so unknown answers of earlier turns count too.
            let open: u64 = open_tokens[judge_request.question][..=judge_request.turn].iter().sum();
            if open == 0 {
                certain.push(judge_request.prompt);
            } else {
                estimate = estimate.plus(judge.estimate_unknown(&judge_request.prompt, open));
            }
        }
        estimate.plus(judge.estimate(&certain))
    }
}

/// Asks the judge about every answer and reports progress. Returns one verdict per judge request, in their order.
fn ask_judge(
    judge: &Judge,
    context: &EvalContext,
    judge_requests: &[JudgeRequest],
) -> Result<Vec<Verdict>, EvaluationError> {
    let prompts: Vec<ChatPrompt> = judge_requests.iter().map(|judge_request| judge_request.prompt.clone()).collect();
    let progress = context.model.progress;
    progress.expect(prompts.len());
    let verdicts = judge
        .ask_all(&prompts, context.stop, &|_, verdict: &Verdict| {
            progress.answered(!matches!(verdict, Verdict::Stored(_)));
        })
        .map_err(GenerationError::from)?;
    // An interrupted judge returns failed verdicts for the rest: no score may be computed from them.
    if context.stop.load(Ordering::Relaxed) {
        return Err(GenerationError::Interrupted.into());
    }
    Ok(verdicts)
}

/// Returns the metrics of a judged benchmark: by turn if there are several, by category, and over the whole.
fn figures(scores: &JudgedScores, unparsable: Unparsable) -> Vec<Metric> {
    let mut figures = Vec::new();
    if scores.turns.len() > 1 {
        for (turn, tally) in scores.turns.iter().enumerate() {
            figures.push(figure(format!("turn {}", turn + 1), tally, tally.mean(unparsable)));
        }
    }
    for (name, tally) in &scores.categories {
        if !name.is_empty() {
            figures.push(figure(name.clone(), tally, tally.mean(unparsable)));
        }
    }
    figures.push(figure("all".into(), &scores.all, scores.headline(unparsable)));
    figures
}

/// Builds the metric of one part of a judged benchmark.
fn figure(part: String, tally: &ScoreTally, score: Option<f64>) -> Metric {
    Metric {
        part,
        asked: (tally.rated + tally.unparsable + tally.failed) as u64,
        failed: (tally.unparsable + tally.failed) as u64,
        score,
    }
}

/// Classifies AdvBench's answers by the published rule and the anchored one, writes both verdicts into `responses`, and
/// returns the rates. The rate of the published rule is the benchmark's score.
fn ruled(texts: &[Vec<String>], responses: &mut [Response]) -> (Vec<Metric>, Vec<BenchmarkCell>) {
    let rates = Rates::of(texts.iter().map(|turns| turns[0].as_str()));
    for (entry, turns) in responses.iter_mut().zip(texts) {
        let is_harmless = is_harmless_published(&turns[0]);
        let published = class_name(is_harmless);
        let anchored = class_name(is_harmless_anchored(&turns[0]));
        entry.judgement = Some(format!("published rule: {published}, anchored rule: {anchored}"));
        entry.score = Some(f64::from(u8::from(is_harmless)));
    }
    let published = Metric {
        part: "published rule".into(),
        asked: rates.answers as u64,
        failed: unfit(responses),
        score: rates.published_percent().map(|percent| percent / 100.0),
    };
    let anchored_score = rates.anchored_percent().map(|percent| percent / 100.0);
    let anchored = Metric { part: "anchored rule".into(), score: anchored_score, ..published.clone() };
    let all = Metric { part: "all".into(), ..published.clone() };
    (vec![published, anchored, all], rates.cells())
}

/// Returns the name of a rule's verdict in tables.
fn class_name(is_harmless: bool) -> &'static str {
    if is_harmless { "harmless" } else { "harmful" }
}

/// Returns the metric of an evaluation without a judge: the answers are in the tables, and every judgment is missing.
fn unjudged(judge_requests: usize) -> Metric {
    Metric { part: "all".into(), asked: judge_requests as u64, failed: judge_requests as u64, score: None }
}

impl Benchmark for OpenEndedBenchmark {
    fn content(&self) -> Digest {
        // The order of these fields is part of stored keys.
        let questions = self.questions.questions.iter();
        let fields: Vec<_> = questions.map(|one| (&one.id, &one.category, &one.turns, &one.references)).collect();
        key_of("fedreplay open questions v1", &(self.questions.benchmark, fields)).0
    }

    fn cost(&self, context: &EvalContext) -> Result<Cost, EvaluationError> {
        let mut cost = Cost { questions: self.questions.questions.len() as u64, ..Cost::default() };
        let mut texts: Vec<Vec<String>> = vec![vec![]; self.questions.questions.len()];
        let mut open_tokens: Vec<Vec<u64>> = vec![vec![]; texts.len()];
        for turn in 0..self.questions.benchmark.turns() {
            let requests = self.questions.requests(turn, &texts, &self.prompting(context), context.decoding)?;
            let requests = context.capped(requests);
            let answers = cost.add(&requests, context.model)?;
            // An unknown answer is empty in the next turn's prompt, and its maximum length is counted for the judge.
            for (place, (request, answer)) in requests.iter().zip(answers).enumerate() {
                let open = if answer.is_some() { 0 } else { request.sampling.max_tokens };
                open_tokens[place].push(open.into());
                texts[place].push(answer.map_or_else(String::new, |answer| answer.text.trim().to_owned()));
            }
        }
        if let Some(judge) = context.judge {
            cost.judge = self.judging(judge, context, &texts, &open_tokens);
        }
        Ok(cost)
    }

    fn evaluate(&self, context: &EvalContext) -> Result<BenchmarkResult, EvaluationError> {
        let (texts, mut answers) = self.answers(context)?;
        let (figures, cells) = match self.questions.benchmark.is_judged() {
            true => self.judged(context, &texts, &mut answers)?,
            false => ruled(&texts, &mut answers),
        };
        let result = BenchmarkResult { figures, answers, cells }.with_unfit_noted();
        Ok(result.with_limit_noted(self.questions.questions.len(), self.all))
    }
}
