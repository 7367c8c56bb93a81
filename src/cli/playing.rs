//! Options that every command which plays a run has.

use std::path::{Path, PathBuf};

use clap::Args;

use super::STOP;
use super::progress::Progress;
use crate::model::Device;
use crate::run::{RunError, Settings};
use crate::store::Store;
use crate::training::Numerics;

/// What a run begins with.
pub const BEGINNING: &str = "reading data, loading the base model, testing the machine";

/// Where results are kept and how they are computed. None of these changes a digest on devices of one model.
#[derive(Args)]
pub struct Playing {
    /// Folder of stored results, shared by all runs, or `none` [default: the user's cache folder].
    #[arg(long, value_name = "FOLDER")]
    store: Option<PathBuf>,
    /// Tasks trained at the same time [default: the number of cores, or of GPUs].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    workers: Option<u32>,
    /// Threads of each task; more than one pays where fewer tasks than cores are under way.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: u32,
    /// Devices to train on, separated by commas: cpu, cuda or cuda:N. Each holds the base model once; workers are dealt
    /// over them.
    #[arg(long = "device", value_name = "DEVICE,...", default_value = "cpu", value_parser = device, value_delimiter = ',')]
    devices: Vec<Device>,
    /// End stdout with one line of JSON.
    #[arg(long)]
    pub json: bool,
}

impl Playing {
    /// The settings of a run into `out`.
    pub fn settings(&self, out: PathBuf) -> Result<Settings<'static>, RunError> {
        Ok(Settings { store: open_store(self.store.as_deref())?, ..self.settings_without_store(out) })
    }

    /// The settings of a run into `out` that reads and keeps no results.
    pub fn settings_without_store(&self, out: PathBuf) -> Settings<'static> {
        let workers = self.workers.map_or_else(|| default_workers(&self.devices), |workers| workers as usize);
        let numerics = Numerics { threads: self.threads as usize, ..Numerics::default() };
        Settings { out, store: Store::none(), workers, devices: self.devices.clone(), numerics, stop: &STOP }
    }

    /// A watcher on stderr.
    pub fn progress(&self) -> Progress {
        Progress::new(BEGINNING)
    }
}

/// A GPU is filled by one task at a time, and its memory is that of one.
fn default_workers(devices: &[Device]) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if devices.contains(&Device::Cpu) { cores().max(devices.len()) } else { devices.len() }
}

/// The store in a folder; `none` is none, and where no folder is named it is in the user's cache.
pub fn open_store(folder: Option<&Path>) -> Result<Store, RunError> {
    // Where it lies is the caller's choice, so a folder that will not do is bad usage.
    let open = |path: &Path| Store::open(path).map_err(|error| RunError::Usage(error.to_string()));
    match folder {
        Some(path) if path.as_os_str() == "none" => Ok(Store::none()),
        Some(path) => open(path),
        None => store_folder().map_or_else(|| Ok(Store::none()), |path| open(&path)),
    }
}

/// Reads `cpu`, `cuda` or `cuda:N`.
fn device(text: &str) -> Result<Device, String> {
    match text.split_once(':') {
        None if text == "cpu" => Ok(Device::Cpu),
        None if text == "cuda" => Ok(Device::Cuda(0)),
        Some(("cuda", index)) => {
            index.parse().map(Device::Cuda).map_err(|_| format!("`{index}` is not a device number"))
        }
        _ => Err("it must be cpu, cuda or cuda:N".to_owned()),
    }
}

/// Where results are kept unless another folder is named: in the user's cache folder by the XDG convention; none where
/// there is no home.
pub fn store_folder() -> Option<PathBuf> {
    let given = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = given("XDG_CACHE_HOME").or_else(|| Some(given("HOME")?.join(".cache")))?;
    Some(cache.join("fedreplay").join("store"))
}
