//! Rendering of prompts for generation, and of dialogues with the positions of their answers.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use minijinja::{Environment, Error, ErrorKind, Value};

use super::environment::{TEMPLATE, environment};
use super::error::ChatTemplateError;
use super::source::Source;

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
    content_hash: blake3::Hash,
}

/// The author of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions for the whole dialogue; many templates do not support them.
    System,
    /// The user, who asks.
    User,
    /// The model, whose answers are trained on.
    Assistant,
}

/// One message of a dialogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The author.
    pub role: Role,
    /// The text.
    pub content: &'a str,
}

impl Role {
    /// Returns the name by which templates refer to the role.
    fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

impl Message<'_> {
    /// Returns the message as a template sees it. The order of the keys matters where a template prints it as JSON.
    fn value(&self) -> Value {
        Value::from_pairs([("role", self.role.name()), ("content", self.content)])
    }
}

/// A rendered dialogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialogue {
    /// The text, including special tokens in writing.
    pub text: String,
    /// The byte range of each answer in `text`, in order. It includes what closes the answer, such as the
    /// end-of-sequence token. No range is empty, and all boundaries lie between two characters.
    pub answers: Vec<Range<usize>>,
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
        Self::compile(Source::read(folder, name)?)
    }

    pub(super) fn compile(source: Source) -> Result<Self, ChatTemplateError> {
        let Source { label, text, tokens } = source;
        let content_hash = content_hash(&text, &tokens);
        match environment(&text) {
            Ok(environment) => Ok(Self { label, environment, tokens, content_hash }),
            Err(error) => Err(ChatTemplateError::Syntax {
                template: label,
                line: error.line().unwrap_or(1),
                message: message(&error),
            }),
        }
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
        self.render(messages, true)
    }

    /// Renders a dialogue and locates its answers.
    ///
    /// An answer begins where the prompt of the messages before it ends, and ends where the text of the messages up to
    /// and including it ends. Both texts must be prefixes of the whole text.
    ///
    /// # Errors
    /// As [`ChatTemplate::prompt`]; [`ChatTemplateError::NotAPrefix`] if the template renders earlier messages
    /// differently once later ones follow; [`ChatTemplateError::EmptyAnswer`].
    pub fn dialogue(&self, messages: &[Message]) -> Result<Dialogue, ChatTemplateError> {
        let text = self.render(messages, false)?;
        let mut answers = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            if message.role == Role::Assistant {
                answers.push(self.answer(&text, messages, index)?);
            }
        }
        Ok(Dialogue { text, answers })
    }

    /// Locates message `index` in the whole text.
    fn answer(&self, text: &str, messages: &[Message], index: usize) -> Result<Range<usize>, ChatTemplateError> {
        let prompt = self.render(&messages[..index], true)?;
        let is_last = index + 1 == messages.len();
        let through = if is_last { text.to_owned() } else { self.render(&messages[..=index], false)? };
        // Lengths locate the answer only if each of `prompt`, `through` and `text` is a prefix of the next.
        if !through.starts_with(&prompt) || !text.starts_with(&through) {
            let template = self.label.clone();
            let advice = match messages.len() {
                0..=3 => "use a prompt template instead",
                _ => "use single-turn rows, or a prompt template instead",
            };
            return Err(ChatTemplateError::NotAPrefix { template, message: index, advice });
        }
        if prompt.len() == through.len() {
            return Err(ChatTemplateError::EmptyAnswer { template: self.label.clone(), message: index });
        }
        Ok(prompt.len()..through.len())
    }

    /// Renders as `apply_chat_template(messages, tokenize=False, add_generation_prompt=...)` does.
    pub(super) fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, ChatTemplateError> {
        let messages: Vec<Value> = messages.iter().map(Message::value).collect();
        // Transformers passes tools and documents as None if there are none, and templates test `is none`.
        let variables = [
            ("messages", Value::from(messages)),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
            ("tools", Value::from(())),
            ("documents", Value::from(())),
        ];
        let tokens = self.tokens.iter().map(|(name, token)| (*name, Value::from(token.as_str())));
        let template = self.environment.get_template(TEMPLATE).expect("the environment was made with its template");
        let context = Value::from_pairs(variables.into_iter().chain(tokens));
        template.render(context).map_err(|error| self.refusal(&error))
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

fn content_hash(text: &str, tokens: &BTreeMap<&'static str, String>) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_derive_key("fedreplay chat template v1");
    hash_part(&mut hasher, text);
    for (name, token) in tokens {
        hash_part(&mut hasher, name);
        hash_part(&mut hasher, token);
    }
    hasher.finalize()
}

/// Adds a text preceded by its length, so that no two lists of texts share an encoding.
fn hash_part(hasher: &mut blake3::Hasher, part: &str) {
    hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
}

/// Returns the engine's message without its internal name of the template.
fn message(error: &Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), str::to_owned)
}
