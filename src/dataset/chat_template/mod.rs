//! Chat templates of Hugging Face folders, which render dialogues as the text that a chat model was trained on.
//!
//! [`ChatTemplate`] renders as `apply_chat_template` of Transformers does, and is tested against it with
//! `fixtures/reference/chat_templates.json`. [`ChatTemplate::dialogue`] also returns which bytes of the text are
//! answers. These are known by construction: an answer is the text that the template adds to the prompt of that answer.
//! Nothing is searched for.
//!
//! `strftime_now` is deliberately undefined, since a text that depends on the date cannot be reproduced. Templates that
//! fall back to a fixed date do so; others are refused.

mod dialogue;
mod environment;
mod error;
mod json;
mod source;
#[cfg(test)]
mod tests;

pub use dialogue::{ChatTemplate, Dialogue, Message, Role};
pub use error::ChatTemplateError;
