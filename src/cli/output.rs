//! Writes results to stdout. Whoever reads may stop reading, or the disk behind it be full: neither is a panic.

use std::io::{ErrorKind, Write};

/// Exit code of a program whose output nobody reads any more, as a shell gives it: 128 + SIGPIPE.
const UNREAD: i32 = 141;

/// Writes one line to stdout; ends the program if that is not possible.
pub fn line(text: std::fmt::Arguments) {
    let mut out = std::io::stdout().lock();
    let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush()) else { return };
    if error.kind() == ErrorKind::BrokenPipe {
        std::process::exit(UNREAD);
    }
    let _ = writeln!(std::io::stderr(), "error: failed to write to standard output: {error}");
    std::process::exit(1);
}

/// `println!` that ends the program where the line cannot be written, instead of panicking.
macro_rules! say {
    ($($part:tt)*) => { $crate::cli::output::line(format_args!($($part)*)) };
}
pub(super) use say;
