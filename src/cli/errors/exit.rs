//! Exit codes of the program.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | failed: the machine, a file, a service or the model |
//! | 2 | refused: wrong usage, scenario, data or base model |
//! | 3 | a check found a difference |
//! | 130 | interrupted; 143 and 129 if by SIGTERM and SIGHUP |
//! | 141 | nobody reads the output any more |

use std::io::ErrorKind;

use fedreplay::algorithm::RuleError;
use fedreplay::benchmarks::EvaluationError;
use fedreplay::calibration::MeasuringError;
use fedreplay::diversity::DiversityError;
use fedreplay::generation::GenerationError;
use fedreplay::graph::GraphError;
use fedreplay::inputs::InputError;
use fedreplay::ledger::LedgerError;
use fedreplay::model::ModelError;
use fedreplay::model::gguf::GgufError;
use fedreplay::model::hub::HubError;
use fedreplay::profile::ProfileError;
use fedreplay::run::{RunError, SignatureError};
use fedreplay::sandbox::SandboxError;
use fedreplay::training;

use super::CommandError;

/// Something failed that the user may not have caused, such as a full disk.
pub const FAILED: u8 = 1;

/// Arguments, scenario, data or base model cannot be used.
pub const REFUSED: u8 = 2;

/// A check found a difference.
pub const DIFFERENT: u8 = 3;

/// The program was asked to stop: 128 + SIGINT, as shells report it.
pub const INTERRUPTED: u8 = 130;

/// The output is no longer read: 128 + SIGPIPE, as shells report it.
pub const UNREAD: u8 = 141;

/// Returns the exit code of a command that failed.
pub fn code_of(error: &CommandError) -> u8 {
    match error {
        CommandError::Usage(_) | CommandError::Store(_) | CommandError::Import { .. } | CommandError::Fit(_) => REFUSED,
        CommandError::Calibration(error) => of_calibration(error),
        CommandError::Profile(ProfileError::Io { source, .. }) if source.kind() == ErrorKind::StorageFull => FAILED,
        CommandError::Profile(_) => REFUSED,
        CommandError::Library(error) => of_run(error),
    }
}

fn of_run(error: &RunError) -> u8 {
    match error {
        RunError::Cell { error, .. } => of_run(error),
        RunError::Input(error) => of_input(error),
        RunError::Ledger(error) => of_ledger(error),
        RunError::Hub(error) => of_hub(error),
        RunError::Evaluation(error) => of_evaluation(error),
        RunError::Graph(GraphError::Interrupted) => INTERRUPTED,
        RunError::Graph(GraphError::Rule(RuleError::Fault { .. }) | GraphError::FirstStep { .. }) => REFUSED,
        RunError::Model(error) if is_of_memory(error) => FAILED,
        RunError::Diversity(DiversityError::Model(_) | DiversityError::Text { .. }) => REFUSED,
        RunError::Gguf(GgufError::File { .. } | GgufError::TargetExists(_)) => REFUSED,
        RunError::NotStartedPortably
        | RunError::Gguf(_)
        | RunError::Diversity(_)
        | RunError::Store(_)
        | RunError::Adapter(_)
        | RunError::Graph(_) => FAILED,
        RunError::Signature(SignatureError::Different { .. }) => DIFFERENT,
        // All others are wrong in what the user wrote or chose.
        _ => REFUSED,
    }
}

fn of_calibration(error: &MeasuringError) -> u8 {
    match error {
        MeasuringError::Input(error) => of_input(error),
        MeasuringError::Training(error) if is_of_memory(error) => FAILED,
        MeasuringError::Interrupted => INTERRUPTED,
        MeasuringError::Busy { .. } | MeasuringError::Unsteady { .. } => FAILED,
        MeasuringError::Training(_) | MeasuringError::Setting { .. } | MeasuringError::NonFinite { .. } => REFUSED,
    }
}

fn of_input(error: &InputError) -> u8 {
    match error {
        InputError::Ledger(error) => of_ledger(error),
        InputError::Hub(error) => of_hub(error),
        InputError::Evaluation(error) => of_evaluation(error),
        InputError::Rule(RuleError::Ended { .. }) => FAILED,
        InputError::Model(error) if is_of_memory(error) => FAILED,
        InputError::SelfTest(_) | InputError::NotRepeatable { .. } | InputError::Store(_) => FAILED,
        _ => REFUSED,
    }
}

/// Whether the machine had too little memory for what was asked.
fn is_of_memory(error: &training::Error) -> bool {
    matches!(error, training::Error::Model(ModelError::OutOfMemory(_)) | training::Error::OutOfMemory { .. })
}

fn of_ledger(error: &LedgerError) -> u8 {
    match error {
        // A full disk is not wrong usage.
        LedgerError::Unwritable { .. } if error.is_disk_full() => FAILED,
        // Neither is a file that cannot be of its kind one that the machine failed to read.
        LedgerError::Io { source, .. } if source.kind() == ErrorKind::InvalidData => REFUSED,
        LedgerError::Occupied { .. } | LedgerError::NoRun { .. } | LedgerError::Unwritable { .. } => REFUSED,
        LedgerError::Io { .. }
        | LedgerError::Parquet { .. }
        | LedgerError::Malformed { .. }
        | LedgerError::Incomplete { .. } => FAILED,
    }
}

fn of_hub(error: &HubError) -> u8 {
    if error.is_of_the_asker() { REFUSED } else { FAILED }
}

fn of_evaluation(error: &EvaluationError) -> u8 {
    match error {
        EvaluationError::Mmlu(_)
        | EvaluationError::Questions(_)
        | EvaluationError::ChatTemplate(_)
        | EvaluationError::Judge(_) => REFUSED,
        EvaluationError::Generation(GenerationError::Configuration { .. } | GenerationError::Letter { .. }) => REFUSED,
        EvaluationError::Sandbox(SandboxError::Missing(..) | SandboxError::Unconfined(_)) => REFUSED,
        EvaluationError::Generation(GenerationError::Interrupted) => INTERRUPTED,
        EvaluationError::Generation(_) | EvaluationError::Sandbox(SandboxError::Io(_)) => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Error;

    use super::*;

    #[track_caller]
    fn check(error: impl Into<CommandError>, code: u8) {
        let error = error.into();
        assert_eq!(code_of(&error), code, "{error}");
    }

    fn unwritable(kind: ErrorKind) -> LedgerError {
        LedgerError::Unwritable { path: "out".into(), source: Error::from(kind) }
    }

    #[test]
    fn a_full_disk_is_a_failure_and_a_forbidden_folder_is_refused() {
        check(unwritable(ErrorKind::StorageFull), FAILED);
        check(unwritable(ErrorKind::PermissionDenied), REFUSED);
        let unread = |kind: ErrorKind| LedgerError::Io { path: "in".into(), source: Error::from(kind) };
        check(unread(ErrorKind::NotFound), FAILED);
        check(unread(ErrorKind::InvalidData), REFUSED);
    }

    #[test]
    fn want_of_memory_is_a_failure_wherever_libtorch_meets_it() {
        let text =
            "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to";
        let of_torch = || tch::TchError::Torch(format!("{text}\nframe #0"));
        let loading = ModelError::from(of_torch());
        assert_eq!(loading.to_string(), format!("failed to load the model: out of memory: {text}"));
        check(InputError::Model(loading.into()), FAILED);
        check(InputError::Model(of_torch().into()), FAILED);
        check(RunError::Model(of_torch().into()), FAILED);
        check(InputError::SelfTest(of_torch().into()), FAILED);
        check(InputError::NotRepeatable { device: "cpu".into() }, FAILED);
    }

    #[test]
    fn a_busy_machine_is_a_failure_and_a_grid_that_cannot_be_measured_is_refused() {
        check(MeasuringError::Busy { others: 1.5, processors: 2, allowed: 0.1 }, FAILED);
        check(MeasuringError::Setting { field: "lengths", reason: "x".into() }, REFUSED);
        check(MeasuringError::Interrupted, INTERRUPTED);
        let of_disk = |kind| ProfileError::Io { file: "x".into(), source: Error::from(kind) };
        check(of_disk(ErrorKind::StorageFull), FAILED);
        check(of_disk(ErrorKind::NotFound), REFUSED);
    }

    #[test]
    fn an_interruption_is_told_from_a_failure() {
        check(GraphError::Interrupted, INTERRUPTED);
        check(EvaluationError::Generation(GenerationError::Interrupted), INTERRUPTED);
        check(GraphError::UnusableUpdate { order: "o".into(), reason: "r".into() }, FAILED);
    }

    #[test]
    fn what_the_user_chose_is_refused() {
        check(CommandError::Usage("x".into()), REFUSED);
        check(InputError::Model(ModelError::Lora("x".into()).into()), REFUSED);
        check(InputError::ThreadsDiffer { threads: 3 }, REFUSED);
        check(RunError::UnknownTwin { name: "x".into() }, REFUSED);
    }
}
