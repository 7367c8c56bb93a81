//! The data's fields beyond the file: columns, drawn rows, and how rows are dealt to clients.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fidelity::choose;
use crate::scenario::range;

/// Which columns hold the texts of the rows, by the names of the datasets of OpenFedLLM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum Columns {
    /// FedLLM-Bench's own forms.
    #[default]
    FedLlmBench,
    /// `instruction`, `input`, `output`: CodeAlpaca-20k, alpaca, alpaca-cleaned, alpaca-gpt4, finance-alpaca, FinGPT.
    Alpaca,
    /// `instruction`, `output`.
    WizardLm,
    /// `instruction`, `output`, the first of each instruction.
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
        /// Column of what is asked.
        instruction: String,
        /// Column of what follows the instruction after a space, where it is not empty.
        #[serde(default)]
        input: Option<String>,
        /// Column of what is answered.
        response: String,
    },
}

/// How learnt tokens are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Masking {
    /// By construction: what was put in as the answer, whatever it says, for any tokenizer.
    ByConstruction,
    /// As FedLLM-Bench does. Of single turns by its collator: after the last occurrence of the template's key, for Llama's
    /// tokenizers; a row in which it is not found is left out. A conversation is left out if a turn holds the key.
    LastKey,
}

impl Default for Masking {
    fn default() -> Self {
        choose(Self::ByConstruction, Self::LastKey)
    }
}

/// How preference rows become sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum PairForm {
    /// As single turns do: in the template, after BOS, each answer cut at `max_seq_length`.
    Templated,
    /// As TRL 0.7 does for FedLLM-Bench: the prompt as it stands, without BOS. Of a pair that is too long the prompt keeps
    /// its end, and if that is not enough, both answers keep `max_seq_length - max_prompt` tokens of their beginning.
    Raw {
        /// [tokens] What is left of the prompt of a long pair -- at least 1, below `max_seq_length`.
        #[serde(default = "their_prompt", deserialize_with = "range::at_least_one")]
        max_prompt: u32,
    },
}

impl Default for PairForm {
    fn default() -> Self {
        choose(Self::Templated, Self::Raw { max_prompt: their_prompt() })
    }
}

fn their_prompt() -> u32 {
    128
}

/// What becomes of a conversation's last question, where it has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LastQuestion {
    /// It is left out: there is nothing to learn of it.
    LeftOut,
    /// It is learnt, as FedLLM-Bench's code does: the model is taught to ask.
    Learnt,
}

impl Default for LastQuestion {
    fn default() -> Self {
        choose(Self::LeftOut, Self::Learnt)
    }
}

/// What becomes of rows that cannot be used: without a key, with an empty answer, of another kind, out of turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BadRows {
    /// The file is refused, with line, client and row.
    #[default]
    Refuse,
    /// They are left out and counted in a warning, and so is a client that has no other.
    Skip,
}

/// How rows are dealt to clients.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum Partition {
    /// As the file has them.
    #[default]
    Natural,
    /// Shuffled and dealt in turn.
    Iid {
        /// [clients] -- at least 1.
        #[serde(deserialize_with = "range::at_least_one")]
        clients: u32,
    },
    /// Each value of an attribute shared out by a draw of the Dirichlet law.
    Dirichlet {
        /// [clients] -- at least 1.
        #[serde(deserialize_with = "range::at_least_one")]
        clients: u32,
        /// [1] Concentration: small is uneven -- above 0.
        #[serde(deserialize_with = "range::positive")]
        alpha: f64,
        /// A key of the rows, such as `language`.
        attribute: String,
    },
    /// One client a value of an attribute.
    ByAttribute {
        /// A key of the rows, such as `language`.
        attribute: String,
    },
}

impl Columns {
    /// The dataset's name to the readers; none for the forms of FedLLM-Bench and for columns given one by one.
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
