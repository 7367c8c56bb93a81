//! Translation of the scenario's settings into the types of the dataset's readers, of the templates and of the training
//! engine.

use std::path::Path;
use std::sync::Arc;

use chrono::NaiveDate;
use serde::Deserialize;
use serde::de::IntoDeserializer;

use super::error::InputError;
use crate::adapter::Adapter;
use crate::algorithm::Method;
use crate::data::{
    ChatTemplate, Columns, PairForm, Partition, Prompts, RawPrompt, SpecialTokensInText, Template, Tokenizer,
};
use crate::scenario;
use crate::scenario::{
    AccumulationSpec, Batches, Correction, Execution, LrSchedule, ObjectiveSpec, OptimizerSpec, ReferenceSpec,
    ScenarioSpec,
};
use crate::store::Digest;
use crate::training::{
    Accumulation as Weighing, AdamVariant, Checkpointing, CorrectionPlace, FirstSteps, Hyper, Objective,
    Optimizer as Rule, Shrinkage,
};

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
pub fn pair_form(data: &scenario::Data) -> PairForm {
    let scenario::PairFormSpec::Raw { max_prompt } = data.pairs.get() else { return PairForm::Templated };
    let prompt = match data.columns {
        scenario::ColumnsSpec::Ultrafeedback => RawPrompt::Dialogue,
        scenario::ColumnsSpec::HhRlhf => RawPrompt::Transcript,
        _ => RawPrompt::AsWritten,
    };
    PairForm::Raw { max_prompt: max_prompt as usize, prompt }
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

/// Translates a date that was checked when the scenario was read.
fn date(date: Option<&str>) -> Option<NaiveDate> {
    date.map(|date| date.parse().expect("the date of a scenario has been checked"))
}

/// Translates the treatment of special tokens that a row's text spells.
pub fn special_tokens(treatment: scenario::SpecialTokensInTextSpec) -> SpecialTokensInText {
    match treatment {
        scenario::SpecialTokensInTextSpec::Refuse => SpecialTokensInText::Refuse,
        scenario::SpecialTokensInTextSpec::AsText => SpecialTokensInText::AsText,
        scenario::SpecialTokensInTextSpec::Parsed => SpecialTokensInText::Parsed,
    }
}

/// Returns the template that a scenario names. `folder` is the tokenizer's, which contains the chat template.
///
/// # Errors
/// If the scenario names the chat template and the folder has none that can be read.
pub fn prompts(data: &scenario::Data, tokenizer: &Tokenizer, folder: &Path) -> Result<Prompts, InputError> {
    if let Some(template) = self::template(data.template) {
        return Ok(Prompts::Template(template));
    }
    let mut template = ChatTemplate::load_dated(folder, date(data.template_date.as_deref()))?;
    if data.special_tokens_in_text.get() == scenario::SpecialTokensInTextSpec::AsText {
        template = template.with_plain(tokenizer.special_tokens());
    }
    Ok(Prompts::Chat(Arc::new(template)))
}

/// Returns the system prompt of all rows that bring none, and of the questions of open-ended benchmarks.
pub fn system_prompt(data: &scenario::Data) -> Option<String> {
    data.system_prompt.clone().filter(|prompt| !prompt.is_empty())
}

/// Returns the template of this name, or the folder's chat template for `chat`. Names are those of the table of templates and
/// those of scenarios, such as `vicuna_v1.1` and `Vicuna`. `date` is the current date to a chat template.
///
/// # Errors
/// As [`prompts`]; and if there is no such template.
pub fn prompts_named(name: &str, date: Option<NaiveDate>, folder: &Path) -> Result<Prompts, InputError> {
    if let Some(template) = Template::named(name) {
        return Ok(Prompts::Template(template));
    }
    let of_scenario = scenario::TemplateSpec::deserialize(name.into_deserializer());
    let spec = if name == "chat" { Ok(scenario::TemplateSpec::Chat) } else { of_scenario };
    match spec.map(template) {
        Ok(Some(template)) => Ok(Prompts::Template(template)),
        Ok(None) => Ok(Prompts::Chat(Arc::new(ChatTemplate::load_dated(folder, date)?))),
        Err(serde::de::value::Error { .. }) => Err(InputError::UnknownTemplate { name: name.to_owned() }),
    }
}

/// Returns the objective of a scenario's trainings and evaluations, which start from the adapter `initial` if it is given.
pub fn objective(scenario: &ScenarioSpec, initial: Option<&Adapter>) -> Objective {
    match scenario.training.objective {
        ObjectiveSpec::Sft => Objective::Sft,
        ObjectiveSpec::Dpo { beta, reference: ReferenceSpec::Base } => Objective::Dpo { beta, reference: None },
        ObjectiveSpec::Dpo { beta, reference: ReferenceSpec::Start } => {
            Objective::Dpo { beta, reference: initial.map(|adapter| Digest::from(adapter.hash())) }
        }
    }
}

/// Translates the hyperparameters of tasks in a round of the server, from 1, whose settings are `scenario`.
pub fn hyper(scenario: &ScenarioSpec, round: u32) -> Hyper {
    let training = &scenario.training;
    Hyper {
        optimizer: rule(training.optimizer.get()),
        learning_rate: learning_rate(training.lr, training.lr_schedule, round - 1, scenario.rounds),
        clip_norm: training.max_grad_norm.get(),
        accumulation: match training.accumulation.get() {
            AccumulationSpec::PerToken => Weighing::PerToken,
            AccumulationSpec::PerMicroBatch if training.batches.get() == Batches::Fresh => Weighing::PerMicroBatch,
            // Steps may be cut short by the end of an epoch, and are then divided by the full number all the same.
            AccumulationSpec::PerMicroBatch => Weighing::OverNominal(training.gradient_accumulation),
        },
        dropout: scenario.model.lora.dropout.get(),
        proximal: Method::new(scenario).client.proximal,
        trains: scenario.trained_factors(round),
        first_steps: scenario.first_steps().map(|(count, trains)| FirstSteps { count, trains }),
        shrinkage: scenario.pruning().map(|pruning| Shrinkage { gamma: pruning.gamma, lambda: pruning.lambda }),
    }
}

/// Returns the learning rate of round `t` (from 0) of `rounds`.
fn learning_rate(lr: f64, schedule: LrSchedule, t: u32, rounds: u32) -> f64 {
    match schedule {
        LrSchedule::Constant => lr,
        LrSchedule::Cosine { final_lr } => {
            // The pure-Rust cosine gives the same bits on every platform, and the rate is in every key.
            let phase = std::f64::consts::PI * f64::from(t) / f64::from(rounds);
            final_lr + 0.5 * (lr - final_lr) * (1.0 + libm::cos(phase))
        }
    }
}

/// Translates the place of SCAFFOLD's correction.
pub fn correction(correction: Correction) -> CorrectionPlace {
    match correction {
        Correction::Gradient => CorrectionPlace::Gradient,
        Correction::AfterUpdate => CorrectionPlace::AfterUpdate,
    }
}

/// Translates the scenario's optimizer.
fn rule(optimizer: OptimizerSpec) -> Rule {
    match optimizer {
        OptimizerSpec::AdamW { beta1, beta2, epsilon, weight_decay, variant } => {
            let variant = match variant.get() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cosine_schedule_is_fedllm_benchs() {
        let schedule = LrSchedule::Cosine { final_lr: 1e-6 };
        for (t, expected) in [(0, 2e-5), (1, 1.99988e-5), (100, 1.05e-5), (199, 1.00117e-6)] {
            let found = learning_rate(2e-5, schedule, t, 200);
            assert!((found / expected - 1.0).abs() < 1e-5, "round {t}: {found}");
        }
        assert_eq!(learning_rate(0.5, LrSchedule::Constant, 7, 10), 0.5);
    }
}
