//! Fields of the data: columns, masking, treatment of unusual rows, and partition among clients.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fidelity::{DefaultsBasis, FidelityDefault};
use crate::scenario::range;

/// Columns that hold the texts of the rows, by the names of OpenFedLLM's datasets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[serde(rename = "Columns")]
pub enum ColumnsSpec {
    /// Told by the columns' own names: those of FedLLM-Bench, `messages`, `prompt` and `completion`, TRL's preferences.
    #[default]
    FedLlmBench,
    /// `instruction`, `input`, `output`: CodeAlpaca-20k, alpaca, alpaca-cleaned, alpaca-gpt4, finance-alpaca, FinGPT.
    Alpaca,
    /// `instruction`, `output`.
    WizardLm,
    /// `instruction`, `output`; only the first row of each instruction.
    MathInstruct,
    /// `problem`, `solution`.
    Math,
    /// `question`, `answer`.
    Gsm8k,
    /// `input`, `output`.
    MedicalFlashcards,
    /// Two transcripts, `chosen` and `rejected`.
    HhRlhf,
    /// `prompt`, and messages in `chosen` and `rejected`.
    Ultrafeedback,
    /// Single turns from other columns.
    SingleTurn {
        /// Column of the instruction.
        instruction: String,
        /// Column of the input, which follows the instruction after a space if it is not empty.
        #[serde(default)]
        input: Option<String>,
        /// Column of the response.
        response: String,
        /// Column of the system prompt, which may be empty.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        system: Option<String>,
    },
}

/// Selection of the tokens that contribute to the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Masking {
    /// The tokens that were inserted as the answer, regardless of their text, for any tokenizer.
    ByConstruction,
    /// As in FedLLM-Bench. For single turns, as by its collator, the tokens after the last occurrence of the template's
    /// key, for Llama's tokenizers; a row without the key is left out. A conversation is left out if a turn contains
    /// the key.
    LastKey,
}

impl FidelityDefault for Masking {
    type Value = Self;

    fn under(basis: DefaultsBasis) -> Self {
        basis.choose(Self::ByConstruction, Self::LastKey)
    }
}

/// Conversion of preference rows to sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[serde(rename = "PairForm")]
pub enum PairFormSpec {
    /// As for single turns: in the template, after BOS, with each answer truncated at `max_seq_length`.
    Templated,
    /// As in TRL 0.7 for FedLLM-Bench: the prompt without template and BOS; of `Ultrafeedback` and `HhRlhf` the dialogue in
    /// `vicuna_v1.1`, as in OpenFedLLM. If a pair is too long, the prompt keeps its last `max_prompt` tokens; if that is not
    /// enough, both answers keep their first `max_seq_length - max_prompt` tokens.
    Raw {
        /// [tokens] Tokens of the prompt that a long pair keeps -- at least 1, below `max_seq_length`.
        #[serde(default = "their_prompt", deserialize_with = "range::at_least_one")]
        max_prompt: u32,
    },
}

impl FidelityDefault for PairFormSpec {
    type Value = Self;

    fn under(basis: DefaultsBasis) -> Self {
        basis.choose(Self::Templated, Self::Raw { max_prompt: their_prompt() })
    }
}

fn their_prompt() -> u32 {
    128
}

/// Treatment of the last question of a conversation if it has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LastQuestion {
    /// It is left out, since there is no answer to learn.
    LeftOut,
    /// It is learned, as in FedLLM-Bench's code, which trains the model to ask.
    Learnt,
}

impl FidelityDefault for LastQuestion {
    type Value = Self;

    fn under(basis: DefaultsBasis) -> Self {
        basis.choose(Self::LeftOut, Self::Learnt)
    }
}

/// Treatment of special tokens that a row's text spells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename = "SpecialTokensInText")]
pub enum SpecialTokensInTextSpec {
    /// Under `template: Chat`, where they could be taken for those of the template, an error that names the row. Under the
    /// other templates, plain characters.
    Refuse,
    /// Plain characters, as by `split_special_tokens=True` of Transformers. Tokens of the template stay what they are.
    AsText,
    /// The special tokens, as in FedLLM-Bench's code.
    Parsed,
}

impl FidelityDefault for SpecialTokensInTextSpec {
    type Value = Self;

    fn under(basis: DefaultsBasis) -> Self {
        basis.choose(Self::Refuse, Self::Parsed)
    }
}

/// Treatment of rows that cannot be used: torn or not JSON, with a column missing, an empty answer, messages out of order, of
/// another kind, with a special token in its text, refused by the chat template, or with too long a prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename = "BadRows")]
pub enum BadRowsSpec {
    /// The data are rejected, with all kinds of faults at once and the fields that lift them.
    #[default]
    Refuse,
    /// They are left out, and counted by reason and client in a warning, the manifest and the report; clients without other
    /// rows leave, too.
    Skip,
}

/// Partition of the rows among clients.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[serde(rename = "Partition")]
pub enum PartitionSpec {
    /// The clients of the file.
    #[default]
    Natural,
    /// Rows are shuffled and distributed in turn.
    Iid {
        /// [clients] -- at least 1.
        #[serde(deserialize_with = "range::at_least_one")]
        clients: u32,
    },
    /// The rows of each value of an attribute are divided in proportions drawn from a Dirichlet distribution.
    Dirichlet {
        /// [clients] -- at least 1.
        #[serde(deserialize_with = "range::at_least_one")]
        clients: u32,
        /// [1] Concentration; small values give uneven partitions -- above 0.
        #[serde(deserialize_with = "range::positive")]
        alpha: f64,
        /// Key of the rows, such as `language`.
        attribute: String,
    },
    /// One client per value of an attribute.
    ByAttribute {
        /// Key of the rows, such as `language`.
        attribute: String,
    },
}

impl ColumnsSpec {
    /// Returns the name by which readers know the dataset, or `None` for FedLLM-Bench's formats and for single columns.
    pub fn name(&self) -> Option<&'static str> {
        Some(match self {
            Self::FedLlmBench | Self::SingleTurn { .. } => return None,
            Self::Alpaca => "alpaca",
            Self::WizardLm => "wizardlm",
            Self::MathInstruct => "math-instruct",
            Self::Math => "math",
            Self::Gsm8k => "gsm8k",
            Self::MedicalFlashcards => "medical-flashcards",
            Self::HhRlhf => "hh-rlhf",
            Self::Ultrafeedback => "ultrafeedback",
        })
    }
}
