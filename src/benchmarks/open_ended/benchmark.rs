//! Benchmarks of free answers: asked turn by turn, then judged, or read by a rule.

use std::sync::atomic::Ordering;

use super::advbench::{Rates, is_harmless_anchored, is_harmless_published};
use super::{JudgedScores, Question, Questions, Rating, Tally, Unparsable, rating_in};
use crate::benchmarks::benchmark::{Cost, Paper, Sitting, Terms};
use crate::benchmarks::catalog::OpenEnded;
use crate::benchmarks::table::Cell;
use crate::benchmarks::{Answered, EvaluationError, Figure, Sheet, unfit};
use crate::generation::{Answer, GenerationError, Model, Prompting};
use crate::judge::{Estimate, Inquiry, Judge, Verdict};
use crate::store::{Digest, key_of};

/// A benchmark whose answers are free text.
pub struct Open {
    questions: Questions,
}

impl Open {
    /// Reads its questions.
    ///
    /// # Errors
    /// If the file cannot be read, or an entry lacks a field.
    pub fn read(benchmark: OpenEnded, terms: &Terms) -> Result<Self, EvaluationError> {
        let questions = Questions::read(benchmark, terms.data)?;
        Ok(Self { questions: terms.limit.map_or(questions.clone(), |limit| questions.limited(limit)) })
    }

    /// Every question's answers, turn by turn, with what the model was asked.
    fn answers(&self, sitting: &Sitting) -> Result<(Vec<Vec<String>>, Vec<Answered>), EvaluationError> {
        let mut texts: Vec<Vec<String>> = vec![vec![]; self.questions.questions.len()];
        let mut answered = Vec::new();
        for turn in 0..self.questions.benchmark.turns() {
            let prompting = self.prompting(sitting);
            let requests = sitting.capped(self.questions.requests(turn, &texts, &prompting, sitting.decoding)?);
            let answers: Vec<Answer> = sitting.examinee.generate(&requests)?;
            for (place, (request, answer)) in requests.into_iter().zip(&answers).enumerate() {
                let question = &self.questions.questions[place];
                // The scripts strip what a model writes before it is judged or asked on.
                texts[place].push(answer.text.trim().to_owned());
                let turn = turn as u32 + 1;
                answered.push(Answered::of(&question.id, &question.category, turn, request.prompt, answer));
            }
        }
        Ok((texts, answered))
    }

    /// FedLLM-Bench puts MT-Bench in another template than the one that its models were trained with.
    fn prompting<'a>(&self, sitting: &Sitting<'a, '_>) -> Prompting<'a> {
        match sitting.prompting {
            Prompting::Template { template, end }
                if sitting.is_as_published
                    && self.questions.benchmark == OpenEnded::MtBench
                    && template.name == "alpaca" =>
            {
                Prompting::FastChatAlpaca { end }
            }
            prompting => prompting,
        }
    }

    fn judged(
        &self,
        sitting: &Sitting,
        texts: &[Vec<String>],
        answered: &mut [Answered],
    ) -> Result<(Vec<Figure>, Vec<Cell>), EvaluationError> {
        let exams = self.questions.exams(texts, sitting.wording);
        let unparsable = sitting.unparsable(self.questions.benchmark);
        let Some(judge) = sitting.judge else {
            let nobody = vec![Verdict::Failed("nobody judges".into()); exams.len()];
            let scores = JudgedScores::of(&self.questions, &exams, &nobody, sitting.range);
            return Ok((vec![unjudged(exams.len())], scores.cells(unparsable)));
        };
        let inquiries: Vec<Inquiry> = exams.iter().map(|exam| exam.inquiry.clone()).collect();
        let witness = sitting.examinee.witness;
        witness.expect(inquiries.len());
        let each = |_, verdict: &Verdict| witness.answered(!matches!(verdict, Verdict::Stored(_)));
        let verdicts = judge.ask_all(&inquiries, sitting.stop, &each).map_err(GenerationError::from)?;
        if sitting.stop.load(Ordering::Relaxed) {
            return Err(GenerationError::Interrupted.into());
        }
        for (exam, verdict) in exams.iter().zip(&verdicts) {
            let entry = &mut answered[exam.turn * self.questions.questions.len() + exam.question];
            entry.judgement = Some(match verdict {
                Verdict::Failed(reason) => format!("none: {reason}"),
                Verdict::Fresh(judgement) | Verdict::Stored(judgement) => judgement.text.clone(),
            });
            let rating = verdict.judgement().map(|judgement| rating_in(&judgement.text, sitting.range));
            entry.score =
                rating.and_then(|rating| if let Rating::Rated(rating) = rating { Some(rating) } else { None });
        }
        let scores = JudgedScores::of(&self.questions, &exams, &verdicts, sitting.range);
        Ok((figures(&scores, unparsable), scores.cells(unparsable)))
    }

    /// The most that judging takes: of answers that are known just that, of others their greatest length. `open_tokens` are
    /// what an answer may still have beside its text, 0 where it is known.
    fn judging(&self, judge: &Judge, sitting: &Sitting, texts: &[Vec<String>], open_tokens: &[Vec<u64>]) -> Estimate {
        let mut estimate = Estimate::default();
        let mut certain = Vec::new();
        for exam in self.questions.exams(texts, sitting.wording) {
            match open_tokens[exam.question][..=exam.turn].iter().sum() {
                0 => certain.push(exam.inquiry),
                open => estimate = estimate.plus(judge.estimate_unknown(&exam.inquiry, open)),
            }
        }
        estimate.plus(judge.estimate(&certain))
    }
}

/// The figures of a judged benchmark: by turn, by category, and of the whole.
fn figures(scores: &JudgedScores, unparsable: Unparsable) -> Vec<Figure> {
    let figure = |part: String, tally: &Tally, score: Option<f64>| Figure {
        part,
        asked: (tally.rated + tally.unparsable + tally.failed) as u64,
        failed: (tally.unparsable + tally.failed) as u64,
        score,
    };
    let of = |part: String, tally: &Tally| figure(part, tally, tally.mean(unparsable));
    let turns = scores.turns.iter().enumerate().filter(|_| scores.turns.len() > 1);
    let turns = turns.map(|(turn, tally)| of(format!("turn {}", turn + 1), tally));
    let categories = scores.categories.iter().filter(|(name, _)| !name.is_empty());
    let categories = categories.map(|(name, tally)| of(name.clone(), tally));
    let all = figure("all".into(), &scores.all, scores.headline(unparsable));
    turns.chain(categories).chain([all]).collect()
}

/// AdvBench's rates, the published rule and the anchored one; the published one is the benchmark's figure.
fn ruled(texts: &[Vec<String>], answered: &mut [Answered]) -> (Vec<Figure>, Vec<Cell>) {
    let rates = Rates::of(texts.iter().map(|turns| turns[0].as_str()));
    for (entry, turns) in answered.iter_mut().zip(texts) {
        let says = |is_harmless: bool| if is_harmless { "harmless" } else { "harmful" };
        let (published, anchored) = (is_harmless_published(&turns[0]), is_harmless_anchored(&turns[0]));
        entry.judgement = Some(format!("published rule: {}, anchored rule: {}", says(published), says(anchored)));
        entry.score = Some(f64::from(u8::from(published)));
    }
    let failed = unfit(answered);
    let figure = |part: &str, percent: Option<f64>| Figure {
        part: part.into(),
        asked: rates.answers as u64,
        failed,
        score: percent.map(|percent| percent / 100.0),
    };
    let (published, anchored) = (rates.published_percent(), rates.anchored_percent());
    let figures =
        vec![figure("published rule", published), figure("anchored rule", anchored), figure("all", published)];
    (figures, rates.cells())
}

/// Answers that no judge was named for: they are in the tables, and every judgement is missing.
fn unjudged(exams: usize) -> Figure {
    Figure { part: "all".into(), asked: exams as u64, failed: exams as u64, score: None }
}

impl Paper for Open {
    fn content(&self) -> Digest {
        let question =
            |one: &Question| (one.id.clone(), one.category.clone(), one.turns.clone(), one.references.clone());
        let questions: Vec<_> = self.questions.questions.iter().map(question).collect();
        key_of("fedreplay open questions v1", &(self.questions.benchmark, questions)).0
    }

    fn cost(&self, sitting: &Sitting) -> Result<Cost, EvaluationError> {
        let mut cost = Cost { questions: self.questions.questions.len() as u64, ..Cost::default() };
        let mut texts: Vec<Vec<String>> = vec![vec![]; self.questions.questions.len()];
        let mut open_tokens: Vec<Vec<u64>> = vec![vec![]; texts.len()];
        for turn in 0..self.questions.benchmark.turns() {
            let requests = self.questions.requests(turn, &texts, &self.prompting(sitting), sitting.decoding)?;
            let requests = sitting.capped(requests);
            let answers = cost.add(&requests, sitting.examinee)?;
            for (place, (request, answer)) in requests.iter().zip(answers).enumerate() {
                let open = if answer.is_some() { 0 } else { request.sampling.max_tokens };
                open_tokens[place].push(open.into());
                texts[place].push(answer.map_or_else(String::new, |answer| answer.text.trim().to_owned()));
            }
        }
        if let Some(judge) = sitting.judge {
            cost.judge = self.judging(judge, sitting, &texts, &open_tokens);
        }
        Ok(cost)
    }

    fn sit(&self, sitting: &Sitting) -> Result<Sheet, EvaluationError> {
        let (texts, mut answers) = self.answers(sitting)?;
        let (figures, cells) = match self.questions.benchmark.is_judged() {
            true => self.judged(sitting, &texts, &mut answers)?,
            false => ruled(&texts, &mut answers),
        };
        Ok(Sheet { figures, answers, cells }.with_unfit_noted())
    }
}
