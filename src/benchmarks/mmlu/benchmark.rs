//! MMLU as a benchmark: its questions, and its results as metrics and answers.

use std::path::Path;

use super::marking::{Accuracy, Mark, Report, mark};
use super::questions::{MmluQuestion, Subject, limited, read};
use super::questions::{asked, preamble};
use super::subjects::SUBJECTS;
use crate::benchmarks::table::BenchmarkCell;
use crate::benchmarks::{
    Benchmark, BenchmarkOptions, BenchmarkResult, Cost, EvalContext, EvaluationError, Metric, Response,
};
use crate::store::{Digest, key_of};

/// Builds the benchmark's result: metrics by subject, by category and over all questions, and every question with its
/// letter.
pub fn result_of(subjects: &[Subject], marks: &[Mark]) -> BenchmarkResult {
    let report = Report::of(subjects, marks);
    let mut figures = Vec::new();
    for &(name, accuracy) in &report.subjects {
        let failed = unanswered(marks, |mark| subjects[mark.subject].name == name);
        figures.push(figure(name, accuracy, failed));
    }
    for &(category, accuracy) in &report.categories {
        let failed = unanswered(marks, |mark| subjects[mark.subject].category == category);
        figures.push(figure(category.name(), accuracy, failed));
    }
    figures.push(figure("all", report.all, report.failed));
    let answers = marks.iter().map(|mark| response(subjects[mark.subject].name, mark)).collect();
    let result = BenchmarkResult { figures, answers, cells: cells(&report) }.with_unfit_noted();
    let is_shortened = |mark: &&Mark| mark.letter.is_some() && mark.shots < subjects[mark.subject].examples.len();
    match marks.iter().filter(is_shortened).count() {
        0 => result,
        shortened => {
            let all = marks.len();
            result.noted(format!(
                "{shortened} of {all} questions asked with fewer examples, since all did not fit the context"
            ))
        }
    }
}

/// Counts the wanted questions that did not fit the context.
fn unanswered(marks: &[Mark], is_wanted: impl Fn(&Mark) -> bool) -> u64 {
    marks.iter().filter(|mark| mark.letter.is_none() && is_wanted(mark)).count() as u64
}

fn figure(part: &str, accuracy: Accuracy, failed: u64) -> Metric {
    Metric { part: part.into(), asked: accuracy.asked, failed, score: accuracy.share() }
}

/// Builds the response to one question.
fn response(subject: &str, mark: &Mark) -> Response {
    Response {
        question: format!("{subject}/{}", mark.line),
        category: subject.into(),
        turn: 1,
        prompt: mark.asked.clone(),
        answer: mark.letter.map(str::to_owned),
        ended: if mark.letter.is_some() { "letter" } else { "context_full" }.into(),
        tokens: u32::from(mark.letter.is_some()),
        judgement: None,
        score: Some(f64::from(u8::from(mark.is_right))),
    }
}

/// [percent] -- Returns the columns of the paper's table: by category, then over all questions.
fn cells(report: &Report) -> Vec<BenchmarkCell> {
    let mut cells = Vec::new();
    for &(category, accuracy) in &report.categories {
        cells.push(BenchmarkCell::new(format!("MMLU {}", category.name()), percent(accuracy)));
    }
    cells.push(BenchmarkCell::new("MMLU", percent(report.all)));
    cells
}

fn percent(accuracy: Accuracy) -> Option<f64> {
    accuracy.share().map(|share| 100.0 * share)
}

/// MMLU with its questions loaded.
pub struct Mmlu {
    pub subjects: Vec<Subject>,
    /// Number of subjects that have files.
    present: usize,
    /// Number of questions in these files.
    all: usize,
}

impl Mmlu {
    /// Reads the subjects' files and applies the limit of `options`.
    ///
    /// # Errors
    /// As [`read`].
    pub fn read(folder: &Path, options: &BenchmarkOptions) -> Result<Self, EvaluationError> {
        let subjects = read(folder, options.shots)?;
        let present = subjects.len();
        let all = questions_of(&subjects);
        Ok(Self { subjects: options.limit.map_or(subjects.clone(), |limit| limited(subjects, limit)), present, all })
    }
}

/// Counts the questions of all subjects.
fn questions_of(subjects: &[Subject]) -> usize {
    subjects.iter().map(|subject| subject.questions.len()).sum()
}

/// Returns the parts of a question that its hash covers. Their order is part of stored keys.
fn hashed(question: &MmluQuestion) -> (&String, &[String; 4], u64) {
    (&question.text, &question.choices, question.answer as u64)
}

impl Benchmark for Mmlu {
    fn content(&self) -> Digest {
        let mut subjects = Vec::with_capacity(self.subjects.len());
        for subject in &self.subjects {
            let asked: Vec<_> = subject.questions.iter().map(|(line, question)| (*line, hashed(question))).collect();
            let examples: Vec<_> = subject.examples.iter().map(hashed).collect();
            subjects.push((subject.name, asked, examples));
        }
        key_of("fedreplay mmlu questions v1", &subjects).0
    }

    fn cost(&self, context: &EvalContext) -> Result<Cost, EvaluationError> {
        let mut cost = Cost::default();
        for subject in &self.subjects {
            let shared = preamble(subject, subject.examples.len());
            // The common beginning of a subject's prompts is read once.
            cost.prompt_tokens += context.model.generator.encode_raw(&shared)?.len() as u64;
            for (_, question) in &subject.questions {
                cost.prompt_tokens += context.model.generator.encode_raw(&asked(question))?.len() as u64;
            }
            cost.questions += subject.questions.len() as u64;
        }
        Ok(cost)
    }

    fn evaluate(&self, context: &EvalContext) -> Result<BenchmarkResult, EvaluationError> {
        let result = result_of(&self.subjects, &mark(&self.subjects, context.model)?)
            .with_limit_noted(questions_of(&self.subjects), self.all);
        if self.present == SUBJECTS.len() {
            return Ok(result);
        }
        Ok(result.noted(format!("{} of {} subjects have files", self.present, SUBJECTS.len())))
    }
}
