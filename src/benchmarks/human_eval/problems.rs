//! HumanEval's problems: reading the file, building requests and programs, and scoring by pass@k.
//!
//! The estimator of pass@k is the unbiased one of Chen et al., "Evaluating Large Language Models Trained on Code" (2021), section
//! 2.1.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::program::{AnswerForm, Problem, STOPS, program, tested};
use crate::benchmarks::open_ended::{QuestionsError, is_chosen};
use crate::benchmarks::table::BenchmarkCell;
use crate::data::ChatTemplateError;
use crate::generation::{PromptText, Prompting, Request, Sampling};
use crate::sandbox::ProgramOutcome;
use crate::store::{ForeignReader, key_of, parse_json};

/// [byte] -- Maximum size of the unpacked file. The real one has 214 kB.
const UNPACKED_BYTES_MAX: u64 = 64 << 20;

/// [token] -- Maximum length of a completion. The canonical solutions stay below 300.
const COMPLETION_TOKENS_MAX: u32 = 512;

/// All problems, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

/// How a problem becomes a prompt, and which form its answer has.
#[derive(Clone, Copy, Debug)]
pub enum CodePrompts<'a> {
    /// The problem's prompt as it is, to be continued. For base models, as in Chen et al. (2021).
    Continue,
    /// A question in the model's template. For instruction-tuned models.
    Ask(Prompting<'a>),
}

impl CodePrompts<'_> {
    /// Returns the form of the answers.
    pub fn form(self) -> AnswerForm {
        match self {
            Self::Continue => AnswerForm::Continuation,
            Self::Ask(_) => AnswerForm::Reply,
        }
    }
}

/// Results of all problems.
#[derive(Clone, Debug, PartialEq)]
pub struct HumanEvalScores {
    /// By problem: the number of samples, and how many of them passed.
    pub problems: Vec<(usize, usize)>,
}

impl Problems {
    /// Returns the path of the problems in a folder of benchmarks.
    pub fn file_in(folder: &Path) -> PathBuf {
        folder.join("humaneval/HumanEval.jsonl.gz")
    }

    /// Reads HumanEval.jsonl.gz, packed or unpacked.
    ///
    /// # Errors
    /// [`QuestionsError`], with file, line and field.
    pub fn read(path: &Path) -> Result<Self, QuestionsError> {
        let text = unpacked(path).map_err(QuestionsError::io(path))?;
        let mut problems: Vec<Problem> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            problems.push(parse_json(line.as_bytes()).map_err(|error| malformed(path, index + 1, &error))?);
        }
        match problems.is_empty() {
            true => Err(QuestionsError::entry(path, "the whole file", "there is no problem in it")),
            false => Ok(Self(problems)),
        }
    }

    /// Keeps at most `limit` problems, spread evenly over the file.
    #[must_use]
    pub fn limited(self, limit: usize) -> Self {
        let all = self.0.len();
        let mut chosen = Vec::new();
        for (index, problem) in self.0.into_iter().enumerate() {
            if is_chosen(index, all, limit) {
                chosen.push(problem);
            }
        }
        Self(chosen)
    }

    /// Returns `samples` requests per problem, problem by problem. A temperature of 0 is greedy.
    ///
    /// # Errors
    /// If the chat template refuses a prompt.
    pub fn requests(
        &self,
        prompts: CodePrompts,
        samples: usize,
        temperature: f64,
    ) -> Result<Vec<Request>, ChatTemplateError> {
        let mut requests = Vec::new();
        for problem in &self.0 {
            for sample in 0..samples {
                let (prompt, stop) = match prompts {
                    CodePrompts::Continue => (PromptText::Raw(problem.prompt.clone()), STOPS.map(str::to_owned).into()),
                    CodePrompts::Ask(prompting) => (prompting.prompt(&[&question(problem)], &[])?, vec![]),
                };
                // Chen et al. (2021) sample with nucleus p = 0.95 (section 3.2).
                let sampling = Sampling {
                    temperature,
                    top_p: 0.95,
                    top_k: None,
                    max_tokens: COMPLETION_TOKENS_MAX,
                    // Many models answer even a prompt that is to be continued with a whole function in a block.
                    spares_code_blocks: !stop.is_empty(),
                    stop,
                };
                requests.push(Request { prompt, sampling, stream: stream(problem, sample) });
            }
        }
        Ok(requests)
    }

    /// Returns the programs to run, one per answer. `answers` are in the order of the requests.
    ///
    /// # Panics
    /// Unless every problem has the same number of answers.
    pub fn programs(&self, form: AnswerForm, answers: &[String]) -> Vec<String> {
        let samples = self.samples_of(answers.len());
        let mut programs = Vec::with_capacity(answers.len());
        for (problem, answers) in self.0.iter().zip(answers.chunks(samples)) {
            for answer in answers {
                programs.push(tested(problem, &program(problem, answer, form)));
            }
        }
        programs
    }

    /// Counts the passed samples of each problem. `outcomes` are in the order of the programs.
    ///
    /// # Panics
    /// Unless every problem has the same number of outcomes.
    pub fn scores(&self, outcomes: &[ProgramOutcome]) -> HumanEvalScores {
        let samples = self.samples_of(outcomes.len());
        let mut problems = Vec::with_capacity(self.0.len());
        for outcomes in outcomes.chunks(samples) {
            let passed = outcomes.iter().filter(|outcome| outcome.is_passed()).count();
            problems.push((outcomes.len(), passed));
        }
        HumanEvalScores { problems }
    }

    /// Returns the number of samples per problem.
    fn samples_of(&self, answers: usize) -> usize {
        let samples = answers / self.0.len();
        assert!(samples > 0 && samples * self.0.len() == answers, "every problem has the same number of answers");
        samples
    }
}

impl HumanEvalScores {
    /// [percent] -- Returns the mean pass@k over the problems. `None` if a problem has fewer than `k` samples.
    pub fn pass_at(&self, k: usize) -> Option<f64> {
        let each: Option<Vec<f64>> = self.problems.iter().map(|&(n, passed)| pass_at_k(n, passed, k)).collect();
        each.map(|each| 100.0 * each.iter().sum::<f64>() / each.len() as f64)
    }

    /// Returns pass@k for each of `ks` as table cells. The column of pass@1 has the benchmark's name.
    pub fn cells(&self, ks: impl Iterator<Item = usize>) -> Vec<BenchmarkCell> {
        let mut cells = Vec::new();
        for k in ks {
            let column = if k == 1 { "HumanEval".to_owned() } else { format!("HumanEval pass@{k}") };
            cells.push(BenchmarkCell::new(column, self.pass_at(k)));
        }
        cells
    }
}

fn question(problem: &Problem) -> String {
    format!("Complete this Python function. Give the whole function in one block of code.\n\n{}", problem.prompt)
}

/// Describes a line that is not a problem, without the parser's own place, which is always line 1.
fn malformed(path: &Path, line: usize, error: &serde_json::Error) -> QuestionsError {
    let parser_place = format!(" at line {} column {}", error.line(), error.column());
    let fault = error.to_string().replace(&parser_place, "");
    QuestionsError::entry(path, format!("line {line}"), fault)
}

/// Derives a sample's random stream from its problem and number alone, so that a limit changes no answer.
fn stream(problem: &Problem, sample: usize) -> u64 {
    let key = key_of("fedreplay humaneval stream v1", &(&problem.task_id, sample as u64));
    u64::from_le_bytes(key.0.0[..8].try_into().expect("a key has 32 bytes"))
}

/// Reads a file that may be packed by gzip.
fn unpacked(path: &Path) -> std::io::Result<String> {
    // The two magic bytes of gzip (RFC 1952) decide, whatever the file's name says.
    let mut head = [0; 2];
    let is_packed = File::open(path)?.read_exact(&mut head).is_ok() && head == [0x1f, 0x8b];
    let file = BufReader::new(File::open(path)?);
    let reader: Box<dyn Read> =
        if is_packed { Box::new(ForeignReader(MultiGzDecoder::new(file))) } else { Box::new(file) };
    let mut text = String::new();
    reader.take(UNPACKED_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Returns the probability that at least one of `k` samples passes, if they are drawn without replacement from
/// `samples` samples of which `passed` passed: `1 - C(samples - passed, k) / C(samples, k)`. `None` if there are fewer
/// than `k` samples or `k` is 0.
///
/// # Panics
/// If more samples passed than there are.
pub fn pass_at_k(samples: usize, passed: usize, k: usize) -> Option<f64> {
    assert!(passed <= samples, "{passed} of {samples} samples passed");
    if k == 0 || k > samples {
        return None;
    }
    if samples - passed < k {
        return Some(1.0);
    }
    // C(n - c, k) / C(n, k) as the product of 1 - k / i over i = n - c + 1 .. n, which neither overflows nor cancels.
    let all_fail: f64 = (samples - passed + 1..=samples).map(|i| 1.0 - k as f64 / i as f64).product();
    Some(1.0 - all_fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts subsets one by one.
    fn by_counting(samples: usize, passed: usize, k: usize) -> f64 {
        let subsets = (0..1_u32 << samples).filter(|set| set.count_ones() as usize == k);
        let (hits, all) =
            subsets.fold((0, 0), |(hits, all), set| (hits + u32::from(set & ((1 << passed) - 1) != 0), all + 1));
        f64::from(hits) / f64::from(all)
    }

    #[test]
    fn it_is_the_share_of_subsets_with_a_solution() {
        for samples in 1..=8 {
            for passed in 0..=samples {
                for k in 1..=samples {
                    let estimated = pass_at_k(samples, passed, k).unwrap();
                    assert!((estimated - by_counting(samples, passed, k)).abs() < 1e-12, "{samples} {passed} {k}");
                }
            }
        }
    }

    #[test]
    fn large_counts_stay_finite_and_too_few_samples_give_nothing() {
        let estimated = pass_at_k(2000, 3, 100).unwrap();
        assert!(estimated > 0.14 && estimated < 0.15, "{estimated}");
        assert_eq!(pass_at_k(5, 5, 6), None);
        assert_eq!(pass_at_k(5, 1, 0), None);
    }
}
