//! The `fedreplay` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    // LibTorch reads its environment when it is loaded, so this comes before everything else.
    fedreplay::training::init_process();
    fedreplay::cli::main()
}
