//! LLM judges behind any endpoint of the OpenAI chat API, with judgments cached in the store.
//!
//! [`Judge::ask_all`] looks up every inquiry under the hash of its request, sends the missing ones, and stores each
//! judgment before anything else happens. So nothing is asked twice, an interrupted evaluation resumes where it
//! stopped, and a finished one can be repeated offline. The endpoint's key is read from an environment variable and
//! sent in one header; no file, log, message or argument contains it.

mod cost;
mod endpoint;
mod error;
mod inquiry;
mod pace;
mod panel;
mod reply;
mod retry;
mod secret;
mod settings;
mod standing;
#[cfg(test)]
mod tests;
mod verdict;

pub use cost::{Estimate, Prices, Usage, tokens_about};
pub use error::JudgeError;
pub use inquiry::Inquiry;
pub use panel::Judge;
pub use retry::Retries;
pub use secret::Secret;
pub use settings::{Settings, TokenLimit};
pub use standing::Tally;
pub use verdict::{Judgement, Verdict};
