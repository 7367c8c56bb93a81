//! The `fedreplay` program.

mod cli;

use std::ffi::{c_char, c_int};
use std::process::ExitCode;

use fedreplay::training::{EndingAllocator, name_limits};

#[global_allocator]
static ALLOCATOR: EndingAllocator = EndingAllocator;

/// The functions of this array run before the constructors of all libraries.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[used]
#[unsafe(link_section = ".preinit_array")]
static BEFORE_LIBRARIES: unsafe extern "C" fn(c_int, *const *const c_char, *const *const c_char) =
    fedreplay::training::execute_again_before_libraries;

/// The constructors of LibTorch need memory too.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[used]
#[unsafe(link_section = ".preinit_array")]
static LIMITS_BEFORE_LIBRARIES: extern "C" fn() = name_limits;

fn main() -> ExitCode {
    cli::name_limits();
    // All threads inherit which signals are blocked, those of LibTorch's libraries too.
    cli::watch_signals();
    // LibTorch reads its environment when it is loaded, so this comes before anything that computes.
    fedreplay::init_process();
    cli::main()
}
