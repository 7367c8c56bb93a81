//! Preparation of the process before LibTorch is used: environment variables, CUDA's library, switches.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::training::kernels::native;

/// Variable that is set when the program is executed again, so that this happens only once.
const MARKER: &str = "FEDREPLAY_PREPARED";

/// Variables that OpenMP, MKL and cuBLAS read when they are loaded, with the values that the program relies on.
///
/// Waiting threads spin for about ten microseconds, which is the cost of waking them, and then sleep: with as many
/// tasks as cores, spinning would take cores away from working threads.
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

/// Variables that restrict ATen, oneDNN and MKL to code paths that every x86-64 processor with AVX2 and FMA has.
///
/// `COMPATIBLE` is the only mode of MKL that gives the same bits on Intel's and AMD's processors. The last variable
/// restricts the program's own products of bf16 to fused multiply-adds.
const PORTABLE: [(&str, &str); 4] = [
    ("ATEN_CPU_CAPABILITY", "avx2"),
    ("ONEDNN_MAX_CPU_ISA", "AVX2"),
    ("MKL_CBWR", "COMPATIBLE"),
    ("FEDREPLAY_PRODUCTS", "fma"),
];

/// Variable that would override these restrictions.
const OVERRULING: &str = "MKL_ENABLE_INSTRUCTIONS";

/// Returns whether this process was started with the libraries restricted to portable code paths.
pub fn is_portable_process() -> bool {
    std::env::var_os(OVERRULING).is_none() && PORTABLE.iter().all(|(name, value)| is_set(name, value))
}

/// Executes the program again with the libraries restricted to portable code paths. This is necessary because they read
/// their variables only when they are loaded. Returns only if the execution fails.
pub fn restart_portably() -> std::io::Error {
    match again() {
        Ok(mut command) => command.envs(PORTABLE).env_remove(OVERRULING).exec(),
        Err(error) => error,
    }
}

/// Prepares the process. Must be called in `main`, before any tensor is created and any thread computes.
///
/// Executes the program again, once, if a variable does not have its needed value. Then loads CUDA's library if it is
/// installed, and sets LibTorch's switches and one intra-op thread.
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

/// Returns whether a variable has this value.
fn is_set(name: &str, value: &str) -> bool {
    std::env::var_os(name) == Some(OsString::from(value))
}

/// Replaces this process by the same program with the variables set. If that fails the program continues: the
/// fingerprint records the actual variables, and all other switches are set.
fn execute_again() {
    if let Ok(mut command) = again() {
        let error = command.exec();
        tracing::warn!("the program could not be started again with its variables set: {error}");
    }
}

/// Returns the command that executes this program with the same arguments and the needed variables.
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
