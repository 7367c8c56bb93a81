//! Who the judge is and how he is asked.

use std::time::Duration;

use super::chat_prompt::Inquiry;
use super::cost::Prices;
use super::error::JudgeError;
use super::retry::Retries;

/// The field that limits a judgement's length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenLimit {
    /// `max_tokens`, which all servers know.
    #[default]
    MaxTokens,
    /// `max_completion_tokens`, which newer models of some vendors demand.
    MaxCompletionTokens,
}

/// Everything about the judge but the key.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// What stands before `/chat/completions`, such as `https://api.openai.com/v1`.
    pub base_url: String,
    /// The model's name at the endpoint.
    pub model: String,
    /// [1] In place of the benchmark's temperature.
    pub temperature: Option<f64>,
    pub token_limit: TokenLimit,
    /// [tokens] Length at which a judgement is cut, in place of the benchmark's.
    pub tokens_max: Option<u32>,
    /// Requests in flight at once.
    pub concurrency: usize,
    /// [1/min] Requests begun in a minute, spread evenly; none for no limit.
    pub requests_per_minute: Option<f64>,
    /// How long one request may take from beginning to end.
    pub timeout: Duration,
    pub retries: Retries,
    /// What tokens cost.
    pub prices: Option<Prices>,
    /// Nothing more is asked once this is spent, in the currency of the prices. Requests in flight still finish.
    pub cost_max: Option<f64>,
    /// The store alone must do: nothing is asked.
    pub is_offline: bool,
}

impl Settings {
    /// The settings for a model at an endpoint, all else as usual.
    pub fn new(base_url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            model: model.into(),
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

    /// The address that requests go to.
    pub(super) fn url(&self) -> String {
        format!("{}/chat/completions", self.base_url.trim_end_matches('/'))
    }

    /// [tokens] Length at which this inquiry's judgement is cut.
    pub(super) fn tokens_of(&self, inquiry: &Inquiry) -> u32 {
        self.tokens_max.unwrap_or(inquiry.max_tokens)
    }

    /// Refuses what cannot be meant.
    ///
    /// # Errors
    /// [`JudgeError::Setting`].
    pub(super) fn check(&self) -> Result<(), JudgeError> {
        self.check_address()?;
        let is_temperature = |value: f64| (0.0..=2.0).contains(&value);
        let is_positive = |value: f64| value > 0.0 && value.is_finite();
        let refuse = |is_refused: bool, setting, value: String, allowed| match is_refused {
            true => Err(JudgeError::Setting { setting, value, allowed }),
            false => Ok(()),
        };
        let temperature = self.temperature.unwrap_or(0.0);
        refuse(!is_temperature(temperature), "the temperature", temperature.to_string(), "it must be 0 to 2")?;
        let pace = self.requests_per_minute.unwrap_or(1.0);
        refuse(!is_positive(pace), "the rate limit", format!("{pace} requests/min"), "it must be above 0")?;
        let concurrency = self.concurrency.to_string();
        let is_crowd = !(1..=256).contains(&self.concurrency);
        refuse(is_crowd, "the number of requests at once", concurrency, "it must be 1 to 256")?;
        refuse(self.retries.attempts_max == 0, "the number of attempts", "0".into(), "it must be at least 1")?;
        refuse(self.timeout.is_zero(), "the timeout", "0".into(), "it must be above 0")?;
        let budget = self.cost_max.unwrap_or(1.0);
        refuse(!is_positive(budget), "the greatest cost", budget.to_string(), "it must be above 0")?;
        let is_blind = self.cost_max.is_some() && self.prices.is_none();
        refuse(is_blind, "the greatest cost", budget.to_string(), "give the prices of tokens with it")
    }

    fn check_address(&self) -> Result<(), JudgeError> {
        let refused = |value: &str, allowed| {
            Err(JudgeError::Setting { setting: "the base URL", value: format!("`{value}`"), allowed })
        };
        let url = self.base_url.as_str();
        let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).unwrap_or_default();
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        // What stands before an @ may be a password, and is not repeated.
        if host.contains('@') {
            return refused("(hidden)", "it must hold no user name and no password: keys come from the environment");
        }
        if host.is_empty() || rest.contains(['?', '#']) || !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return refused(url, "it must be http:// or https:// with a host and perhaps a path");
        }
        match self.model.trim().is_empty() {
            true => Err(JudgeError::Setting {
                setting: "the model",
                value: "empty".into(),
                allowed: "name the model that judges",
            }),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_meant_are_refused() {
        let usual = || Settings::new("http://localhost:1/v1", "judge");
        usual().check().unwrap();
        let cases: [(Settings, &str); 11] = [
            (Settings::new("localhost:1", "judge"), "the base URL is `localhost:1`"),
            (Settings::new("http://", "judge"), "the base URL is `http://`"),
            (Settings::new("https://x/v1?key=1", "judge"), "the base URL"),
            (Settings::new("https://x", " "), "the model is empty"),
            (Settings { temperature: Some(f64::NAN), ..usual() }, "the temperature is NaN"),
            (Settings { requests_per_minute: Some(0.0), ..usual() }, "the rate limit is 0 requests/min"),
            (Settings { concurrency: 0, ..usual() }, "requests at once is 0"),
            (Settings { timeout: Duration::ZERO, ..usual() }, "the timeout is 0"),
            (Settings { cost_max: Some(-1.0), ..usual() }, "the greatest cost is -1"),
            (Settings { cost_max: Some(1.0), ..usual() }, "give the prices"),
            (Settings { retries: Retries { attempts_max: 0, ..Retries::default() }, ..usual() }, "attempts is 0"),
        ];
        for (settings, expected) in cases {
            let error = settings.check().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_password_in_the_address_is_refused_and_not_repeated() {
        let error = Settings::new("https://me:secret@host/v1", "judge").check().unwrap_err().to_string();
        assert!(error.contains("no password") && !error.contains("secret"), "{error}");
    }
}
