//! The quality of rows as instruction-following difficulty (IFD, Li et al. 2024): how much of an answer's loss is left when its
//! instruction is known. FedLLM-Bench's paper gives it a client, without naming the model that scored.

use std::path::Path;
use std::sync::Arc;

use fedreplay_sim::Seed;

use super::{DiversityError, drawn};
use crate::adapter::Adapter;
use crate::data::{ClientData, LongPrompts, Prompts, Sample, SequenceRules, Template, Tokeniser, tokenise};
use crate::model::{Device, LoraSpec, Precision};
use crate::training::{Numerics, Trainer};

/// A row's score.
#[derive(Clone, Debug, PartialEq)]
pub struct Quality {
    /// Place of its client, and of the row within it.
    pub client: usize,
    pub row: usize,
    /// [nats/token] Mean loss of the answer after its instruction in the alpaca template, and alone.
    pub given: f64,
    pub alone: f64,
}

impl Quality {
    /// [1] The ratio of the two: above 1 the instruction does not help.
    pub fn ifd(&self) -> f64 {
        self.given / self.alone
    }
}

/// A local model that scores and embeds.
pub struct Judge {
    pub(super) trainer: Trainer,
    pub(super) tokeniser: Tokeniser,
    pub(super) max_tokens: usize,
}

/// [tokens] Longest row that is scored; a longer one is cut, as in training.
const LONGEST: usize = 1024;

impl Judge {
    /// Loads a Hugging Face folder in f32 on the CPU.
    ///
    /// # Errors
    /// If the folder cannot be used.
    pub fn load(folder: &Path) -> Result<Self, DiversityError> {
        // The trainer wants an adapter's place; the adapter on it is zero throughout.
        let lora = LoraSpec {
            rank: 1,
            alpha: 1.0,
            dropout: 0.0,
            target_modules: vec!["q_proj".into()],
            rank_stabilised: false,
        };
        let trainer = Trainer::load(folder, Precision::F32, Device::Cpu, &lora, &Numerics::default())?;
        let failed = |error: crate::data::DatasetError| DiversityError::Text {
            client: String::new(),
            row: 0,
            message: error.to_string(),
        };
        let tokeniser = Tokeniser::load(folder).map_err(failed)?;
        let max_tokens = trainer.config().max_positions.min(LONGEST);
        Ok(Self { trainer, tokeniser, max_tokens })
    }

    /// The scores of up to `count` rows of each client. Rows whose instruction leaves no room are left out; of a
    /// conversation the first exchange is scored, of a pair the chosen answer.
    ///
    /// # Errors
    /// If the tokenizer refuses a text or LibTorch fails.
    pub fn score(&self, clients: &[ClientData], seed: Seed, count: usize) -> Result<Vec<Quality>, DiversityError> {
        let (mut places, mut samples) = (Vec::new(), Vec::new());
        for (client, data) in clients.iter().enumerate() {
            for (row, content) in drawn(seed, client, data, count) {
                let failed = |message| DiversityError::Text { client: data.id.clone(), row, message };
                let (Some(asked), Some(answered)) =
                    (content.asked().first().copied(), content.answered().first().copied())
                else {
                    continue;
                };
                if let Some([given, alone]) = self.both(asked, answered).map_err(failed)? {
                    places.push((client, row));
                    samples.extend([Arc::new(given), Arc::new(alone)]);
                }
            }
        }
        let losses = self.trainer.evaluate(&Adapter::zeros(self.trainer.layout()), &samples)?;
        let mean = |place: usize| losses[place].nats / f64::from(losses[place].tokens);
        let score = |(place, &(client, row)): (usize, &(usize, usize))| Quality {
            client,
            row,
            given: mean(2 * place),
            alone: mean(2 * place + 1),
        };
        Ok(places.iter().enumerate().map(score).collect())
    }

    /// The answer after its instruction, and alone; none if the instruction leaves no room for it.
    fn both(&self, asked: &str, answered: &str) -> Result<Option<[Sample; 2]>, String> {
        let content = crate::data::Content::SingleTurn { instruction: asked.into(), response: answered.into() };
        let row = crate::data::Row { content, attributes: Default::default() };
        let client = ClientData { id: String::new(), rows: vec![row] };
        let rules = SequenceRules {
            prompts: Prompts::Template(Template::named("alpaca").expect("it is in the table")),
            max_tokens: self.max_tokens,
            long_prompts: LongPrompts::Skip,
            learns_last_question: false,
        };
        let tokenised = tokenise(&client, &self.tokeniser, &rules).map_err(|error| error.to_string())?;
        let Some(given) = tokenised.samples.into_iter().next() else { return Ok(None) };
        let mut ids: Vec<u32> = self.tokeniser.bos().into_iter().collect();
        ids.extend(
            self.tokeniser.encode(&Template::named("alpaca").expect("it is in the table").answer(answered))?.ids,
        );
        ids.push(self.tokeniser.eos());
        // No longer than what is left of the answer behind its instruction.
        ids.truncate(1 + given.target_tokens() as usize);
        let end = ids.len() as u32;
        Ok((end > 1).then(|| [given, Sample { ids, targets: std::iter::once(1..end).collect() }]))
    }
}
