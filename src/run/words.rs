//! Translation of the scenario's data settings into the types of the dataset's readers.

use crate::dataset::{Columns, PairForm, Partition, Template};
use crate::scenario;

/// Translates the prompt template; `None` is the model's own chat template.
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

/// Translates how pairs become sequences.
pub fn pair_form(form: scenario::PairForm) -> PairForm {
    match form {
        scenario::PairForm::Templated => PairForm::Templated,
        scenario::PairForm::Raw { max_prompt } => PairForm::Raw { max_prompt: max_prompt as usize },
    }
}

/// Translates the columns of the data.
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

/// Translates the partition of rows among clients.
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
