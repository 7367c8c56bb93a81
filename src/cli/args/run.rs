//! Options shared by all commands that execute a run.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::errors::CommandError;
use crate::cli::output::progress::ProgressDisplay;
use crate::cli::output::signals::STOP;
use fedreplay::inputs::OwnRules;
use fedreplay::model::Device;
use fedreplay::run::{RunOptions, refuse_inside_run};
use fedreplay::scenario::Scenario;
use fedreplay::store::Store;
use fedreplay::training::Numerics;

/// Description of a run's first steps, shown as progress.
pub const BEGINNING: &str = "reading data, loading the base model, testing the machine";

/// The scenario of a command, and changes to it.
#[derive(Args)]
pub struct ScenarioFileArguments {
    /// Scenario file (RON).
    scenario: PathBuf,
    /// Change one field of the scenario, such as `training.lr=0.001`; may be repeated.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
    /// Master seed, instead of the scenario's.
    #[arg(long)]
    seed: Option<u64>,
}

impl ScenarioFileArguments {
    /// Reads the scenario with its changes.
    ///
    /// # Errors
    /// As [`Scenario::read`].
    pub fn read(&self) -> Result<Scenario, CommandError> {
        // `--seed` comes last and so takes precedence over a seed in `--set`.
        let mut sets = self.sets.clone();
        sets.extend(self.seed.map(|seed| format!("seed={seed}")));
        Ok(Scenario::read(&self.scenario, &sets)?)
    }
}

/// Where results are stored and how they are computed. None of these options but
/// --python changes a digest on devices of one model.
#[derive(Args)]
pub struct CommonRunArguments {
    /// Folder of stored results, shared by all runs, or `none` [default: the user's cache folder].
    #[arg(long, value_name = "FOLDER")]
    store: Option<PathBuf>,
    /// Number of tasks trained at the same time [default: the number of cores, or of GPUs].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    workers: Option<u32>,
    /// Threads of each task; more than one is faster if fewer tasks than cores run at the same time.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: u32,
    /// Devices to train on, separated by commas: cpu, cuda or cuda:N. Each holds the base model once; workers are
    /// distributed over them.
    #[arg(long = "device", value_name = "DEVICE,...", default_value = "cpu", value_parser = device, value_delimiter = ',')]
    devices: Vec<Device>,
    #[command(flatten)]
    rules: RuleArguments,
    /// End stdout with one line of JSON.
    #[arg(long)]
    pub json: bool,
}

/// Program that computes an aggregation rule of one's own.
#[derive(Args)]
pub struct RuleArguments {
    /// Python, with numpy, that computes the rule of `algorithm: Python` [default: python3, and none where the scenario is that of
    /// a run]. Its version is in the keys of results.
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,
}

impl RuleArguments {
    /// Returns the rules that a scenario of the user's may name.
    pub fn of_scenario(&self) -> OwnRules {
        OwnRules { python: Some(self.python.clone().unwrap_or("python3".into())), ..OwnRules::default() }
    }

    /// Returns the rules that the scenario of a run may name, which may be somebody else's.
    fn of_run(&self) -> OwnRules {
        OwnRules { python: self.python.clone(), ..OwnRules::default() }
    }
}

impl CommonRunArguments {
    /// Returns the options of a run that is written to `out`, by a scenario of the user's.
    ///
    /// # Errors
    /// If the store cannot be opened.
    pub fn options_of_scenario(&self, out: PathBuf) -> Result<RunOptions<'static>, CommandError> {
        Ok(RunOptions { rules: self.rules.of_scenario(), ..self.options(out)? })
    }

    /// Returns the options of a run that is written to `out`, by the scenario of a run.
    ///
    /// # Errors
    /// If the store cannot be opened.
    pub fn options(&self, out: PathBuf) -> Result<RunOptions<'static>, CommandError> {
        Ok(RunOptions { store: open_store(self.store.as_deref())?, ..self.options_without_store(out) })
    }

    /// Returns the options of a run that is written to `out` and uses no store.
    pub fn options_without_store(&self, out: PathBuf) -> RunOptions<'static> {
        let workers = match self.workers {
            Some(workers) => workers as usize,
            None => default_workers(&self.devices),
        };
        let numerics = Numerics { threads: self.threads as usize, ..Numerics::default() };
        let (devices, rules) = (self.devices.clone(), self.rules.of_run());
        RunOptions { out, store: Store::none(), workers, devices, numerics, rules, stop: &STOP }
    }

    /// Creates a progress display on stderr.
    pub fn progress(&self) -> ProgressDisplay {
        ProgressDisplay::new(BEGINNING)
    }
}

/// Returns the default number of workers: one per core, or one per GPU, since one task fills a GPU and its memory.
fn default_workers(devices: &[Device]) -> usize {
    if !devices.contains(&Device::Cpu) {
        return devices.len();
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    cores.max(devices.len())
}

/// Opens the store in `folder`, or in the user's cache folder if `folder` is `None`. The name `none` opens no store.
///
/// # Errors
/// If the folder cannot be used. This is an error of usage, since the caller chose the folder.
pub fn open_store(folder: Option<&Path>) -> Result<Store, CommandError> {
    let path = match folder {
        Some(path) if path.as_os_str() == "none" => return Ok(Store::none()),
        Some(path) => path.to_owned(),
        None => match store_folder() {
            Some(path) => path,
            None => return Ok(Store::none()),
        },
    };
    refuse_inside_run(&path)?;
    Store::open(&path).map_err(CommandError::Store)
}

/// Parses `cpu`, `cuda` or `cuda:N`.
pub fn device(text: &str) -> Result<Device, String> {
    match text.split_once(':') {
        None if text == "cpu" => Ok(Device::Cpu),
        None if text == "cuda" => Ok(Device::Cuda(0)),
        Some(("cuda", index)) => {
            index.parse().map(Device::Cuda).map_err(|_| format!("`{index}` is not a device number"))
        }
        _ => Err("it must be cpu, cuda or cuda:N".to_owned()),
    }
}

/// Returns the default folder of stored results, in the user's cache folder by the XDG convention. `None` if the user
/// has no home folder.
pub fn store_folder() -> Option<PathBuf> {
    let cache = match path_variable("XDG_CACHE_HOME") {
        Some(cache) => cache,
        None => path_variable("HOME")?.join(".cache"),
    };
    Some(cache.join("fedreplay").join("store"))
}

/// Returns the path in an environment variable; empty counts as unset.
fn path_variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}
