//! Tokenization of preference rows into pairs of samples with the same prompt.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::content::{Content, Exchange};
use super::error::{DatasetError, RowFault, SkippedRow};
use super::federation::ClientData;
use super::pair_columns::common_prefix_bytes;
use super::row::Row;
use super::sample::Sample;
use super::template::Template;
use super::tokenize::{SequenceRules, Shaped, SpecialTokensInText, refuse_unless_skipped};
use super::tokenizer::Tokenizer;

/// A tokenized pair of answers to one prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preference {
    /// Prompt and preferred answer.
    pub chosen: Sample,
    /// Prompt and the other answer.
    pub rejected: Sample,
}

impl Preference {
    /// Returns BLAKE3 of both samples.
    pub fn hash(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_derive_key("fedreplay tokenised preference v1");
        hasher.update(self.chosen.hash().as_bytes());
        hasher.update(self.rejected.hash().as_bytes());
        hasher.finalize()
    }
}

/// The tokenized pairs of a client.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenizedPreferences {
    /// One pair per usable row, in the order of the rows.
    pub pairs: Vec<Preference>,
    /// For each pair, the index of its row.
    pub rows: Vec<usize>,
    /// Rows left out: under [`super::LongPrompts::Skip`], or all that cannot be used.
    pub skipped: Vec<SkippedRow>,
    /// Number of pairs with an answer that was cut at the length limit.
    pub truncated: usize,
}

/// The way in which a pair becomes two sequences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PairForm {
    /// As for single turns: the prompt template after BOS, each answer cut at the longest sequence.
    #[default]
    Templated,
    /// As TRL 0.7 does for FedLLM-Bench (section 2.4 of its description): prompt and answers are encoded separately,
    /// without BOS. If a pair is too long, its prompt keeps the last `max_prompt` tokens. If that is not enough, both
    /// answers keep their first tokens, as many as fit together with a prompt of `max_prompt` tokens.
    Raw {
        /// [token] -- Tokens that an overlong prompt keeps; below the longest sequence.
        max_prompt: usize,
        prompt: RawPrompt,
    },
}

/// The text that the prompt of a raw pair is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawPrompt {
    /// The prompt of the row, as in FedLLM-Bench.
    AsWritten,
    /// The dialogue in the template `vicuna_v1.1`, as by OpenFedLLM's `split_ultrafeedback`, with answers after a space.
    Dialogue,
    /// The same as by its `split_hh`, which leaves out what the two answers begin with in common, but for the last character.
    Transcript,
}

/// Tokenizes every preference row of a client.
///
/// # Errors
/// [`DatasetError::Untokenizable`], as for [`super::tokenize()`].
pub fn tokenize_preferences(
    client: &ClientData,
    tokenizer: &Tokenizer,
    rules: &SequenceRules,
    form: PairForm,
) -> Result<TokenizedPreferences, DatasetError> {
    let tokenized = tokenize_usable_preferences(client, tokenizer, rules, form);
    refuse_unless_skipped(&tokenized.skipped, rules.long_prompts)?;
    Ok(tokenized)
}

/// Tokenizes the rows of a client as [`tokenize_preferences`] does, and leaves out every row that cannot be used.
pub fn tokenize_usable_preferences(
    client: &ClientData,
    tokenizer: &Tokenizer,
    rules: &SequenceRules,
    form: PairForm,
) -> TokenizedPreferences {
    let mut tokenized = TokenizedPreferences::default();
    // Rows are tokenized in parallel and collected in order, so the first fault does not depend on the threads.
    let pairs: Vec<_> = client.rows.par_iter().map(|row| tokenize_pair(row, tokenizer, rules, form)).collect();
    for (row, pair) in pairs.into_iter().enumerate() {
        match pair {
            Ok((pair, was_truncated)) => {
                tokenized.pairs.push(pair);
                tokenized.rows.push(row);
                tokenized.truncated += usize::from(was_truncated);
            }
            Err(fault) => tokenized.skipped.push(client.without(row, fault)),
        }
    }
    tokenized
}

/// Tokenizes one row. Returns the pair and whether an answer was cut.
fn tokenize_pair(
    row: &Row,
    tokenizer: &Tokenizer,
    rules: &SequenceRules,
    form: PairForm,
) -> Result<(Preference, bool), RowFault> {
    let Content::Preference { history, prompt, chosen, rejected } = &row.content else {
        let wanted = "preference alignment reads rows with a chosen and a rejected answer";
        return Err(RowFault::WrongKindForTask { found: row.kind(), wanted });
    };
    if let PairForm::Raw { max_prompt, prompt: raw_prompt } = form {
        if row.system.is_some() || (raw_prompt == RawPrompt::AsWritten && !history.is_empty()) {
            return Err(RowFault::NotRaw);
        }
        let texts = match raw_prompt {
            RawPrompt::AsWritten => [prompt, chosen, rejected].map(String::clone),
            RawPrompt::Dialogue => in_dialogue(history, prompt, [chosen, rejected]),
            RawPrompt::Transcript => {
                let [prompt, chosen, rejected] = in_dialogue(history, prompt, [chosen, rejected]);
                let shared = common_prefix_bytes(&chosen, &rejected);
                let last = chosen[..shared].chars().next_back().map_or(0, char::len_utf8);
                [prompt, chosen[shared - last..].to_owned(), rejected[shared - last..].to_owned()]
            }
        };
        return raw_pair(texts.each_ref(), tokenizer, rules, max_prompt);
    }
    let system = row.system.as_deref();
    let chosen = answered(tokenizer, rules, system, history, [prompt, chosen])?;
    let rejected = answered(tokenizer, rules, system, history, [prompt, rejected])?;
    let was_truncated = chosen.was_truncated || rejected.was_truncated;
    Ok((Preference { chosen: chosen.sample, rejected: rejected.sample }, was_truncated))
}

/// Tokenizes a question with one of its answers, which alone is trained on, behind earlier turns.
fn answered(
    tokenizer: &Tokenizer,
    rules: &SequenceRules,
    system: Option<&str>,
    history: &[Exchange],
    last: [&String; 2],
) -> Result<Shaped, RowFault> {
    let [question, answer] = last;
    let earlier = history.iter().map(|exchange| (exchange.user.as_str(), exchange.assistant.as_str()));
    let exchanges = earlier.chain([(question.as_str(), answer.as_str())]);
    let mut shaped = rules.shape(tokenizer, system, exchanges, None)?;
    // The answers of earlier turns are targets as well until here.
    let targets = &mut shaped.sample.targets;
    if targets.len() <= history.len() {
        return Err(RowFault::PromptTooLong { prompt_tokens: shaped.sample.ids.len(), max_tokens: rules.max_tokens });
    }
    targets.drain(..history.len());
    Ok(shaped)
}

/// Returns prompt and answers of a dialogue in FastChat's `vicuna_v1.1`, whose turns end with `</s>`.
fn in_dialogue(history: &[Exchange], question: &str, answers: [&String; 2]) -> [String; 3] {
    let template = Template::named("vicuna_v1.1").expect("it is one of the templates");
    let mut prompt = template.preamble.to_owned();
    for Exchange { user, assistant } in history {
        prompt += &(template.later_prompt(user) + &template.answer(assistant) + "</s>");
    }
    prompt += &template.later_prompt(question);
    let [chosen, rejected] = answers.map(|answer| template.answer(answer));
    [prompt, chosen, rejected]
}

/// Tokenizes prompt, chosen and rejected answer under [`PairForm::Raw`].
fn raw_pair(
    texts: [&String; 3],
    tokenizer: &Tokenizer,
    rules: &SequenceRules,
    max_prompt: usize,
) -> Result<(Preference, bool), RowFault> {
    let [prompt, chosen, rejected] = texts;
    let max_tokens = rules.max_tokens;
    let mut prompt = encode(tokenizer, rules, prompt)?;
    let mut chosen = encode_answer(tokenizer, rules, chosen)?;
    let mut rejected = encode_answer(tokenizer, rules, rejected)?;
    // TRL judges the pair by its longer answer: first the prompt loses its beginning, then both answers their ends.
    let longest = chosen.len().max(rejected.len());
    if prompt.len() + longest > max_tokens {
        prompt.drain(..prompt.len().saturating_sub(max_prompt));
    }
    let was_truncated = prompt.len() + longest > max_tokens;
    if was_truncated {
        chosen.truncate(max_tokens - max_prompt);
        rejected.truncate(max_tokens - max_prompt);
    }
    let chosen = sample_of(&prompt, &chosen, max_tokens)?;
    let rejected = sample_of(&prompt, &rejected, max_tokens)?;
    Ok((Preference { chosen, rejected }, was_truncated))
}

fn encode(tokenizer: &Tokenizer, rules: &SequenceRules, text: &str) -> Result<Vec<u32>, RowFault> {
    let ids = match rules.special_tokens {
        SpecialTokensInText::Parsed => tokenizer.encode_as_slow(text),
        SpecialTokensInText::Refuse | SpecialTokensInText::AsText => tokenizer.encode(text).map(|encoded| encoded.ids),
    };
    ids.map_err(RowFault::refused)
}

/// Encodes an answer and appends the EOS token.
fn encode_answer(tokenizer: &Tokenizer, rules: &SequenceRules, text: &str) -> Result<Vec<u32>, RowFault> {
    let mut ids = encode(tokenizer, rules, text)?;
    ids.push(tokenizer.eos());
    Ok(ids)
}

/// Joins a prompt and an answer into a sample that trains on the answer.
fn sample_of(prompt: &[u32], answer: &[u32], max_tokens: usize) -> Result<Sample, RowFault> {
    // Position 0 cannot be a target: there is no token before it to predict it from.
    let start = prompt.len().max(1) as u32;
    let ids = [prompt, answer].concat();
    let end = ids.len() as u32;
    if start >= end {
        return Err(RowFault::PromptTooLong { prompt_tokens: prompt.len(), max_tokens });
    }
    Ok(Sample { ids, targets: std::iter::once(start..end).collect() })
}

#[cfg(test)]
mod tests {
    use super::super::columns::{Columns, Shaping};
    use super::super::fields::Fields;
    use super::super::tokenize::tests::client;
    use super::super::tokenizer::tests::{EOS, byte_level};
    use super::*;
    use crate::data::tokenize::{LongPrompts, Prompts};

    fn raw(prompt: &str, chosen: &str, rejected: &str, max_tokens: usize) -> Preference {
        let pair = Content::Preference {
            history: vec![],
            prompt: prompt.into(),
            chosen: chosen.into(),
            rejected: rejected.into(),
        };
        tokenized(pair, PairForm::Raw { max_prompt: 4, prompt: RawPrompt::AsWritten }, max_tokens)
    }

    fn tokenized(pair: impl Into<Row>, form: PairForm, max_tokens: usize) -> Preference {
        let prompts = Prompts::Template(Template::named("alpaca").unwrap());
        let rules = SequenceRules {
            prompts,
            max_tokens,
            long_prompts: LongPrompts::Refuse,
            learns_last_question: false,
            special_tokens: SpecialTokensInText::Refuse,
        };
        let mut client = client(vec![]);
        client.rows.push(pair.into());
        tokenize_preferences(&client, &byte_level(), &rules, form).unwrap().pairs.remove(0)
    }

    /// Prompt and learnt text of a sample; a byte is a token, and the end of a sequence is `|`.
    fn parts(sample: &Sample) -> (String, String) {
        let start = sample.targets[0].start as usize;
        assert_eq!(sample.targets[0].end as usize, sample.ids.len());
        let text = |ids: &[u32]| {
            let end = if ids.last() == Some(&EOS) { "|" } else { "" };
            byte_level().decode(ids).unwrap() + end
        };
        (text(&sample.ids[..start]), text(&sample.ids[start..]))
    }

    fn both(pair: &Preference) -> [(String, String); 2] {
        [parts(&pair.chosen), parts(&pair.rejected)]
    }

    fn texts(prompt: &str, chosen: &str, rejected: &str) -> [(String, String); 2] {
        [chosen, rejected].map(|answer| (prompt.to_owned(), answer.to_owned()))
    }

    #[test]
    fn a_raw_pair_has_neither_template_nor_bos() {
        assert_eq!(both(&raw("ask", "yes", "no", 20)), texts("ask", "yes|", "no|"));
    }

    /// A row of a public dataset.
    fn read(columns: Columns, row: serde_json::Value) -> Row {
        Shaping::new(columns).row(Fields::of_json(row).unwrap()).unwrap().unwrap()
    }

    fn transcripts() -> Row {
        let asked = "\n\nHuman: Hi\n\nAssistant: Hello!\n\nHuman: And?\n\nAssistant: ";
        let row = serde_json::json!({"chosen": format!("{asked}I do."), "rejected": format!("{asked}I am.")});
        read(Columns::HhRlhf, row)
    }

    fn messages() -> Row {
        let list =
            |answer| serde_json::json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": answer}]);
        let row = serde_json::json!({"prompt": "q", "chosen": list("good"), "rejected": list("bad")});
        read(Columns::Ultrafeedback, row)
    }

    /// What OpenFedLLM's `split_hh` and `split_ultrafeedback` made of these rows, run by hand: the prompt with FastChat's
    /// conversation, and answers that begin at the character before the two differ, or with a space.
    #[test]
    fn public_preferences_are_dialogues_of_vicuna_as_openfedllm_has_them() {
        let system = "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, \
                      detailed, and polite answers to the user's questions. ";
        let raw = |row, prompt| both(&tokenized(row, PairForm::Raw { max_prompt: 4, prompt }, 500));
        let prompt = format!("{system}USER: Hi ASSISTANT: Hello!</s>USER: And? ASSISTANT:");
        assert_eq!(raw(transcripts(), RawPrompt::Transcript), texts(&prompt, " do.|", " am.|"));
        let prompt = format!("{system}USER: q ASSISTANT:");
        assert_eq!(raw(messages(), RawPrompt::Dialogue), texts(&prompt, " good|", " bad|"));
    }

    #[test]
    fn public_preferences_have_the_tokens_of_the_same_dialogue_in_other_columns() {
        let pair = |history: Vec<Exchange>, prompt: &str, chosen: &str, rejected: &str| {
            let [prompt, chosen, rejected] = [prompt, chosen, rejected].map(str::to_owned);
            Row::from(Content::Preference { history, prompt, chosen, rejected })
        };
        let first = Exchange { user: "Hi".into(), assistant: "Hello!".into() };
        let templated = |row| tokenized(row, PairForm::Templated, 500);
        assert_eq!(templated(transcripts()), templated(pair(vec![first], "And?", "I do.", "I am.")));
        assert_eq!(templated(messages()), templated(pair(vec![], "q", "good", "bad")));
    }

    /// The rules of TRL 0.7's collator with a longest sequence of 10 and a longest prompt of 4.
    #[test]
    fn a_long_pair_keeps_the_end_of_its_prompt_and_the_beginning_of_its_answers() {
        assert_eq!(both(&raw("abcdef", "uvwxy", "no", 10)), texts("cdef", "uvwxy|", "no|"));
        assert_eq!(both(&raw("abcdef", "uvwxyzuvwxyz", "no", 10)), texts("cdef", "uvwxyz", "no|"));
        // A short prompt leaves room that TRL does not use.
        assert_eq!(both(&raw("ab", "uvwxyzuvwxyz", "no", 10)), texts("ab", "uvwxyz", "no|"));
    }
}
