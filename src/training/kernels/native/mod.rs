//! The only unsafe code of the program: calls into the C++ shim, loading of CUDA's library, shared frozen tensors, and the end
//! for want of memory.

pub mod decode;
pub mod flash;
pub mod kernels;
pub mod limits;

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

unsafe extern "C" {
    fn fedreplay_keep_tensor_memory();
    fn fedreplay_tensor_memory() -> usize;
    fn fedreplay_set_switches(cuda: c_int) -> c_int;
    fn fedreplay_read_switches() -> c_uint;
    fn fedreplay_cpu_capability(into: *mut c_char, size: usize);
    fn fedreplay_torch_version(into: *mut c_char, size: usize);
}

/// LibTorch's switches as they were read back after setting them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switches {
    /// Deterministic algorithms, as errors rather than warnings.
    pub deterministic_algorithms: bool,
    /// Whether uninitialized memory is filled (wasteful, hence off).
    pub fill_uninitialised: bool,
    /// cuDNN restricted to deterministic algorithms.
    pub deterministic_cudnn: bool,
    /// cuDNN picks algorithms by timing them (off).
    pub benchmark_cudnn: bool,
    /// oneDNN restricted to deterministic algorithms.
    pub deterministic_onednn: bool,
    /// TF32 in matrix products (off).
    pub tf32_cublas: bool,
    /// TF32 in cuDNN (off).
    pub tf32_cudnn: bool,
    /// Flash attention.
    pub attention_flash: bool,
    /// Memory-efficient attention (off).
    pub attention_memory_efficient: bool,
    /// Attention by plain products, the last resort.
    pub attention_math: bool,
    /// cuDNN's attention (off: it is refused in deterministic mode).
    pub attention_cudnn: bool,
}

impl Switches {
    fn from_bits(bits: u32) -> Self {
        let on = |place: u32| bits & (1 << place) != 0;
        Self {
            deterministic_algorithms: on(0),
            fill_uninitialised: on(1),
            deterministic_cudnn: on(2),
            benchmark_cudnn: on(3),
            deterministic_onednn: on(4),
            tf32_cublas: on(5),
            tf32_cudnn: on(6),
            attention_flash: on(7),
            attention_memory_efficient: on(8),
            attention_math: on(9),
            attention_cudnn: on(10),
        }
    }

    /// Whether every switch stands as the program's promises need it.
    pub fn are_strict(&self) -> bool {
        self.deterministic_algorithms
            && self.deterministic_cudnn
            && self.deterministic_onednn
            && !(self.benchmark_cudnn || self.tf32_cublas || self.tf32_cudnn)
            && !(self.attention_memory_efficient || self.attention_cudnn)
    }
}

/// Sets all switches once a process and returns how they then stand.
pub fn switches() -> Switches {
    static SET: OnceLock<Switches> = OnceLock::new();
    *SET.get_or_init(|| {
        let cuda = tch::Cuda::is_available();
        // SAFETY: plain calls without pointers; the shim catches every exception.
        let bits = unsafe {
            fedreplay_set_switches(c_int::from(cuda));
            fedreplay_read_switches()
        };
        Switches::from_bits(bits)
    })
}

/// The instruction set that LibTorch's CPU kernels use, such as `AVX512`.
pub fn cpu_capability() -> String {
    text(fedreplay_cpu_capability)
}

/// LibTorch's version, such as `2.11.0`.
pub fn torch_version() -> String {
    text(fedreplay_torch_version)
}

fn text(write: unsafe extern "C" fn(*mut c_char, usize)) -> String {
    let mut buffer = [0 as c_char; 128];
    // SAFETY: the shim writes at most `buffer.len()` bytes and ends them with NUL.
    unsafe {
        write(buffer.as_mut_ptr(), buffer.len());
        CStr::from_ptr(buffer.as_ptr()).to_string_lossy().into_owned()
    }
}

/// Loads `libtorch_cuda.so` where it is installed, so that CUDA devices can be found. Must precede every tensor.
///
/// `Err` holds the loader's message: on a machine without CUDA's libraries that is the expected answer.
pub fn load_cuda() -> Result<(), String> {
    // SAFETY: the name is a NUL-terminated constant. The library is LibTorch's own and its initialisers only register
    // kernels; it is never unloaded. `dlerror` returns a string that stays valid until the next call of this thread.
    unsafe {
        let handle = libc::dlopen(c"libtorch_cuda.so".as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL);
        if !handle.is_null() {
            return Ok(());
        }
        let message = libc::dlerror();
        Err(if message.is_null() { String::new() } else { CStr::from_ptr(message).to_string_lossy().into_owned() })
    }
}

/// Memory that is free on the current CUDA device [byte], where CUDA's runtime is loaded and answers.
pub fn free_cuda_memory() -> Option<u64> {
    // SAFETY: the name is a NUL-terminated constant; the runtime's function of this name has had this signature in every
    // version, writes the two numbers that it is given places for, and returns 0 if it did.
    unsafe {
        let symbol = libc::dlsym(libc::RTLD_DEFAULT, c"cudaMemGetInfo".as_ptr());
        if symbol.is_null() {
            return None;
        }
        let query: unsafe extern "C" fn(*mut usize, *mut usize) -> c_int = std::mem::transmute(symbol);
        let (mut free, mut total) = (0, 0);
        (query(&raw mut free, &raw mut total) == 0).then_some(free as u64)
    }
}

/// Keeps the memory of a step for the next one, rather than to return it to the system and have every page of it cleared
/// again: large tensors' in lists by size, which together hold no more than was in use at a time; small ones' with the C
/// library, which keeps little of what else is freed.
pub fn keep_memory() {
    const LARGEST_BLOCK_BYTES: c_int = 1 << 20;
    const KEPT_BYTES: c_int = 64 << 20;
    // SAFETY: `mallopt` takes two integers and touches the allocator's own settings alone. The shim's call sets LibTorch's
    // allocator on the CPU, which may be done at any time: each block carries the function that frees it.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGEST_BLOCK_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES);
        fedreplay_keep_tensor_memory();
    }
}

/// Ends the process at once: neither destructors nor functions for the exit run, which computing threads would be in the way of.
pub fn end_process(code: u8) -> ! {
    // SAFETY: `_exit` returns to nobody and touches nothing of this process.
    unsafe { libc::_exit(i32::from(code)) }
}

/// Memory that large tensors hold or have left for others [byte], as far as it has been written to.
pub fn tensor_memory() -> u64 {
    // SAFETY: a plain call; the shim takes its own lock.
    unsafe { fedreplay_tensor_memory() as u64 }
}

/// Values that hold tensors and are only read from now on, so that several threads may share them.
pub struct Frozen<T>(T);

impl<T> Frozen<T> {
    /// Freezes `value`: there is no way to a mutable reference from here.
    pub fn new(value: T) -> Self {
        Self(value)
    }
}

impl<T> std::ops::Deref for Frozen<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

// SAFETY: the tensors inside are never written after construction (no method of this crate takes one of them as the
// target of an in-place operation, and gradients are never asked of them). LibTorch's reference counts are atomic and
// reading a tensor from several threads is safe.
unsafe impl<T: Send> Sync for Frozen<T> {}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use tch::{Device, Kind, Tensor};

    /// Set in the process in which nobody else takes memory.
    const CHILD: &str = "FEDREPLAY_TEST_TAKES_MEMORY";

    /// Runs a test of this module again, by itself, and tells whether this is that run.
    fn is_alone(name: &str) -> bool {
        if std::env::var_os(CHILD).is_some() {
            super::keep_memory();
            return true;
        }
        let (_, module) = module_path!().split_once("::").expect("the crate's name comes first");
        let name = format!("{module}::{name}");
        let mut child = Command::new(std::env::current_exe().expect("a program"));
        let output = child.args(["--exact", &name, "--nocapture"]).env(CHILD, "1").output().expect("a process");
        let said = String::from_utf8_lossy(&output.stdout);
        let is_run = said.contains("1 passed");
        assert!(output.status.success() && is_run, "{said}{}", String::from_utf8_lossy(&output.stderr));
        false
    }

    fn zeros(length: i64) -> Tensor {
        Tensor::zeros([length], (Kind::Float, Device::Cpu))
    }

    #[test]
    fn memory_of_a_large_tensor_serves_the_next_of_about_that_size() {
        if !is_alone("memory_of_a_large_tensor_serves_the_next_of_about_that_size") {
            return;
        }
        let place = |tensor: Tensor| tensor.data_ptr();
        let first = place(zeros(7_000_003));
        assert_eq!(place(zeros(6_900_000)), first, "a little smaller");
        let next = zeros(7_000_003);
        assert_eq!(next.data_ptr(), first);
        assert_eq!(f64::try_from(next.abs().max()).expect("a number"), 0.0);
    }

    #[test]
    fn tensors_of_many_lengths_take_no_more_than_the_largest() {
        if !is_alone("tensors_of_many_lengths_take_no_more_than_the_largest") {
            return;
        }
        let largest = 8_000_000;
        for part in 0..60 {
            drop(zeros(largest - part * 100_000));
        }
        let most = largest as u64 * 4;
        let held = super::tensor_memory();
        assert!(held <= most + most / 8, "{held} bytes are held, {most} were in use at a time");
        let two = [zeros(largest / 2), zeros(largest / 2)];
        assert!(super::tensor_memory() <= most + most / 8, "free memory goes before more is taken");
        assert_eq!(two[0].size(), two[1].size());
    }

    #[test]
    fn the_greatest_memory_is_that_since_the_last_reset() {
        if !is_alone("the_greatest_memory_is_that_since_the_last_reset") {
            return;
        }
        let peak = || crate::training::peak_bytes().expect("the system reports it");
        let before = peak();
        drop(zeros(100_000_000));
        assert!((400_000_000..420_000_000).contains(&(peak() - before)), "400 MB were written to");
        // The allocator keeps that memory, until a tensor of another size needs it to stay within the most that was in use.
        drop(zeros(50_000_000));
        crate::training::reset_peak_bytes().expect("the system resets it");
        assert!(peak() < before + 210_000_000, "200 MB are kept");
    }
}
