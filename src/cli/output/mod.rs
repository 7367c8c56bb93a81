//! Output of the subcommands: results on stdout, notes and progress on stderr. A reader that goes away, or a full disk behind
//! a redirection, is not a panic. Names and texts of data come out here alone, so that none of them controls the terminal.

pub mod eval_progress;
pub mod limits;
pub mod progress;
pub mod progress_line;
pub mod round_line;
pub mod signals;
pub mod summary;
pub mod sweep_table;
pub mod table;

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cli::errors::exit;

/// Whether stderr must hold nothing but lines of JSON.
static JSON_LOG: AtomicBool = AtomicBool::new(false);

/// Sets whether stderr must hold nothing but lines of JSON.
pub fn set_json_log(on: bool) {
    JSON_LOG.store(on, Ordering::Relaxed);
}

/// Returns whether stderr must hold nothing but lines of JSON.
pub fn logs_json() -> bool {
    JSON_LOG.load(Ordering::Relaxed)
}

/// Returns a path as text, for JSON: what of it is no UTF-8 is replaced.
pub fn shown(path: impl AsRef<Path>) -> String {
    path.as_ref().to_string_lossy().into_owned()
}

/// Returns a text with its control characters in writing, `\u001b`, but for tabs and the ends of lines. Terminals obey them, and data,
/// names and answers of servers may have them. In JSON, where they only are in strings, the written form means the same.
pub fn printable(text: std::fmt::Arguments) -> String {
    let mut shown = String::new();
    for character in text.to_string().chars() {
        match character {
            '\n' | '\t' => shown.push(character),
            control if control.is_control() => shown += &format!("\\u{:04x}", u32::from(control)),
            other => shown.push(other),
        }
    }
    shown
}

/// Writes text to stdout, and ends the program if that is not possible.
pub fn text(text: std::fmt::Arguments) {
    let mut out = std::io::stdout().lock();
    // Flushed at once, so that a failure is seen here and not when the process ends.
    let Err(error) = out.write_all(printable(text).as_bytes()).and_then(|()| out.flush()) else { return };
    if error.kind() == ErrorKind::BrokenPipe {
        std::process::exit(i32::from(exit::UNREAD));
    }
    remark(format_args!("error: failed to write to standard output: {error}"));
    std::process::exit(i32::from(exit::FAILED));
}

/// Writes one line to stderr. A closed stderr is ignored: results are on stdout and in the exit code.
pub fn remark(line: std::fmt::Arguments) {
    if logs_json() {
        return tracing::warn!("{line}");
    }
    // In one piece: the process may be ended between two, or write to a file that another writes to.
    let _ = std::io::stderr().write_all((printable(line) + "\n").as_bytes());
}

/// Writes an error to stderr, or to the log if stderr must hold nothing else.
pub fn error(message: std::fmt::Arguments) {
    match logs_json() {
        true => tracing::error!("{message}"),
        false => remark(format_args!("error: {message}")),
    }
}

/// `println!` that ends the program instead of panicking if the line cannot be written.
macro_rules! say {
    ($($part:tt)*) => { $crate::cli::output::text(format_args!("{}\n", format_args!($($part)*))) };
}
pub(crate) use say;

/// `eprintln!` that ignores a closed stderr.
macro_rules! note {
    ($($part:tt)*) => { $crate::cli::output::remark(format_args!($($part)*)) };
}
pub(crate) use note;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(printable(format_args!("{text}")), expected);
    }

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        check("a\tb\n\u{e9}\u{65e5}", "a\tb\n\u{e9}\u{65e5}");
        check("\u{1b}]0;title\u{7}", "\\u001b]0;title\\u0007");
        check("over\rwritten\u{8}", "over\\u000dwritten\\u0008");
        check("\u{9b}31m\u{7f}", "\\u009b31m\\u007f");
    }

    #[test]
    fn json_means_the_same() {
        let line = serde_json::json!({ "client": "a\u{1b}\u{7f}\u{85}\n" });
        let shown = printable(format_args!("{line}"));
        assert!(!shown.contains(char::is_control), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("JSON"), line);
    }
}
