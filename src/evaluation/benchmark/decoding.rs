//! How answers are drawn: lengths and temperatures of FedLLM-Bench's scripts (section 5 of its description).

use super::catalog::OpenEnded;
use crate::evaluation::Sampling;

/// Temperature where a script does not choose by category.
const TEMPERATURE: f64 = 0.7;

/// The number of candidates that Transformers keeps where a script names none.
const TRANSFORMERS_TOP_K: u32 = 50;

/// What may differ from the published way of drawing answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decoding {
    /// As the scripts say it: temperature and length, all candidates.
    #[default]
    AsWritten,
    /// As the scripts ran: with the 50 likeliest candidates, which Transformers keeps unless told otherwise.
    AsRun,
}

impl Decoding {
    /// How an answer to a question of `category` is drawn.
    pub fn sampling(self, benchmark: OpenEnded, category: &str) -> Sampling {
        let temperature = match benchmark {
            OpenEnded::MtBench => category_temperature(category),
            _ => TEMPERATURE,
        };
        let max_tokens = if benchmark == OpenEnded::Vicuna { 2048 } else { 1024 };
        let top_k = (self == Self::AsRun && temperature > 0.0).then_some(TRANSFORMERS_TOP_K);
        Sampling { temperature, top_p: 1.0, top_k, max_tokens, stop: vec![] }
    }
}

/// MT-Bench's temperatures; FastChat gives 0.7 to a category that it does not know.
fn category_temperature(category: &str) -> f64 {
    match category {
        "extraction" | "math" | "coding" | "reasoning" => 0.0,
        "stem" | "humanities" => 0.1,
        _ => TEMPERATURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mt_bench_draws_by_category_and_greedy_answers_need_no_top_k() {
        let of = |category| Decoding::AsRun.sampling(OpenEnded::MtBench, category);
        let drawn = |category| (of(category).temperature, of(category).top_k);
        assert_eq!(drawn("math"), (0.0, None));
        assert_eq!(drawn("stem"), (0.1, Some(50)));
        assert_eq!(drawn("writing"), (0.7, Some(50)));
        assert_eq!(Decoding::AsWritten.sampling(OpenEnded::MtBench, "writing").top_k, None);
        assert_eq!(Decoding::AsWritten.sampling(OpenEnded::Vicuna, "math").temperature, 0.7);
    }
}
