//! Quality of rows by instruction-following difficulty (IFD, Li et al. 2024): the ratio of an answer's loss with its
//! instruction to its loss alone. FedLLM-Bench's paper reports it by client, without naming the scoring model.

use std::path::Path;
use std::sync::Arc;

use fedreplay_sim::Seed;

use super::{DiversityError, drawn};
use crate::adapter::Adapter;
use crate::data::{
    ClientData, LongPrompts, Prompts, Sample, SequenceRules, SpecialTokensInText, Template, Tokenizer, tokenize,
};
use crate::model::{Config, Device, LoraSpec, Precision};
use crate::training::{Error, Numerics, Trainer};

/// The losses of one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Quality {
    /// Index of the client.
    pub client: usize,
    /// Index of the row within the client.
    pub row: usize,
    /// [nat/token] -- Mean loss of the answer after its instruction, in the alpaca template.
    pub given: f64,
    /// [nat/token] -- Mean loss of the answer alone.
    pub alone: f64,
}

impl Quality {
    /// [1] -- Returns the instruction-following difficulty. Above 1 the instruction does not help.
    pub fn ifd(&self) -> f64 {
        self.given / self.alone
    }
}

/// A local model that computes scores and embeddings.
pub struct QualityJudge {
    pub(super) trainer: Trainer,
    pub(super) tokenizer: Tokenizer,
    pub(super) max_tokens: usize,
}

/// [token] -- Maximum length of a scored row. A longer one is cut, as in training.
const LONGEST: usize = 1024;

impl QualityJudge {
    /// Loads a model from a Hugging Face folder, in f32 on the CPU.
    ///
    /// # Errors
    /// If the folder cannot be used.
    pub fn load(folder: &Path) -> Result<Self, DiversityError> {
        // The trainer requires a layout for adapters. The adapter that is used with it is all zeros.
        let config = Config::read(folder).map_err(Error::from)?;
        let lora = LoraSpec::smallest(&config);
        let trainer = Trainer::load(folder, Precision::F32, Device::Cpu, &lora, &Numerics::default())?;
        let tokenizer = Tokenizer::load(folder).map_err(|error| {
            let message = error.to_string();
            DiversityError::Text { client: String::new(), row: 0, message }
        })?;
        let max_tokens = trainer.config().max_positions.min(LONGEST);
        Ok(Self { trainer, tokenizer, max_tokens })
    }

    /// Scores up to `count` rows of each client. Rows whose instruction leaves no room for the answer are left out. For
    /// a conversation the first exchange is scored, for a pair the chosen answer.
    ///
    /// # Errors
    /// If the tokenizer refuses a text or LibTorch fails.
    pub fn score(&self, clients: &[ClientData], seed: Seed, count: usize) -> Result<Vec<Quality>, DiversityError> {
        let mut places = Vec::new();
        let mut samples = Vec::new();
        for (client, data) in clients.iter().enumerate() {
            for (row, content) in drawn(seed, client, data, count) {
                let Some(asked) = content.asked().first().copied() else { continue };
                let Some(answered) = content.answered().first().copied() else { continue };
                let both = self.both(asked, answered).map_err(|message| {
                    let client = data.id.clone();
                    DiversityError::Text { client, row, message }
                })?;
                if let Some([given, alone]) = both {
                    places.push((client, row));
                    samples.extend([Arc::new(given), Arc::new(alone)]);
                }
            }
        }
        // Each row has two samples in a row: with its instruction, and alone.
        let losses = self.trainer.evaluate(&Adapter::zeros(self.trainer.layout()), &samples)?;
        let mut scores = Vec::with_capacity(places.len());
        for ((client, row), pair) in places.into_iter().zip(losses.chunks(2)) {
            let given = pair[0].nats / f64::from(pair[0].tokens);
            let alone = pair[1].nats / f64::from(pair[1].tokens);
            scores.push(Quality { client, row, given, alone });
        }
        Ok(scores)
    }

    /// Builds the answer after its instruction, and alone. `None` if the instruction leaves no room for the answer.
    fn both(&self, asked: &str, answered: &str) -> Result<Option<[Sample; 2]>, String> {
        // A client with this one row goes through the tokenization of training, which also cuts rows that are too long.
        let content = crate::data::Content::SingleTurn { instruction: asked.into(), response: answered.into() };
        let row = crate::data::Row::from(content);
        let client = ClientData { id: String::new(), rows: vec![row] };
        let rules = SequenceRules {
            prompts: Prompts::Template(Template::named("alpaca").expect("it is in the table")),
            max_tokens: self.max_tokens,
            long_prompts: LongPrompts::Skip,
            learns_last_question: false,
            special_tokens: SpecialTokensInText::Refuse,
        };
        let tokenized = tokenize(&client, &self.tokenizer, &rules).map_err(|error| error.to_string())?;
        let Some(given) = tokenized.samples.into_iter().next() else { return Ok(None) };
        let mut ids: Vec<u32> = self.tokenizer.bos().into_iter().collect();
        let answer = Template::named("alpaca").expect("it is in the table").answer(answered);
        ids.extend(self.tokenizer.encode(&answer).map_err(|error| error.to_string())?.ids);
        ids.push(self.tokenizer.eos());
        // Cut to the part of the answer that is left after the instruction, so that both losses are of the same tokens.
        ids.truncate(1 + given.target_tokens() as usize);
        let end = ids.len() as u32;
        Ok((end > 1).then(|| [given, Sample { ids, targets: std::iter::once(1..end).collect() }]))
    }
}
