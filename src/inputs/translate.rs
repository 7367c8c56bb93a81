//! Translates the settings of a scenario into those of the data readers, the templates and the training engine.

use std::path::Path;
use std::sync::Arc;

use super::error::InputError;
use crate::data::{ChatTemplate, Columns, PairForm, Partition, Prompts, Template};
use crate::scenario;
use crate::scenario::{Execution, Optimizer, Scenario};
use crate::training::{AdamVariant, Checkpointing, Objective, Optimizer as Rule};

/// The prompt template; none where it is the model's own chat template.
pub fn template(template: scenario::Template) -> Option<&'static Template> {
    let name = match template {
        scenario::Template::Chat => return None,
        scenario::Template::Alpaca => "alpaca",
        scenario::Template::Vicuna => "vicuna_v1.1",
        scenario::Template::Medquad => "medquad",
        scenario::Template::ArabicAlpaca => "arabic_alpaca",
        scenario::Template::ChineseAlpaca => "chinese_alpaca",
        scenario::Template::PortugueseAlpaca => "portuguese_alpaca",
        scenario::Template::TeluguAlpaca => "telugu_alpaca",
        scenario::Template::RussianAlpaca => "russian_alpaca",
        scenario::Template::FrenchAlpaca => "french_alpaca",
        scenario::Template::SpanishAlpaca => "spanish_alpaca",
    };
    Some(Template::named(name).expect("the scenario's templates are all in the registry"))
}

/// How pairs become sequences.
pub fn pair_form(form: scenario::PairForm) -> PairForm {
    match form {
        scenario::PairForm::Templated => PairForm::Templated,
        scenario::PairForm::Raw { max_prompt } => PairForm::Raw { max_prompt: max_prompt as usize },
    }
}

/// The readers' word for the scenario's columns.
pub fn columns(columns: &scenario::Columns) -> Columns {
    match columns {
        scenario::Columns::SingleTurn { instruction, input, response } => Columns::SingleTurn {
            instruction: instruction.clone(),
            input: input.clone(),
            response: response.clone(),
            drops_repeated: false,
        },
        _ => columns.name().map_or(Columns::FedLlmBench, |name| Columns::named(name).expect("every name is known")),
    }
}

/// The readers' word for the scenario's partition.
pub fn dealing(partition: &scenario::Partition) -> Partition {
    match partition.clone() {
        scenario::Partition::Natural => Partition::Natural,
        scenario::Partition::Iid { clients } => Partition::Iid { clients },
        scenario::Partition::ByAttribute { attribute } => Partition::ByAttribute { attribute },
        scenario::Partition::Dirichlet { clients, alpha, attribute } => {
            Partition::Dirichlet { clients, alpha, attribute }
        }
    }
}

/// The template that a scenario names; `folder` is the tokenizer's, where a chat template lies.
///
/// # Errors
/// If the folder has no chat template that can be read, and one is asked for.
pub fn prompts(template: scenario::Template, folder: &Path) -> Result<Prompts, InputError> {
    match self::template(template) {
        Some(template) => Ok(Prompts::Template(template)),
        None => Ok(Prompts::Chat(Arc::new(ChatTemplate::load(folder, None)?))),
    }
}

/// The template of this name, or `chat` for that of the folder.
///
/// # Errors
/// As [`prompts`]; and if there is no such template.
pub fn prompts_named(name: &str, folder: &Path) -> Result<Prompts, InputError> {
    if name == "chat" {
        return prompts(scenario::Template::Chat, folder);
    }
    Template::named(name).map(Prompts::Template).ok_or_else(|| {
        let names: Vec<&str> = Template::names().chain(["chat"]).collect();
        InputError::Usage(format!("failed to find the template `{name}`: there are {}", names.join(", ")))
    })
}

/// What trainings and evaluations of a scenario minimise.
pub fn objective(scenario: &Scenario) -> Objective {
    match scenario.training.objective {
        scenario::Objective::Sft => Objective::Sft,
        scenario::Objective::Dpo { beta } => Objective::Dpo { beta },
    }
}

/// The scenario's optimiser as the training engine names it.
pub fn rule(optimizer: Optimizer) -> Rule {
    match optimizer {
        Optimizer::AdamW { beta1, beta2, epsilon, weight_decay, variant } => {
            let variant = match variant {
                scenario::AdamVariant::PyTorch => AdamVariant::PyTorch,
                scenario::AdamVariant::Transformers => AdamVariant::Transformers,
            };
            Rule::AdamW { beta1, beta2, eps: epsilon, weight_decay, variant }
        }
        Optimizer::Sgd { momentum } => Rule::Sgd { momentum },
    }
}

/// When layers are run again, under a scenario's wishes and so many passes at a time on a device.
pub(crate) fn checkpointing(execution: Execution, passes: usize) -> Checkpointing {
    match execution.checkpointing {
        scenario::Checkpointing::Auto => Checkpointing::Fitting { passes: passes as u32 },
        scenario::Checkpointing::Always => Checkpointing::Always,
        scenario::Checkpointing::Never => Checkpointing::Never,
    }
}
