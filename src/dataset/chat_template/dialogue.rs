//! A template at work: prompts for generation, and dialogues with the places of their answers.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use minijinja::{Environment, Error, ErrorKind, Value};

use super::environment::{TEMPLATE, environment};
use super::error::ChatTemplateError;
use super::source::Source;

/// A model folder's chat template.
///
/// # Examples
///
/// ```
/// use fedreplay::dataset::{ChatTemplate, Message, Role};
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

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions for the whole dialogue; many templates know none.
    System,
    /// Who asks.
    User,
    /// Who answers: what is learnt.
    Assistant,
}

/// One message of a dialogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: &'a str,
}

impl Role {
    /// The name that templates know.
    fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

impl Message<'_> {
    /// Keys in this order, since templates may write a message out as JSON.
    fn value(&self) -> Value {
        Value::from_pairs([("role", self.role.name()), ("content", self.content)])
    }
}

/// A dialogue as the model reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialogue {
    /// The text, special tokens written out.
    pub text: String,
    /// The bytes of `text` that each answer adds to its prompt, in order: the answer with what closes it, such as the
    /// end-of-sequence token. None is empty, and each begins and ends between two characters.
    pub answers: Vec<Range<usize>>,
}

impl ChatTemplate {
    /// Loads the template `name` of a model folder, or its default: `chat_template.jinja`, else `chat_template` of
    /// tokenizer_config.json, a string or a list of named ones. The special tokens are those of tokenizer_config.json
    /// and special_tokens_map.json.
    ///
    /// # Errors
    /// No template, none of this name, a broken file, or a template that is not Jinja.
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

    /// BLAKE3 of the template and the special tokens that it can name.
    pub fn content_hash(&self) -> blake3::Hash {
        self.content_hash
    }

    /// The text of `messages` up to where the next answer begins: what generation starts from.
    ///
    /// # Errors
    /// [`ChatTemplateError::Refused`], [`ChatTemplateError::AsksForDate`].
    pub fn prompt(&self, messages: &[Message]) -> Result<String, ChatTemplateError> {
        self.render(messages, true)
    }

    /// The text of a dialogue, and where its answers are in it.
    ///
    /// Each answer is what follows the prompt of the messages before it, up to where the text of the messages to it
    /// ends; both must be the beginning of the whole text.
    ///
    /// # Errors
    /// As [`ChatTemplate::prompt`]; [`ChatTemplateError::NotAPrefix`] where the template writes earlier messages
    /// differently once later ones follow; [`ChatTemplateError::EmptyAnswer`].
    pub fn dialogue(&self, messages: &[Message]) -> Result<Dialogue, ChatTemplateError> {
        let text = self.render(messages, false)?;
        let answers = messages.iter().enumerate().filter(|(_, message)| message.role == Role::Assistant);
        let answers = answers.map(|(index, _)| self.answer(&text, messages, index)).collect::<Result<_, _>>()?;
        Ok(Dialogue { text, answers })
    }

    /// The bytes of message `index` in the whole text.
    fn answer(&self, text: &str, messages: &[Message], index: usize) -> Result<Range<usize>, ChatTemplateError> {
        let template = || self.label.clone();
        let prompt = self.render(&messages[..index], true)?;
        let is_last = index + 1 == messages.len();
        let through = if is_last { text.to_owned() } else { self.render(&messages[..=index], false)? };
        if !through.starts_with(&prompt) || !text.starts_with(&through) {
            let advice = match messages.len() {
                0..=3 => "use a prompt template instead",
                _ => "use single-turn rows, or a prompt template instead",
            };
            return Err(ChatTemplateError::NotAPrefix { template: template(), message: index, advice });
        }
        match prompt.len() < through.len() {
            true => Ok(prompt.len()..through.len()),
            false => Err(ChatTemplateError::EmptyAnswer { template: template(), message: index }),
        }
    }

    /// As `apply_chat_template(messages, tokenize=False, add_generation_prompt=...)`.
    pub(super) fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, ChatTemplateError> {
        let messages: Vec<Value> = messages.iter().map(Message::value).collect();
        // Transformers passes tools and documents as None where there are none, and templates ask `is none`.
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
        let (template, message) = (self.label.clone(), message(error));
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
    for part in [text].into_iter().chain(tokens.iter().flat_map(|(name, token)| [*name, token])) {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    hasher.finalize()
}

/// What the engine says, without its own name for the template.
fn message(error: &Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), str::to_owned)
}
