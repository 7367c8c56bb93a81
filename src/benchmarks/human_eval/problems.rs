//! The problems of HumanEval: from the file, to requests, to a score.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::pass_at_k::pass_at_k;
use super::program::{Problem, STOPS, program, tested};
use crate::benchmarks::open_ended::{QuestionsError, is_chosen};
use crate::benchmarks::table::Cell;
use crate::data::ChatTemplateError;
use crate::generation::{Prompting, Request, Sampling};
use crate::sandbox::Outcome;
use crate::store::key_of;

/// [byte] The real file unpacks to 214 kB; one that unpacks to this is none.
const UNPACKED_BYTES_MAX: u64 = 64 << 20;

/// [token] Longest completion; the canonical ones stay below 300.
const COMPLETION_TOKENS_MAX: u32 = 512;

/// All problems, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

/// How problems are put to the model.
#[derive(Clone, Copy, Debug)]
pub enum CodePrompts<'a> {
    /// The prompt as it is, to be continued: for base models, and as Chen et al. do it.
    Continue,
    /// As a question in the model's template: for models that answer.
    Ask(Prompting<'a>),
}

/// What the samples of all problems came to.
#[derive(Clone, Debug, PartialEq)]
pub struct HumanEvalScores {
    /// By problem: samples and how many of them passed.
    pub problems: Vec<(usize, usize)>,
}

impl Problems {
    /// Where the problems lie in a folder of benchmarks.
    pub fn file_in(folder: &Path) -> PathBuf {
        folder.join("humaneval/HumanEval.jsonl.gz")
    }

    /// Reads HumanEval.jsonl.gz, or the same unpacked.
    ///
    /// # Errors
    /// [`QuestionsError`], by file, line and field.
    pub fn read(path: &Path) -> Result<Self, QuestionsError> {
        let text = unpacked(path).map_err(QuestionsError::io(path))?;
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let problems = lines.map(|(index, line)| {
            serde_json::from_str(line).map_err(|error| {
                let column = format!(" at line {} column {}", error.line(), error.column());
                let fault = error.to_string().replace(&column, "");
                QuestionsError::entry(path, format!("line {}", index + 1), fault)
            })
        });
        let problems: Vec<Problem> = problems.collect::<Result<_, _>>()?;
        match problems.is_empty() {
            true => Err(QuestionsError::entry(path, "the whole file", "there is no problem in it")),
            false => Ok(Self(problems)),
        }
    }

    /// At most `limit` of the problems, spread evenly over the file.
    #[must_use]
    pub fn limited(self, limit: usize) -> Self {
        let all = self.0.len();
        let problems = self.0.into_iter().enumerate();
        Self(problems.filter(|(i, _)| is_chosen(*i, all, limit)).map(|(_, p)| p).collect())
    }

    /// `samples` requests for each problem, problem by problem: greedy if there is one at temperature 0.
    ///
    /// # Errors
    /// A chat template that refuses a prompt.
    pub fn requests(
        &self,
        prompts: CodePrompts,
        samples: usize,
        temperature: f64,
    ) -> Result<Vec<Request>, ChatTemplateError> {
        let each = self.0.iter().flat_map(|problem| (0..samples).map(move |sample| (problem, sample)));
        let requests = each.map(|(problem, sample)| {
            let (prompt, stop) = match prompts {
                CodePrompts::Continue => (problem.prompt.clone(), STOPS.map(str::to_owned).into()),
                CodePrompts::Ask(prompting) => (prompting.prompt(&[&question(problem)], &[])?, vec![]),
            };
            let sampling = Sampling { temperature, top_p: 0.95, top_k: None, max_tokens: COMPLETION_TOKENS_MAX, stop };
            Ok(Request { prompt, sampling, stream: stream(problem, sample) })
        });
        requests.collect()
    }

    /// Programs to be run, one an answer, for `answers` to the requests in their order.
    ///
    /// # Panics
    /// Unless every problem has the same number of answers.
    pub fn programs(&self, answers: &[String]) -> Vec<String> {
        let samples = self.samples_of(answers.len());
        let each = answers.iter().enumerate().map(|(index, answer)| (&self.0[index / samples], answer));
        each.map(|(problem, answer)| tested(problem, &program(problem, answer))).collect()
    }

    /// The score of `outcomes` of those programs, in their order.
    ///
    /// # Panics
    /// As [`Self::programs`].
    pub fn scores(&self, outcomes: &[Outcome]) -> HumanEvalScores {
        let samples = self.samples_of(outcomes.len());
        let passed = |of: &[Outcome]| (of.len(), of.iter().filter(|outcome| outcome.is_passed()).count());
        HumanEvalScores { problems: outcomes.chunks(samples).map(passed).collect() }
    }

    fn samples_of(&self, answers: usize) -> usize {
        let samples = answers / self.0.len();
        assert!(samples > 0 && samples * self.0.len() == answers, "every problem has the same number of answers");
        samples
    }
}

impl HumanEvalScores {
    /// [percent] Mean pass@k over the problems; none where there are fewer than `k` samples of one.
    pub fn pass_at(&self, k: usize) -> Option<f64> {
        let each: Option<Vec<f64>> = self.problems.iter().map(|&(n, passed)| pass_at_k(n, passed, k)).collect();
        each.map(|each| 100.0 * each.iter().sum::<f64>() / each.len() as f64)
    }

    /// Pass@k for the table, of 1 under the benchmark's name.
    pub fn cells(&self, ks: impl Iterator<Item = usize>) -> Vec<Cell> {
        let column = |k: usize| if k == 1 { "HumanEval".to_owned() } else { format!("HumanEval pass@{k}") };
        ks.map(|k| Cell::new(column(k), self.pass_at(k))).collect()
    }
}

fn question(problem: &Problem) -> String {
    format!("Complete this Python function. Give the whole function in one block of code.\n\n{}", problem.prompt)
}

/// The draws of a sample belong to its problem and number.
fn stream(problem: &Problem, sample: usize) -> u64 {
    let key = key_of("fedreplay humaneval stream v1", &(&problem.task_id, sample as u64));
    u64::from_le_bytes(key.0.0[..8].try_into().expect("a key has 32 bytes"))
}

fn unpacked(path: &Path) -> std::io::Result<String> {
    let mut head = [0; 2];
    let is_packed = File::open(path)?.read_exact(&mut head).is_ok() && head == [0x1f, 0x8b];
    let file = BufReader::new(File::open(path)?);
    let reader: Box<dyn Read> = if is_packed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut text = String::new();
    reader.take(UNPACKED_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}
