//! Prepares the process before LibTorch is used: variables that its libraries read at load, CUDA's library, switches.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::native;

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

/// Variables that hold ATen, oneDNN and MKL to paths which every x86-64 processor with AVX2 and FMA has. Of MKL's values
/// this alone gives the same bits on Intel's and AMD's.
/// The last one holds the program's own products of bf16 to fused multiply-adds.
const PORTABLE: [(&str, &str); 4] = [
    ("ATEN_CPU_CAPABILITY", "avx2"),
    ("ONEDNN_MAX_CPU_ISA", "AVX2"),
    ("MKL_CBWR", "COMPATIBLE"),
    ("FEDREPLAY_PRODUCTS", "fma"),
];

/// A variable that would choose paths over the head of the above.
const OVERRULING: &str = "MKL_ENABLE_INSTRUCTIONS";

/// Whether this process was started with the libraries held to paths that all processors share.
pub fn is_portable_process() -> bool {
    std::env::var_os(OVERRULING).is_none() && PORTABLE.iter().all(|(name, value)| is_set(name, value))
}

/// Runs the program again from its beginning with the libraries held to such paths: they read their variables once, when
/// they are loaded. Returns only if that is not possible.
pub fn restart_portably() -> std::io::Error {
    match again() {
        Ok(mut command) => command.envs(PORTABLE).env_remove(OVERRULING).exec(),
        Err(error) => error,
    }
}

/// Call first in `main`, before any thread or tensor. Runs the program again, once, where a variable is not as needed;
/// then loads CUDA's library where it is installed, and sets LibTorch's switches and one intra-op thread.
pub fn init_process() {
    if std::env::var_os(MARKER).is_none() && NEEDED.iter().any(|(name, value)| !is_set(name, value)) {
        execute_again();
    }
    native::keep_memory();
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
    if let Ok(mut command) = again() {
        let error = command.exec();
        tracing::warn!("the program could not be started again with its variables set: {error}");
    }
}

/// This program with its arguments and the variables that it needs.
fn again() -> std::io::Result<Command> {
    let mut arguments = std::env::args_os();
    let name = arguments.next();
    let mut command = Command::new(std::env::current_exe()?);
    if let Some(name) = name {
        command.arg0(name);
    }
    command.args(arguments).envs(NEEDED).env(MARKER, "1");
    Ok(command)
}
