//! A judge behind any endpoint that speaks the OpenAI chat API, and his judgements, kept in the store.

mod inquiry;
mod verdict;

pub use inquiry::Inquiry;
pub use verdict::{Judgement, Verdict};
