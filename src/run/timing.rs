//! Plays a scenario for its times alone: no weights, no training, no LibTorch.
//!
//! Policies that read results get [`STAND_IN_LOSS`] for each; all others decide as they do in a run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use fedreplay_sim::{Detail, Outcome, Record, RoundRecord, RoundStatus, TaskRecord};

use super::folder::RunFolder;
use super::inputs::PlanInputs;
use super::play::{binary_hash, what_changed};
use super::privacy::{Protection, Spent};
use super::timeline::{Next, Timeline};
use super::{RunError, rows};
use crate::ledger::{LedgerError, LedgerStream, Manifest, RoundRow, RunKind, RunState, SCHEMA_VERSION};
use crate::lineage::OrderError;
use crate::scenario::Loaded;
use crate::store::{Digest, key_of};

/// [nats/token] What a plan says of every task to a policy that reads its loss.
pub const STAND_IN_LOSS: f64 = 1.0;

/// Which tables a plan fills. Times do not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub enum PlanDetail {
    Rounds,
    Tasks,
    Events,
}

/// How to plan.
pub struct PlanSettings<'a> {
    /// Folder for the tables; none writes nothing.
    pub out: Option<PathBuf>,
    pub detail: PlanDetail,
    /// Set from outside to end the plan.
    pub stop: &'a AtomicBool,
}

/// Watches a plan.
pub trait PlanWatch {
    /// Called now and then: so many rounds have ended of those that the scenario asks for, after so many tasks and events.
    fn progress(&mut self, rounds: u32, of: u32, tasks: u64, events: u64);
}

/// Nobody watches.
impl PlanWatch for () {
    fn progress(&mut self, _: u32, _: u32, _: u64, _: u64) {}
}

/// [records] How often a plan tells how far it is.
const TOLD_EVERY: u64 = 1 << 14;

/// A plan in figures.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct PlanSummary {
    pub run: Option<PathBuf>,
    pub digest: Option<Digest>,
    pub rounds: u32,
    /// Rounds that failed, by reason.
    pub failed: BTreeMap<&'static str, u32>,
    pub simulated_ns: u64,
    /// [ns] Shortest, median and longest round of all aggregators.
    pub round_ns: Option<[u64; 3]>,
    pub clients: u64,
    /// Clients that were asked at least once, and those of which an update counted.
    pub clients_asked: u64,
    pub clients_counted: u64,
    /// Most tasks that one client was given.
    pub tasks_per_client_max: u32,
    pub tasks: u64,
    /// Tasks by how they ended.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// [versions] Mean staleness of the updates that counted.
    pub staleness_mean: Option<f64>,
    pub bytes_down: u64,
    pub bytes_up: u64,
    /// [FLOP] Done by all devices.
    pub compute_flops: f64,
    /// [FLOP] The part of it that a run trains: of tasks that counted.
    pub counted_flops: f64,
    /// [hours] Virtual time that devices trained, and that they spent on tasks.
    pub training_hours: f64,
    pub busy_hours: f64,
    pub energy_kwh: f64,
    /// [nats/token] What stood for losses, where selection reads them.
    pub stand_in_loss: Option<f64>,
    /// What differential privacy would come to, where there is any.
    pub privacy: Option<Spent>,
    pub wall_seconds: f64,
}

/// Plays the schedule of a scenario.
///
/// # Errors
/// Anything wrong with the scenario, its data or its model's shape; and failures of the machine while tables are written.
///
/// # Examples
///
/// ```
/// use std::path::Path;
/// use std::sync::atomic::AtomicBool;
///
/// use fedreplay::ledger::read_table;
/// use fedreplay::run::{PlanDetail, PlanSettings, plan};
/// use fedreplay::scenario::Loaded;
///
/// let scenario = Loaded::read(Path::new("scenarios/quickstart.ron"), &[])?;
/// let folder = tempfile::tempdir()?;
/// let out = folder.path().join("plan");
/// let settings = PlanSettings { out: Some(out.clone()), detail: PlanDetail::Tasks, stop: &AtomicBool::new(false) };
/// let summary = plan(&scenario, &settings, &mut ())?;
/// assert_eq!(summary.rounds, 12);
/// assert_eq!(read_table(&out, "tasks")?.num_rows() as u64, summary.tasks);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn plan(loaded: &Loaded, settings: &PlanSettings, watch: &mut dyn PlanWatch) -> Result<PlanSummary, RunError> {
    let inputs = PlanInputs::load(loaded)?;
    let tables = settings.out.as_deref().map(|out| (settings.detail, || RunFolder::create(out)));
    play(loaded, &inputs, tables, settings.stop, watch)
}

/// Plays a plan that was interrupted again, into its folder and with its tables. `sets` change no result.
///
/// # Errors
/// As [`plan`]; and if it is finished, or what it was made from has changed.
pub fn resume_plan(
    out: &Path,
    sets: &[String],
    stop: &AtomicBool,
    watch: &mut dyn PlanWatch,
) -> Result<PlanSummary, RunError> {
    let (folder, manifest) = RunFolder::begun(out)?;
    let refuse = |what: String| Err(RunError::Usage(format!("failed to resume {}: {what}", out.display())));
    if manifest.state == RunState::Done {
        return refuse("the plan is finished".into());
    }
    manifest.check(out)?;
    let loaded = Loaded::of_run(out, &manifest.scenario_folder, sets)?;
    let inputs = PlanInputs::load(&loaded)?;
    let details = [PlanDetail::Rounds, PlanDetail::Tasks, PlanDetail::Events];
    let Some(detail) = details.into_iter().find(|&detail| genesis(&loaded, &inputs, detail) == manifest.genesis) else {
        return refuse(what_changed(&manifest, &self::manifest(&loaded, &inputs, PlanDetail::Events)));
    };
    folder.remove_tables()?;
    play(&loaded, &inputs, Some((detail, || Ok(folder))), stop, watch)
}

/// Plays the schedule, into tables if there shall be any. Their folder is asked for when all else was found to be right.
fn play(
    loaded: &Loaded,
    inputs: &PlanInputs,
    tables: Option<(PlanDetail, impl FnOnce() -> Result<RunFolder, RunError>)>,
    stop: &AtomicBool,
    watch: &mut dyn PlanWatch,
) -> Result<PlanSummary, RunError> {
    let began = Instant::now();
    loaded.check_clients(inputs.clients.facts.len()).map_err(RunError::Usage)?;
    let rows: Vec<u64> = inputs.clients.facts.iter().map(|client| client.train_rows.into()).collect();
    let privacy = Protection::new(&loaded.scenario, &rows)?;
    // The figures need every task; only the events can be spared.
    let has_events = matches!(&tables, Some((PlanDetail::Events, _)));
    let detail = if has_events { Detail::Events } else { Detail::Tasks };
    let mut timeline = Timeline::of(loaded, privacy.as_ref(), &inputs.clients, detail)?;
    let mut record = match tables {
        Some((detail, folder)) => Some(Tables::start(folder()?, loaded, inputs, detail)?),
        None => None,
    };
    let mut figures = Figures::new(inputs.clients.facts.len());
    for count in 1u64.. {
        if count.is_multiple_of(TOLD_EVERY) {
            let (summary, of) = (&figures.summary, loaded.scenario.rounds);
            watch.progress(summary.rounds, of, summary.tasks, timeline.events());
        }
        if stop.load(Ordering::Relaxed) {
            return Err(OrderError::Interrupted.into());
        }
        match timeline.next()? {
            Next::Record(next) => {
                figures.add(&next);
                if let Some(tables) = &mut record {
                    tables.add(&next, figures.summary.rounds, privacy.as_ref())?;
                }
            }
            Next::Needs(task) => timeline.supply(task, STAND_IN_LOSS),
            Next::End => break,
        }
    }
    let mut summary = figures.finish();
    summary.privacy = privacy.map(|privacy| privacy.spent(loaded.scenario.rounds, summary.rounds));
    summary.stand_in_loss = loaded.reads_results().then_some(STAND_IN_LOSS);
    if let Some(tables) = record {
        summary.run = Some(tables.folder.path().to_owned());
        summary.digest = Some(tables.finish(summary.rounds)?);
    }
    summary.wall_seconds = began.elapsed().as_secs_f64();
    Ok(summary)
}

/// The tables of a plan, and what is written beside them.
struct Tables {
    folder: RunFolder,
    manifest: Manifest,
    ledger: LedgerStream,
    detail: PlanDetail,
}

impl Tables {
    fn start(folder: RunFolder, loaded: &Loaded, inputs: &PlanInputs, detail: PlanDetail) -> Result<Self, RunError> {
        let mut manifest = manifest(loaded, inputs, detail);
        folder.begin(&mut manifest, &loaded.resolved_text())?;
        let population = rows::population(&inputs.clients);
        let ledger = LedgerStream::start(folder.path(), manifest.genesis, population)?;
        Ok(Self { folder, manifest, ledger, detail })
    }

    /// Adds a record; `round` is the number of rounds that have ended, this one included.
    fn add(&mut self, record: &Record, round: u32, privacy: Option<&Protection>) -> Result<(), LedgerError> {
        match record {
            Record::Event(event) if self.detail == PlanDetail::Events => self.ledger.event(rows::event(event)),
            Record::Task(task) if self.detail >= PlanDetail::Tasks => self.ledger.task(rows::timed_task(task)),
            Record::Round(record) => {
                let epsilon_spent = privacy.map(|privacy| privacy.epsilon(round));
                self.ledger.round(RoundRow { epsilon_spent, ..rows::timed_round(record, round) })
            }
            _ => Ok(()),
        }
    }

    fn finish(self, rounds: u32) -> Result<Digest, RunError> {
        let Self { folder, mut manifest, ledger, .. } = self;
        let digest = ledger.finish()?;
        manifest.state = RunState::Done;
        manifest.rounds = rounds;
        manifest.digest = Some(digest);
        manifest.list_files(folder.path())?;
        manifest.write(folder.path())?;
        Ok(digest)
    }
}

/// What the digests of a plan are chained from.
fn genesis(loaded: &Loaded, inputs: &PlanInputs, detail: PlanDetail) -> Digest {
    let hashes: BTreeMap<_, _> = inputs.read.iter().map(|(role, input)| (role.clone(), input.hash)).collect();
    key_of("fedreplay plan genesis v1", &(SCHEMA_VERSION, loaded.identity().0, hashes, detail)).0
}

fn manifest(loaded: &Loaded, inputs: &PlanInputs, detail: PlanDetail) -> Manifest {
    Manifest {
        schema_version: SCHEMA_VERSION,
        fedreplay_version: env!("CARGO_PKG_VERSION").into(),
        kind: RunKind::Plan,
        state: RunState::Running,
        name: loaded.scenario.name.clone(),
        seed: loaded.scenario.seed,
        scenario_hash: loaded.identity().0,
        scenario_folder: std::path::absolute(&loaded.folder).unwrap_or_else(|_| loaded.folder.clone()),
        inputs: inputs.read.clone(),
        binary_hash: binary_hash(),
        numerics: serde_json::Value::Null,
        // Virtual time is whole numbers.
        numerics_class: "integers".into(),
        genesis: genesis(loaded, inputs, detail),
        grade: "C".into(),
        rounds: loaded.scenario.rounds,
        digest: None,
        files: BTreeMap::new(),
        seal: None,
    }
}

/// Adds up a schedule as it passes by.
struct Figures {
    summary: PlanSummary,
    round_ns: Vec<u64>,
    /// Tasks of each client, and how many of them counted.
    by_client: Vec<(u32, u32)>,
    staleness: u64,
    training_ns: u128,
    busy_ns: u128,
    energy_mj: u128,
}

impl Figures {
    fn new(clients: usize) -> Self {
        let summary = PlanSummary { clients: clients as u64, ..PlanSummary::default() };
        let by_client = vec![(0, 0); clients];
        Self { summary, round_ns: vec![], by_client, staleness: 0, training_ns: 0, busy_ns: 0, energy_mj: 0 }
    }

    fn add(&mut self, record: &Record) {
        match record {
            Record::Event(_) => {}
            Record::Task(task) => self.add_task(task),
            Record::Round(round) => self.add_round(round),
        }
    }

    fn add_task(&mut self, task: &TaskRecord) {
        let summary = &mut self.summary;
        let (asked, counted) = &mut self.by_client[task.client as usize];
        *asked += 1;
        if task.outcome == Outcome::Counted {
            *counted += 1;
            self.staleness += u64::from(task.staleness);
            summary.counted_flops += task.compute_flops as f64;
        }
        summary.tasks += 1;
        *summary.outcomes.entry(task.outcome.name()).or_default() += 1;
        summary.bytes_down += task.bytes_down;
        summary.bytes_up += task.bytes_up;
        summary.compute_flops += task.compute_flops as f64;
        self.training_ns += u128::from(task.training_ns);
        self.busy_ns += u128::from(task.ended_at.0 - task.dispatched_at.0);
        self.energy_mj += u128::from(task.energy_mj);
    }

    fn add_round(&mut self, round: &RoundRecord) {
        self.summary.rounds += 1;
        self.summary.simulated_ns = round.closed_at.0;
        self.round_ns.push(round.closed_at.0 - round.opened_at.0);
        if let RoundStatus::Failed(failure) = round.status {
            *self.summary.failed.entry(failure.name()).or_default() += 1;
        }
    }

    fn finish(mut self) -> PlanSummary {
        self.round_ns.sort_unstable();
        if let (Some(&least), Some(&most)) = (self.round_ns.first(), self.round_ns.last()) {
            self.summary.round_ns = Some([least, self.round_ns[self.round_ns.len() / 2], most]);
        }
        let clients =
            |holds: fn(&(u32, u32)) -> bool| self.by_client.iter().filter(|tasks| holds(tasks)).count() as u64;
        self.summary.clients_asked = clients(|(asked, _)| *asked > 0);
        self.summary.clients_counted = clients(|(_, counted)| *counted > 0);
        self.summary.tasks_per_client_max = self.by_client.iter().map(|(asked, _)| *asked).max().unwrap_or(0);
        let counted = self.summary.outcomes.get(Outcome::Counted.name()).copied().unwrap_or(0);
        self.summary.training_hours = self.training_ns as f64 / 3.6e12;
        self.summary.busy_hours = self.busy_ns as f64 / 3.6e12;
        self.summary.energy_kwh = self.energy_mj as f64 / 3.6e9;
        self.summary.staleness_mean = (counted > 0).then(|| self.staleness as f64 / counted as f64);
        self.summary
    }
}
