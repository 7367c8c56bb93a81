//! Chat templates of Hugging Face folders, which render dialogues as the text that a chat model was trained on.
//!
//! [`ChatTemplate`] renders as `apply_chat_template` of Transformers does, and is tested against it with
//! `fixtures/reference/chat_templates.json`. [`ChatTemplate::dialogue`] also returns which bytes of the text are
//! answers. These are known by construction: an answer is the text that the template adds to the prompt of that answer, or
//! what the template itself marks by `{% generation %}`. Nothing is searched for.
//!
//! `strftime_now` writes the date that the caller sets, since a text that depends on the day cannot be reproduced. Without
//! one it is not defined: templates that fall back to a date of their own do so, and others are refused.

mod dialogue;
mod environment;
mod error;
mod generation_tags;
mod json;
mod python_text;
mod source;
#[cfg(test)]
mod tests;

pub use dialogue::{ChatTemplate, Dialogue};
pub use error::ChatTemplateError;
