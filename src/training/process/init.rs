//! Preparation of the process before LibTorch is used: environment variables, CUDA's library, switches.

use std::ffi::{CStr, OsString, c_char, c_int};
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::training::kernels::native;

/// Entry of the environment that is added when the program is executed again, so that this happens only once.
const MARKED: &CStr = c"FEDREPLAY_PREPARED=1";

/// Variables that OpenMP, MKL and cuBLAS read when they are loaded, with the values that the program relies on.
///
/// Waiting threads spin for about ten microseconds, which is the cost of waking them, and then sleep: with as many
/// tasks as cores, spinning would take cores away from working threads.
const NEEDED: [&CStr; 8] = [
    c"OMP_NUM_THREADS=1",
    c"MKL_NUM_THREADS=1",
    c"OMP_DYNAMIC=FALSE",
    c"MKL_DYNAMIC=FALSE",
    c"OMP_WAIT_POLICY=PASSIVE",
    c"GOMP_SPINCOUNT=1000",
    c"CUBLAS_WORKSPACE_CONFIG=:16:8",
    c"CUBLASLT_WORKSPACE_SIZE=1",
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

/// Executes the program again as [`init_process`] would, but before the constructors of LibTorch's libraries have run, which
/// take most of a short command's time. For the preinit array of an executable. If it fails, the program continues.
///
/// # Safety
///
/// `arguments` and `environment` must be the process's own, and no other thread may exist yet.
pub unsafe extern "C" fn execute_again_before_libraries(
    _: c_int,
    arguments: *const *const c_char,
    environment: *const *const c_char,
) {
    const ENTRIES_MAX: usize = 4096;
    let mut entries = [std::ptr::null(); ENTRIES_MAX + NEEDED.len() + 2];
    let mut path = [0; libc::PATH_MAX as usize + 1];
    // SAFETY: Libraries are not initialized yet: only system calls and this function's own memory are used. The last entry
    // and the last byte of the path stay null.
    unsafe {
        let mut count = 0;
        while !(*environment.add(count)).is_null() {
            count += 1;
        }
        let given = std::slice::from_raw_parts(environment, count);
        let given = || given.iter().map(|&entry| CStr::from_ptr(entry));
        let is_there = |needed: &&CStr| given().any(|entry| entry == *needed);
        if count > ENTRIES_MAX || given().any(|entry| is_same_variable(entry, MARKED)) || NEEDED.iter().all(is_there) {
            return;
        }
        let others = given().filter(|entry| !NEEDED.iter().any(|needed| is_same_variable(entry, needed)));
        for (place, entry) in entries.iter_mut().zip(others.chain(NEEDED).chain([MARKED])) {
            *place = entry.as_ptr();
        }
        if libc::readlink(c"/proc/self/exe".as_ptr(), path.as_mut_ptr(), path.len() - 1) > 0 {
            libc::execve(path.as_ptr(), arguments, entries.as_ptr());
        }
    }
}

/// Returns whether two entries of an environment are of the same variable.
fn is_same_variable(a: &CStr, b: &CStr) -> bool {
    let (a, b) = (a.to_bytes(), b.to_bytes());
    let differs = a.iter().zip(b).position(|(a, b)| a != b).unwrap_or(a.len().min(b.len()));
    a[..differs].contains(&b'=')
}

/// Prepares the process. Must be called in `main`, before any tensor is created and any thread computes.
///
/// Executes the program again, once, if a variable does not have its needed value. Then loads CUDA's library if it is
/// installed, and sets LibTorch's switches and one intra-op thread.
pub fn init_process() {
    if std::env::var_os(pair(MARKED).0).is_none() && !NEEDED.iter().all(|entry| is_set(pair(entry).0, pair(entry).1)) {
        execute_again();
    }
    native::keep_memory();
    if let Err(reason) = native::load_cuda() {
        tracing::debug!("no CUDA: {reason}");
    }
    native::switches();
    tch::set_num_threads(1);
}

/// Returns the name and the value of an entry.
fn pair(entry: &'static CStr) -> (&'static str, &'static str) {
    entry.to_str().ok().and_then(|entry| entry.split_once('=')).expect("entries are NAME=VALUE")
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
    command.args(arguments).envs(NEEDED.map(pair)).envs([pair(MARKED)]);
    Ok(command)
}
