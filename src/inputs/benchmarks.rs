//! The benchmarks of a scenario: put to the server's model, or to the clients' own where nothing is aggregated, every so
//! many rounds and after the last, as orders.

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
use crate::benchmarks::{Cost, EvaluationError, Paper, Room, Rules, Terms};
use crate::data::{Prompts, Tokeniser};
use crate::generation::{FolderSampling, GenerationError, Witness, end_tokens};
use crate::graph::{Desk, Exam, OrderError, WorkCounters};
use crate::ledger::Input;
use crate::scenario::Loaded;
use crate::store::{Digest, Store, key_of};
use crate::training::Trainer;
use crate::{benchmarks, scenario};

/// A benchmark with its questions, and when it is taken.
pub struct ScheduledExam {
    pub name: &'static str,
    /// [rounds] Taken after every so many; none is after the last alone.
    every: Option<u32>,
    paper: Box<dyn Paper>,
    asking: Arc<Asking>,
}

/// How the questions are put, the same for all benchmarks of a run.
struct Asking {
    tokeniser: Tokeniser,
    end_tokens: BTreeSet<u32>,
    prompts: Prompts,
    sampling: FolderSampling,
    seed: u64,
}

impl Asking {
    /// Where models on a trainer's base are asked so.
    fn room<'a>(&'a self, desk: &Desk<'a>, rules: &'a Rules<'a>) -> Room<'a> {
        let Self { tokeniser, end_tokens, prompts, sampling, seed } = self;
        let Desk { trainer, store, stop, .. } = *desk;
        Room { trainer, tokeniser, end_tokens, prompts, sampling: *sampling, seed: *seed, store, stop, rules }
    }
}

/// What a scheduled benchmark asks for in a run, as far as it is known before anything is answered.
#[derive(Clone, Debug, Serialize)]
pub struct ExamForecast {
    pub name: &'static str,
    /// How often it is taken, each model by itself.
    pub times: u64,
    /// [questions, tokens] Of one time: asked, read, and at most written.
    pub questions: u64,
    pub read_tokens: u64,
    pub written_tokens_max: u64,
}

impl ScheduledExam {
    /// What it will ask in a run of so many rounds, after each of so many models on this base.
    ///
    /// # Errors
    /// If a question has no tokens, or a chat template refuses it.
    pub fn forecast(&self, trainer: &Trainer, rounds: u32, models: u64) -> Result<ExamForecast, EvaluationError> {
        let (rules, store, stop) = (Rules::default(), Store::none(), AtomicBool::new(false));
        let work = WorkCounters::default();
        let room = self.asking.room(&Desk { trainer, store: &store, stop: &stop, work: &work }, &rules);
        let (generator, end) = (room.generator(&[])?, room.end());
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

    pub fn is_due(&self, server_round: Option<u32>, is_last: bool) -> bool {
        is_last || server_round.zip(self.every).is_some_and(|(round, every)| round.is_multiple_of(every))
    }
}

/// Counts the questions of a run among its other work.
impl Witness for WorkCounters {
    fn expect(&self, answers: usize) {
        self.want_questions(answers as u64);
    }

    fn answered(&self, is_new: bool) {
        self.count_answer(is_new);
    }
}

/// Reads the questions of the scenario's benchmarks, and notes their hashes among what the run reads.
///
/// # Errors
/// An unknown benchmark, or questions that cannot be read.
pub fn load(
    loaded: &Loaded,
    model: &Path,
    tokenizer: &Path,
    read: &mut BTreeMap<String, Input>,
) -> Result<Vec<Arc<ScheduledExam>>, InputError> {
    let spec = &loaded.scenario.evaluation;
    if spec.benchmarks.is_empty() {
        return Ok(vec![]);
    }
    let missing =
        || InputError::Usage("failed to find questions: evaluation.questions names the folder of their files".into());
    let data = loaded.resolve(spec.questions.as_ref().ok_or_else(missing)?);
    let tokeniser = Tokeniser::load(tokenizer)?;
    let asking = Arc::new(Asking {
        end_tokens: end_tokens(model, &tokeniser).map_err(EvaluationError::from)?,
        tokeniser,
        prompts: translate::prompts(loaded.scenario.data.template, tokenizer)?,
        sampling: FolderSampling::read(model).map_err(EvaluationError::from)?,
        seed: loaded.scenario.seed,
    });
    let mut exams = Vec::with_capacity(spec.benchmarks.len());
    for scenario::Benchmark { name, every, limit, shots } in &spec.benchmarks {
        let benchmark = benchmarks::named(name).map_err(InputError::Usage)?;
        let terms = Terms {
            data: &data,
            limit: limit.map(|limit| limit.get() as usize),
            shots: *shots as usize,
            samples: 1,
            runs_code: false,
        };
        let paper = benchmarks::open(benchmark, &terms)?.ok_or_else(|| {
            InputError::Usage(format!(
                "failed to schedule {benchmark}: it runs code that the model writes, which a run never does; `fedreplay eval \
                 RUN --bench {benchmark} --allow-code-execution` takes it afterwards"
            ))
        })?;
        let hash = blake3::Hash::from_bytes(paper.content().0);
        read.insert(format!("questions_{name}"), input(data.clone(), hash));
        let every = every.map(NonZeroU32::get);
        exams.push(Arc::new(ScheduledExam { name: benchmark.name(), every, paper, asking: asking.clone() }));
    }
    Ok(exams)
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
        let text = (tokeniser.content_hash().to_string(), end_tokens, template);
        key_of("fedreplay scheduled exam v2", &(self.name, self.paper.content(), text, sampling, seed)).0
    }

    fn take(&self, desk: &Desk, adapter: &Arc<Adapter>) -> Result<Vec<u8>, OrderError> {
        let rules = Rules::default();
        let room = self.asking.room(desk, &rules);
        let sheet = room.generator(std::slice::from_ref(adapter)).and_then(|generator| {
            let hash = Digest(*adapter.hash().as_bytes());
            let examinee = room.examinee(&generator, Some(0), Some(hash), desk.work);
            self.paper.sit(&room.sitting(&examinee, &room.end()))
        });
        match sheet {
            Ok(sheet) => Ok(postcard::to_stdvec(&sheet).expect("a sheet has known lengths")),
            Err(EvaluationError::Generation(GenerationError::Interrupted)) => Err(OrderError::Interrupted),
            Err(error) => Err(OrderError::Exam(Box::new(error))),
        }
    }
}
