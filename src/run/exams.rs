//! Scheduled benchmarks: evaluates the server's model, or the clients' own models where nothing is aggregated, at the
//! interval that the scenario sets and after the last round. Each evaluation is an order of the computation graph.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::Serialize;

use super::examine::SheetRows;
use super::room::{Room, Rules};
use super::{RunError, prompting};
use crate::adapter::Adapter;
use crate::dataset::{Prompts, Tokeniser};
use crate::evaluation::generation::{FolderSampling, GenerationError, end_tokens};
use crate::evaluation::{self, Cost, EvaluationError, Paper, Sheet, Terms, Witness};
use crate::ledger::{EvaluationRow, GenerationRow, Input};
use crate::lineage::{Desk, Exam, Executor, Order, OrderError, OrderId, Value, WorkCounters};
use crate::scenario::{self, Loaded};
use crate::store::{Digest, Store, key_of};
use crate::training::Trainer;

/// Benchmark of a scenario, with its questions and its interval.
pub struct ScheduledExam {
    name: &'static str,
    /// [rounds] -- Interval between two evaluations; `None` evaluates after the last round only.
    every: Option<u32>,
    paper: Box<dyn Paper>,
    asking: Arc<Asking>,
}

/// Prompt and decoding settings, shared by all benchmarks of a run.
struct Asking {
    tokeniser: Tokeniser,
    end_tokens: BTreeSet<u32>,
    prompts: Prompts,
    sampling: FolderSampling,
    seed: u64,
}

impl Asking {
    /// Returns the set-up in which models on a trainer's base are evaluated with these settings.
    fn room<'a>(&'a self, desk: &Desk<'a>, rules: &'a Rules<'a>) -> Room<'a> {
        let Self { tokeniser, end_tokens, prompts, sampling, seed } = self;
        let Desk { trainer, store, stop, .. } = *desk;
        Room { trainer, tokeniser, end_tokens, prompts, sampling: *sampling, seed: *seed, store, stop, rules }
    }
}

/// Benchmark evaluation of one model in the plan of a round.
pub struct PlannedExam {
    exam: Arc<ScheduledExam>,
    /// Client whose own model is evaluated; `None` is the server's model.
    client: Option<u32>,
    model: OrderId,
    order: OrderId,
}

/// Cost of a scheduled benchmark in a run, as far as it is known before the model has answered anything.
#[derive(Clone, Debug, Serialize)]
pub struct ExamForecast {
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

impl ScheduledExam {
    /// Computes the cost of this benchmark in a run of `rounds` rounds with `models` models on this base per evaluation.
    ///
    /// # Errors
    /// If a question has no tokens, or a chat template refuses it.
    pub fn forecast(&self, trainer: &Trainer, rounds: u32, models: u64) -> Result<ExamForecast, EvaluationError> {
        // The cost follows from the prompts alone: nothing is generated, stored or interrupted here.
        let rules = Rules::default();
        let store = Store::none();
        let stop = AtomicBool::new(false);
        let work = WorkCounters::default();
        let room = self.asking.room(&Desk { trainer, store: &store, stop: &stop, work: &work }, &rules);
        let generator = room.generator(&[])?;
        let end = room.end();
        let examinee = room.examinee(&generator, None, None, &work);
        let Cost { questions, prompt_tokens, answer_tokens_max, .. } =
            self.paper.cost(&room.sitting(&examinee, &end))?;
        let times = (1..=rounds).filter(|&round| self.is_due(Some(round), round == rounds)).count() as u64;
        Ok(ExamForecast {
            name: self.name,
            times: times * models,
            questions,
            read_tokens: prompt_tokens,
            written_tokens_max: answer_tokens_max,
        })
    }

    /// Whether the benchmark is evaluated after this round of the server; rounds of edges have no number.
    fn is_due(&self, server_round: Option<u32>, is_last: bool) -> bool {
        is_last || server_round.zip(self.every).is_some_and(|(round, every)| round.is_multiple_of(every))
    }
}

impl PlannedExam {
    /// Demands the model and its result.
    pub fn demand(&self, executor: &Executor) {
        executor.demand(self.model);
        executor.demand(self.order);
    }
}

/// Counts the questions of a run together with its other work.
impl Witness for WorkCounters {
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
    loaded: &Loaded,
    model: &Path,
    tokenizer: &Path,
    read: &mut BTreeMap<String, Input>,
) -> Result<Vec<Arc<ScheduledExam>>, RunError> {
    let spec = &loaded.scenario.evaluation;
    if spec.benchmarks.is_empty() {
        return Ok(vec![]);
    }
    let Some(questions) = &spec.questions else {
        let missing = "failed to find questions: evaluation.questions names the folder of their files";
        return Err(RunError::Usage(missing.into()));
    };
    let data = loaded.resolve(questions);
    let tokeniser = Tokeniser::load(tokenizer)?;
    let asking = Arc::new(Asking {
        end_tokens: end_tokens(model, &tokeniser).map_err(EvaluationError::from)?,
        tokeniser,
        prompts: prompting::prompts(loaded.scenario.data.template, tokenizer)?,
        sampling: FolderSampling::read(model).map_err(EvaluationError::from)?,
        seed: loaded.scenario.seed,
    });
    let mut exams = Vec::with_capacity(spec.benchmarks.len());
    for scenario::Benchmark { name, every, limit, shots } in &spec.benchmarks {
        let benchmark = evaluation::named(name).map_err(RunError::Usage)?;
        let terms = Terms {
            data: &data,
            limit: limit.map(|limit| limit.get() as usize),
            shots: *shots as usize,
            samples: 1,
            runs_code: false,
        };
        let paper = evaluation::open(benchmark, &terms)?.ok_or_else(|| {
            RunError::Usage(format!(
                "failed to schedule {benchmark}: it runs code that the model writes, which a run never does; `fedreplay eval \
                 RUN --bench {benchmark} --allow-code-execution` takes it afterwards"
            ))
        })?;
        let hash = blake3::Hash::from_bytes(paper.content().0);
        read.insert(format!("questions_{name}"), super::inputs::input(data.clone(), hash));
        let every = every.map(NonZeroU32::get);
        exams.push(Arc::new(ScheduledExam { name: benchmark.name(), every, paper, asking: asking.clone() }));
    }
    Ok(exams)
}

/// Orders the benchmarks that are due after a round of the server, for each of these models: the server's (`None`), or that
/// of a client.
pub fn order(
    exams: &[Arc<ScheduledExam>],
    executor: &Executor,
    models: &[(Option<u32>, OrderId)],
    server_round: Option<u32>,
    is_last: bool,
) -> Vec<PlannedExam> {
    let mut planned = Vec::new();
    for exam in exams.iter().filter(|exam| exam.is_due(server_round, is_last)) {
        for &(client, model) in models {
            let order = executor.add(Order::Examine { model, exam: exam.clone() });
            planned.push(PlannedExam { exam: exam.clone(), client, model, order });
        }
    }
    planned
}

/// Returns the results of a round's benchmarks as table rows, waiting for those that are not computed yet. The rows of a
/// client's own model have version 0.
///
/// # Errors
/// The first failure of any order.
pub fn rows(
    planned: &[PlannedExam],
    executor: &Executor,
    round: u32,
    version: u32,
) -> Result<(Vec<EvaluationRow>, Vec<GenerationRow>), OrderError> {
    let mut figures = Vec::new();
    let mut answers = Vec::new();
    for &PlannedExam { ref exam, client, model, order } in planned {
        // The graph treats the result as opaque bytes, which `ScheduledExam::take` below has written. The key of the order
        // contains the version of this format, so bytes from the store always have it.
        let Value::Examined(bytes) = executor.take(order)? else { unreachable!("an exam gives a sheet") };
        let sheet: Sheet = postcard::from_bytes(&bytes).expect("the sheet was written by this version of its code");
        let hash = Some(executor.take(model)?.adapter_hash().to_string());
        let (subject, version) = if client.is_some() { ("local", 0) } else { ("global", version) };
        let rows = SheetRows { round, version, subject, client, hash, benchmark: exam.name };
        figures.extend(sheet.figures.iter().map(|figure| rows.figure(figure)));
        answers.extend(sheet.answers.into_iter().map(|answered| rows.answer(answered)));
    }
    Ok((figures, answers))
}

impl fmt::Debug for ScheduledExam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScheduledExam({})", self.name)
    }
}

impl Exam for ScheduledExam {
    fn key(&self) -> Digest {
        let Asking { tokeniser, end_tokens, prompts, sampling, seed } = &*self.asking;
        let template = match prompts {
            Prompts::Template(template) => template.name.to_owned(),
            Prompts::Chat(template) => template.content_hash().to_string(),
        };
        // Everything that can change an answer, except the adapter, the base and its numerics: those are other parts of the
        // order's key.
        let text = (tokeniser.content_hash().to_string(), end_tokens, template);
        key_of("fedreplay scheduled exam v2", &(self.name, self.paper.content(), text, sampling, seed)).0
    }

    fn take(&self, desk: &Desk, adapter: &Arc<Adapter>) -> Result<Vec<u8>, OrderError> {
        match self.evaluate(desk, adapter) {
            Ok(sheet) => Ok(postcard::to_stdvec(&sheet).expect("a sheet has known lengths")),
            // An interruption is no failure of the benchmark: `resume` continues it with the answers that were stored.
            Err(EvaluationError::Generation(GenerationError::Interrupted)) => Err(OrderError::Interrupted),
            Err(error) => Err(OrderError::Exam(Box::new(error))),
        }
    }
}

impl ScheduledExam {
    /// Evaluates the model under this adapter.
    fn evaluate(&self, desk: &Desk, adapter: &Arc<Adapter>) -> Result<Sheet, EvaluationError> {
        let rules = Rules::default();
        let room = self.asking.room(desk, &rules);
        let generator = room.generator(std::slice::from_ref(adapter))?;
        let hash = Digest(*adapter.hash().as_bytes());
        let examinee = room.examinee(&generator, Some(0), Some(hash), desk.work);
        self.paper.sit(&room.sitting(&examinee, &room.end()))
    }
}
