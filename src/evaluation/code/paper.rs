//! HumanEval as a benchmark beside the others: asked, executed, counted.

use std::thread;

use super::human_eval::{CodePrompts, Problem, Problems};
use super::sandbox::{Limits, Sandbox};
use crate::evaluation::registry::{Cost, Paper, Sitting, Terms};
use crate::evaluation::{Answer, Answered, EvaluationError, Figure, Model, Request, Sheet};
use crate::store::{Digest, key_of};

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
        for request in self.requests()? {
            cost.prompt_tokens += sitting.examinee.generator.encode(&request.prompt)?.len() as u64;
            cost.answer_tokens_max += u64::from(request.sampling.max_tokens);
        }
        Ok(cost)
    }

    fn sit(&self, sitting: &Sitting) -> Result<Sheet, EvaluationError> {
        let requests = self.requests()?;
        let answers: Vec<Answer> = sitting.examinee.generate(&requests)?;
        let texts: Vec<String> = answers.iter().map(|answer| answer.text.clone()).collect();
        let workers = thread::available_parallelism().map_or(1, usize::from);
        let outcomes = self.sandbox.run_all(&self.problems.programs(&texts), workers, &|_, _| {})?;
        let each = requests.into_iter().zip(&answers).zip(&outcomes).enumerate();
        let answered = each.map(|(place, ((request, answer), outcome))| Answered {
            judgement: Some(outcome.to_string()),
            score: Some(f64::from(u8::from(outcome.is_passed()))),
            ..Answered::of(&self.problems.0[place / self.samples].task_id, "", 1, request.prompt, answer)
        });
        let scores = self.problems.scores(&outcomes);
        let figure = |part: String, k| {
            let score = scores.pass_at(k).map(|percent| percent / 100.0);
            Figure { part, asked: self.problems.0.len() as u64, failed: 0, score }
        };
        let many = KS.iter().filter(|&&k| k <= self.samples).map(|&k| figure(format!("pass@{k}"), k));
        Ok(Sheet { figures: many.chain([figure("all".into(), 1)]).collect(), answers: answered.collect() })
    }
}
