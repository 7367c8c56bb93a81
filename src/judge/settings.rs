//! Settings of a judge.

use std::time::Duration;

use super::cost::Prices;
use super::retry::Retries;
use super::types::ChatPrompt;
use super::types::JudgeError;

/// The request field that limits a judgment's length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenLimit {
    /// `max_tokens`, which all servers support.
    #[default]
    MaxTokens,
    /// `max_completion_tokens`, which newer models of some vendors require.
    MaxCompletionTokens,
}

/// Settings of a judge, without its key.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgeSettings {
    /// URL without `/chat/completions`, such as `https://api.openai.com/v1`.
    pub base_url: String,
    /// Name of the model at the endpoint.
    pub model: String,
    /// Name of the endpoint in keys of stored judgments, instead of the URL that requests are sent to.
    pub identity: Option<String>,
    /// [1] -- Temperature, instead of the benchmark's.
    pub temperature: Option<f64>,
    pub token_limit: TokenLimit,
    /// [token] -- Maximum length of a judgment, instead of the benchmark's.
    pub tokens_max: Option<u32>,
    /// Maximum number of concurrent requests.
    pub concurrency: usize,
    /// [1/min] -- Maximum rate of requests, spread evenly. `None` sets no limit.
    pub requests_per_minute: Option<f64>,
    /// Timeout of one request, from beginning to end.
    pub timeout: Duration,
    pub retries: Retries,
    /// Prices of tokens.
    pub prices: Option<Prices>,
    /// Budget, in the currency of the prices. Once it is spent no request is sent, but those in flight still finish.
    pub cost_max: Option<f64>,
    /// Whether only stored judgments are used and nothing is sent.
    pub is_offline: bool,
}

impl JudgeSettings {
    /// Returns the default settings for a model at an endpoint.
    pub fn new(base_url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            model: model.into(),
            identity: None,
            temperature: None,
            token_limit: TokenLimit::default(),
            tokens_max: None,
            concurrency: 8,
            requests_per_minute: None,
            timeout: Duration::from_secs(120),
            retries: Retries::default(),
            prices: None,
            cost_max: None,
            is_offline: false,
        }
    }

    /// Returns the URL that requests are sent to.
    pub(super) fn url(&self) -> String {
        format!("{}/chat/completions", self.base_url.trim_end_matches('/'))
    }

    /// Returns what stands for the endpoint in keys of stored judgments.
    pub(super) fn identity(&self) -> String {
        self.identity.clone().unwrap_or_else(|| self.url())
    }

    /// [token] -- Returns the maximum length of this prompt's judgment.
    pub(super) fn tokens_of(&self, prompt: &ChatPrompt) -> u32 {
        self.tokens_max.unwrap_or(prompt.max_tokens)
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`JudgeError::Setting`] for the first invalid one.
    pub(super) fn check(&self) -> Result<(), JudgeError> {
        self.check_address()?;
        // All conditions are written so that NaN is refused.
        if let Some(temperature) = self.temperature
            && !(0.0..=2.0).contains(&temperature)
        {
            return Err(invalid("the temperature", temperature, "it must be 0 to 2"));
        }
        if let Some(rate) = self.requests_per_minute
            && !is_positive(rate)
        {
            return Err(invalid("the rate limit", format!("{rate} requests/min"), "it must be above 0"));
        }
        if !(1..=256).contains(&self.concurrency) {
            return Err(invalid("the number of requests at once", self.concurrency, "it must be 1 to 256"));
        }
        if self.retries.attempts_max == 0 {
            return Err(invalid("the number of attempts", 0, "it must be at least 1"));
        }
        if self.timeout.is_zero() {
            return Err(invalid("the timeout", 0, "it must be above 0"));
        }
        let Some(budget) = self.cost_max else { return Ok(()) };
        if !is_positive(budget) {
            return Err(invalid("the greatest cost", budget, "it must be above 0"));
        }
        // Without prices, the cost of requests is unknown and no budget can be enforced.
        if self.prices.is_none() {
            return Err(invalid("the greatest cost", budget, "give the prices of tokens with it"));
        }
        Ok(())
    }

    fn check_address(&self) -> Result<(), JudgeError> {
        let url = self.base_url.as_str();
        let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).unwrap_or_default();
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        // The text before an @ may be a password, and is not repeated.
        if host.contains('@') {
            let allowed = "it must hold no user name and no password: keys come from the environment";
            return Err(invalid("the base URL", "`(hidden)`", allowed));
        }
        if host.is_empty() || rest.contains(['?', '#']) || !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            let allowed = "it must be http:// or https:// with a host and perhaps a path";
            // A query may be a key, and is not repeated.
            let shown = url.split(['?', '#']).next().unwrap_or_default();
            let hidden = if shown.len() < url.len() { "?(hidden)" } else { "" };
            return Err(invalid("the base URL", format!("`{shown}{hidden}`"), allowed));
        }
        if self.model.trim().is_empty() {
            return Err(invalid("the model", "empty", "name the model that judges"));
        }
        Ok(())
    }
}

fn invalid(setting: &'static str, value: impl ToString, allowed: &'static str) -> JudgeError {
    JudgeError::Setting { setting, value: value.to_string(), allowed }
}

fn is_positive(value: f64) -> bool {
    value > 0.0 && value.is_finite()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_meant_are_refused() {
        let usual = || JudgeSettings::new("http://localhost:1/v1", "judge");
        usual().check().unwrap();
        let cases: [(JudgeSettings, &str); 11] = [
            (JudgeSettings::new("localhost:1", "judge"), "the base URL is `localhost:1`"),
            (JudgeSettings::new("http://", "judge"), "the base URL is `http://`"),
            (JudgeSettings::new("https://x/v1?key=1", "judge"), "the base URL"),
            (JudgeSettings::new("https://x", " "), "the model is empty"),
            (JudgeSettings { temperature: Some(f64::NAN), ..usual() }, "the temperature is NaN"),
            (JudgeSettings { requests_per_minute: Some(0.0), ..usual() }, "the rate limit is 0 requests/min"),
            (JudgeSettings { concurrency: 0, ..usual() }, "requests at once is 0"),
            (JudgeSettings { timeout: Duration::ZERO, ..usual() }, "the timeout is 0"),
            (JudgeSettings { cost_max: Some(-1.0), ..usual() }, "the greatest cost is -1"),
            (JudgeSettings { cost_max: Some(1.0), ..usual() }, "give the prices"),
            (JudgeSettings { retries: Retries { attempts_max: 0, ..Retries::default() }, ..usual() }, "attempts is 0"),
        ];
        for (settings, expected) in cases {
            let error = settings.check().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_password_in_the_address_is_refused_and_not_repeated() {
        let error = JudgeSettings::new("https://me:secret@host/v1", "judge").check().unwrap_err().to_string();
        assert!(error.contains("no password") && !error.contains("secret"), "{error}");
    }
}
