//! Plays a run into its folder: begins it or continues it, round by round, and closes it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use fedreplay_sim::Detail;

use super::folder::RunFolder;
use super::inputs::Inputs;
use super::plan::Plan;
use super::schedule::{ScheduledRound, schedule};
use super::{RunError, rows};
use crate::adapter::{Adapter, peft};
use crate::ledger::{
    Chunk, EvaluationRow, LedgerError, LedgerWriter, Manifest, RoundRow, RunState, SCHEMA_VERSION, TimingRow,
    write_table,
};
use crate::lineage::{Executor, OrderError, Workshop};
use crate::model::Device;
use crate::scenario::{Loaded, federation};
use crate::store::{Digest, Store, atomic, key_of};
use crate::training::{Numerics, NumericsClass};

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
    /// The schedule is known: so many rounds and so many tasks to train.
    fn scheduled(&mut self, rounds: usize, tasks: usize);
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
#[derive(Clone, Debug, serde::Serialize)]
pub struct Summary {
    pub run: PathBuf,
    pub digest: Digest,
    pub rounds: u32,
    /// [nats/token] Loss of the server model before training: on the test rows, or else on all held-out rows.
    pub loss_before: Option<f64>,
    pub loss_after: Option<f64>,
    /// [nats/token] Mean loss of the clients trained alone, on the same rows.
    pub loss_local: Option<f64>,
    pub simulated_ns: u64,
    pub wall_seconds: f64,
    pub tasks_dispatched: u64,
    pub tasks_trained: u64,
    pub tasks_dropped: u64,
    pub tasks_late: u64,
    pub tasks_cancelled: u64,
    pub bytes_down: u64,
    pub bytes_up: u64,
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

/// Continues a run that was begun in `settings.out`.
///
/// The schedule is played again, which costs no training; results that reached the store are found there.
///
/// # Errors
/// As [`play`]; and if the data, the base model or the machine's arithmetic are not those that the run began with.
pub fn resume(settings: &Settings, observer: &mut dyn Observer) -> Result<Summary, RunError> {
    let began = Instant::now();
    let manifest = Manifest::read(&settings.out)?;
    if manifest.state == RunState::Done {
        return Err(RunError::Usage(format!("nothing to resume: the run in {} is finished", settings.out.display())));
    }
    let loaded = Loaded::of_run(&settings.out, &manifest.scenario_folder)?;
    let folder = RunFolder::reopen(&settings.out)?;
    let prepared = Prepared::new(&loaded, settings)?;
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
        Some((role, input)) => format!("the {role} at {} is not what the run was made from", input.path.display()),
        None => "it was made by another version of the tables".into(),
    }
}

/// A run of which everything is known but the results.
struct Prepared {
    inputs: Inputs,
    schedule: Vec<ScheduledRound>,
}

impl Prepared {
    fn new(loaded: &Loaded, settings: &Settings) -> Result<Self, RunError> {
        let inputs = Inputs::load(loaded, settings.device, &settings.numerics)?;
        let schedule = schedule(federation(&loaded.scenario, &inputs.facts, Detail::Events))?;
        Ok(Self { inputs, schedule })
    }

    /// The manifest of the run before it begins.
    fn manifest(&self, loaded: &Loaded) -> Manifest {
        let scenario_hash = loaded.identity().0;
        let numerics_class = class_text(self.inputs.trainer.numerics_class());
        let hashes: BTreeMap<_, _> = self.inputs.read.iter().map(|(role, input)| (role.clone(), input.hash)).collect();
        let genesis = key_of("fedreplay genesis v1", &(SCHEMA_VERSION, scenario_hash, hashes, &numerics_class)).0;
        let fingerprint = self.inputs.trainer.fingerprint();
        Manifest {
            schema_version: SCHEMA_VERSION,
            fedreplay_version: env!("CARGO_PKG_VERSION").into(),
            state: RunState::Running,
            name: loaded.scenario.name.clone(),
            seed: loaded.scenario.seed,
            scenario_hash,
            scenario_folder: std::path::absolute(&loaded.folder).unwrap_or_else(|_| loaded.folder.clone()),
            inputs: self.inputs.read.clone(),
            binary_hash: binary_hash(),
            numerics: serde_json::to_value(fingerprint).expect("a fingerprint has only text keys"),
            numerics_class,
            genesis,
            grade: grade(fingerprint.device).into(),
            rounds: self.schedule.len() as u32,
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
        let population = rows::population(&loaded.scenario, &self.inputs.facts);
        let ledger = LedgerWriter::start(folder.path(), manifest.genesis, &population)?;
        let Prepared { inputs, schedule, .. } = self;
        let workshop = Workshop::new(&inputs.trainer, loaded.scenario.training.unusable_update);
        let executor = Executor::new(&workshop, &settings.store, settings.stop);
        observer.scheduled(schedule.len(), schedule.iter().map(|round| round.round.counted_tasks.len()).sum());
        let stage = Stage { loaded, folder: folder.path(), inputs: &inputs, schedule: &schedule, executor: &executor };
        let mut totals = Totals::default();
        let digest = executor.run(settings.workers, || stage.play(ledger, observer, &mut totals))?;
        write_timing(folder.path(), &executor)?;
        manifest.state = RunState::Done;
        manifest.digest = Some(digest);
        manifest.list_files(folder.path())?;
        manifest.write(folder.path())?;
        Ok(totals.summary(folder.path().to_owned(), digest, &schedule, began))
    }
}

/// Everything that is fixed while the rounds are played.
struct Stage<'a> {
    loaded: &'a Loaded,
    folder: &'a Path,
    inputs: &'a Inputs,
    schedule: &'a [ScheduledRound],
    executor: &'a Executor<'a>,
}

impl Stage<'_> {
    fn play(
        &self,
        mut ledger: LedgerWriter,
        observer: &mut dyn Observer,
        totals: &mut Totals,
    ) -> Result<Digest, RunError> {
        let plan = Plan::lay(&self.loaded.scenario, self.inputs, self.schedule, self.executor);
        let mut before = rows::evaluations(0, 0, &plan.before, self.inputs, self.executor)?;
        totals.loss_before = main_loss(&before, "global");
        let mut previous = self.executor.take(plan.initial)?.adapter().clone();
        for (index, (scheduled, planned)) in self.schedule.iter().zip(&plan.rounds).enumerate() {
            let is_last = index + 1 == self.schedule.len();
            let rows::RoundRows { mut chunk, model } = rows::round(scheduled, planned, self.inputs, self.executor)?;
            chunk.evaluations.splice(0..0, before.drain(..));
            if is_last {
                chunk.evaluations.extend(self.local_baselines(&plan, scheduled.number)?);
            }
            chunk.round.update_norm = Some(model.adapter().difference(&previous).norm());
            previous = model.adapter().clone();
            totals.add(&chunk);
            self.save_adapter(chunk.round.round, is_last, model.adapter())?;
            let report = RoundReport {
                row: chunk.round.clone(),
                rounds: self.schedule.len() as u32,
                loss: main_loss(&chunk.evaluations, "global"),
            };
            ledger.append(chunk)?;
            observer.round(&report);
        }
        Ok(ledger.finish()?)
    }

    fn local_baselines(&self, plan: &Plan, round: u32) -> Result<Vec<EvaluationRow>, OrderError> {
        let mut rows = Vec::new();
        for local in &plan.local {
            rows.extend(rows::local_baseline(round, local, self.inputs.test.is_some(), self.executor)?);
        }
        Ok(rows)
    }

    fn save_adapter(&self, round: u32, is_last: bool, adapter: &Adapter) -> Result<(), RunError> {
        let due = self.loaded.scenario.output.save_adapter_every.is_some_and(|every| round.is_multiple_of(every));
        if due || is_last {
            let base = self.loaded.scenario.model.folder.as_ref().and_then(|folder| folder.file_name());
            let base = base.map(|name| name.to_string_lossy());
            let folder = self.folder.join("adapters").join(format!("round-{round:05}"));
            let notes = peft::Notes { base_model: base.unwrap_or_default().into_owned(), ..peft::Notes::default() };
            peft::write_folder(&folder, adapter, &notes)?;
        }
        Ok(())
    }
}

/// What the summary adds up.
#[derive(Default)]
struct Totals {
    loss_before: Option<f64>,
    loss_after: Option<f64>,
    loss_local: Option<f64>,
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
        self.tasks_trained += chunk.tasks.iter().filter(|task| task.steps.is_some()).count() as u64;
        self.dispatched += u64::from(chunk.round.dispatched);
        for task in &chunk.tasks {
            match task.fate.as_str() {
                "counted" => {}
                "late" => self.late += 1,
                "cancelled" => self.cancelled += 1,
                _ => self.dropped += 1,
            }
            self.bytes_down += task.bytes_down;
            self.bytes_up += task.bytes_up;
        }
    }

    fn summary(self, run: PathBuf, digest: Digest, schedule: &[ScheduledRound], began: Instant) -> Summary {
        Summary {
            run,
            digest,
            rounds: schedule.len() as u32,
            loss_before: self.loss_before,
            loss_after: self.loss_after,
            loss_local: self.loss_local,
            simulated_ns: schedule.last().map_or(0, |last| last.round.closed_at.0),
            wall_seconds: began.elapsed().as_secs_f64(),
            tasks_dispatched: self.dispatched,
            tasks_trained: self.tasks_trained,
            tasks_dropped: self.dropped,
            tasks_late: self.late,
            tasks_cancelled: self.cancelled,
            bytes_down: self.bytes_down,
            bytes_up: self.bytes_up,
        }
    }
}

/// The loss that stands for a subject: on the test rows where there are any, else on all held-out rows. Clients trained
/// alone are averaged as clients, each counting once; rows of one model are averaged by their tokens.
fn main_loss(rows: &[EvaluationRow], subject: &str) -> Option<f64> {
    let last = rows.iter().filter(|row| row.subject == subject).map(|row| row.round).max()?;
    let of = |split: &str| {
        let chosen = rows.iter().filter(|row| row.subject == subject && row.split == split && row.round == last);
        let weight = |row: &EvaluationRow| if subject == "local" { 1.0 } else { row.target_tokens as f64 };
        let (sum, total) = chosen.fold((Some(0.0), 0.0), |(sum, total), row| {
            (sum.zip(row.loss).map(|(sum, loss)| sum + loss * weight(row)), total + weight(row))
        });
        sum.filter(|_| total > 0.0).map(|sum| sum / total)
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

/// The determinism grade that the tests show for a device: on a CPU, any number of workers gives the same bits; on a GPU
/// nothing beyond the same machine and settings is claimed.
fn grade(device: Device) -> &'static str {
    match device {
        Device::Cpu => "B",
        Device::Cuda(_) => "A",
    }
}

/// The numerics class as the one line that stands in the manifest.
fn class_text(class: &NumericsClass) -> String {
    format!("{}, LibTorch {}, {:?}, {}", class.device, class.torch, class.precision, class.mode)
}

fn binary_hash() -> Digest {
    // A program that cannot read itself still runs; its hash is then that of nothing.
    let bytes = std::env::current_exe().and_then(fs::read).unwrap_or_default();
    Digest::of(&bytes)
}
