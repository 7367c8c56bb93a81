//! Writes results to stdout and notes to stderr. Whoever reads may stop reading, or the disk behind it be full: neither is
//! a panic.

use std::io::{ErrorKind, Write};

/// Exit code of a program whose output nobody reads any more, as a shell gives it: 128 + SIGPIPE.
const UNREAD: i32 = 141;

/// Writes text to stdout; ends the program if that is not possible.
pub fn text(text: std::fmt::Arguments) {
    let mut out = std::io::stdout().lock();
    let Err(error) = out.write_fmt(text).and_then(|()| out.flush()) else { return };
    if error.kind() == ErrorKind::BrokenPipe {
        std::process::exit(UNREAD);
    }
    remark(format_args!("error: failed to write to standard output: {error}"));
    std::process::exit(1);
}

/// Writes one line to stderr. A closed stderr changes nothing: what matters is on stdout or in the exit code.
pub fn remark(line: std::fmt::Arguments) {
    if super::logs_json() {
        return tracing::warn!("{line}");
    }
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// `println!` that ends the program where the line cannot be written, instead of panicking.
macro_rules! say {
    ($($part:tt)*) => { $crate::cli::output::text(format_args!("{}\n", format_args!($($part)*))) };
}
pub(crate) use say;

/// `eprintln!` that passes over a closed stderr.
macro_rules! note {
    ($($part:tt)*) => { $crate::cli::output::remark(format_args!($($part)*)) };
}
pub(crate) use note;
