//! Scheduled benchmarks: evaluates the server's model, or the clients' own models where nothing is aggregated, at the
//! interval that the scenario sets and after the last round. Each evaluation is a node of the computation graph.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::Serialize;

use super::error::InputError;
use super::files::input;
use super::translate;
use crate::adapter::Adapter;
use crate::benchmarks::{
    Benchmark, BenchmarkName, BenchmarkOptions, BenchmarkResult, Cost, EvalOptions, EvalSetup, EvaluationError,
};
use crate::data::{Prompts, Tokenizer};
use crate::generation::{EvalProgress, FolderSampling, GenerationError, end_tokens};
use crate::graph::{EvalResources, GraphError, ScheduledEvaluation, WorkCounters};
use crate::ledger::Input;
use crate::scenario::Scenario;
use crate::store::{Digest, Store, key_of};
use crate::training::Trainer;
use crate::{benchmarks, scenario};

/// Benchmark of a scenario, with its questions and its interval.
pub struct ScheduledBenchmark {
    pub name: &'static str,
    /// [rounds] -- Interval between two evaluations; `None` evaluates after the last round only.
    every: Option<u32>,
    benchmark: Box<dyn Benchmark>,
    decoding: Arc<DecodingSettings>,
}

/// Prompt and decoding settings, shared by all benchmarks of a run.
struct DecodingSettings {
    tokenizer: Tokenizer,
    end_tokens: BTreeSet<u32>,
    prompts: Prompts,
    system_prompt: Option<String>,
    sampling: FolderSampling,
    seed: u64,
}

impl DecodingSettings {
    /// Returns the set-up in which models on a trainer's base are evaluated with these settings.
    fn setup<'a>(&'a self, resources: &EvalResources<'a>, rules: &'a EvalOptions<'a>) -> EvalSetup<'a> {
        let EvalResources { trainer, store, stop, .. } = *resources;
        EvalSetup {
            trainer,
            tokenizer: &self.tokenizer,
            end_tokens: &self.end_tokens,
            prompts: &self.prompts,
            system_prompt: self.system_prompt.as_deref(),
            sampling: self.sampling,
            seed: self.seed,
            store,
            stop,
            rules,
        }
    }
}

/// Cost of a scheduled benchmark in a run, as far as it is known before the model has answered anything.
#[derive(Clone, Debug, Serialize)]
pub struct BenchmarkForecast {
    pub name: &'static str,
    /// Number of evaluations, over all rounds and models.
    pub times: u64,
    /// [questions] -- Questions of one evaluation.
    pub questions: u64,
    /// [token] -- Prompt tokens of one evaluation.
    pub read_tokens: u64,
    /// [token] -- Upper bound on the generated tokens of one evaluation.
    pub written_tokens_max: u64,
}

impl ScheduledBenchmark {
    /// Computes the cost of this benchmark in a run of `rounds` rounds with `models` models on this base per evaluation.
    ///
    /// # Errors
    /// If a question has no tokens, or a chat template refuses it.
    pub fn forecast(&self, trainer: &Trainer, rounds: u32, models: u64) -> Result<BenchmarkForecast, EvaluationError> {
        // The cost follows from the prompts alone: nothing is generated, stored or interrupted here.
        let rules = EvalOptions::default();
        let store = Store::none();
        let stop = AtomicBool::new(false);
        let work = WorkCounters::default();
        let resources = EvalResources { trainer, store: &store, stop: &stop, work: &work };
        let setup = self.decoding.setup(&resources, &rules);
        let generator = setup.generator(&[])?;
        let end = setup.end();
        let model = setup.cached_model(&generator, None, None, &work);
        let Cost { questions, prompt_tokens, answer_tokens_max, .. } =
            self.benchmark.cost(&setup.context(&model, &end))?;
        let times = (1..=rounds).filter(|&round| self.is_due(Some(round), round == rounds)).count() as u64;
        Ok(BenchmarkForecast {
            name: self.name,
            times: times * models,
            questions,
            read_tokens: prompt_tokens,
            written_tokens_max: answer_tokens_max,
        })
    }

    /// Whether the benchmark is evaluated after this round of the server; rounds of edges have no number.
    pub fn is_due(&self, server_round: Option<u32>, is_last: bool) -> bool {
        is_last || server_round.zip(self.every).is_some_and(|(round, every)| round.is_multiple_of(every))
    }
}

/// Counts the questions of a run together with its other work.
impl EvalProgress for WorkCounters {
    fn expect(&self, answers: usize) {
        self.want_questions(answers as u64);
    }

    fn answered(&self, is_new: bool) {
        self.count_answer(is_new);
    }
}

/// Reads the questions of the scenario's benchmarks and adds their hashes to the inputs in `read`.
///
/// # Errors
/// If a benchmark is unknown or runs generated code, or if its questions cannot be read.
pub fn load(
    scenario: &Scenario,
    model: &Path,
    tokenizer_folder: &Path,
    read: &mut BTreeMap<String, Input>,
) -> Result<Vec<Arc<ScheduledBenchmark>>, InputError> {
    let spec = &scenario.scenario;
    let evaluation = &spec.evaluation;
    if evaluation.benchmarks.is_empty() {
        return Ok(vec![]);
    }
    let Some(questions) = &evaluation.questions else {
        return Err(InputError::NoQuestions);
    };
    let data = scenario.resolve(questions);
    let tokenizer = Tokenizer::load(tokenizer_folder)?;
    let prompts = translate::prompts(&spec.data, &tokenizer, tokenizer_folder)?;
    let end_tokens = end_tokens(model, &tokenizer, &prompts).map_err(EvaluationError::from)?;
    let ends: Vec<String> = end_tokens.iter().filter_map(|&id| tokenizer.token(id)).collect();
    tracing::info!(target: "fedreplay::run", "answers to the benchmarks end with {}", ends.join(", "));
    let decoding = Arc::new(DecodingSettings {
        end_tokens,
        prompts,
        system_prompt: translate::system_prompt(&spec.data),
        tokenizer,
        sampling: FolderSampling::read(model).map_err(EvaluationError::from)?,
        seed: spec.seed,
    });
    let mut scheduled = Vec::with_capacity(evaluation.benchmarks.len());
    for scenario::BenchmarkSpec { name, every, limit, shots } in &evaluation.benchmarks {
        let benchmark: BenchmarkName = name.parse()?;
        let options = BenchmarkOptions {
            data: &data,
            limit: limit.map(|limit| limit.get() as usize),
            shots: *shots as usize,
            samples: 1,
            runs_code: false,
        };
        let opened = benchmarks::open(benchmark, &options)?.ok_or(InputError::RunsCode { benchmark })?;
        let hash = blake3::Hash::from_bytes(opened.content().0);
        read.insert(format!("questions_{name}"), input(data.clone(), hash));
        let every = every.map(NonZeroU32::get);
        scheduled.push(Arc::new(ScheduledBenchmark {
            name: benchmark.name(),
            every,
            benchmark: opened,
            decoding: decoding.clone(),
        }));
    }
    Ok(scheduled)
}

impl fmt::Debug for ScheduledBenchmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScheduledExam({})", self.name)
    }
}

impl ScheduledEvaluation for ScheduledBenchmark {
    fn key(&self) -> Digest {
        let DecodingSettings { tokenizer, end_tokens, prompts, system_prompt, sampling, seed } = &*self.decoding;
        let mut template = match prompts {
            Prompts::Template(template) => template.name.to_owned(),
            Prompts::Chat(template) => template.content_hash().to_string(),
        };
        if let Some(system) = system_prompt {
            template += &format!(" under {system:?}");
        }
        // Everything that can change an answer, except the adapter, the base and its numerics: those are other parts of the
        // node's key.
        let text = (tokenizer.content_hash().to_string(), end_tokens, template);
        key_of("fedreplay scheduled exam v3", &(self.name, self.benchmark.content(), text, sampling, seed)).0
    }

    fn evaluate(&self, resources: &EvalResources, adapter: &Arc<Adapter>) -> Result<Vec<u8>, GraphError> {
        match self.result(resources, adapter) {
            Ok(result) => Ok(postcard::to_stdvec(&result).expect("a sheet has known lengths")),
            // An interruption is not a failure of the benchmark: `resume` continues it with the answers that were stored.
            Err(EvaluationError::Generation(GenerationError::Interrupted)) => Err(GraphError::Interrupted),
            Err(error) => Err(GraphError::Benchmark(Box::new(error))),
        }
    }

    fn is_result(&self, bytes: &[u8]) -> bool {
        postcard::from_bytes::<BenchmarkResult>(bytes).is_ok()
    }
}

impl ScheduledBenchmark {
    /// Computes the result of the model with this adapter.
    fn result(&self, resources: &EvalResources, adapter: &Arc<Adapter>) -> Result<BenchmarkResult, EvaluationError> {
        let rules = EvalOptions::default();
        let setup = self.decoding.setup(resources, &rules);
        let generator = setup.generator(std::slice::from_ref(adapter))?;
        let hash = Digest::from(adapter.hash());
        let model = setup.cached_model(&generator, Some(0), Some(hash), resources.work);
        self.benchmark.evaluate(&setup.context(&model, &setup.end()))
    }
}
