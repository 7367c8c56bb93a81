//! Options that say who judges free answers, and how he is asked.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::benchmarks::EvaluationError;
use crate::benchmarks::open_ended::JudgeWording;
use crate::judge::{Judge, Prices, Retries, Secret, Settings, TokenLimit, Usage};
use crate::ledger::LedgerError;
use crate::run::RunError;
use crate::store::Store;

/// The judge: any endpoint that speaks the OpenAI chat API. Without one, answers that need a judge stay without a score.
#[derive(Args)]
pub struct Judging {
    /// What stands before `/chat/completions` at the judge's endpoint.
    #[arg(long, value_name = "URL", requires = "judge_model")]
    judge_url: Option<String>,
    /// The judge's name at the endpoint.
    #[arg(long, value_name = "NAME", requires = "judge_url")]
    judge_model: Option<String>,
    /// Environment variable that holds the endpoint's key.
    #[arg(long, value_name = "VARIABLE", default_value = "OPENAI_API_KEY")]
    judge_key_variable: String,
    /// Temperature of the judge, instead of each benchmark's.
    #[arg(long, value_name = "T")]
    judge_temperature: Option<f64>,
    /// Tokens of a judgement at most, instead of each benchmark's.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    judge_tokens_max: Option<u32>,
    /// Field of a request that limits a judgement; newer models of some vendors take `max_completion_tokens` alone.
    #[arg(long, value_name = "FIELD", default_value = "max_tokens", value_parser = token_limit)]
    judge_tokens_field: TokenLimit,
    /// Requests made for one judgement at most, the first included.
    #[arg(long, value_name = "N", default_value_t = Retries::default().attempts_max)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
    judge_attempts: u32,
    /// Judgements asked for at once.
    #[arg(long, value_name = "N", default_value_t = 8)]
    judge_concurrency: usize,
    /// Judgements asked for in a minute [default: no limit].
    #[arg(long, value_name = "N")]
    judge_per_minute: Option<f64>,
    /// Seconds that one request may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    judge_timeout: u64,
    /// What a million tokens cost, of the judge's prompts and of his answers, as `30,60`.
    #[arg(long, value_name = "PROMPT,ANSWER", value_parser = prices)]
    judge_prices: Option<Prices>,
    /// Ask nothing more once this command has spent so much.
    #[arg(long, value_name = "COST", requires = "judge_prices")]
    judge_cost_max: Option<f64>,
    /// Take judgements from the store alone.
    #[arg(long)]
    judge_offline: bool,
    /// File with the prompt of Ref-GPT4 on Aya, instead of ours: `{question}`, `{answer}` and `{reference}` are filled in.
    #[arg(long, value_name = "FILE")]
    judge_aya_prompt: Option<PathBuf>,
}

fn prices(text: &str) -> Result<Prices, String> {
    let price = |text: &str| text.trim().parse::<f64>().ok().filter(|price| price.is_finite() && *price >= 0.0);
    let both = text.split_once(',').and_then(|(prompt, answer)| Some((price(prompt)?, price(answer)?)));
    both.map(|(prompt_per_million, completion_per_million)| Prices { prompt_per_million, completion_per_million })
        .ok_or_else(|| "it must be two prices, such as 30,60".to_owned())
}

fn token_limit(text: &str) -> Result<TokenLimit, String> {
    match text {
        "max_tokens" => Ok(TokenLimit::MaxTokens),
        "max_completion_tokens" => Ok(TokenLimit::MaxCompletionTokens),
        _ => Err("it must be max_tokens or max_completion_tokens".to_owned()),
    }
}

impl Judging {
    /// The judge, if one is named.
    ///
    /// # Errors
    /// If a setting cannot be meant, or the key cannot be used.
    pub fn judge<'s>(&self, store: &'s Store) -> Result<Option<Judge<'s>>, RunError> {
        let (Some(url), Some(model)) = (&self.judge_url, &self.judge_model) else { return Ok(None) };
        let settings = Settings {
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
            ..Settings::new(url, model)
        };
        let key = Secret::from_variable(&self.judge_key_variable).map_err(EvaluationError::from)?;
        Ok(Some(Judge::new(settings, key, store).map_err(EvaluationError::from)?))
    }

    /// The words that the user changed.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn wording(&self) -> Result<JudgeWording, RunError> {
        let read = |path: &PathBuf| std::fs::read_to_string(path).map_err(LedgerError::io(path));
        Ok(JudgeWording { aya: self.judge_aya_prompt.as_ref().map(read).transpose()? })
    }

    /// What tokens cost, where prices are known.
    pub fn price(&self, usage: &Usage) -> Option<f64> {
        self.judge_prices.as_ref().map(|prices| usage.cost(prices))
    }
}
