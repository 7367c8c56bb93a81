//! A judge behind any endpoint that speaks the OpenAI chat API, and his judgements, kept in the store.
//!
//! [`Judge::ask_all`] is the whole of it: every inquiry is looked up under the hash of its request, what is not there
//! is asked, and what is answered is stored before anything else happens. So nothing is asked twice, an interrupted
//! evaluation goes on where it was, and a finished one is repeated without a network. The key of the endpoint is read
//! from an environment variable and goes into one header; no file, log, message or argument holds it.

mod asking;
mod budget;
mod chat_prompt;
mod cost;
mod endpoint;
mod error;
mod pace;
mod reply;
mod retry;
mod secret;
mod settings;
#[cfg(test)]
mod tests;
mod verdict;

pub use asking::Judge;
pub use budget::Tally;
pub use chat_prompt::Inquiry;
pub use cost::{Estimate, Prices, Usage, tokens_about};
pub use error::JudgeError;
pub use retry::Retries;
pub use secret::Secret;
pub use settings::{Settings, TokenLimit};
pub use verdict::{Judgement, Verdict};
