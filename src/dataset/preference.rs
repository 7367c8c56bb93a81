//! Preference rows into pairs of samples that share their prompt.

use serde::{Deserialize, Serialize};

use super::error::{DatasetError, RowFault};
use super::federation::{ClientData, SkippedRow};
use super::row::{Content, Row};
use super::sample::Sample;
use super::tokenise::{SequenceRules, skippable};
use super::tokeniser::Tokeniser;

/// Two answers to one prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preference {
    /// Prompt and preferred answer.
    pub chosen: Sample,
    /// Prompt and the other answer.
    pub rejected: Sample,
}

impl Preference {
    /// BLAKE3 of both samples.
    pub fn hash(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_derive_key("fedreplay tokenised preference v1");
        hasher.update(self.chosen.hash().as_bytes());
        hasher.update(self.rejected.hash().as_bytes());
        hasher.finalize()
    }
}

/// A client's pairs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenisedPreferences {
    /// One pair a usable row, in the order of the rows.
    pub pairs: Vec<Preference>,
    /// For each pair, the index of its row.
    pub rows: Vec<usize>,
    /// Rows left out under [`super::LongPrompts::Skip`].
    pub skipped: Vec<SkippedRow>,
    /// Pairs of which an answer lost its end to the length limit.
    pub truncated: usize,
}

/// Tokenises every preference row of a client: templated, with BOS, and within the stated length.
///
/// FedLLM-Bench itself trains on the raw prompt without BOS (section 2.4); that is another rule than this one.
///
/// # Errors
/// [`DatasetError::Untokenisable`], as for [`super::tokenise`].
pub fn tokenise_preferences(
    client: &ClientData,
    tokeniser: &Tokeniser,
    rules: &SequenceRules,
) -> Result<TokenisedPreferences, DatasetError> {
    let mut tokenised = TokenisedPreferences::default();
    for (row, content) in client.rows.iter().enumerate() {
        match tokenise_pair(content, tokeniser, rules) {
            Ok((pair, was_truncated)) => {
                tokenised.pairs.push(pair);
                tokenised.rows.push(row);
                tokenised.truncated += usize::from(was_truncated);
            }
            Err(fault) => tokenised.skipped.push(skippable(client, row, fault, rules.long_prompts)?),
        }
    }
    Ok(tokenised)
}

fn tokenise_pair(row: &Row, tokeniser: &Tokeniser, rules: &SequenceRules) -> Result<(Preference, bool), RowFault> {
    let Content::Preference { prompt, chosen, rejected } = &row.content else {
        let wanted = "preference alignment reads rows with a chosen and a rejected answer";
        return Err(RowFault::WrongKindForTask { found: row.kind(), wanted });
    };
    let shape = |answer: &str| rules.shape(tokeniser, [(prompt.as_str(), answer)].into_iter());
    let (chosen, rejected) = (shape(chosen)?, shape(rejected)?);
    let was_truncated = chosen.was_truncated || rejected.was_truncated;
    Ok((Preference { chosen: chosen.sample, rejected: rejected.sample }, was_truncated))
}
