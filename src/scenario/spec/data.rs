//! The data's fields beyond the file: columns, drawn rows, and how rows are dealt to clients.

use serde::{Deserialize, Serialize};

use super::super::range;

/// Which columns hold the texts of the rows, by the names of the datasets of OpenFedLLM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
        instruction: String,
        /// Follows the instruction after a space, where it is not empty.
        #[serde(default)]
        input: Option<String>,
        response: String,
    },
}

/// How rows are dealt to clients.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    ByAttribute { attribute: String },
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
