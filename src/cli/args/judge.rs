//! Options of the LLM judge that rates free-form answers.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::errors::CommandError;
use fedreplay::benchmarks::EvaluationError;
use fedreplay::benchmarks::open_ended::JudgeWording;
use fedreplay::judge::{ApiKey, Judge, JudgeSettings, Prices, Retries, TokenLimit, Usage};
use fedreplay::ledger::LedgerError;
use fedreplay::store::{Store, read_text_limited};

/// Options of the judge, which is any endpoint with the OpenAI chat API. Without one, answers that need a judge get no
/// score.
#[derive(Args)]
pub struct JudgeArguments {
    /// Base URL of the judge's endpoint, to which `/chat/completions` is appended.
    #[arg(long, value_name = "URL", requires = "judge_model")]
    judge_url: Option<String>,
    /// Name of the judge's model at the endpoint.
    #[arg(long, value_name = "NAME", requires = "judge_url")]
    judge_model: Option<String>,
    /// Name under which judgments are stored and found again, instead of the URL: for a judge whose port changes.
    #[arg(long, value_name = "NAME", requires = "judge_url")]
    judge_identity: Option<String>,
    /// Environment variable with the endpoint's key.
    #[arg(long, value_name = "VARIABLE", default_value = "OPENAI_API_KEY")]
    judge_key_variable: String,
    /// Temperature of the judge, instead of each benchmark's.
    #[arg(long, value_name = "T")]
    judge_temperature: Option<f64>,
    /// Limit on the tokens of a judgment, instead of each benchmark's.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    judge_tokens_max: Option<u32>,
    /// Field of a request that limits a judgment; newer models of some vendors accept only `max_completion_tokens`.
    #[arg(long, value_name = "FIELD", default_value = "max_tokens", value_parser = token_limit)]
    judge_tokens_field: TokenLimit,
    /// Greatest number of requests for one judgment, including the first.
    #[arg(long, value_name = "N", default_value_t = Retries::default().attempts_max)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
    judge_attempts: u32,
    /// Number of concurrent requests.
    #[arg(long, value_name = "N", default_value_t = 8)]
    judge_concurrency: usize,
    /// Limit on the requests per minute [default: no limit].
    #[arg(long, value_name = "N")]
    judge_per_minute: Option<f64>,
    /// Timeout of one request in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    judge_timeout: u64,
    /// Prices of a million tokens of the judge's prompts and of its answers, such as `30,60`.
    #[arg(long, value_name = "PROMPT,ANSWER", value_parser = prices)]
    judge_prices: Option<Prices>,
    /// Stop asking the judge once this command has spent this amount.
    #[arg(long, value_name = "COST", requires = "judge_prices")]
    judge_cost_max: Option<f64>,
    /// Use only judgments from the store.
    #[arg(long)]
    judge_offline: bool,
    /// File with the prompt of Ref-GPT4 on Aya, instead of the built-in one, with `{question}`, `{answer}` and
    /// `{reference}`.
    #[arg(long, value_name = "FILE")]
    judge_aya_prompt: Option<PathBuf>,
}

/// Parses two prices.
fn prices(text: &str) -> Result<Prices, String> {
    if let Some((prompt, answer)) = text.split_once(',')
        && let Some(prompt_per_million) = price(prompt)
        && let Some(completion_per_million) = price(answer)
    {
        return Ok(Prices { prompt_per_million, completion_per_million });
    }
    Err("it must be two prices, such as 30,60".to_owned())
}

/// Parses a finite price of at least 0.
fn price(text: &str) -> Option<f64> {
    text.trim().parse::<f64>().ok().filter(|price| price.is_finite() && *price >= 0.0)
}

/// Parses the name of the field that limits tokens.
fn token_limit(text: &str) -> Result<TokenLimit, String> {
    match text {
        "max_tokens" => Ok(TokenLimit::MaxTokens),
        "max_completion_tokens" => Ok(TokenLimit::MaxCompletionTokens),
        _ => Err("it must be max_tokens or max_completion_tokens".to_owned()),
    }
}

impl JudgeArguments {
    /// Returns the judge, if one is named.
    ///
    /// # Errors
    /// If a setting is invalid, or the key cannot be used.
    pub fn judge<'s>(&self, store: &'s Store) -> Result<Option<Judge<'s>>, CommandError> {
        let (Some(url), Some(model)) = (&self.judge_url, &self.judge_model) else { return Ok(None) };
        let settings = JudgeSettings {
            temperature: self.judge_temperature,
            token_limit: self.judge_tokens_field,
            tokens_max: self.judge_tokens_max,
            retries: Retries { attempts_max: self.judge_attempts, ..Retries::default() },
            concurrency: self.judge_concurrency,
            requests_per_minute: self.judge_per_minute,
            timeout: Duration::from_secs(self.judge_timeout),
            prices: self.judge_prices,
            cost_max: self.judge_cost_max,
            is_offline: self.judge_offline,
            identity: self.judge_identity.clone(),
            ..JudgeSettings::new(url, model)
        };
        let key = ApiKey::from_variable(&self.judge_key_variable).map_err(EvaluationError::from)?;
        Ok(Some(Judge::new(settings, key, store).map_err(EvaluationError::from)?))
    }

    /// Returns the judge's prompts that the user replaced.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn wording(&self) -> Result<JudgeWording, CommandError> {
        let aya = match &self.judge_aya_prompt {
            // Line feeds alone, as Python reads a text file: an editor's line ends would be in every prompt.
            Some(path) => {
                let text = read_text_limited(path).map_err(LedgerError::io(path))?;
                Some(text.replace("\r\n", "\n").replace('\r', "\n"))
            }
            None => None,
        };
        Ok(JudgeWording { aya })
    }

    /// Returns the cost of tokens, if prices are given.
    pub fn price(&self, usage: &Usage) -> Option<f64> {
        self.judge_prices.as_ref().map(|prices| usage.cost(prices))
    }
}
