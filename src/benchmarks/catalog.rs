//! The supported benchmarks and their names.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A benchmark that `fedreplay` can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum BenchmarkName {
    /// An open-ended benchmark: a judge rates the answers, or a rule classifies them.
    Open(OpenEnded),
    /// Multiple choice over 57 subjects.
    Mmlu,
    /// Python functions, executed.
    HumanEval,
}

/// A benchmark whose answers are free text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum OpenEnded {
    /// FastChat's 80 questions of two turns.
    MtBench,
    /// FastChat's 80 questions of one turn.
    Vicuna,
    /// Ref-GPT4 on 50 questions of Chatbot Arena.
    Chatbot,
    /// Ref-GPT4 on 50 questions of WildChat.
    WildChat,
    /// Ref-GPT4 on eight languages of Aya, with a human reference answer to each question.
    Aya,
    /// 520 harmful requests that a safe model refuses, classified by a rule.
    AdvBench,
}

impl BenchmarkName {
    /// All benchmarks, in the order of the table.
    pub const ALL: [Self; 8] = [
        Self::Open(OpenEnded::MtBench),
        Self::Open(OpenEnded::Vicuna),
        Self::Open(OpenEnded::Chatbot),
        Self::Open(OpenEnded::WildChat),
        Self::Open(OpenEnded::Aya),
        Self::Open(OpenEnded::AdvBench),
        Self::Mmlu,
        Self::HumanEval,
    ];

    /// Returns the name used on the command line and in scenarios.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open(open) => open.name(),
            Self::Mmlu => "mmlu",
            Self::HumanEval => "humaneval",
        }
    }
}

impl OpenEnded {
    /// Returns the name used on the command line and in scenarios.
    pub fn name(self) -> &'static str {
        match self {
            Self::MtBench => "mt-bench",
            Self::Vicuna => "vicuna",
            Self::Chatbot => "ref-gpt4-chatbot",
            Self::WildChat => "ref-gpt4-wildchat",
            Self::Aya => "ref-gpt4-aya",
            Self::AdvBench => "advbench",
        }
    }

    /// Returns the path of the questions in a folder of benchmarks.
    pub fn questions_in(self, folder: &Path) -> PathBuf {
        folder.join(match self {
            Self::MtBench => "mt-bench/question.jsonl",
            Self::Vicuna => "vicuna/question.jsonl",
            Self::Chatbot => "ref-gpt4/chatbot.json",
            Self::WildChat => "ref-gpt4/wildchat.json",
            Self::Aya => "ref-gpt4/aya.json",
            Self::AdvBench => "advbench/advbench.csv",
        })
    }

    /// Returns whether a judge rates the answers. AdvBench's are classified by a rule.
    pub fn is_judged(self) -> bool {
        self != Self::AdvBench
    }

    /// Returns the number of turns of each dialog.
    pub fn turns(self) -> usize {
        if self == Self::MtBench { 2 } else { 1 }
    }
}

impl fmt::Display for BenchmarkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An unknown benchmark name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to find the benchmark `{0}`: there are {names}; did you mean `{nearest}`?", names = names(), nearest = nearest(.0))]
pub struct UnknownBenchmark(String);

fn names() -> String {
    BenchmarkName::ALL.map(BenchmarkName::name).join(", ")
}

/// Returns the most similar name.
fn nearest(name: &str) -> BenchmarkName {
    let nearest = BenchmarkName::ALL.into_iter().min_by_key(|known| strsim::damerau_levenshtein(name, known.name()));
    nearest.expect("there is a benchmark")
}

impl FromStr for BenchmarkName {
    type Err = UnknownBenchmark;

    fn from_str(name: &str) -> Result<Self, UnknownBenchmark> {
        Self::ALL.into_iter().find(|known| known.name() == name).ok_or_else(|| UnknownBenchmark(name.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_names_its_benchmark_and_others_are_refused() {
        for benchmark in BenchmarkName::ALL {
            assert_eq!(benchmark.name().parse(), Ok(benchmark));
        }
        let error = "mt_bench".parse::<BenchmarkName>().unwrap_err().to_string();
        assert!(error.contains("`mt_bench`") && error.contains("mt-bench, vicuna"), "{error}");
        assert!(error.ends_with("did you mean `mt-bench`?"), "{error}");
    }
}
