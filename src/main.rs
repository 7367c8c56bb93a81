//! The `fedreplay` program.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    // LibTorch reads its environment when it is loaded, so this comes before everything else.
    fedreplay::init_process();
    cli::main()
}
