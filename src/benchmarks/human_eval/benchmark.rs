//! HumanEval as a benchmark beside the others: asked, executed, counted.

use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::thread;

use super::problems::{CodePrompts, Problems};
use super::program::Problem;
use crate::benchmarks::benchmark::{Cost, Paper, Sitting, Terms};
use crate::benchmarks::{Answered, EvaluationError, Figure, Sheet, unfit};
use crate::generation::{Answer, GenerationError, Model, Request};
use crate::sandbox::{Limits, Outcome, Sandbox};
use crate::store::{Digest, Key, Store, StoreError, key_of};

/// The figures that are reported where there are samples enough.
const KS: [usize; 3] = [1, 10, 100];

/// [1] Temperature of one sample: the likeliest program; and of several, as Chen et al. draw them.
const TEMPERATURES: (f64, f64) = (0.0, 0.8);

/// Its problems, and a place to run programs in.
pub struct HumanEval {
    problems: Problems,
    samples: usize,
    sandbox: Sandbox,
}

impl HumanEval {
    /// Reads the problems and opens a sandbox, of which the caller has been told.
    ///
    /// # Errors
    /// A file that is missing or damaged, or a host that does not confine.
    pub fn read(terms: &Terms) -> Result<Self, EvaluationError> {
        let problems = Problems::read(&Problems::file_in(terms.data))?;
        let problems = terms.limit.map_or(problems.clone(), |limit| problems.limited(limit));
        Ok(Self { problems, samples: terms.samples, sandbox: Sandbox::open(Limits::default())? })
    }

    fn requests(&self) -> Result<Vec<Request>, EvaluationError> {
        let temperature = if self.samples == 1 { TEMPERATURES.0 } else { TEMPERATURES.1 };
        Ok(self.problems.requests(CodePrompts::Continue, self.samples, temperature)?)
    }

    /// Outcomes by program. What the store holds is not run again; what is run is kept as it ends, so that an examination
    /// that is killed goes on where it was.
    fn outcomes(&self, programs: &[String], sitting: &Sitting) -> Result<Vec<Outcome>, EvaluationError> {
        let store = sitting.examinee.store;
        let keys: Vec<Key> = programs.iter().map(|program| self.sandbox.key(program)).collect();
        let mut outcomes: Vec<Option<Outcome>> = keys.iter().map(|&key| stored(store, key)).collect();
        let missing: Vec<usize> = (0..programs.len()).filter(|&place| outcomes[place].is_none()).collect();
        let open: Vec<&String> = missing.iter().map(|&place| &programs[place]).collect();
        let unkept: Mutex<Option<StoreError>> = Mutex::default();
        let workers = thread::available_parallelism().map_or(1, usize::from);
        let run = self.sandbox.run_all(&open, workers, &|index, outcome| {
            let bytes = postcard::to_stdvec(outcome).expect("an outcome has a known length");
            if let Err(error) = store.put(keys[missing[index]], &bytes) {
                *unkept.lock().expect("nobody panics while keeping") = Some(error);
                return ControlFlow::Break(());
            }
            if sitting.stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if let Some(error) = unkept.into_inner().expect("nobody panics while keeping") {
            return Err(GenerationError::from(error).into());
        }
        for (index, outcome) in run {
            outcomes[missing[index]] = Some(outcome);
        }
        let all: Option<Vec<Outcome>> = outcomes.into_iter().collect();
        all.ok_or_else(|| GenerationError::Interrupted.into())
    }
}

/// What came of a program that was run before.
fn stored(store: &Store, key: Key) -> Option<Outcome> {
    postcard::from_bytes(&store.get(key)?).ok()
}

impl Paper for HumanEval {
    fn content(&self) -> Digest {
        let problem =
            |one: &Problem| (one.task_id.clone(), one.prompt.clone(), one.entry_point.clone(), one.test.clone());
        let problems: Vec<_> = self.problems.0.iter().map(problem).collect();
        key_of("fedreplay humaneval problems v1", &(self.samples as u64, problems)).0
    }

    fn cost(&self, sitting: &Sitting) -> Result<Cost, EvaluationError> {
        let mut cost = Cost { questions: self.problems.0.len() as u64, ..Cost::default() };
        cost.add(&sitting.capped(self.requests()?), sitting.examinee)?;
        Ok(cost)
    }

    fn sit(&self, sitting: &Sitting) -> Result<Sheet, EvaluationError> {
        let requests = sitting.capped(self.requests()?);
        let answers: Vec<Answer> = sitting.examinee.generate(&requests)?;
        let texts: Vec<String> = answers.iter().map(|answer| answer.text.clone()).collect();
        let outcomes = self.outcomes(&self.problems.programs(&texts), sitting)?;
        let each = requests.into_iter().zip(&answers).zip(&outcomes).enumerate();
        let answered = each.map(|(place, ((request, answer), outcome))| Answered {
            judgement: Some(outcome.to_string()),
            score: Some(f64::from(u8::from(outcome.is_passed()))),
            ..Answered::of(&self.problems.0[place / self.samples].task_id, "", 1, request.prompt, answer)
        });
        let answers: Vec<Answered> = answered.collect();
        // All samples of a problem have its prompt.
        let failed = unfit(&answers) / self.samples as u64;
        let scores = self.problems.scores(&outcomes);
        let figure = |part: String, k| {
            let score = scores.pass_at(k).map(|percent| percent / 100.0);
            Figure { part, asked: self.problems.0.len() as u64, failed, score }
        };
        let ks = || KS.into_iter().filter(|&k| k <= self.samples);
        let many = ks().map(|k| figure(format!("pass@{k}"), k));
        Ok(Sheet { figures: many.chain([figure("all".into(), 1)]).collect(), answers, cells: scores.cells(ks()) }
            .with_unfit_noted())
    }
}
