//! Limits of the machine that no error reports: threads that cannot be started and memory that LibTorch does not get are panics,
//! in whatever crate and thread. They end the program with one sentence, and nobody waits for the thread that is missing.

use std::any::Any;
use std::io;
use std::panic::{set_hook, take_hook};

use super::error;
use crate::cli::errors::exit::FAILED;
use fedreplay::training::{be_first_to_end, end_process, name_faults};

/// Ends the program with a sentence where it would panic because of a limit of the machine.
pub fn name_limits() {
    name_faults();
    let others = take_hook();
    set_hook(Box::new(move |panic| match limit(&text(panic.payload())) {
        Some(limit) => end(&limit),
        None => others(panic),
    }));
}

/// Ends the program because its first thread could not be started.
pub fn no_thread(cause: &io::Error) -> ! {
    end(&format!("failed to start a thread: {cause}; {THREADS}"))
}

const THREADS: &str = "the machine, or a limit such as those of `ulimit -u` and `ulimit -v`, allows no more";

const MEMORY: &str = "failed to get memory: the machine, or a limit such as that of `ulimit -v`, has no more";

fn end(sentence: &str) -> ! {
    be_first_to_end();
    error(format_args!("{sentence}"));
    end_process(FAILED)
}

fn text(payload: &dyn Any) -> String {
    let text = payload.downcast_ref::<&str>().map(|&text| text.to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// Returns the sentence about the limit that a panic's message is about, if it is about one.
fn limit(message: &str) -> Option<String> {
    // The standard library and rayon show the error of the operating system that a thread failed with.
    let is_of_threads = ["spawn", "ThreadPoolBuildError"].iter().any(|word| message.contains(word));
    if message.contains("failed to spawn thread") || is_of_threads && message.contains("Os { code: 11,") {
        return Some(format!("failed to start a thread: {THREADS}"));
    }
    // The operating system's error, LibTorch's and that of C++, and zstd's, whose functions return nothing where they got no memory.
    let of_memory =
        ["Os { code: 12,", "(os error 12)", "can't allocate memory", "std::bad_alloc", "zstd returned null pointer"];
    if of_memory.iter().any(|words| message.contains(words)) {
        return Some(MEMORY.to_owned());
    }
    if message.contains("Os { code: 24,") {
        return Some("failed to open a file: the limit of `ulimit -n` allows no more".to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(message: &str, expected: &str) {
        assert!(
            limit(message).is_some_and(|sentence| sentence.starts_with(expected)),
            "{message}: {:?}",
            limit(message)
        );
    }

    #[test]
    fn panics_for_want_of_threads_memory_and_files_are_known() {
        let of = |code| format!("{:?}", io::Error::from_raw_os_error(code));
        check(&format!("failed to spawn thread: {}", of(11)), "failed to start a thread");
        check(
            &format!(
                "The global thread pool has not been initialized.: ThreadPoolBuildError {{ kind: IOError({}) }}",
                of(11)
            ),
            "failed to start a thread",
        );
        check(&of(12), "failed to get memory");
        check(
            &format!("failed to allocate an alternative stack: {}", io::Error::from_raw_os_error(12)),
            "failed to get memory",
        );
        check(&of(24), "failed to open a file");
        let torch = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to \
                     allocate 8 bytes. Error code 12 (Cannot allocate memory)";
        check(torch, "failed to get memory");
        check(
            "called `Result::unwrap()` on an `Err` value: Torch(\"Internal torch error: std::bad_alloc\")",
            "failed to get memory",
        );
        check("zstd returned null pointer when creating new context", "failed to get memory");
        assert_eq!(limit("index out of bounds: the len is 3 but the index is 3"), None);
    }
}
