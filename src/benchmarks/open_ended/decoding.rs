//! Decoding settings of the benchmarks: lengths and temperatures of FedLLM-Bench's scripts (section 5 of its
//! description).

use crate::benchmarks::catalog::OpenEnded;
use crate::generation::{FolderSampling, Sampling};

/// [1] -- Temperature of scripts that do not choose it by category.
const TEMPERATURE: f64 = 0.7;

/// [token] -- Default top-k of Transformers.
const TRANSFORMERS_TOP_K: u32 = 50;

/// Decoding settings in addition to those of the benchmark.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Decoding {
    pub candidates: Candidates,
    /// Defaults of the model's folder. MT-Bench takes both top-p and top-k from it, as FastChat does; the other scripts
    /// take top-k alone.
    pub folder: FolderSampling,
}

/// The candidates for sampling if neither script nor model folder restricts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Candidates {
    /// All tokens, as the scripts are written.
    #[default]
    AsWritten,
    /// The 50 most likely tokens, as the scripts ran: the default of Transformers.
    AsRun,
}

impl Decoding {
    /// Returns the sampling settings for a question of `category`.
    pub fn sampling(self, benchmark: OpenEnded, category: &str) -> Sampling {
        let temperature = match benchmark {
            OpenEnded::MtBench => category_temperature(category),
            _ => TEMPERATURE,
        };
        let max_tokens = if benchmark == OpenEnded::Vicuna { 2048 } else { 1024 };
        let (top_p, top_k) = if temperature > 0.0 { self.top_p_and_k(benchmark) } else { (1.0, None) };
        Sampling { temperature, top_p, top_k, max_tokens, stop: vec![], spares_code_blocks: false }
    }

    /// Returns top-p and top-k for a temperature above 0.
    fn top_p_and_k(self, benchmark: OpenEnded) -> (f64, Option<u32>) {
        let Self { candidates, folder } = self;
        let of_transformers = (candidates == Candidates::AsRun).then_some(TRANSFORMERS_TOP_K);
        let (top_p, top_k) = match (benchmark, candidates) {
            (OpenEnded::MtBench, _) => (folder.top_p.unwrap_or(1.0), folder.top_k.or(of_transformers)),
            (_, Candidates::AsRun) => (1.0, folder.top_k.or(of_transformers)),
            (_, Candidates::AsWritten) => (1.0, None),
        };
        // In Transformers, a top-k of 0 keeps all tokens.
        (top_p, top_k.filter(|&top_k| top_k > 0))
    }
}

/// Returns MT-Bench's temperature for a category. FastChat uses 0.7 for unknown ones.
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
        let as_run = Decoding { candidates: Candidates::AsRun, ..Decoding::default() };
        let of = |category| as_run.sampling(OpenEnded::MtBench, category);
        let drawn = |category| (of(category).temperature, of(category).top_k);
        assert_eq!(drawn("math"), (0.0, None));
        assert_eq!(drawn("stem"), (0.1, Some(50)));
        assert_eq!(drawn("writing"), (0.7, Some(50)));
        assert_eq!(Decoding::default().sampling(OpenEnded::MtBench, "writing").top_k, None);
        assert_eq!(Decoding::default().sampling(OpenEnded::Vicuna, "math").temperature, 0.7);
    }

    #[test]
    fn a_folders_top_p_and_top_k_hold_where_a_script_leaves_them_open() {
        let top_p_and_k = |candidates, top_k, benchmark| {
            let folder = FolderSampling { top_p: Some(0.9), top_k };
            let sampling = Decoding { candidates, folder }.sampling(benchmark, "writing");
            (sampling.top_p, sampling.top_k)
        };
        let (written, run) = (Candidates::AsWritten, Candidates::AsRun);
        assert_eq!(top_p_and_k(written, None, OpenEnded::MtBench), (0.9, None));
        assert_eq!(top_p_and_k(run, None, OpenEnded::MtBench), (0.9, Some(50)));
        assert_eq!(top_p_and_k(written, Some(20), OpenEnded::MtBench), (0.9, Some(20)));
        assert_eq!(top_p_and_k(run, Some(0), OpenEnded::MtBench), (0.9, None));
        assert_eq!(top_p_and_k(written, Some(20), OpenEnded::Vicuna), (1.0, None));
        assert_eq!(top_p_and_k(run, Some(20), OpenEnded::Vicuna), (1.0, Some(20)));
    }
}
