//! Import of the training scripts of OpenFedLLM and FedLLM-Bench as scenarios, with a list of settings that were
//! dropped.

mod error;
mod flags;
mod scenario_text;
mod shell;

use std::path::Path;

pub use error::ImportError;
pub use scenario_text::Imported;

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
