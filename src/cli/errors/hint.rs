//! Advice on what to type next, which the command line adds to errors of the library.

use fedreplay::adapter::AdapterError;
use fedreplay::algorithm::RuleError;
use fedreplay::benchmarks::EvaluationError;
use fedreplay::calibration::MeasuringError;
use fedreplay::data::ChatTemplateError;
use fedreplay::generation::GenerationError;
use fedreplay::graph::GraphError;
use fedreplay::inputs::InputError;
use fedreplay::ledger::LedgerError;
use fedreplay::model::gguf::{GgufError, GgufFault};
use fedreplay::run::{RunError, Unsuitability};
use fedreplay::scenario::ImportError;
use fedreplay::training;

use super::CommandError;

const OTHER_STORE: &str = "choose another with --store, or none with --store none";
const OTHER_OUT: &str = "choose another --out, or remove it";
pub const RESUME: &str = "`fedreplay resume` continues it";

const CONVERT_PICKLE: &str = "convert it in the folder with `python -c \"import torch, safetensors.torch as s; \
    s.save_file({k: v.contiguous() for k, v in torch.load('adapter_model.bin', map_location='cpu', \
    weights_only=True).items()}, 'adapter_model.safetensors', metadata={'format': 'pt'})\"`";

/// Returns advice that follows the error's message after a semicolon.
pub fn hint(error: &CommandError) -> Option<String> {
    match error {
        CommandError::Usage(_) => None,
        CommandError::Store(_) => Some(OTHER_STORE.to_owned()),
        CommandError::Import { source: ImportError::ManyCalls(_), .. } => Some("choose one with --call N".to_owned()),
        CommandError::Import { .. } | CommandError::Profile(_) | CommandError::Fit(_) => None,
        CommandError::Calibration(MeasuringError::Input(error)) => of_input(error),
        CommandError::Calibration(MeasuringError::Busy { .. } | MeasuringError::Unsteady { .. }) => {
            Some("end the others, or measure all the same with --busy".to_owned())
        }
        CommandError::Calibration(_) => None,
        CommandError::Library(error) => of_run(error),
    }
}

fn of_run(error: &RunError) -> Option<String> {
    let text = match error {
        RunError::Cell { error, .. } => return of_run(error),
        RunError::Input(error) => return of_input(error),
        RunError::Ledger(error) => of_ledger(error),
        RunError::Graph(error) => of_graph(error),
        RunError::Evaluation(error) => of_evaluation(error),
        RunError::Model(error) => of_training(error),
        RunError::Adapter(error) | RunError::StartAdapter(error) => of_adapter(error),
        RunError::ChatTemplate(error) => of_chat_template(error),
        RunError::Gguf(GgufError::File { fault, .. }) => of_gguf(fault),
        RunError::Store(_) => Some(OTHER_STORE),
        RunError::Unsuitable { reason: Unsuitability::Unfinished, .. } => Some(RESUME),
        RunError::OtherScenario { .. } | RunError::OutputExists { .. } => Some(OTHER_OUT),
        RunError::OutputInRun { .. } => Some("choose another --out"),
        RunError::OutOfReach { .. } => Some("or give it up with --forget"),
        _ => None,
    };
    text.map(str::to_owned)
}

fn of_input(error: &InputError) -> Option<String> {
    let text = match error {
        InputError::RunsCode { benchmark } => {
            return Some(format!(
                "`fedreplay eval RUN --bench {benchmark} --allow-code-execution` takes it afterwards"
            ));
        }
        InputError::TimesOnly { .. } => "`fedreplay plan` simulates those",
        InputError::DevicesDiffer { .. } => "name devices of one model with --device",
        InputError::ThreadsDiffer { .. } => "use --threads 1",
        InputError::Store(_) => OTHER_STORE,
        InputError::RunsRule { .. } => "--python names the Python that may run it",
        InputError::Rule(RuleError::NoPython { .. }) => "name one with numpy with --python",
        InputError::Ledger(error) => of_ledger(error)?,
        InputError::Evaluation(error) => of_evaluation(error)?,
        InputError::StartAdapter(error) => of_adapter(error)?,
        InputError::ChatTemplate(error) => of_chat_template(error)?,
        InputError::Model(error) | InputError::SelfTest(error) => of_training(error)?,
        _ => return None,
    };
    Some(text.to_owned())
}

fn of_ledger(error: &LedgerError) -> Option<&'static str> {
    match error {
        _ if error.is_disk_full() => Some("free some space, then `fedreplay resume` continues a run that has begun"),
        LedgerError::Unwritable { .. } => Some("choose another --out"),
        LedgerError::Occupied { .. } => Some("choose another --out, or remove the folder"),
        LedgerError::Incomplete { .. } => Some("`fedreplay verify` says more"),
        _ => None,
    }
}

fn of_graph(error: &GraphError) -> Option<&'static str> {
    match error {
        GraphError::Training(error) => of_training(error),
        GraphError::Store(_) => Some(OTHER_STORE),
        GraphError::Lost { .. } => Some("`fedreplay resume` computes it again"),
        _ => None,
    }
}

fn of_evaluation(error: &EvaluationError) -> Option<&'static str> {
    match error {
        EvaluationError::Generation(GenerationError::Training(error)) => of_training(error),
        EvaluationError::Generation(GenerationError::Store(_)) => Some(OTHER_STORE),
        EvaluationError::ChatTemplate(error) => of_chat_template(error),
        _ => None,
    }
}

fn of_training(error: &training::Error) -> Option<&'static str> {
    match error {
        training::Error::OutOfMemory { .. } => Some(
            "go on with `fedreplay resume` and fewer --workers, a smaller --set execution.cohort_batch=N or \
             --set execution.checkpointing=Always, or begin again with fewer rows a batch",
        ),
        _ => None,
    }
}

fn of_adapter(error: &AdapterError) -> Option<&'static str> {
    match error {
        AdapterError::NoFolder { .. } => Some("`hf download NAME --local-dir FOLDER` makes a folder of it"),
        AdapterError::Pickle { .. } => Some(CONVERT_PICKLE),
        _ => None,
    }
}

fn of_chat_template(error: &ChatTemplateError) -> Option<&'static str> {
    match error {
        ChatTemplateError::AsksForDate { .. } => Some("`fedreplay eval` has --template-date"),
        _ => None,
    }
}

fn of_gguf(fault: &GgufFault) -> Option<&'static str> {
    match fault {
        GgufFault::NoPreTokenizer { .. } => Some("name one with --pre-tokenizer"),
        GgufFault::UnknownPreTokenizer { .. } => Some("--pre-tokenizer names another"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use fedreplay::adapter::peft;

    use super::*;

    #[track_caller]
    fn check(error: impl Into<CommandError>, advice: &str) {
        let hint = hint(&error.into()).expect("there is advice");
        assert!(hint.contains(advice), "{hint}");
    }

    #[test]
    fn lack_of_memory_is_answered_with_the_settings_that_need_less() {
        let error = || training::Error::OutOfMemory { device: "cuda:0".into(), needed: "1 GiB".into() };
        check(GraphError::Training(error()), "fewer --workers");
        check(InputError::SelfTest(error()), "execution.cohort_batch");
    }

    #[test]
    fn a_full_disk_is_answered_with_resume_wherever_it_was_noticed() {
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        check(LedgerError::Io { path: "x".into(), source: full() }, "`fedreplay resume`");
        check(LedgerError::Unwritable { path: "x".into(), source: full() }, "`fedreplay resume`");
        let source = parquet::errors::ParquetError::External(Box::new(full()));
        check(InputError::Ledger(LedgerError::Parquet { path: "x".into(), source }), "`fedreplay resume`");
    }

    #[test]
    fn an_adapter_of_another_form_is_answered_with_the_way_to_get_it() {
        let error = peft::read_folder(Path::new("someone/adapter")).expect_err("there is no such folder");
        check(RunError::StartAdapter(error), "`hf download NAME");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("adapter_config.json"), r#"{"peft_type": "LORA", "r": 1, "lora_alpha": 1}"#)
            .expect("a file");
        std::fs::write(folder.path().join("adapter_model.bin"), b"PK").expect("a file");
        let error = peft::read_folder(folder.path()).expect_err("there is a pickle only");
        check(RunError::StartAdapter(error), "save_file({k: v.contiguous()");
    }

    #[test]
    fn a_gguf_file_without_a_pre_tokenizer_is_answered_with_the_option() {
        let fault = GgufFault::NoPreTokenizer { key: "tokenizer.ggml.pre" };
        check(GgufError::File { path: "x".into(), fault }, "--pre-tokenizer");
    }

    #[test]
    fn a_script_with_several_calls_is_answered_with_the_option_that_chooses() {
        let of = |source| CommandError::Import { script: "train.sh".into(), source };
        check(of(ImportError::ManyCalls(vec![3, 9])), "--call N");
        assert_eq!(hint(&of(ImportError::NoCall)), None);
    }

    #[test]
    fn an_error_of_usage_has_its_advice_in_its_own_text() {
        assert_eq!(hint(&CommandError::Usage("x".into())), None);
    }
}
