//! Plan of a scenario: simulates its virtual time without weights, training or LibTorch.
//!
//! Policies that read results get [`STAND_IN_LOSS`] for every task; all others decide as they do in a run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use fedreplay_sim::{Detail, Outcome, Record, RoundRecord, RoundStatus, TaskRecord};

use super::error::{RunError, Unsuitability};
use super::folder::{RunFolder, begun_manifest};
use super::guards::{refuse_other_version, what_changed};
use super::ledger_rows;
use super::observer::PlanWatch;
use crate::graph::GraphError;
use crate::inputs::PlanInputs;
use crate::ledger::{
    LedgerError, LedgerStream, LeftOut, Manifest, RepeatRow, RoundRow, RunKind, RunState, SCHEMA_VERSION, path_as_text,
};
use crate::privacy::{PrivacyPlan, Spent};
use crate::results::{Bands, Moved, Traffic};
use crate::scenario::Scenario;
use crate::schedule::{Clients, Next, STAND_IN_LOSS, Timeline};
use crate::store::{Digest, key_of};

/// Tables that a plan fills. Virtual time does not depend on the choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub enum PlanDetail {
    Rounds,
    Tasks,
    Events,
}

/// Numerics class of a plan: virtual time is computed in integers.
pub(super) const NUMERICS: &str = "integers";

/// Grade of a plan.
pub(super) const PLAN_GRADE: &str = "C";

/// All details.
const DETAILS: [PlanDetail; 3] = [PlanDetail::Rounds, PlanDetail::Tasks, PlanDetail::Events];

/// Options of a plan.
pub struct PlanSettings<'a> {
    /// Folder for the tables; `None` writes no tables.
    pub out: Option<PathBuf>,
    pub detail: PlanDetail,
    /// [repeats] -- Number of times to simulate the schedule, with other draws of chance from the second time on; `None` for no repeats.
    pub repeats: Option<u32>,
    /// Set from outside to end the plan.
    pub stop: &'a AtomicBool,
}

/// [records] -- Interval between two reports of progress.
const REPORT_EVERY: u64 = 1 << 14;

fn optional_path_as_text<S: serde::Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => path_as_text(path, serializer),
        None => serializer.serialize_none(),
    }
}

/// Figures of a plan.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct PlanSummary {
    #[serde(serialize_with = "optional_path_as_text")]
    pub run: Option<PathBuf>,
    pub digest: Option<Digest>,
    pub rounds: u32,
    /// Number of failed rounds, by reason.
    pub failed: BTreeMap<&'static str, u32>,
    pub simulated_ns: u64,
    /// [ns] -- Shortest, median and longest round of all aggregators.
    pub round_ns: Option<[u64; 3]>,
    pub clients: u64,
    /// Rows of the data that take no part, by the role of their file.
    pub left_out: BTreeMap<String, LeftOut>,
    /// Number of clients that got at least one task.
    pub clients_asked: u64,
    /// Number of clients with at least one update that counted.
    pub clients_counted: u64,
    /// Maximum number of tasks of one client.
    pub tasks_per_client_max: u32,
    pub tasks: u64,
    /// Number of tasks, by outcome.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// [versions] -- Mean staleness of the updates that counted.
    pub staleness_mean: Option<f64>,
    #[serde(flatten)]
    pub moved: Moved,
    /// [FLOP] -- Work of all devices.
    pub compute_flops: f64,
    /// [FLOP] -- Work of the tasks that counted, which is what a run trains.
    pub counted_flops: f64,
    /// [h] -- Virtual time that devices spent on training.
    pub training_hours: f64,
    /// [h] -- Virtual time that devices spent on tasks.
    pub busy_hours: f64,
    pub energy_kwh: f64,
    /// [g] -- CO2 of that energy; `None` if the scenario counts none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carbon_g: Option<f64>,
    /// [ns] -- Least and greatest training time of a task without slowdown, by device class with a profile.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub measured_training_ns: BTreeMap<String, [u64; 2]>,
    /// [nat/token] -- Loss used in place of real ones, if client selection reads losses.
    pub stand_in_loss: Option<f64>,
    /// Privacy that the run would spend; `None` without differential privacy.
    pub privacy: Option<Spent>,
    /// Figures of the repeats; `None` without repeats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bands: Option<Bands>,
    pub wall_seconds: f64,
}

/// Simulates the schedule of a scenario.
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
/// use fedreplay::scenario::Scenario;
///
/// let scenario = Scenario::read(Path::new("scenarios/quickstart.ron"), &[])?;
/// let folder = tempfile::tempdir()?;
/// let out = folder.path().join("plan");
/// let stop = AtomicBool::new(false);
/// let settings = PlanSettings { out: Some(out.clone()), detail: PlanDetail::Tasks, repeats: None, stop: &stop };
/// let summary = plan(&scenario, &settings, &mut ())?;
/// assert_eq!(summary.rounds, 12);
/// assert_eq!(read_table(&out, "tasks")?.num_rows() as u64, summary.tasks);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn plan(scenario: &Scenario, settings: &PlanSettings, watch: &mut dyn PlanWatch) -> Result<PlanSummary, RunError> {
    let inputs = PlanInputs::load(scenario)?;
    let tables = settings.out.as_deref().map(|out| (settings.detail, || RunFolder::create(out)));
    run(scenario, &inputs, tables, settings.repeats, settings.stop, watch)
}

/// Repeats an interrupted plan in its folder and with its tables. `sets` may set fields that change no result.
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
    if manifest.state == RunState::Done {
        let reason = Unsuitability::Finished;
        return Err(RunError::Unsuitable { action: "resume", run: out.to_owned(), reason });
    }
    refuse_other_version("resume", out, &manifest)?;
    manifest.check(out)?;
    let scenario = Scenario::of_run(out, &manifest.scenario_folder, sets)?;
    let inputs = PlanInputs::load(&scenario)?;
    // The detail is part of the genesis and recorded nowhere else, so it is found by trying the three of them.
    let repeats = manifest.repeats;
    let Some(detail) =
        DETAILS.into_iter().find(|&detail| genesis(&scenario, &inputs, detail, repeats) == manifest.genesis)
    else {
        let now = self::manifest(&scenario, &inputs, PlanDetail::Events, repeats);
        let change = what_changed(&manifest, &now);
        return Err(RunError::Changed { action: "resume", run: out.to_owned(), change });
    };
    folder.remove_tables()?;
    run(&scenario, &inputs, Some((detail, || Ok(folder))), repeats, stop, watch)
}

/// Simulates the schedule, into tables if `tables` is given. Their folder is created once everything else has been checked.
fn run(
    scenario: &Scenario,
    inputs: &PlanInputs,
    tables: Option<(PlanDetail, impl FnOnce() -> Result<RunFolder, RunError>)>,
    repeats: Option<u32>,
    stop: &AtomicBool,
    watch: &mut dyn PlanWatch,
) -> Result<PlanSummary, RunError> {
    let began = Instant::now();
    scenario.check_clients(inputs.clients.facts.len())?;
    let rows: Vec<u64> = inputs.clients.facts.iter().map(|client| client.train_rows.into()).collect();
    let privacy = PrivacyPlan::new(&scenario.scenario, &rows)?;
    // Before the folder is made, so that an interruption leaves nothing.
    let repeated = super::repeats::repeats(scenario, inputs, privacy.as_ref(), repeats.unwrap_or(0), stop, watch)?;
    // The figures need every task; only the events can be spared.
    let has_events = matches!(&tables, Some((PlanDetail::Events, _)));
    let detail = if has_events { Detail::Events } else { Detail::Tasks };
    let mut timeline = Timeline::of(scenario, privacy.as_ref(), &inputs.clients, detail)?;
    let mut record = match tables {
        Some((detail, folder)) => Some(Tables::start(folder()?, scenario, inputs, detail, repeats, &repeated)?),
        None => None,
    };
    let mut figures = Figures::new(&inputs.clients);
    for count in 1u64.. {
        if count.is_multiple_of(REPORT_EVERY) {
            let summary = &figures.summary;
            watch.progress(summary.rounds, scenario.scenario.rounds, summary.tasks, timeline.events());
        }
        if stop.load(Ordering::Relaxed) {
            return Err(GraphError::Interrupted.into());
        }
        match timeline.next()? {
            Next::Record(next) => {
                figures.add(&next);
                if let Some(tables) = &mut record {
                    tables.add(&next, &figures, privacy.as_ref())?;
                }
                figures.end_round(&next);
            }
            Next::Needs(task) => timeline.supply(task, STAND_IN_LOSS),
            Next::End => break,
        }
    }
    let mut summary = figures.finish();
    summary.left_out = inputs.left_out.clone();
    summary.measured_training_ns = inputs.clients.measured_times();
    summary.privacy = privacy.map(|privacy| privacy.spent(scenario.scenario.rounds, summary.rounds));
    summary.stand_in_loss = scenario.reads_results().then_some(STAND_IN_LOSS);
    summary.bands = Bands::of(&repeated);
    if let Some(tables) = record {
        summary.run = Some(tables.folder.path().to_owned());
        summary.digest = Some(tables.finish(summary.rounds)?);
    }
    summary.wall_seconds = began.elapsed().as_secs_f64();
    Ok(summary)
}

/// Tables of a plan in its folder, with its manifest.
struct Tables {
    folder: RunFolder,
    manifest: Manifest,
    ledger: LedgerStream,
    detail: PlanDetail,
}

impl Tables {
    fn start(
        folder: RunFolder,
        scenario: &Scenario,
        inputs: &PlanInputs,
        detail: PlanDetail,
        repeats: Option<u32>,
        repeated: &[RepeatRow],
    ) -> Result<Self, RunError> {
        let mut manifest = manifest(scenario, inputs, detail, repeats);
        folder.begin(&mut manifest, &scenario.resolved_text())?;
        let population = ledger_rows::population(&inputs.clients);
        let ledger = LedgerStream::start(folder.path(), manifest.genesis, population, repeated)?;
        Ok(Self { folder, manifest, ledger, detail })
    }

    /// Adds a record; `figures` have it already.
    fn add(&mut self, record: &Record, figures: &Figures, privacy: Option<&PrivacyPlan>) -> Result<(), LedgerError> {
        match record {
            Record::Event(event) if self.detail == PlanDetail::Events => self.ledger.event(ledger_rows::event(event)),
            Record::Task(task) if self.detail >= PlanDetail::Tasks => {
                self.ledger.task(ledger_rows::timed_task(figures.clients, task))
            }
            Record::Round(record) => {
                let round = figures.summary.rounds;
                let epsilon_spent = privacy.map(|privacy| privacy.epsilon(round));
                let carbon_ug = figures.clients.carbon.as_ref().map(|_| figures.round_carbon_ug);
                self.ledger.round(RoundRow { epsilon_spent, carbon_ug, ..ledger_rows::timed_round(record, round) })
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

/// Returns the start of a plan's digest chain.
fn genesis(scenario: &Scenario, inputs: &PlanInputs, detail: PlanDetail, repeats: Option<u32>) -> Digest {
    let hashes = inputs.read.iter().map(|(role, input)| (role.clone(), input.hash)).collect();
    genesis_of(SCHEMA_VERSION, scenario.identity().0, &hashes, detail, repeats)
}

fn genesis_of(
    schema: u32,
    scenario: Digest,
    inputs: &BTreeMap<String, Digest>,
    detail: PlanDetail,
    repeats: Option<u32>,
) -> Digest {
    match repeats {
        None => key_of("fedreplay plan genesis v1", &(schema, scenario, inputs, detail)).0,
        Some(repeats) => key_of("fedreplay repeated plan genesis v1", &(schema, scenario, inputs, detail, repeats)).0,
    }
}

/// Returns the starts that the digest chain of a plan with this version of its tables may have, one for each detail of them.
pub(super) fn geneses(
    schema: u32,
    scenario: Digest,
    inputs: &BTreeMap<String, Digest>,
    repeats: Option<u32>,
) -> [Digest; 3] {
    DETAILS.map(|detail| genesis_of(schema, scenario, inputs, detail, repeats))
}

fn manifest(scenario: &Scenario, inputs: &PlanInputs, detail: PlanDetail, repeats: Option<u32>) -> Manifest {
    Manifest {
        kind: RunKind::Plan,
        left_out: inputs.left_out.clone(),
        repeats,
        numerics_class: NUMERICS.into(),
        genesis: genesis(scenario, inputs, detail, repeats),
        grade: PLAN_GRADE.into(),
        ..begun_manifest(scenario, &inputs.read)
    }
}

/// Running totals of a schedule.
struct Figures<'a> {
    clients: &'a Clients,
    summary: PlanSummary,
    round_ns: Vec<u64>,
    /// Tasks of each client, and how many of them counted.
    by_client: Vec<(u32, u32)>,
    staleness: u64,
    training_ns: u128,
    busy_ns: u128,
    energy_mj: u128,
    /// [µg] -- Carbon of all tasks.
    carbon_ug: u128,
    /// [µg] -- Carbon of the tasks since the end of the last round.
    round_carbon_ug: u64,
    traffic: Traffic,
}

impl<'a> Figures<'a> {
    fn new(clients: &'a Clients) -> Self {
        let count = clients.facts.len();
        let summary = PlanSummary { clients: count as u64, ..PlanSummary::default() };
        let by_client = vec![(0, 0); count];
        Self {
            clients,
            summary,
            round_ns: vec![],
            by_client,
            staleness: 0,
            training_ns: 0,
            busy_ns: 0,
            energy_mj: 0,
            carbon_ug: 0,
            round_carbon_ug: 0,
            traffic: Traffic::default(),
        }
    }

    fn add(&mut self, record: &Record) {
        match record {
            Record::Event(_) => {}
            Record::Task(task) => self.add_task(task),
            Record::Round(round) => self.add_round(round),
        }
    }

    /// Adds a task that has ended.
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
        self.traffic.add_task(task.aggregator, task.into());
        summary.compute_flops += task.compute_flops as f64;
        // Sums over millions of tasks may need more than 64 bits.
        self.training_ns += u128::from(task.training_ns);
        self.busy_ns += u128::from(task.ended_at.0 - task.dispatched_at.0);
        self.energy_mj += u128::from(task.energy_mj);
        if let Some(carbon_ug) = self.clients.carbon_ug(task) {
            self.carbon_ug += u128::from(carbon_ug);
            self.round_carbon_ug = self.round_carbon_ug.saturating_add(carbon_ug);
        }
    }

    /// Begins the sums of the next round, if the record is the end of one.
    fn end_round(&mut self, record: &Record) {
        if matches!(record, Record::Round(_)) {
            self.round_carbon_ug = 0;
        }
    }

    /// Adds a round that has ended.
    fn add_round(&mut self, round: &RoundRecord) {
        self.summary.rounds += 1;
        self.traffic.add_round(round.aggregator, round.into());
        self.summary.simulated_ns = round.closed_at.0;
        self.round_ns.push(round.closed_at.0 - round.opened_at.0);
        if let RoundStatus::Failed(failure) = round.status {
            *self.summary.failed.entry(failure.name()).or_default() += 1;
        }
    }

    /// Returns the figures of the whole schedule.
    fn finish(mut self) -> PlanSummary {
        self.round_ns.sort_unstable();
        if let (Some(&least), Some(&most)) = (self.round_ns.first(), self.round_ns.last()) {
            self.summary.round_ns = Some([least, self.round_ns[self.round_ns.len() / 2], most]);
        }
        for &(asked, counted) in &self.by_client {
            self.summary.clients_asked += u64::from(asked > 0);
            self.summary.clients_counted += u64::from(counted > 0);
            self.summary.tasks_per_client_max = self.summary.tasks_per_client_max.max(asked);
        }
        let counted = self.summary.outcomes.get(Outcome::Counted.name()).copied().unwrap_or(0);
        self.summary.moved = self.traffic.total();
        // From [ns] to [h], and from [mJ] to [kWh].
        self.summary.training_hours = self.training_ns as f64 / 3.6e12;
        self.summary.busy_hours = self.busy_ns as f64 / 3.6e12;
        self.summary.energy_kwh = self.energy_mj as f64 / 3.6e9;
        self.summary.carbon_g = self.clients.carbon.as_ref().map(|_| self.carbon_ug as f64 / 1e6);
        self.summary.staleness_mean = (counted > 0).then(|| self.staleness as f64 / counted as f64);
        self.summary
    }
}
