//! Chat templates of Hugging Face folders: dialogues as the text that a chat model was trained on.
//!
//! [`ChatTemplate`] renders as Transformers' `apply_chat_template` does, checked against it in
//! `fixtures/reference/chat_templates.json`. [`ChatTemplate::dialogue`] also says which bytes of the text are answers,
//! by construction: an answer is what the template adds to the prompt of that answer. Nothing is searched for.
//!
//! The date is deliberately absent: `strftime_now` is not defined. Templates that fall back to a fixed date do so, and
//! others are refused, since a text that depends on the day cannot be repeated.

mod dialogue;
mod environment;
mod error;
mod json;
mod source;
#[cfg(test)]
mod tests;

pub use dialogue::{ChatTemplate, Dialogue, Message, Role};
pub use error::ChatTemplateError;
