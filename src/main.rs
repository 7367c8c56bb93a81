//! The `fedreplay` program.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    // All threads inherit which signals are blocked, those of LibTorch's libraries too.
    cli::watch_signals();
    // LibTorch reads its environment when it is loaded, so this comes before anything that computes.
    fedreplay::init_process();
    cli::main()
}
