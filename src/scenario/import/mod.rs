//! Import of the training scripts of OpenFedLLM and FedLLM-Bench as scenarios, with a list of settings that were
//! dropped.

mod flags;
mod scenario_text;
mod shell;

use std::path::Path;

pub use scenario_text::Imported;

/// Reason why a script is not imported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// A line whose meaning the import does not know, or that only a running shell knows.
    #[error("line {line}: {what}")]
    Line {
        /// Number of the line, from 1.
        line: usize,
        /// Fault of the line.
        what: String,
    },
    /// The script is no valid bash.
    #[error("it is not a shell script: {0}")]
    Syntax(String),
    /// No line runs a trainer.
    #[error("it calls neither main_sft.py nor main_dpo.py")]
    NoCall,
    /// Several lines, or turns of a loop, run a trainer, and none was chosen.
    #[error("it calls a trainer {} times, in lines {}", .0.len(), list(.0))]
    ManyCalls(Vec<usize>),
    /// A call was chosen that the script does not make.
    #[error("call {chosen} is chosen, and the script makes {made}")]
    NoSuchCall {
        /// Number of the chosen call, from 1.
        chosen: usize,
        /// Number of calls in the script.
        made: usize,
    },
}

impl ImportError {
    /// Returns an error about a line.
    pub(super) fn at(line: usize, what: impl Into<String>) -> Self {
        Self::Line { line, what: what.into() }
    }
}

fn list(lines: &[usize]) -> String {
    lines.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

/// Converts the text of a training script into a scenario called `name`.
///
/// `call` chooses one of several calls of a trainer, from 1. `folder` is the folder in which the script runs: a model that is no
/// folder there is one of the Hugging Face Hub.
///
/// # Errors
/// If the script calls no trainer, several and none is chosen, contains a command that the import does not understand, trains
/// all weights, or gives a flag an invalid value.
pub fn import_script(name: &str, text: &str, call: Option<usize>, folder: &Path) -> Result<Imported, ImportError> {
    let shell::Calls { calls, notes } = shell::calls(text)?;
    let lines: Vec<usize> = calls.iter().map(|call| call.line).collect();
    let call = match (call, calls.as_slice()) {
        (_, []) => return Err(ImportError::NoCall),
        (None, [only]) => only,
        // A loop over settings that are not imported calls with the same words.
        (None, [first, rest @ ..]) if rest.iter().all(|other| is_same(other, first)) => first,
        (None, _) => return Err(ImportError::ManyCalls(lines)),
        (Some(chosen), calls) => chosen
            .checked_sub(1)
            .and_then(|index| calls.get(index))
            .ok_or(ImportError::NoSuchCall { chosen, made: calls.len() })?,
    };
    let mut imported = scenario_text::scenario(name, call, folder)?;
    imported.left_out.extend(notes);
    Ok(imported)
}

fn is_same(call: &shell::Call, other: &shell::Call) -> bool {
    call.is_dpo == other.is_dpo && call.arguments == other.arguments
}

#[cfg(test)]
mod tests;
