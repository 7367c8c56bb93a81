//! Translation of the scenario's settings into the types of the dataset's readers, of the templates and of the training
//! engine.

use std::path::Path;
use std::sync::Arc;

use super::error::InputError;
use crate::data::{ChatTemplate, Columns, PairForm, Partition, Prompts, Template};
use crate::scenario;
use crate::scenario::{Execution, OptimizerSpec, ScenarioSpec};
use crate::training::{AdamVariant, Checkpointing, Objective, Optimizer as Rule};

/// Translates the prompt template; `None` is the model's own chat template.
pub fn template(template: scenario::TemplateSpec) -> Option<&'static Template> {
    let name = match template {
        scenario::TemplateSpec::Chat => return None,
        scenario::TemplateSpec::Alpaca => "alpaca",
        scenario::TemplateSpec::Vicuna => "vicuna_v1.1",
        scenario::TemplateSpec::Medquad => "medquad",
        scenario::TemplateSpec::ArabicAlpaca => "arabic_alpaca",
        scenario::TemplateSpec::ChineseAlpaca => "chinese_alpaca",
        scenario::TemplateSpec::PortugueseAlpaca => "portuguese_alpaca",
        scenario::TemplateSpec::TeluguAlpaca => "telugu_alpaca",
        scenario::TemplateSpec::RussianAlpaca => "russian_alpaca",
        scenario::TemplateSpec::FrenchAlpaca => "french_alpaca",
        scenario::TemplateSpec::SpanishAlpaca => "spanish_alpaca",
    };
    Some(Template::named(name).expect("the scenario's templates are all in the registry"))
}

/// Translates the form in which preference pairs become sequences.
pub fn pair_form(form: scenario::PairFormSpec) -> PairForm {
    match form {
        scenario::PairFormSpec::Templated => PairForm::Templated,
        scenario::PairFormSpec::Raw { max_prompt } => PairForm::Raw { max_prompt: max_prompt as usize },
    }
}

/// Translates the columns of the data.
pub fn columns(columns: &scenario::ColumnsSpec) -> Columns {
    match columns {
        scenario::ColumnsSpec::SingleTurn { instruction, input, response, system } => Columns::SingleTurn {
            instruction: instruction.clone(),
            input: input.clone(),
            response: response.clone(),
            system: system.clone(),
            drops_repeated: false,
        },
        _ => columns.name().map_or(Columns::FedLlmBench, |name| Columns::named(name).expect("every name is known")),
    }
}

/// Translates the partition of rows among clients.
pub fn row_partition(partition: &scenario::PartitionSpec) -> Partition {
    match partition.clone() {
        scenario::PartitionSpec::Natural => Partition::Natural,
        scenario::PartitionSpec::Iid { clients } => Partition::Iid { clients },
        scenario::PartitionSpec::ByAttribute { attribute } => Partition::ByAttribute { attribute },
        scenario::PartitionSpec::Dirichlet { clients, alpha, attribute } => {
            Partition::Dirichlet { clients, alpha, attribute }
        }
    }
}

/// Returns the template that a scenario names. `folder` is the tokenizer's, which contains the chat template.
///
/// # Errors
/// If the scenario names the chat template and the folder has none that can be read.
pub fn prompts(template: scenario::TemplateSpec, folder: &Path) -> Result<Prompts, InputError> {
    match self::template(template) {
        Some(template) => Ok(Prompts::Template(template)),
        None => Ok(Prompts::Chat(Arc::new(ChatTemplate::load(folder, None)?))),
    }
}

/// Returns the template of this name, or the folder's chat template for `chat`.
///
/// # Errors
/// As [`prompts`]; and if there is no such template.
pub fn prompts_named(name: &str, folder: &Path) -> Result<Prompts, InputError> {
    if name == "chat" {
        return prompts(scenario::TemplateSpec::Chat, folder);
    }
    Template::named(name).map(Prompts::Template).ok_or_else(|| {
        let names: Vec<&str> = Template::names().chain(["chat"]).collect();
        InputError::Usage(format!("failed to find the template `{name}`: there are {}", names.join(", ")))
    })
}

/// Returns the objective of a scenario's trainings and evaluations.
pub fn objective(scenario: &ScenarioSpec) -> Objective {
    match scenario.training.objective {
        scenario::ObjectiveSpec::Sft => Objective::Sft,
        scenario::ObjectiveSpec::Dpo { beta } => Objective::Dpo { beta },
    }
}

/// Translates the scenario's optimizer.
pub fn rule(optimizer: OptimizerSpec) -> Rule {
    match optimizer {
        OptimizerSpec::AdamW { beta1, beta2, epsilon, weight_decay, variant } => {
            let variant = match variant {
                scenario::AdamVariantSpec::PyTorch => AdamVariant::PyTorch,
                scenario::AdamVariantSpec::Transformers => AdamVariant::Transformers,
            };
            Rule::AdamW { beta1, beta2, eps: epsilon, weight_decay, variant }
        }
        OptimizerSpec::Sgd { momentum } => Rule::Sgd { momentum },
    }
}

/// Returns when activations are checkpointed, by the scenario's setting and the number of concurrent passes on a device.
pub(crate) fn checkpointing(execution: Execution, passes: usize) -> Checkpointing {
    match execution.checkpointing {
        scenario::CheckpointingSpec::Auto => Checkpointing::Fitting { passes: passes as u32 },
        scenario::CheckpointingSpec::Always => Checkpointing::Always,
        scenario::CheckpointingSpec::Never => Checkpointing::Never,
    }
}
