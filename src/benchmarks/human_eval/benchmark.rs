//! HumanEval as a benchmark: generates programs, runs them, and computes pass@k.

use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::thread;

use super::problems::{CodePrompts, HumanEvalScores, Problems};
use super::program::AnswerForm;
use crate::benchmarks::benchmark::{Benchmark, BenchmarkOptions, Cost, EvalContext};
use crate::benchmarks::{BenchmarkResult, EvaluationError, Metric, Response, unfit};
use crate::generation::{Answer, GenerationError, LanguageModel, Prompting, Request};
use crate::sandbox::{Limits, ProgramOutcome, Sandbox};
use crate::store::{Digest, Key, Store, StoreError, key_of};

/// Values of k for which pass@k is reported, if there are enough samples.
const KS: [usize; 3] = [1, 10, 100];

/// [1] -- Temperature for one sample, which is greedy, and for several samples, as in Chen et al. (2021).
const TEMPERATURES: (f64, f64) = (0.0, 0.8);

/// HumanEval with its problems loaded and its sandbox open.
pub struct HumanEval {
    problems: Problems,
    /// Number of problems in the file.
    all: usize,
    samples: usize,
    sandbox: Sandbox,
}

impl HumanEval {
    /// Reads the problems and opens the sandbox.
    ///
    /// # Errors
    /// If the file is missing or damaged, or the host cannot confine generated code.
    pub fn read(options: &BenchmarkOptions) -> Result<Self, EvaluationError> {
        let problems = Problems::read(&Problems::file_in(options.data))?;
        let all = problems.0.len();
        let problems = options.limit.map_or(problems.clone(), |limit| problems.limited(limit));
        Ok(Self { problems, all, samples: options.samples, sandbox: Sandbox::open(Limits::default())? })
    }

    fn requests(&self, context: &EvalContext) -> Result<Vec<Request>, EvaluationError> {
        let temperature = if self.samples == 1 { TEMPERATURES.0 } else { TEMPERATURES.1 };
        let requests = self.problems.requests(code_prompts(context), self.samples, temperature)?;
        Ok(context.capped(requests))
    }

    /// Returns the outcome of each program. Stored outcomes are not computed again. New ones are stored as they
    /// complete, so that an evaluation that is killed can resume.
    fn outcomes(&self, programs: &[String], context: &EvalContext) -> Result<Vec<ProgramOutcome>, EvaluationError> {
        let store = context.model.store;
        let keys: Vec<Key> = programs.iter().map(|program| self.sandbox.key(program)).collect();
        let mut outcomes: Vec<Option<ProgramOutcome>> = keys.iter().map(|&key| stored(store, key)).collect();
        let missing: Vec<usize> = (0..programs.len()).filter(|&place| outcomes[place].is_none()).collect();
        let open: Vec<&String> = missing.iter().map(|&place| &programs[place]).collect();
        // Workers call back from several threads and cannot return an error of the store, so it is saved here.
        let store_error: Mutex<Option<StoreError>> = Mutex::default();
        let workers = thread::available_parallelism().map_or(1, usize::from);
        let run = self.sandbox.run_all(&open, workers, &|index, outcome| {
            let bytes = postcard::to_stdvec(outcome).expect("an outcome has a known length");
            if let Err(error) = store.put(keys[missing[index]], &bytes) {
                *store_error.lock().expect("nobody panics while keeping") = Some(error);
                return ControlFlow::Break(());
            }
            if context.stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if let Some(error) = store_error.into_inner().expect("nobody panics while keeping") {
            return Err(GenerationError::from(error).into());
        }
        for (index, outcome) in run {
            outcomes[missing[index]] = Some(outcome);
        }
        // A program without an outcome was never begun: the evaluation was interrupted.
        let all: Option<Vec<ProgramOutcome>> = outcomes.into_iter().collect();
        all.ok_or_else(|| GenerationError::Interrupted.into())
    }

    fn figure(&self, part: String, k: usize, scores: &HumanEvalScores, failed: u64) -> Metric {
        let score = scores.pass_at(k).map(|percent| percent / 100.0);
        Metric { part, asked: self.problems.0.len() as u64, failed, score }
    }
}

/// Returns how problems are put to the model: a model with a chat template is asked, every other continues the text.
fn code_prompts<'a>(context: &EvalContext<'a, '_>) -> CodePrompts<'a> {
    match context.prompting {
        Prompting::Chat { .. } => CodePrompts::Ask(context.prompting),
        Prompting::Template { .. } | Prompting::FastChatAlpaca { .. } => CodePrompts::Continue,
    }
}

/// Returns the stored outcome of a program.
fn stored(store: &Store, key: Key) -> Option<ProgramOutcome> {
    postcard::from_bytes(&store.get(key)?).ok()
}

impl Benchmark for HumanEval {
    fn content(&self) -> Digest {
        // The order of these fields is part of stored keys. The canonical solution has no effect on a result.
        let problems = self.problems.0.iter();
        let fields: Vec<_> = problems.map(|one| (&one.task_id, &one.prompt, &one.entry_point, &one.test)).collect();
        key_of("fedreplay humaneval problems v1", &(self.samples as u64, fields)).0
    }

    fn cost(&self, context: &EvalContext) -> Result<Cost, EvaluationError> {
        let mut cost = Cost { questions: self.problems.0.len() as u64, ..Cost::default() };
        cost.add(&self.requests(context)?, context.model)?;
        Ok(cost)
    }

    fn evaluate(&self, context: &EvalContext) -> Result<BenchmarkResult, EvaluationError> {
        let requests = self.requests(context)?;
        let answers: Vec<Answer> = context.model.generate(&requests)?;
        let texts: Vec<String> = answers.iter().map(|answer| answer.text.clone()).collect();
        let form = code_prompts(context).form();
        let outcomes = self.outcomes(&self.problems.programs(form, &texts), context)?;
        let mut responses = Vec::with_capacity(requests.len());
        for (place, request) in requests.into_iter().enumerate() {
            let task_id = &self.problems.0[place / self.samples].task_id;
            let outcome = &outcomes[place];
            responses.push(Response {
                judgement: Some(outcome.to_string()),
                score: Some(f64::from(u8::from(outcome.is_passed()))),
                ..Response::of(task_id, "", 1, request.prompt.text(), &answers[place])
            });
        }
        // All samples of a problem have the same prompt, so either all or none of them fit the context.
        let failed = unfit(&responses) / self.samples as u64;
        let scores = self.problems.scores(&outcomes);
        let ks: Vec<usize> = KS.into_iter().filter(|&k| k <= self.samples).collect();
        let mut figures = Vec::new();
        for &k in &ks {
            figures.push(self.figure(format!("pass@{k}"), k, &scores, failed));
        }
        figures.push(self.figure("all".into(), 1, &scores, failed));
        let way = match form {
            AnswerForm::Continuation => "the problems were continued as text",
            AnswerForm::Reply => "the problems were asked through the chat template",
        };
        let result = BenchmarkResult { figures, answers: responses, cells: scores.cells(ks.into_iter()) };
        Ok(result.noted(way.into()).with_unfit_noted().with_limit_noted(self.problems.0.len(), self.all))
    }
}
