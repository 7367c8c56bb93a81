//! Tokenization of rows into samples. The target tokens are known by construction; nothing is searched for.
//!
//! Prompt and answer are encoded as one text, so that the ids are those that Transformers produces, and the tokenizer's
//! offsets tell which tokens hold text of the answer. Those and the end-of-sequence token are the targets. A key such
//! as `### Response:` inside a row therefore changes nothing, and no property of a particular tokenizer is assumed.
//! Turns of a dialogue are encoded one by one, later ones as text after a special token: no token crosses the
//! end-of-sequence token between them, and the ids are those of the whole text.

use std::sync::Arc;

use rayon::prelude::*;

use super::chat_template::{ChatTemplate, ChatTemplateError, Dialogue};
use super::content::Content;
use super::error::{DatasetError, RowFault, SkippedRow};
use super::federation::ClientData;
use super::json_value::JsonValue;
use super::message::{ChatMessage, Message, Role};
use super::row::Row;
use super::sample::Sample;
use super::template::Template;
use super::tokenizer::{Encoded, Tokenizer};

/// The rules by which rows become sequences.
#[derive(Clone, Debug)]
pub struct SequenceRules {
    /// The prompt template.
    pub prompts: Prompts,
    /// [token] -- Longest sequence; longer ones are cut at the end.
    pub max_tokens: usize,
    /// The policy for rows whose prompt leaves no room for an answer.
    pub long_prompts: LongPrompts,
    /// Whether to train on a conversation's last question if it has no answer, as FedLLM-Bench does, instead of leaving
    /// it out. Applies only to the built-in templates.
    pub learns_last_question: bool,
    /// The treatment of special tokens that a row's text spells.
    pub special_tokens: SpecialTokensInText,
}

/// The treatment of special tokens that a row's text spells, such as `</s>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpecialTokensInText {
    /// Under a chat template, whose own tokens they could be taken for, an error. Under a prompt template, plain characters.
    #[default]
    Refuse,
    /// Plain characters. A chat template has to be told so, too: [`ChatTemplate::with_plain`].
    AsText,
    /// The special tokens, as by `tokenizer(text)` of Transformers.
    Parsed,
}

/// The source of the text around questions and answers.
#[derive(Clone, Debug)]
pub enum Prompts {
    /// A built-in template of plain text; BOS and EOS tokens are added around it.
    Template(&'static Template),
    /// The chat template of the model, which writes special tokens itself.
    Chat(Arc<ChatTemplate>),
}

/// The policy for rows whose prompt leaves no room for a single token of the response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LongPrompts {
    /// Returns an error.
    #[default]
    Refuse,
    /// Leaves the row out and records it.
    Skip,
}

/// The samples of a client.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tokenized {
    /// One sample per usable row, in the order of the rows.
    pub samples: Vec<Sample>,
    /// For each sample, the index of its row.
    pub rows: Vec<usize>,
    /// Rows left out: under [`LongPrompts::Skip`], or all that cannot be used.
    pub skipped: Vec<SkippedRow>,
    /// Number of samples that were cut at the length limit.
    pub truncated: usize,
}

/// Tokenizes the single-turn and multi-turn rows of a client for supervised fine-tuning.
///
/// # Errors
/// [`DatasetError::Untokenizable`]: a prompt that leaves no room (unless skipped), a text that the tokenizer refuses,
/// or a preference row.
pub fn tokenize(client: &ClientData, tokenizer: &Tokenizer, rules: &SequenceRules) -> Result<Tokenized, DatasetError> {
    let tokenized = tokenize_usable(client, tokenizer, rules);
    refuse_unless_skipped(&tokenized.skipped, rules.long_prompts)?;
    Ok(tokenized)
}

/// Tokenizes the rows of a client as [`tokenize`] does, and leaves out every row that cannot be used.
pub fn tokenize_usable(client: &ClientData, tokenizer: &Tokenizer, rules: &SequenceRules) -> Tokenized {
    let mut tokenized = Tokenized::default();
    // Rows are tokenized in parallel and collected in order, so the first fault does not depend on the threads.
    let shaped: Vec<_> = client.rows.par_iter().map(|row| tokenize_row(row, tokenizer, rules)).collect();
    for (row, shaped) in shaped.into_iter().enumerate() {
        match shaped {
            Ok(Shaped { sample, was_truncated }) => {
                tokenized.samples.push(sample);
                tokenized.rows.push(row);
                tokenized.truncated += usize::from(was_truncated);
            }
            Err(fault) => tokenized.skipped.push(client.without(row, fault)),
        }
    }
    tokenized
}

/// Returns an error for the first row that was left out though `long_prompts` does not say so.
pub(super) fn refuse_unless_skipped(skipped: &[SkippedRow], long_prompts: LongPrompts) -> Result<(), DatasetError> {
    for row in skipped {
        if long_prompts == LongPrompts::Refuse || !matches!(row.fault, RowFault::PromptTooLong { .. }) {
            return Err(DatasetError::Untokenizable { row: Box::new(row.clone()) });
        }
    }
    Ok(())
}

/// A sample within the length limit.
pub(super) struct Shaped {
    pub(super) sample: Sample,
    pub(super) was_truncated: bool,
}

fn tokenize_row(row: &Row, tokenizer: &Tokenizer, rules: &SequenceRules) -> Result<Shaped, RowFault> {
    let system = row.system.as_deref();
    match &row.content {
        Content::SingleTurn { instruction, response } => {
            rules.shape(tokenizer, system, [(instruction.as_str(), response.as_str())].into_iter(), None)
        }
        Content::MultiTurn { exchanges, unanswered } => {
            let last = unanswered.as_deref().filter(|_| rules.learns_last_question);
            let exchanges = exchanges.iter().map(|one| (one.user.as_str(), one.assistant.as_str()));
            rules.shape(tokenizer, system, exchanges, last)
        }
        Content::ToolUse { messages, tools } => rules.shape_tool_use(tokenizer, system, messages, tools),
        Content::Preference { .. } => {
            let wanted = "supervised fine-tuning reads single-turn and multi-turn rows";
            Err(RowFault::WrongKindForTask { found: row.kind(), wanted })
        }
    }
}

impl SequenceRules {
    /// Builds one sequence from a system prompt, questions with their answers and, if given, a last question to train on.
    pub(super) fn shape<'a>(
        &self,
        tokenizer: &Tokenizer,
        system: Option<&'a str>,
        exchanges: impl Iterator<Item = (&'a str, &'a str)>,
        last_question: Option<&str>,
    ) -> Result<Shaped, RowFault> {
        let sequence = match &self.prompts {
            Prompts::Template(template) => {
                let mut sequence = Sequence::new(tokenizer, self.special_tokens == SpecialTokensInText::Parsed);
                for (turn, (question, answer)) in exchanges.enumerate() {
                    let prompt = match turn {
                        0 => template.prompt_under(system, question),
                        _ => template.later_prompt(question),
                    };
                    sequence.append(&prompt, &template.answer(answer))?;
                }
                if let Some(question) = last_question {
                    sequence.append_learnt(&template.unanswered(question))?;
                }
                sequence
            }
            Prompts::Chat(template) => {
                let messages = messages(system, exchanges);
                self.check_special_tokens(tokenizer, messages.iter().map(|message| message.content))?;
                Sequence::of_dialogue(tokenizer, template.dialogue(&messages))?
            }
        };
        sequence.within(self.max_tokens)
    }

    /// Builds one sequence from a system prompt and messages in which tools are called.
    fn shape_tool_use(
        &self,
        tokenizer: &Tokenizer,
        system: Option<&str>,
        messages: &[ChatMessage],
        tools: &[JsonValue],
    ) -> Result<Shaped, RowFault> {
        let Prompts::Chat(template) = &self.prompts else { return Err(RowFault::NeedsChatTemplate) };
        let system = system.map(|content| ChatMessage::from(&Message { role: Role::System, content }));
        let messages: Vec<ChatMessage> = system.into_iter().chain(messages.iter().cloned()).collect();
        let texts = messages.iter().flat_map(ChatMessage::strings).chain(tools.iter().flat_map(JsonValue::strings));
        self.check_special_tokens(tokenizer, texts)?;
        Sequence::of_dialogue(tokenizer, template.tool_dialogue(&messages, tools))?.within(self.max_tokens)
    }

    /// Checks that no text spells a special token, if that is to be refused. Under a chat template special tokens are parsed:
    /// those of the template, and those of the row's text unless [`ChatTemplate::with_plain`] made them plain.
    fn check_special_tokens<'a>(
        &self,
        tokenizer: &Tokenizer,
        mut texts: impl Iterator<Item = &'a str>,
    ) -> Result<(), RowFault> {
        if self.special_tokens == SpecialTokensInText::Refuse
            && let Some(token) = texts.find_map(|text| tokenizer.special_token_in(text))
        {
            return Err(RowFault::HoldsSpecialToken { token: token.to_owned() });
        }
        Ok(())
    }
}

/// Returns the system prompt, if there is one, and the exchanges as alternating messages of user and assistant.
fn messages<'a>(system: Option<&'a str>, exchanges: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<Message<'a>> {
    let mut messages = Vec::new();
    if let Some(content) = system {
        messages.push(Message { role: Role::System, content });
    }
    for (question, answer) in exchanges {
        messages.push(Message { role: Role::User, content: question });
        messages.push(Message { role: Role::Assistant, content: answer });
    }
    messages
}

/// A sequence under construction.
pub(super) struct Sequence<'a> {
    tokenizer: &'a Tokenizer,
    sample: Sample,
    /// Whether special tokens that the texts spell are parsed.
    is_parsed: bool,
    /// Number of texts that were appended, each followed by EOS.
    turns: usize,
}

impl<'a> Sequence<'a> {
    /// Starts a sequence with the BOS token, where the tokenizer uses one.
    pub(super) fn new(tokenizer: &'a Tokenizer, is_parsed: bool) -> Self {
        let ids = tokenizer.bos().into_iter().collect();
        Self { tokenizer, sample: Sample { ids, targets: vec![] }, is_parsed, turns: 0 }
    }

    /// Encodes what a chat template writes as one text.
    fn of_dialogue(tokenizer: &'a Tokenizer, dialogue: Result<Dialogue, ChatTemplateError>) -> Result<Self, RowFault> {
        let dialogue = dialogue.map_err(|error| RowFault::ChatTemplate { message: error.to_string() })?;
        let encoded = tokenizer.encode_chat(&dialogue.text).map_err(RowFault::refused)?;
        // A token that holds the last text of a prompt and the first of its answer counts as part of the answer.
        let mut targets = Vec::with_capacity(dialogue.answers.len());
        for answer in &dialogue.answers {
            let start = encoded.tokens_before(answer.start).max(1) as u32;
            let end = match dialogue.are_marked {
                // As `return_assistant_tokens_mask` of Transformers: through the token that holds the last character.
                true => encoded.tokens_before(answer.end - 1) + 1,
                false => encoded.tokens_before(answer.end),
            };
            let end = end.min(encoded.ids.len()) as u32;
            if start < end {
                targets.push(start..end);
            }
        }
        let turns = dialogue.answers.len();
        Ok(Self { tokenizer, sample: Sample { ids: encoded.ids, targets }, is_parsed: true, turns })
    }

    /// Encodes the next text of the sequence.
    fn encode(&self, text: &str) -> Result<Encoded, RowFault> {
        let encoded = if self.is_parsed {
            self.tokenizer.encode_parsed_turn(text, self.turns)
        } else {
            self.tokenizer.encode_turn(text, self.turns)
        };
        encoded.map_err(RowFault::refused)
    }

    /// Appends a prompt, its answer and the EOS token. Every token that holds text of the answer is a target.
    pub(super) fn append(&mut self, prompt: &str, answer: &str) -> Result<(), RowFault> {
        let text = [prompt, answer].concat();
        let encoded = self.encode(&text)?;
        self.turns += 1;
        let start = self.sample.ids.len() + encoded.tokens_before(prompt.len());
        self.sample.ids.extend(encoded.ids);
        self.sample.ids.push(self.tokenizer.eos());
        // Position 0 cannot be a target: there is no token before it to predict it from.
        self.sample.targets.push(start.max(1) as u32..self.sample.ids.len() as u32);
        Ok(())
    }

    /// Appends a text all of whose tokens are targets.
    fn append_learnt(&mut self, text: &str) -> Result<(), RowFault> {
        let encoded = self.encode(text)?;
        let start = self.sample.ids.len() as u32;
        self.sample.ids.extend(encoded.ids);
        self.sample.targets.push(start..self.sample.ids.len() as u32);
        Ok(())
    }

    /// Cuts the sequence to `max_tokens`. Returns an error if no target is left.
    pub(super) fn within(self, max_tokens: usize) -> Result<Shaped, RowFault> {
        let prompt_tokens = self.sample.targets.first().map_or(0, |range| range.start as usize);
        let was_truncated = self.sample.ids.len() > max_tokens;
        let sample = self.sample.truncated(max_tokens).ok_or(RowFault::PromptTooLong { prompt_tokens, max_tokens })?;
        Ok(Shaped { sample, was_truncated })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::{PairForm, tokenize_preferences};
    use super::*;
    use crate::data::content::Exchange;
    use crate::data::tokenizer::tests::{BOS, EOS, byte_level};

    pub fn client(contents: Vec<Content>) -> ClientData {
        let rows = contents.into_iter().map(Row::from).collect();
        ClientData { id: "c".into(), rows }
    }

    fn single(instruction: &str, response: &str) -> Content {
        Content::SingleTurn { instruction: instruction.into(), response: response.into() }
    }

    fn rules(template: &str, max_tokens: usize, long_prompts: LongPrompts) -> SequenceRules {
        let prompts = Prompts::Template(Template::named(template).unwrap());
        let special_tokens = SpecialTokensInText::Refuse;
        SequenceRules { prompts, max_tokens, long_prompts, learns_last_question: false, special_tokens }
    }

    /// The text of each learnt range, with the EOS token as `|`.
    fn learnt(sample: &Sample, tokenizer: &Tokenizer) -> Vec<String> {
        let text = |range: &std::ops::Range<u32>| {
            let ids = &sample.ids[range.start as usize..range.end as usize];
            let end = if ids.last() == Some(&EOS) { "|" } else { "" };
            tokenizer.decode(ids).unwrap() + end
        };
        sample.targets.iter().map(text).collect()
    }

    #[test]
    fn the_answer_and_its_end_are_learnt() {
        let tokenizer = byte_level();
        let client = client(vec![single("Say ### Response: twice", "a\n### Response: b </s> ñ")]);
        let rules = rules("alpaca", 1_000, LongPrompts::Refuse);
        let tokenized = tokenize(&client, &tokenizer, &rules).unwrap();
        let sample = &tokenized.samples[0];
        assert_eq!(sample.ids[0], BOS);
        assert_eq!(sample.ids.iter().filter(|&&id| id == EOS).count(), 1);
        assert_eq!(learnt(sample, &tokenizer), [" a\n### Response: b </s> ñ|"]);
        assert_eq!(
            tokenizer.decode(&sample.ids[..sample.targets[0].start as usize]).unwrap().len(),
            sample.targets[0].start as usize - 1
        );
    }

    #[test]
    fn every_answer_of_a_dialogue_is_learnt() {
        let tokenizer = byte_level();
        let exchange = |user: &str, assistant: &str| Exchange { user: user.into(), assistant: assistant.into() };
        let exchanges = vec![exchange("q1", "a1 ASSISTANT: x"), exchange("q2", "a2")];
        let client = client(vec![Content::MultiTurn { exchanges, unanswered: Some("q3".into()) }]);
        let rules = rules("vicuna_v1.1", 1_000, LongPrompts::Refuse);
        let tokenized = tokenize(&client, &tokenizer, &rules).unwrap();
        let sample = &tokenized.samples[0];
        assert_eq!(learnt(sample, &tokenizer), [" a1 ASSISTANT: x|", " a2|"]);
        assert!(tokenizer.decode(&sample.ids).unwrap().ends_with("a1 ASSISTANT: xUSER: q2 ASSISTANT: a2"));
        let published = SequenceRules { learns_last_question: true, ..rules };
        let tokenized = tokenize(&client, &tokenizer, &published).unwrap();
        assert_eq!(learnt(&tokenized.samples[0], &tokenizer), [" a1 ASSISTANT: x|", " a2|", "USER: q3 "]);
    }

    #[test]
    fn long_rows_lose_their_end_and_long_prompts_are_named() {
        let tokenizer = byte_level();
        let prompt = 1 + Template::named("alpaca").unwrap().prompt("i").len();
        let client = client(vec![single("i", "long answer"), single("ii", "a")]);
        let cut = tokenize(&client, &tokenizer, &rules("alpaca", prompt + 3, LongPrompts::Refuse)).unwrap();
        assert_eq!(learnt(&cut.samples[0], &tokenizer), [" lo"]);
        assert_eq!(cut.truncated, 2);

        let error = tokenize(&client, &tokenizer, &rules("alpaca", prompt + 1, LongPrompts::Refuse)).unwrap_err();
        let expected =
            format!("failed to tokenise client \"c\", row 1: its prompt has {} tokens and leaves no room", prompt + 1);
        assert!(error.to_string().starts_with(&expected), "{error}");

        let skipping = tokenize(&client, &tokenizer, &rules("alpaca", prompt + 1, LongPrompts::Skip)).unwrap();
        assert_eq!((skipping.rows, skipping.skipped[0].row), (vec![0], 1));
    }

    #[test]
    fn pairs_share_their_prompt() {
        let tokenizer = byte_level();
        let pair = Content::Preference {
            history: vec![],
            prompt: "p".into(),
            chosen: "yes".into(),
            rejected: "no way".into(),
        };
        let client = client(vec![pair]);
        let rules = rules("alpaca", 1_000, LongPrompts::Refuse);
        let tokenized = tokenize_preferences(&client, &tokenizer, &rules, PairForm::Templated).unwrap();
        let pair = &tokenized.pairs[0];
        assert_eq!(learnt(&pair.chosen, &tokenizer), [" yes|"]);
        assert_eq!(learnt(&pair.rejected, &tokenizer), [" no way|"]);
        let start = pair.chosen.targets[0].start as usize;
        assert_eq!(pair.chosen.ids[..start], pair.rejected.ids[..start]);
        let error = tokenize(&client, &tokenizer, &rules).unwrap_err().to_string();
        assert!(error.contains("it is a preference row, and supervised fine-tuning reads"), "{error}");
    }
}
