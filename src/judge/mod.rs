//! LLM judges behind any endpoint of the OpenAI chat API, with judgments cached in the store.
//!
//! [`Judge::ask_all`] looks up every prompt under the hash of its request, sends the missing ones, and stores each
//! judgment before anything else happens. So no prompt is sent twice, an interrupted evaluation resumes where it
//! stopped, and a finished one can be repeated offline. The endpoint's key is read from an environment variable and
//! sent in one header; no file, log, message or argument contains it.

mod asking;
mod budget;
mod cost;
mod endpoint;
mod pace;
mod reply;
mod retry;
mod secret;
mod settings;
#[cfg(test)]
mod tests;
mod types;

pub use asking::Judge;
pub use budget::CallTally;
pub use cost::{CostEstimate, Prices, Usage, tokens_about};
pub use retry::Retries;
pub use secret::ApiKey;
pub use settings::{JudgeSettings, TokenLimit};
pub use types::{ChatPrompt, JudgeError, Judgment, Verdict};
