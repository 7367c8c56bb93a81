//! Prepares the process before LibTorch is used: variables that its libraries read at load, CUDA's library, switches.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::available::free_bytes;
use super::native;
use crate::model::Device;

/// Set in the second execution, so that there is no third.
const MARKER: &str = "FEDREPLAY_PREPARED";

/// Variables that OpenMP, MKL and cuBLAS read when they are loaded, with the values that the program relies on.
/// Threads that wait spin for some ten microseconds, about what waking them costs, and then sleep: on a machine with as
/// many tasks as cores they would otherwise take them from each other.
const NEEDED: [(&str, &str); 8] = [
    ("OMP_NUM_THREADS", "1"),
    ("MKL_NUM_THREADS", "1"),
    ("OMP_DYNAMIC", "FALSE"),
    ("MKL_DYNAMIC", "FALSE"),
    ("OMP_WAIT_POLICY", "PASSIVE"),
    ("GOMP_SPINCOUNT", "1000"),
    ("CUBLAS_WORKSPACE_CONFIG", ":16:8"),
    ("CUBLASLT_WORKSPACE_SIZE", "1"),
];

/// Memory of tensors that is kept for the next ones where the system does not tell what is free [byte].
const KEPT_BYTES: u64 = 1 << 30;

/// Call first in `main`, before any thread or tensor. Runs the program again, once, where a variable is not as needed;
/// then loads CUDA's library where it is installed, and sets LibTorch's switches and one intra-op thread.
pub fn init_process() {
    if std::env::var_os(MARKER).is_none() && NEEDED.iter().any(|(name, value)| !is_set(name, value)) {
        execute_again();
    }
    native::keep_memory(free_bytes(Device::Cpu).map_or(KEPT_BYTES, |free| free / 4));
    if let Err(reason) = native::load_cuda() {
        tracing::debug!("no CUDA: {reason}");
    }
    native::switches();
    tch::set_num_threads(1);
}

fn is_set(name: &str, value: &str) -> bool {
    std::env::var_os(name) == Some(OsString::from(value))
}

/// Replaces this process by itself with the variables set. Where that is not possible the program goes on: the
/// fingerprint records the variables as they are, and the switches that can still be set are set.
fn execute_again() {
    let Ok(program) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let name = arguments.next();
    let mut command = Command::new(program);
    if let Some(name) = name {
        command.arg0(name);
    }
    let error = command.args(arguments).envs(NEEDED).env(MARKER, "1").exec();
    tracing::warn!("the program could not be started again with its variables set: {error}");
}
