//! Execution of a run: prepares it, begins or resumes it in its folder, computes and writes its rounds, and closes it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use fedreplay_sim::Detail;

use super::certificate::Certificate;
use super::error::{RunError, Unsuitability};
use super::folder::{RunFolder, begun_manifest};
use super::guards::{SECRET_GRADE, SECRET_NOISE, refuse_other_version, refuse_plan, refuse_secret, what_changed};
use super::local_training::Tasks;
use super::observer::Observer;
use super::round_writer::{RoundLoop, ScheduleSource};
use super::training_passes::largest_work;
use super::{certificate, ledger_rows};
use crate::algorithm::{AggregationRule, RuleError};
use crate::graph::{Executor, GraphError};
use crate::inputs::translate::checkpointing;
use crate::inputs::{DeterminismCheck, InputCache, InputError, Inputs, OwnRules, TrainingBatches, most_in_a_pass};
use crate::ledger::{Input, LedgerError, LedgerWriter, Manifest, RunState, SCHEMA_VERSION, TimingRow, write_table};
use crate::model::Device;
use crate::privacy::PrivacyPlan;
use crate::results::{Summary, Totals};
use crate::scenario;
use crate::scenario::Scenario;
use crate::schedule::{Timeline, schedule};
use crate::store::{Store, key_of};
use crate::training::{Grade, Numerics, NumericsClass, is_portable_process, library_hashes};

/// Options of a run. Only `numerics` and `rules` can change a digest.
pub struct RunOptions<'a> {
    pub out: PathBuf,
    pub store: Store,
    pub workers: usize,
    /// Devices to train on, at least one. Each holds its own base model, and workers are distributed over them.
    pub devices: Vec<Device>,
    pub numerics: Numerics,
    /// Where aggregation rules of one's own come from. They are in the keys of what they decide.
    pub rules: OwnRules,
    /// Set from outside to end the run cleanly.
    pub stop: &'a AtomicBool,
}

impl RunOptions<'_> {
    /// Returns the options of a run into the folder `out` with defaults: no store, one worker on the CPU, default
    /// numerics, and no way to stop the run.
    ///
    /// # Examples
    ///
    /// ```
    /// use fedreplay::run::RunOptions;
    /// use fedreplay::store::Store;
    ///
    /// let folder = tempfile::tempdir()?;
    /// let store = Store::open(&folder.path().join("store"))?;
    /// let options = RunOptions { store, workers: 2, ..RunOptions::new(folder.path().join("run")) };
    /// assert_eq!(options.numerics.threads, 1);
    /// assert!(options.store.is_there());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(out: impl Into<PathBuf>) -> Self {
        static NEVER: AtomicBool = AtomicBool::new(false);
        Self {
            out: out.into(),
            store: Store::none(),
            workers: 1,
            devices: vec![Device::Cpu],
            numerics: Numerics::default(),
            rules: OwnRules::default(),
            stop: &NEVER,
        }
    }
}

/// Runs a scenario into a new folder.
///
/// # Errors
/// Anything wrong with the scenario or its inputs, before the folder is made; after that, failures of the machine.
///
/// # Examples
///
/// One round of two clients, trained with LibTorch:
///
/// ```
/// use std::path::Path;
///
/// use fedreplay::ledger::read_table;
/// use fedreplay::run::{RunOptions, run};
/// use fedreplay::scenario::Scenario;
/// use fedreplay::training::init_process;
///
/// // Restarts the process once with the environment variables that LibTorch reads when it is loaded.
/// init_process();
/// let sets = [
///     "rounds=1",
///     "server.protocol.clients_per_round=2",
///     "server.protocol.over_selection=0",
///     "evaluation.local_baseline=false",
/// ];
/// let scenario = Scenario::read(Path::new("scenarios/quickstart.ron"), &sets.map(str::to_owned))?;
/// let folder = tempfile::tempdir()?;
/// let out = folder.path().join("run");
/// let summary = run(&scenario, &RunOptions::new(&out), &mut ())?;
/// assert_eq!(summary.tasks_dispatched, 2);
/// assert_eq!(summary.digest.to_string().len(), 64);
/// assert_eq!(read_table(&out, "tasks")?.num_rows(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn run(scenario: &Scenario, options: &RunOptions, observer: &mut dyn Observer) -> Result<Summary, RunError> {
    run_sharing(scenario, options, &mut InputCache::default(), observer)
}

/// Runs a scenario like [`run`], reusing inputs that earlier runs have loaded.
///
/// # Errors
/// As [`run`].
pub fn run_sharing(
    scenario: &Scenario,
    options: &RunOptions,
    shared: &mut InputCache,
    observer: &mut dyn Observer,
) -> Result<Summary, RunError> {
    let began = Instant::now();
    let prepared = Prepared::new(scenario, options, shared)?;
    let folder = RunFolder::create(&options.out)?;
    prepared.run(scenario, &folder, options, observer, began)
}

/// Resumes a run that was begun in `options.out`. `sets` may set fields that change no result, such as those of `execution`.
///
/// The schedule is simulated again, which needs no training; results that reached the store are read from it.
///
/// # Errors
/// As [`run`]; and if the data, the base model or the machine's arithmetic are not those that the run began with.
pub fn resume(options: &RunOptions, sets: &[String], observer: &mut dyn Observer) -> Result<Summary, RunError> {
    let began = Instant::now();
    let (folder, manifest) = RunFolder::begun(&options.out)?;
    if manifest.state == RunState::Done {
        let reason = Unsuitability::Finished;
        return Err(RunError::Unsuitable { action: "resume", run: options.out.clone(), reason });
    }
    refuse_plan("resume", &options.out, &manifest)?;
    refuse_other_version("resume", &options.out, &manifest)?;
    // Fields that decide no digest, such as which adapters are saved, could otherwise have changed unnoticed.
    manifest.check(&options.out)?;
    let scenario = Scenario::of_run(&options.out, &manifest.scenario_folder, sets)?;
    refuse_secret("resume", &options.out, &manifest)?;
    let mut prepared = Prepared::new(&scenario, options, &mut InputCache::default())?;
    // Earlier rounds were computed under the grade of then, so the run can claim no more than the lower of the two.
    prepared.determinism.grade =
        Grade::named(&manifest.grade).map_or(prepared.determinism.grade, |then| then.min(prepared.determinism.grade));
    let found = prepared.manifest(&scenario).genesis;
    if found != manifest.genesis {
        let change = what_changed(&manifest, &prepared.manifest(&scenario));
        return Err(RunError::Changed { action: "resume", run: options.out.clone(), change });
    }
    // A run that was killed while it was closed has a certificate already.
    let _ = fs::remove_file(folder.path().join("certificate.json"));
    folder.remove_tables()?;
    prepared.run(&scenario, &folder, options, observer, began)
}

/// Run that is ready to be computed: inputs, privacy plan, determinism check and schedule.
pub(crate) struct Prepared {
    pub inputs: Inputs,
    pub privacy: Option<PrivacyPlan>,
    determinism: DeterminismCheck,
    pub batches: TrainingBatches,
    pub source: ScheduleSource,
}

impl Prepared {
    /// Reads all inputs, runs the start-up test of the machine, and simulates the schedule unless it depends on results.
    ///
    /// # Errors
    /// As [`run`], before a folder is made.
    pub fn new(scenario: &Scenario, options: &RunOptions, shared: &mut InputCache) -> Result<Self, RunError> {
        shared.log_doubts(scenario);
        let execution = scenario.scenario.execution;
        // A fault in a rule shows before the base model, which takes long, is loaded.
        let mut of_rule = BTreeMap::new();
        let own_rule = load_rule(scenario, options, &mut of_rule)?;
        let mut inputs = load_inputs(scenario, options, shared)?;
        inputs.own_rule = own_rule;
        inputs.read.append(&mut of_rule);
        scenario.check_clients(inputs.clients.len())?;
        for doubt in scenario.doubts_about_clients(inputs.clients.len()) {
            tracing::warn!("{doubt}");
        }
        let rows: Vec<u64> = inputs.clients.iter().map(|client| client.train.samples.len() as u64).collect();
        let privacy = PrivacyPlan::new(&scenario.scenario, &rows)?;
        if let Some(mark) = privacy.as_ref().and_then(PrivacyPlan::secret_mark) {
            // The mark takes the place of the secret key: two runs with different keys start from different inputs.
            let hash = key_of("fedreplay secret noise v1", &mark).0;
            inputs.read.insert(SECRET_NOISE.into(), Input { path: "operating system".into(), hash });
        }
        let timeline = Timeline::of(scenario, privacy.as_ref(), &inputs.facts, Detail::Events)?;
        let source = match scenario.reads_results() {
            true => ScheduleSource::Live(Box::new(timeline)),
            false => ScheduleSource::Known(schedule(timeline)?),
        };
        let tasks = Tasks { scenario, inputs: &inputs };
        let work = largest_work(&tasks, &source, most_in_a_pass(execution, options.devices[0]));
        let determinism = shared.determinism(&work, &options.store)?;
        let batches = determinism.batches(execution, options.devices[0]);
        Ok(Self { inputs, privacy, determinism, batches, source })
    }

    /// Returns the manifest of the run before it begins.
    pub fn manifest(&self, scenario: &Scenario) -> Manifest {
        let begun = begun_manifest(scenario, &self.inputs.read);
        let numerics_class = class_text(self.inputs.trainer().numerics_class(), self.batches);
        let hashes: BTreeMap<_, _> = self.inputs.read.iter().map(|(role, input)| (role.clone(), input.hash)).collect();
        let genesis = certificate::genesis(SCHEMA_VERSION, begun.scenario_hash, &hashes, &numerics_class);
        Manifest {
            left_out: self.inputs.left_out.clone(),
            numerics: self.determinism.record(&self.inputs.trainers),
            numerics_class,
            genesis,
            grade: match self.privacy.as_ref().and_then(PrivacyPlan::secret_mark) {
                Some(_) => SECRET_GRADE.into(),
                // Nothing shows that a rule of one's own is computed alike on other processors, or with other numbers of threads.
                None if self.inputs.own_rule.is_some() => self.determinism.grade.min(Grade::A).to_string(),
                None => self.determinism.grade.to_string(),
            },
            rounds: match &self.source {
                ScheduleSource::Known(schedule) => schedule.len() as u32,
                // Rounds of the scenario; replaced at the end by the number of rounds of all aggregators.
                ScheduleSource::Live(_) => begun.rounds,
            },
            ..begun
        }
    }

    /// Computes and writes the run into its folder.
    pub fn run(
        self,
        scenario: &Scenario,
        folder: &RunFolder,
        options: &RunOptions,
        observer: &mut dyn Observer,
        began: Instant,
    ) -> Result<Summary, RunError> {
        let mut manifest = self.manifest(scenario);
        folder.begin(&mut manifest, &scenario.resolved_text())?;
        options.store.register(folder.path())?;
        let population = ledger_rows::population(&self.inputs.facts);
        let ledger = LedgerWriter::start(folder.path(), manifest.genesis, population)?;
        let Prepared { inputs, privacy, batches, source, .. } = self;
        let computes = inputs.computes(scenario, &options.store, options.stop);
        let (together, keyed) = match batches {
            TrainingBatches::Ready(most) => (most, None),
            TrainingBatches::Keyed(most) => (1, Some(most)),
        };
        let executor = Executor::new(&computes, &options.store, options.stop, together);
        observer.working(executor.counters());
        let mut round_loop = RoundLoop {
            scenario,
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
        let digest = executor.run(options.workers, || round_loop.run(source))?;
        let totals = round_loop.totals;
        write_timing(folder.path(), &executor)?;
        manifest.state = RunState::Done;
        manifest.rounds = totals.rounds;
        manifest.digest = Some(digest);
        let spent = privacy.map(|privacy| privacy.spent(scenario.scenario.rounds, manifest.rounds));
        let summary = Summary { privacy: spent, ..totals.summary(folder.path().to_owned(), digest, began) };
        // The manifest is written last, so that a run that is marked as done is complete, wherever the program was killed.
        summary.write()?;
        Certificate::of(folder.path(), &manifest, library_hashes())?.write(folder.path())?;
        manifest.list_files(folder.path())?;
        manifest.write(folder.path())?;
        Ok(summary)
    }
}

/// Loads the aggregation rule of one's own that the scenario names, and adds what decides its results to `read`.
fn load_rule(
    scenario: &Scenario,
    options: &RunOptions,
    read: &mut BTreeMap<String, Input>,
) -> Result<Option<Arc<dyn AggregationRule>>, RunError> {
    options.rules.load(scenario, read, options.stop).map_err(|error| match error {
        InputError::Rule(RuleError::Interrupted) => RunError::Graph(GraphError::Interrupted),
        error => error.into(),
    })
}

/// Checks a scenario and its inputs as a run would before it begins, except for the weights of the base model and the machine.
///
/// # Errors
/// As [`run`], before a folder is made.
pub(super) fn check(scenario: &Scenario, options: &RunOptions, shared: &mut InputCache) -> Result<(), RunError> {
    load_rule(scenario, options, &mut BTreeMap::new())?;
    let clients = Inputs::check(scenario, &options.store, shared)?;
    scenario.check_clients(clients.facts.len())?;
    let rows: Vec<u64> = clients.facts.iter().map(|client| client.train_rows.into()).collect();
    let privacy = PrivacyPlan::new(&scenario.scenario, &rows)?;
    Timeline::of(scenario, privacy.as_ref(), &clients, Detail::Tasks)?;
    Ok(())
}

/// Loads the inputs of a run with the arithmetic that its scenario asks for.
fn load_inputs(scenario: &Scenario, options: &RunOptions, shared: &mut InputCache) -> Result<Inputs, RunError> {
    let execution = scenario.scenario.execution;
    let portable = execution.numerics == scenario::NumericsSpec::Portable;
    if portable && !is_portable_process() {
        return Err(RunError::NotStartedPortably);
    }
    let passes = options.workers.div_ceil(options.devices.len());
    let checkpointing = checkpointing(execution, passes);
    let by_libtorch = execution.kernels == scenario::Kernels::LibTorch;
    let numerics = Numerics { checkpointing, portable, by_libtorch, ..options.numerics.clone() };
    let inputs = Inputs::load(scenario, &options.devices, &numerics, &options.store, shared)?;
    let class = inputs.trainer().numerics_class();
    if portable && !class.is_portable() {
        return Err(RunError::NotPortable { device: class.device.to_string() });
    }
    Ok(inputs)
}

/// Writes the wall-clock time of each node, which is outside of all hashes.
fn write_timing(folder: &Path, executor: &Executor) -> Result<(), LedgerError> {
    let mut rows = Vec::new();
    for finished in executor.finished() {
        rows.push(TimingRow {
            order: finished.id.index() as u64,
            kind: finished.kind.into(),
            key: finished.key.to_string(),
            from_store: finished.from_store,
            seconds: finished.seconds,
        });
    }
    rows.sort_by_key(|row| row.order);
    write_table(&folder.join("timing").join("orders.parquet"), &rows)
}

/// Returns the numerics class as the one line of the manifest, with the grouping of trainings if that is part of keys.
pub(super) fn class_text(class: &NumericsClass, batches: TrainingBatches) -> String {
    let grouping = match batches {
        TrainingBatches::Ready(_) => String::new(),
        TrainingBatches::Keyed(most) => format!(", {most} clients in a pass"),
    };
    format!("{}, LibTorch {}, {:?}, {}{grouping}", class.device, class.torch, class.precision, class.mode)
}
