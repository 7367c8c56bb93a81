//! Plays a run into its folder: begins it or continues it, round by round, and closes it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use fedreplay_sim::Detail;

use super::folder::RunFolder;
use super::inputs::Inputs;
use super::plan::{Evaluations, LocalBaseline, PlannedRound, Planner};
use super::privacy::{Protection, Spent, within_budget};
use super::timeline::{Next, Rounds, ScheduledRound, Timeline, schedule};
use super::trust::{Company, Trust};
use super::{RunError, rows};
use crate::adapter::{Adapter, peft};
use crate::ledger::{
    Chunk, EvaluationRow, Input, LedgerError, LedgerWriter, Manifest, RoundRow, RunKind, RunState, SCHEMA_VERSION,
    TimingRow, write_table,
};
use crate::lineage::{Executor, Ranking, Workshop};
use crate::model::Device;
use crate::scenario::{self, Loaded, federation};
use crate::store::{Digest, Store, atomic, key_of};
use crate::training::{Checkpointing, Grade, Numerics, NumericsClass};

/// How to play a run; nothing here changes a digest but `numerics`.
pub struct Settings<'a> {
    pub out: PathBuf,
    pub store: Store,
    pub workers: usize,
    pub device: Device,
    pub numerics: Numerics,
    /// Set from outside to end the run cleanly.
    pub stop: &'a AtomicBool,
}

/// Watches a run.
pub trait Observer {
    /// The schedule is known: so many rounds and so many tasks to train. Where selection reads results, the number of
    /// tasks shows only as they are trained, and none is given.
    fn scheduled(&mut self, rounds: usize, tasks: Option<usize>);
    /// A round is in the ledger.
    fn round(&mut self, report: &RoundReport);
}

/// What an observer hears of a round.
#[derive(Clone, Debug)]
pub struct RoundReport {
    pub row: RoundRow,
    pub rounds: u32,
    /// [nats/token] Loss of the server model on the test rows, or else on all held-out rows.
    pub loss: Option<f64>,
}

/// A finished run in figures.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Summary {
    pub run: PathBuf,
    pub digest: Digest,
    pub rounds: u32,
    /// [nats/token] Loss of the server model before training: on the test rows, or else on all held-out rows.
    pub loss_before: Option<f64>,
    pub loss_after: Option<f64>,
    /// Share of held-out or test pairs that the server model ranks right, before and after; of preference data.
    pub preference_accuracy: Option<[f64; 2]>,
    /// [1] Mean margin of rewards on the same pairs, after.
    pub reward_margin: Option<f64>,
    /// [nats/token] Mean loss of the clients trained alone, on the same rows.
    pub loss_local: Option<f64>,
    pub simulated_ns: u64,
    pub wall_seconds: f64,
    pub tasks_dispatched: u64,
    pub tasks_trained: u64,
    /// Updates that counted and could not be used, so that their weight was 0.
    pub tasks_unusable: u64,
    /// The first of them with their reasons.
    pub unusable: Vec<String>,
    pub tasks_dropped: u64,
    pub tasks_late: u64,
    pub tasks_cancelled: u64,
    pub bytes_down: u64,
    pub bytes_up: u64,
    /// What differential privacy came to, where there is any.
    pub privacy: Option<Spent>,
}

impl Summary {
    /// Keeps the summary beside the wall-clock figures of its run, outside of all hashes.
    fn write(&self) -> Result<(), LedgerError> {
        let path = Self::path(&self.run);
        let text = serde_json::to_string_pretty(self).expect("figures can be written as JSON") + "\n";
        atomic::write(&path, text.as_bytes()).map_err(LedgerError::io(&path))
    }

    /// The summary of a run that was finished before.
    ///
    /// # Errors
    /// If it is not there, or is not one.
    pub fn read(run: &Path) -> Result<Self, LedgerError> {
        let path = Self::path(run);
        let text = fs::read_to_string(&path).map_err(LedgerError::io(&path))?;
        let summary: Self =
            serde_json::from_str(&text).map_err(|error| LedgerError::malformed(&path, error.to_string()))?;
        Ok(Self { run: run.to_owned(), ..summary })
    }

    fn path(run: &Path) -> PathBuf {
        run.join("timing").join("summary.json")
    }
}

/// Plays a scenario into a new folder.
///
/// # Errors
/// Anything wrong with the scenario or what it points to, before the folder is made; after that, failures of the machine.
pub fn play(loaded: &Loaded, settings: &Settings, observer: &mut dyn Observer) -> Result<Summary, RunError> {
    let began = Instant::now();
    let prepared = Prepared::new(loaded, settings)?;
    let folder = RunFolder::create(&settings.out)?;
    prepared.play(loaded, &folder, settings, observer, began)
}

/// Continues a run that was begun in `settings.out`, with fields set that change no result, such as those of `execution`.
///
/// The schedule is played again, which costs no training; results that reached the store are found there.
///
/// # Errors
/// As [`play`]; and if the data, the base model or the machine's arithmetic are not those that the run began with.
pub fn resume(settings: &Settings, sets: &[String], observer: &mut dyn Observer) -> Result<Summary, RunError> {
    let began = Instant::now();
    Manifest::read(&settings.out)?;
    // Read under the lock: another process may have been finishing the run until now.
    let folder = RunFolder::reopen(&settings.out)?;
    let manifest = Manifest::read(&settings.out)?;
    if manifest.state == RunState::Done {
        return Err(RunError::Usage(format!("nothing to resume: the run in {} is finished", settings.out.display())));
    }
    refuse_plan(&settings.out, &manifest)?;
    let loaded = Loaded::of_run(&settings.out, &manifest.scenario_folder, sets)?;
    refuse_secret(&settings.out, &manifest)?;
    let mut prepared = Prepared::new(&loaded, settings)?;
    // What was computed before was computed under the grade of then.
    prepared.trust.grade =
        Grade::named(&manifest.grade).map_or(prepared.trust.grade, |then| then.min(prepared.trust.grade));
    let found = prepared.manifest(&loaded).genesis;
    if found != manifest.genesis {
        return Err(RunError::Usage(format!(
            "failed to resume {}: {}",
            settings.out.display(),
            what_changed(&manifest, &prepared.manifest(&loaded))
        )));
    }
    for table in ["ledger", "adapters", "timing"] {
        let path = folder.path().join(table);
        if path.exists() {
            fs::remove_dir_all(&path).map_err(LedgerError::io(&path))?;
        }
    }
    prepared.play(&loaded, &folder, settings, observer, began)
}

/// Refuses to train what was planned.
pub(super) fn refuse_plan(folder: &Path, manifest: &Manifest) -> Result<(), RunError> {
    match manifest.kind {
        RunKind::Run => Ok(()),
        RunKind::Plan => {
            let folder = folder.display();
            Err(RunError::Usage(format!("failed to continue {folder}: it is a plan, which trained nothing")))
        }
    }
}

/// The role under which a manifest says that noise was secret.
const SECRET_NOISE: &str = "secret_noise";

/// Refuses to compute again what secret noise was added to: fresh noise on the same updates would spend privacy twice, and
/// give other bits.
pub(super) fn refuse_secret(folder: &Path, manifest: &Manifest) -> Result<(), RunError> {
    if !manifest.inputs.contains_key(SECRET_NOISE) {
        return Ok(());
    }
    Err(RunError::Usage(format!(
        "failed to continue {}: its noise is secret and kept nowhere, and fresh noise would spend its privacy twice",
        folder.display()
    )))
}

/// Which input of a run is not what it was.
pub(super) fn what_changed(then: &Manifest, now: &Manifest) -> String {
    if then.scenario_hash != now.scenario_hash {
        return "its scenario was changed".into();
    }
    if then.numerics_class != now.numerics_class {
        let (then, now) = (&then.numerics_class, &now.numerics_class);
        return format!("the machine's arithmetic is {now}, the run was made with {then}");
    }
    let changed = then.inputs.iter().find(|(role, input)| now.inputs.get(*role).map(|i| i.hash) != Some(input.hash));
    match changed {
        Some((role, input)) => {
            format!("the {} at {} is not what the run was made from", role.replace('_', " "), input.path.display())
        }
        None => "it was made by another version of the tables".into(),
    }
}

/// A run of which everything is known but the results.
struct Prepared {
    inputs: Inputs,
    privacy: Option<Protection>,
    trust: Trust,
    company: Company,
    course: Course,
}

/// The schedule, as far as it is known before any training.
enum Course {
    /// All of it: no policy reads results.
    Known(Vec<ScheduledRound>),
    /// It comes about as results do.
    Live(Box<Timeline>),
}

impl Prepared {
    fn new(loaded: &Loaded, settings: &Settings) -> Result<Self, RunError> {
        for doubt in loaded.doubts() {
            tracing::warn!("{doubt}");
        }
        let execution = loaded.scenario.execution;
        let checkpointing = match execution.checkpointing {
            scenario::Checkpointing::Auto => Checkpointing::Fitting { passes: settings.workers as u32 },
            scenario::Checkpointing::Always => Checkpointing::Always,
            scenario::Checkpointing::Never => Checkpointing::Never,
        };
        let numerics = Numerics { checkpointing, ..settings.numerics.clone() };
        let mut inputs = Inputs::load(loaded, settings.device, &numerics)?;
        loaded.check_clients(inputs.clients.len()).map_err(RunError::Usage)?;
        if let Some(doubt) = loaded.doubt_about_cohort(inputs.clients.len()) {
            tracing::warn!("{doubt}");
        }
        let trust = Trust::shown_by(&inputs.trainer)?;
        let company = trust.company(execution, settings.device);
        let rows: Vec<u64> = inputs.clients.iter().map(|client| client.train.samples.len() as u64).collect();
        let privacy = Protection::new(&loaded.scenario, &rows)?;
        if let Some(mark) = privacy.as_ref().and_then(Protection::secret_mark) {
            let hash = key_of("fedreplay secret noise v1", &mark).0;
            inputs.read.insert(SECRET_NOISE.into(), Input { path: "operating system".into(), hash });
        }
        let bounded = within_budget(&loaded.scenario, privacy.as_ref());
        let federation = federation(&bounded, &inputs.facts, Detail::Events);
        let course = match federation.server.selection.reads_results() {
            true => Course::Live(Box::new(Timeline::new(federation)?)),
            false => Course::Known(schedule(federation)?),
        };
        Ok(Self { inputs, privacy, trust, company, course })
    }

    /// The manifest of the run before it begins.
    fn manifest(&self, loaded: &Loaded) -> Manifest {
        let scenario_hash = loaded.identity().0;
        let numerics_class = class_text(self.inputs.trainer.numerics_class(), self.company);
        let hashes: BTreeMap<_, _> = self.inputs.read.iter().map(|(role, input)| (role.clone(), input.hash)).collect();
        let genesis = key_of("fedreplay genesis v1", &(SCHEMA_VERSION, scenario_hash, hashes, &numerics_class)).0;
        let fingerprint = self.inputs.trainer.fingerprint();
        Manifest {
            schema_version: SCHEMA_VERSION,
            fedreplay_version: env!("CARGO_PKG_VERSION").into(),
            kind: RunKind::Run,
            state: RunState::Running,
            name: loaded.scenario.name.clone(),
            seed: loaded.scenario.seed,
            scenario_hash,
            scenario_folder: std::path::absolute(&loaded.folder).unwrap_or_else(|_| loaded.folder.clone()),
            inputs: self.inputs.read.clone(),
            binary_hash: binary_hash(),
            numerics: self.trust.record(fingerprint),
            numerics_class,
            genesis,
            grade: match self.privacy.as_ref().and_then(Protection::secret_mark) {
                Some(_) => "none: secret noise".into(),
                None => self.trust.grade.to_string(),
            },
            rounds: match &self.course {
                Course::Known(schedule) => schedule.len() as u32,
                // What was asked for; the number of all aggregators' rounds replaces it at the end.
                Course::Live(_) => loaded.scenario.rounds,
            },
            digest: None,
            files: BTreeMap::new(),
            seal: None,
        }
    }

    fn play(
        self,
        loaded: &Loaded,
        folder: &RunFolder,
        settings: &Settings,
        observer: &mut dyn Observer,
        began: Instant,
    ) -> Result<Summary, RunError> {
        let mut manifest = self.manifest(loaded);
        let scenario_path = folder.path().join("scenario.ron");
        atomic::write(&scenario_path, loaded.resolved_text().as_bytes()).map_err(LedgerError::io(&scenario_path))?;
        manifest.write(folder.path())?;
        let population = rows::population(&self.inputs.facts);
        let ledger = LedgerWriter::start(folder.path(), manifest.genesis, population)?;
        let Prepared { inputs, privacy, company, course, .. } = self;
        let workshop = Workshop::new(&inputs.trainer, loaded.scenario.training.unusable_update, &settings.store);
        let (together, keyed) = match company {
            Company::Ready(most) => (most, None),
            Company::Keyed(most) => (1, Some(most)),
        };
        let executor = Executor::new(&workshop, &settings.store, settings.stop, together);
        let mut stage = Stage {
            loaded,
            keyed,
            folder: folder.path(),
            inputs: &inputs,
            privacy: privacy.as_ref(),
            executor: &executor,
            ledger,
            observer,
            totals: Totals::default(),
            before: vec![],
            rounds: manifest.rounds,
        };
        let digest = executor.run(settings.workers, || stage.play(course))?;
        let totals = stage.totals;
        write_timing(folder.path(), &executor)?;
        manifest.state = RunState::Done;
        manifest.rounds = totals.rounds;
        manifest.digest = Some(digest);
        manifest.list_files(folder.path())?;
        manifest.write(folder.path())?;
        let spent = privacy.map(|privacy| privacy.spent(loaded.scenario.rounds, manifest.rounds));
        let summary = Summary { privacy: spent, ..totals.summary(folder.path().to_owned(), digest, began) };
        summary.write()?;
        Ok(summary)
    }
}

/// What playing the rounds needs and builds up.
struct Stage<'a, 'b> {
    loaded: &'a Loaded,
    /// How many trainings are ordered as one, where company may change bits.
    keyed: Option<usize>,
    folder: &'a Path,
    inputs: &'a Inputs,
    privacy: Option<&'a Protection>,
    executor: &'a Executor<'a>,
    ledger: LedgerWriter,
    observer: &'b mut dyn Observer,
    totals: Totals,
    /// Losses before the first round, until they are written with it.
    before: Vec<EvaluationRow>,
    /// Rounds to come, for messages.
    rounds: u32,
}

impl Stage<'_, '_> {
    fn play(&mut self, course: Course) -> Result<Digest, RunError> {
        let is_live = matches!(course, Course::Live(_));
        let loaded = self.loaded;
        let (privacy, keyed) = (self.privacy, self.keyed);
        let mut planner = Planner::new(&loaded.scenario, self.inputs, privacy, self.executor, is_live, keyed);
        let before = planner.before();
        match course {
            Course::Known(schedule) => self.play_known(&mut planner, &before, &schedule)?,
            Course::Live(mut timeline) => self.play_live(&mut planner, &before, &mut timeline)?,
        }
        Ok(self.ledger.finish()?)
    }

    /// Orders all at once, so that rounds overlap wherever their inputs allow, and writes the rounds in turn.
    fn play_known(
        &mut self,
        planner: &mut Planner,
        before: &Evaluations,
        schedule: &[ScheduledRound],
    ) -> Result<(), RunError> {
        let tasks = schedule.iter().map(|round| round.round.counted_tasks.len()).sum();
        self.observer.scheduled(schedule.len(), Some(tasks));
        let is_last = |index: usize| index + 1 == schedule.len();
        let plan = |(index, round): (usize, &ScheduledRound)| planner.round(round, is_last(index));
        let planned = schedule.iter().enumerate().map(plan).collect::<Result<Vec<_>, _>>()?;
        let local = planner.local_baselines();
        self.evaluate_before(before)?;
        for (index, (scheduled, planned)) in schedule.iter().zip(&planned).enumerate() {
            let saves = planner.server_round(scheduled);
            let local = if is_last(index) { local.as_slice() } else { &[] };
            self.write(scheduled, planned, saves, is_last(index), local)?;
        }
        Ok(())
    }

    /// Orders and writes round by round, and hands in the results that the next selection reads.
    fn play_live(
        &mut self,
        planner: &mut Planner,
        before: &Evaluations,
        timeline: &mut Timeline,
    ) -> Result<(), RunError> {
        self.observer.scheduled(self.rounds as usize, None);
        self.evaluate_before(before)?;
        let (mut rounds, mut losses) = (Rounds::default(), BTreeMap::new());
        let mut open: Option<ScheduledRound> = None;
        loop {
            let (completed, needs, is_end) = match timeline.next()? {
                Next::Record(record) => match rounds.push(record) {
                    Some(round) => (open.replace(round), None, false),
                    None => continue,
                },
                // The run goes on after this decision, so the round before it is not the last.
                Next::Needs(task) => (open.take(), Some(task), false),
                Next::End => (open.take(), None, true),
            };
            if let Some(scheduled) = completed {
                let planned = planner.round(&scheduled, is_end)?;
                let local = if is_end { planner.local_baselines() } else { vec![] };
                let saves = planner.server_round(&scheduled);
                losses.extend(self.write(&scheduled, &planned, saves, is_end, &local)?);
            }
            if let Some(task) = needs {
                let loss = losses.remove(&task.0).expect("only tasks that counted are asked for, once");
                timeline.supply(task, loss);
            }
            if is_end {
                return Ok(());
            }
        }
    }

    fn evaluate_before(&mut self, before: &Evaluations) -> Result<(), RunError> {
        self.before = rows::evaluations(0, 0, before, self.inputs, self.executor)?;
        self.totals.loss_before = main_loss(&self.before, "global");
        self.totals.ranking_before = main_ranking(&self.before);
        Ok(())
    }

    /// Waits for the results of a round and writes it. Returns the mean loss of each counted task; one that is not
    /// finite is NaN.
    fn write(
        &mut self,
        scheduled: &ScheduledRound,
        planned: &PlannedRound,
        server_round: Option<u32>,
        is_last: bool,
        local: &[LocalBaseline],
    ) -> Result<Vec<(u64, f64)>, RunError> {
        let rows::RoundRows { mut chunk, model } = rows::round(scheduled, planned, self.inputs, self.executor)?;
        chunk.evaluations.splice(0..0, self.before.drain(..));
        let every = self.loaded.scenario.output.save_adapter_every;
        let is_due = server_round.zip(every).is_some_and(|(round, every)| round.is_multiple_of(every)) || is_last;
        let place = format!("round-{:05}", server_round.unwrap_or(scheduled.number));
        let has_test = self.inputs.test.is_some();
        for local in local {
            chunk.evaluations.extend(rows::local_baseline(scheduled.number, local, has_test, self.executor)?.0);
        }
        for own in &planned.alone {
            let (rows, adapter) = rows::local_baseline(scheduled.number, own, has_test, self.executor)?;
            chunk.evaluations.extend(rows);
            if is_due {
                self.save_adapter(&format!("{place}/client-{}", own.client), &adapter)?;
            }
        }
        self.totals.add(&chunk);
        if is_due && !planned.counts_alike {
            self.save_adapter(&place, &model)?;
        }
        let loss = main_loss(&chunk.evaluations, "global").or_else(|| main_loss(&chunk.evaluations, "local"));
        let report = RoundReport { row: chunk.round.clone(), rounds: self.rounds.max(scheduled.number), loss };
        let counted = chunk.tasks.iter().filter(|task| task.steps.is_some());
        let losses = counted.map(|task| (task.task, task.loss_mean.unwrap_or(f64::NAN))).collect();
        self.ledger.append(chunk)?;
        self.observer.round(&report);
        Ok(losses)
    }

    /// Writes PEFT's files into `place` under the run's adapters.
    fn save_adapter(&self, place: &str, adapter: &Adapter) -> Result<(), RunError> {
        let model = &self.loaded.scenario.model;
        let hub = || model.hub.as_ref().map(|(repository, _)| repository.as_str().into());
        let base = model.folder.as_ref().and_then(|folder| folder.file_name()).map(|name| name.to_string_lossy());
        let base = base.or_else(hub);
        let folder = self.folder.join("adapters").join(place);
        let notes = peft::Notes { base_model: base.unwrap_or_default().into_owned(), ..peft::Notes::default() };
        Ok(peft::write_folder(&folder, adapter, &notes)?)
    }
}

/// How many unusable updates a summary names.
const UNUSABLE_SHOWN: usize = 10;

/// What the summary adds up.
#[derive(Default)]
struct Totals {
    loss_before: Option<f64>,
    loss_after: Option<f64>,
    loss_local: Option<f64>,
    ranking_before: Option<Ranking>,
    ranking_after: Option<Ranking>,
    unusable: Vec<String>,
    rounds: u32,
    simulated_ns: u64,
    tasks_trained: u64,
    dispatched: u64,
    dropped: u64,
    late: u64,
    cancelled: u64,
    bytes_down: u64,
    bytes_up: u64,
}

impl Totals {
    fn add(&mut self, chunk: &Chunk) {
        let after = chunk.evaluations.iter().filter(|row| row.round > 0).cloned().collect::<Vec<_>>();
        self.loss_after = main_loss(&after, "global").or(self.loss_after);
        self.loss_local = main_loss(&after, "local").or(self.loss_local);
        self.ranking_after = main_ranking(&after).or(self.ranking_after);
        let unusable = chunk.tasks.iter().filter_map(|task| Some((task, task.reason.as_ref()?)));
        let round = chunk.round.round;
        self.unusable.extend(unusable.map(|(task, reason)| format!("round {round}, client {}: {reason}", task.client)));
        self.rounds = chunk.round.round;
        self.simulated_ns = chunk.round.closed_at_ns;
        self.tasks_trained += chunk.tasks.iter().filter(|task| task.steps.is_some()).count() as u64;
        self.dispatched += u64::from(chunk.round.dispatched);
        for task in &chunk.tasks {
            match task.fate {
                "counted" => {}
                "late" => self.late += 1,
                "cancelled" => self.cancelled += 1,
                _ => self.dropped += 1,
            }
            self.bytes_down += task.bytes_down;
            self.bytes_up += task.bytes_up;
        }
    }

    fn summary(self, run: PathBuf, digest: Digest, began: Instant) -> Summary {
        Summary {
            run,
            digest,
            rounds: self.rounds,
            loss_before: self.loss_before,
            loss_after: self.loss_after,
            loss_local: self.loss_local,
            simulated_ns: self.simulated_ns,
            wall_seconds: began.elapsed().as_secs_f64(),
            tasks_dispatched: self.dispatched,
            tasks_trained: self.tasks_trained,
            tasks_unusable: self.unusable.len() as u64,
            unusable: self.unusable.into_iter().take(UNUSABLE_SHOWN).collect(),
            preference_accuracy: self.ranking_before.zip(self.ranking_after).map(|(a, b)| [a.accuracy, b.accuracy]),
            reward_margin: self.ranking_after.map(|ranking| ranking.margin),
            tasks_dropped: self.dropped,
            tasks_late: self.late,
            tasks_cancelled: self.cancelled,
            bytes_down: self.bytes_down,
            bytes_up: self.bytes_up,
            privacy: None,
        }
    }
}

/// The loss that stands for a subject: on the test rows where there are any, else on all held-out rows. Clients trained
/// alone are averaged as clients, each counting once; rows of one model are averaged by their tokens, and pairs as pairs.
fn main_loss(rows: &[EvaluationRow], subject: &str) -> Option<f64> {
    let last = rows.iter().filter(|row| row.subject == subject).map(|row| row.round).max()?;
    let of = |split: &str| {
        let chosen = rows.iter().filter(|row| row.subject == subject && row.split == split && row.round == last);
        let weight = |row: &EvaluationRow| match (subject, row.reward_margin) {
            ("local", _) => 1.0,
            (_, None) => row.target_tokens as f64,
            (_, Some(_)) => row.rows as f64,
        };
        let (sum, total) = chosen.fold((Some(0.0), 0.0), |(sum, total), row| {
            (sum.zip(row.loss).map(|(sum, loss)| sum + loss * weight(row)), total + weight(row))
        });
        sum.filter(|_| total > 0.0).map(|sum| sum / total)
    };
    let has_test = rows.iter().any(|row| row.subject == subject && row.split == "test");
    of(if has_test { "test" } else { "held_out" })
}

/// How the server model ranks pairs: the test's where there are any, else all held-out ones.
fn main_ranking(rows: &[EvaluationRow]) -> Option<Ranking> {
    let last = rows.iter().filter(|row| row.subject == "global").map(|row| row.round).max()?;
    let of = |split: &str| {
        let chosen = rows.iter().filter(|row| row.subject == "global" && row.split == split && row.round == last);
        let scored = chosen.filter_map(|row| Some((row.reward_margin?, row.preference_accuracy?, row.rows as f64)));
        let add =
            |sum: [f64; 3], (margin, accuracy, rows)| [sum[0] + margin * rows, sum[1] + accuracy * rows, sum[2] + rows];
        let [margin, accuracy, rows] = scored.fold([0.0; 3], add);
        (rows > 0.0).then(|| Ranking { margin: margin / rows, accuracy: accuracy / rows })
    };
    of("test").or_else(|| of("held_out"))
}

fn write_timing(folder: &Path, executor: &Executor) -> Result<(), LedgerError> {
    let mut rows: Vec<TimingRow> = executor
        .finished()
        .into_iter()
        .map(|finished| TimingRow {
            order: finished.order.index() as u64,
            kind: finished.kind.into(),
            key: finished.key.to_string(),
            from_store: finished.from_store,
            seconds: finished.seconds,
        })
        .collect();
    rows.sort_by_key(|row| row.order);
    write_table(&folder.join("timing").join("orders.parquet"), &rows)
}

/// The numerics class as the one line that stands in the manifest, with the grouping where that is in keys.
fn class_text(class: &NumericsClass, company: Company) -> String {
    let grouping = match company {
        Company::Ready(_) => String::new(),
        Company::Keyed(most) => format!(", {most} clients in a pass"),
    };
    format!("{}, LibTorch {}, {:?}, {}{grouping}", class.device, class.torch, class.precision, class.mode)
}

pub(super) fn binary_hash() -> Digest {
    // A program that cannot read itself still runs; its hash is then that of nothing.
    let bytes = std::env::current_exe().and_then(fs::read).unwrap_or_default();
    Digest::of(&bytes)
}
