//! Rendering of prompts for generation, and of dialogues with the positions of their answers.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::path::Path;

use chrono::NaiveDate;
use minijinja::{Environment, Error, ErrorKind, Value};

use super::environment::{FUEL, TEMPLATE, environment};
use super::error::ChatTemplateError;
use super::generation_tags::{has_tags, without_marks};
use super::source::Source;
use crate::data::json_value::JsonValue;
use crate::data::message::{ChatMessage, Message, Role};
use crate::data::tokenizer::MARK;
use crate::store::without_panic;

/// Noncharacters of Unicode that mark parts of rendered texts, so that no message may hold them.
const MARKS: RangeInclusive<char> = '\u{fdd0}'..='\u{fdd4}';

/// The chat template of a model folder.
///
/// # Examples
///
/// ```
/// use fedreplay::data::{ChatTemplate, Message, Role};
///
/// let folder = tempfile::tempdir()?;
/// let chat_ml = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
///                {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
/// std::fs::write(folder.path().join("chat_template.jinja"), chat_ml)?;
/// let template = ChatTemplate::load(folder.path(), None)?;
///
/// let question = Message { role: Role::User, content: "2 + 5?" };
/// let answer = Message { role: Role::Assistant, content: "7" };
/// let prompt = template.prompt(&[question])?;
/// assert_eq!(prompt, "<|im_start|>user\n2 + 5?<|im_end|>\n<|im_start|>assistant\n");
/// // The loss is taken over the answer and what closes it.
/// let dialogue = template.dialogue(&[question, answer])?;
/// assert_eq!(&dialogue.text[dialogue.answers[0].clone()], "7<|im_end|>\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ChatTemplate {
    label: String,
    environment: Environment<'static>,
    tokens: BTreeMap<&'static str, String>,
    /// Whether the template marks its answers by `{% generation %}`.
    marks_answers: bool,
    /// Whether the template asks for the current date.
    asks_for_date: bool,
    /// Special tokens that are plain characters where a message spells them.
    plain: Vec<String>,
    content_hash: blake3::Hash,
}

/// A rendered dialogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialogue {
    /// The text, including special tokens in writing.
    pub text: String,
    /// The byte range of each answer in `text`, in order. It includes what closes the answer, such as the
    /// end-of-sequence token. No range is empty, and all boundaries lie between two characters.
    pub answers: Vec<Range<usize>>,
    /// Whether the template itself marks the answers, by `{% generation %}`.
    pub are_marked: bool,
}

impl ChatTemplate {
    /// Loads the template `name` of a model folder, or the default template.
    ///
    /// The templates are `chat_template.jinja`, or else `chat_template` in tokenizer_config.json, which is a string or
    /// a list of named templates. The special tokens are those of tokenizer_config.json and special_tokens_map.json.
    ///
    /// # Errors
    /// No template, none with this name, a malformed file, or a template that is not Jinja.
    pub fn load(folder: &Path, name: Option<&str>) -> Result<Self, ChatTemplateError> {
        Self::compile(Source::read(folder, name)?, None)
    }

    /// Loads the default template of a model folder, for which the current date is `date`.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_dated(folder: &Path, date: Option<NaiveDate>) -> Result<Self, ChatTemplateError> {
        Self::compile(Source::read(folder, None)?, date)
    }

    pub(super) fn compile(source: Source, date: Option<NaiveDate>) -> Result<Self, ChatTemplateError> {
        let Source { label, text, tokens } = source;
        let asks_for_date = text.contains("strftime_now");
        let content_hash = content_hash(&text, &tokens, date.filter(|_| asks_for_date));
        match environment(&text, date) {
            Ok(environment) => Ok(Self {
                label,
                environment,
                tokens,
                marks_answers: has_tags(&text),
                asks_for_date,
                plain: vec![],
                content_hash,
            }),
            Err(error) => Err(ChatTemplateError::Syntax {
                template: label,
                line: error.line().unwrap_or(1),
                message: message(&error),
            }),
        }
    }

    /// Returns whether the template asks for the current date. It has one of its own if it can do without.
    pub fn asks_for_date(&self) -> bool {
        self.asks_for_date
    }

    /// Makes special tokens plain characters where a message spells them. The rendered text has a mark inside of each, which
    /// [`Tokenizer::encode_chat`](crate::data::Tokenizer::encode_chat) takes out again.
    #[must_use]
    pub fn with_plain(mut self, special_tokens: &[String]) -> Self {
        self.plain = special_tokens.to_vec();
        let mut hasher = blake3::Hasher::new_derive_key("fedreplay chat template with plain tokens v1");
        hasher.update(self.content_hash.as_bytes());
        special_tokens.iter().for_each(|token| hash_part(&mut hasher, token));
        self.content_hash = hasher.finalize();
        self
    }

    /// Returns a rendered text without the marks of [`Self::with_plain`].
    pub fn unmarked(text: &str) -> String {
        text.replace(MARK, "")
    }

    /// Returns BLAKE3 of the template and the special tokens that it can refer to.
    pub fn content_hash(&self) -> blake3::Hash {
        self.content_hash
    }

    /// Renders `messages` up to where the next answer begins. Generation starts from this text.
    ///
    /// # Errors
    /// [`ChatTemplateError::Refused`], [`ChatTemplateError::AsksForDate`].
    pub fn prompt(&self, messages: &[Message]) -> Result<String, ChatTemplateError> {
        self.render(&owned(messages), &[], true)
    }

    /// Renders a dialogue and locates its answers.
    ///
    /// If the template marks its answers by `{% generation %}`, these parts are the answers. Else an answer begins where the
    /// prompt of the messages before it ends, and ends where the text of the messages up to and including it ends. Both texts
    /// must be prefixes of the whole text, except for what closes the last message alone, such as an end-of-sequence token.
    ///
    /// # Errors
    /// As [`ChatTemplate::prompt`]; [`ChatTemplateError::NotAPrefix`] if the template renders earlier messages
    /// differently once later ones follow; [`ChatTemplateError::EmptyAnswer`].
    pub fn dialogue(&self, messages: &[Message]) -> Result<Dialogue, ChatTemplateError> {
        self.located(&owned(messages), &[])
    }

    /// Renders a dialogue in which tools may be called, and locates its answers, which include the calls. `tools` are the
    /// schemas of the tools, as `apply_chat_template(messages, tools=...)` takes them.
    ///
    /// # Errors
    /// As [`ChatTemplate::dialogue`]; [`ChatTemplateError::LeavesOut`] if the template has no place for calls, for results of
    /// tools or for schemas.
    pub fn tool_dialogue(&self, messages: &[ChatMessage], tools: &[JsonValue]) -> Result<Dialogue, ChatTemplateError> {
        let dialogue = self.located(messages, tools)?;
        self.check_tools_are_written(messages, tools)?;
        Ok(dialogue)
    }

    fn located(&self, messages: &[ChatMessage], tools: &[JsonValue]) -> Result<Dialogue, ChatTemplateError> {
        if self.marks_answers {
            let (text, answers) = without_marks(&self.rendered(messages, tools, false)?);
            let has_answer = messages.iter().position(|message| message.role == Role::Assistant);
            return match has_answer.filter(|_| answers.is_empty()) {
                Some(message) => Err(ChatTemplateError::EmptyAnswer { template: self.label.clone(), message }),
                None => Ok(Dialogue { text, answers, are_marked: true }),
            };
        }
        let text = self.render(messages, tools, false)?;
        let mut answers = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            if message.role == Role::Assistant {
                answers.push(self.answer(&text, messages, tools, index)?);
            }
        }
        Ok(Dialogue { text, answers, are_marked: false })
    }

    /// Locates message `index` in the whole text.
    fn answer(
        &self,
        text: &str,
        messages: &[ChatMessage],
        tools: &[JsonValue],
        index: usize,
    ) -> Result<Range<usize>, ChatTemplateError> {
        let prompt = self.render(&messages[..index], tools, true)?;
        let is_last = index + 1 == messages.len();
        let through = if is_last { text.to_owned() } else { self.render(&messages[..=index], tools, false)? };
        let end = self.end_of_answer(&prompt, &through, text, &messages[index]);
        // Lengths locate the answer only if each of `prompt`, `through` up to the answer's end, and `text` begins the next.
        let Some(end) = end else {
            let template = self.label.clone();
            let advice = match messages.len() {
                0..=3 => "use a prompt template instead",
                _ => "use single-turn rows, or a prompt template instead",
            };
            return Err(ChatTemplateError::NotAPrefix { template, message: index, advice });
        };
        if prompt.len() == end {
            return Err(ChatTemplateError::EmptyAnswer { template: self.label.clone(), message: index });
        }
        Ok(prompt.len()..end)
    }

    /// Returns where `answer` ends in `text`. `through` is the text of the messages up to it. `None` if the texts do not begin
    /// with each other.
    fn end_of_answer(&self, prompt: &str, through: &str, text: &str, answer: &ChatMessage) -> Option<usize> {
        if !through.starts_with(prompt) || !text.starts_with(prompt) {
            return None;
        }
        if text.starts_with(through) {
            return Some(through.len());
        }
        // How a template writes calls is not known, so there is no telling whether they are whole.
        if !answer.tool_calls().is_empty() {
            return None;
        }
        // Some templates close the last message in another way than those before it. Then the answer ends where the two
        // texts part, if it is whole until there.
        let mut common = common_length(through, text);
        for token in self.tokens.values() {
            // A token that only one of the texts has belongs to neither, not even its first characters.
            let begun = (1..token.len()).rev().find(|&length| {
                let start = common.saturating_sub(length);
                through.is_char_boundary(start) && through[start..].starts_with(token.as_str())
            });
            common -= begun.unwrap_or(0);
        }
        let content = self.marked(answer.content().trim());
        let whole = prompt.len() + through[prompt.len()..].find(&content)? + content.len();
        (whole <= common).then_some(common)
    }

    /// Checks that the text depends on every call, on every result of a tool and on the schemas: a template without a place
    /// for them leaves them out without a word.
    fn check_tools_are_written(&self, messages: &[ChatMessage], tools: &[JsonValue]) -> Result<(), ChatTemplateError> {
        let text = self.render(messages, tools, false)?;
        let left_out = |what| Err(ChatTemplateError::LeavesOut { template: self.label.clone(), what });
        if !tools.is_empty() && self.render(messages, &[], false).is_ok_and(|other| other == text) {
            return left_out("the schemas of tools".to_owned());
        }
        for (index, message) in messages.iter().enumerate() {
            for (key, what) in [("tool_calls", "the tool calls"), ("content", "the tool's result")] {
                let is_of_tools = key == "tool_calls" || message.role == Role::Tool;
                if !is_of_tools || message.get(key).is_none_or(JsonValue::is_blank) {
                    continue;
                }
                let mut others = messages.to_vec();
                others[index].keys.retain(|(name, _)| name != key);
                if self.render(&others, tools, false).is_ok_and(|other| other == text) {
                    return left_out(format!("{what} of message {index}"));
                }
            }
        }
        Ok(())
    }

    /// Renders as `apply_chat_template(messages, tools, tokenize=False, add_generation_prompt=...)` does.
    pub(super) fn render(
        &self,
        messages: &[ChatMessage],
        tools: &[JsonValue],
        add_generation_prompt: bool,
    ) -> Result<String, ChatTemplateError> {
        let rendered = self.rendered(messages, tools, add_generation_prompt)?;
        Ok(if self.marks_answers { without_marks(&rendered).0 } else { rendered })
    }

    /// Renders a text with the marks of `{% generation %}`.
    fn rendered(
        &self,
        messages: &[ChatMessage],
        tools: &[JsonValue],
        add_generation_prompt: bool,
    ) -> Result<String, ChatTemplateError> {
        let texts = messages.iter().flat_map(ChatMessage::strings).chain(tools.iter().flat_map(JsonValue::strings));
        for text in texts {
            if let Some(mark) = text.chars().find(|character| MARKS.contains(character)) {
                let message = format!("a message holds the noncharacter U+{:04X}", u32::from(mark));
                return Err(ChatTemplateError::Refused { template: self.label.clone(), line: 1, message });
            }
        }
        let messages: Vec<Value> = messages.iter().map(|message| self.message(message)).collect();
        // Transformers passes tools and documents as None if there are none, and templates test `is none`.
        let tools = match tools {
            [] => Value::from(()),
            tools => Value::from_iter(tools.iter().map(|tool| self.value(tool))),
        };
        let variables = [
            ("messages", Value::from(messages)),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
            ("tools", tools),
            ("documents", Value::from(())),
        ];
        let tokens = self.tokens.iter().map(|(name, token)| (*name, Value::from(token.as_str())));
        let template = self.environment.get_template(TEMPLATE).expect("the environment was made with its template");
        let context = Value::from_pairs(variables.into_iter().chain(tokens));
        let rendered = without_panic(|| template.render(context));
        let rendered = rendered.unwrap_or_else(|what| Err(Error::new(ErrorKind::InvalidOperation, what)));
        rendered.map_err(|error| self.refusal(&error))
    }

    /// Returns a message as the template sees it. The order of the keys matters where a template prints it as JSON.
    fn message(&self, message: &ChatMessage) -> Value {
        Value::from_pairs(message.keys.iter().map(|(key, value)| match key.as_str() {
            "role" => (Value::from("role"), Value::from(message.role.name())),
            _ => (Value::from(self.marked(key)), self.value(value)),
        }))
    }

    /// Returns a value with marks inside of the special tokens in its strings.
    fn value(&self, value: &JsonValue) -> Value {
        match value {
            JsonValue::Null => Value::from(()),
            JsonValue::Bool(value) => Value::from(*value),
            JsonValue::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(integer), _) => Value::from(integer),
                (None, Some(integer)) => Value::from(integer),
                (None, None) => Value::from(number.as_f64()),
            },
            JsonValue::Text(text) => Value::from(self.marked(text)),
            JsonValue::List(elements) => Value::from_iter(elements.iter().map(|element| self.value(element))),
            JsonValue::Object(entries) => {
                Value::from_pairs(entries.iter().map(|(key, value)| (self.marked(key), self.value(value))))
            }
        }
    }

    /// Returns the text with a mark inside of each special token that is to be plain.
    fn marked(&self, text: &str) -> String {
        let mut marked = text.to_owned();
        for token in &self.plain {
            // A token of one character has no inside.
            if let Some((second, _)) = token.char_indices().nth(1) {
                let (head, tail) = token.split_at(second);
                marked = marked.replace(token.as_str(), &format!("{head}{MARK}{tail}"));
            }
        }
        marked
    }

    fn refusal(&self, error: &Error) -> ChatTemplateError {
        let template = self.label.clone();
        let message = message(error);
        match error.kind() {
            ErrorKind::UnknownFunction if message.contains("strftime_now") => {
                ChatTemplateError::AsksForDate { template }
            }
            _ => ChatTemplateError::Refused { template, line: error.line().unwrap_or(1), message },
        }
    }
}

fn owned(messages: &[Message]) -> Vec<ChatMessage> {
    messages.iter().map(ChatMessage::from).collect()
}

/// Returns the length of the common beginning of two texts, at a boundary of characters.
fn common_length(one: &str, other: &str) -> usize {
    let pairs = one.chars().zip(other.chars());
    pairs.take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum()
}

fn content_hash(text: &str, tokens: &BTreeMap<&'static str, String>, date: Option<NaiveDate>) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_derive_key("fedreplay chat template v1");
    hash_part(&mut hasher, text);
    for (name, token) in tokens {
        hash_part(&mut hasher, name);
        hash_part(&mut hasher, token);
    }
    if let Some(date) = date {
        hash_part(&mut hasher, &date.to_string());
    }
    hasher.finalize()
}

/// Adds a text preceded by its length, so that no two lists of texts share an encoding.
fn hash_part(hasher: &mut blake3::Hasher, part: &str) {
    hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
}

/// Returns the engine's message without its internal name of the template.
fn message(error: &Error) -> String {
    if error.kind() == ErrorKind::OutOfFuel {
        return format!("it takes more than {FUEL} steps, or makes more text than any template of a model");
    }
    error.detail().map_or_else(|| error.kind().to_string(), str::to_owned)
}
