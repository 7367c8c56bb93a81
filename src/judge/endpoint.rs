//! The HTTP client of a judge: sends one request and classifies its failures.

use std::time::{Duration, SystemTime};

use ureq::http::{HeaderMap, header};
use ureq::{Agent, Body};

use super::reply::judgment_in;
use super::retry::retry_after;
use super::secret::ApiKey;
use super::settings::JudgeSettings;
use super::types::Judgment;

/// [byte] -- Maximum size of a response. No judgment comes near it.
const REPLY_BYTES_MAX: u64 = 8 << 20;

/// Maximum number of characters of an error response that are quoted.
const EXCERPT_CHARS_MAX: usize = 200;

/// An endpoint of the OpenAI chat API.
pub(super) struct Endpoint {
    agent: Agent,
    url: String,
    key: Option<ApiKey>,
}

/// Reaction to a failed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Retry: the same request may succeed later. `after` is the wait that the endpoint asked for.
    TryAgain { after: Option<Duration> },
    /// Do not retry this request.
    GiveUp,
    /// Send no further request: the endpoint denies access.
    Leave,
}

/// A failed request.
#[derive(Debug)]
pub(super) struct Failure {
    pub reason: String,
    pub remedy: Remedy,
    /// The judgment that was received and cannot be used. It was paid for.
    pub unusable: Option<Judgment>,
}

impl Failure {
    /// Returns a failure without a judgment.
    pub fn new(reason: String, remedy: Remedy) -> Self {
        Self { reason, remedy, unusable: None }
    }
}

impl Endpoint {
    /// Creates a client for the endpoint of `settings`. Nothing is sent yet.
    pub fn new(settings: &JudgeSettings, key: Option<ApiKey>) -> Self {
        // Redirects are not followed, so that the key goes to no other host than the configured one.
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(settings.timeout))
            .user_agent(concat!("fedreplay/", env!("CARGO_PKG_VERSION")));
        let url = settings.url();
        if is_loopback(&url) {
            config = config.proxy(None);
        }
        Self { agent: config.build().into(), url, key }
    }

    /// Sends a request once.
    ///
    /// # Errors
    /// [`Failure`]. Its text does not contain the key.
    pub fn ask(&self, body: &str) -> Result<Judgment, Failure> {
        self.exchange(body).map_err(|failure| Failure { reason: self.without_key(&failure.reason), ..failure })
    }

    fn exchange(&self, body: &str) -> Result<Judgment, Failure> {
        let mut request = self.agent.post(&self.url).content_type("application/json");
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, key.bearer());
        }
        let response = request.send(body).map_err(|error| broken(&error))?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let text = read(response.into_body());
        if status != 200 {
            // Hidden before the text is cut: of a key across the cut, nobody would find the rest.
            return Err(refused(status, &headers, &self.without_key(&text.unwrap_or_default())));
        }
        let received = judgment_in(&text?).map_err(|reason| Failure::new(reason, Remedy::TryAgain { after: None }))?;
        // The judgment is stored, so an echoed key is removed from its texts: after parsing, which resolves all escapes.
        let Judgment { text, model, .. } = received.judgment;
        let judgment = Judgment { text: self.without_key(&text), model: self.without_key(&model), ..received.judgment };
        match received.fault {
            None => Ok(judgment),
            // Asked again at once, the judge would most likely write the same, and be paid again.
            Some(reason) => Err(Failure { reason, remedy: Remedy::GiveUp, unusable: Some(judgment) }),
        }
    }

    fn without_key(&self, text: &str) -> String {
        self.key.as_ref().map_or_else(|| text.to_owned(), |key| key.hide_in(text))
    }
}

fn read(mut body: Body) -> Result<String, Failure> {
    body.with_config().limit(REPLY_BYTES_MAX).read_to_string().map_err(|error| broken(&error))
}

/// Describes a connection that failed, before the response or within it.
fn broken(error: &ureq::Error) -> Failure {
    Failure::new(format!("the connection failed: {error}"), Remedy::TryAgain { after: None })
}

/// Describes a response with another status than 200.
fn refused(status: u16, headers: &HeaderMap, body: &str) -> Failure {
    let remedy = match status {
        401 | 403 => Remedy::Leave,
        // Timeout, conflict, too early, too many requests, and errors of the server.
        408 | 409 | 425 | 429 | 500.. => Remedy::TryAgain { after: wait_asked_for(headers) },
        _ => Remedy::GiveUp,
    };
    let advice = match status {
        300..=399 => "; it redirects, so give the base URL that it redirects to",
        401 | 403 => "; see that the environment holds the right key",
        404 => "; see whether the base URL and the model are right",
        _ => "",
    };
    Failure::new(format!("it answered {status}{}{advice}", excerpt(body)), remedy)
}

/// Returns the wait that the endpoint asks for in its `Retry-After` header.
fn wait_asked_for(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    // A date in `Retry-After` is compared with the response's own date: the endpoint's clock may differ from ours.
    let date = headers.get(header::DATE).and_then(|date| date.to_str().ok());
    let now = date.and_then(|date| httpdate::parse_http_date(date).ok()).unwrap_or_else(SystemTime::now);
    retry_after(value, now)
}

/// Returns the beginning of an error response on one line.
fn excerpt(body: &str) -> String {
    let words = body.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line: String = words.collect::<Vec<_>>().join(" ").chars().take(EXCERPT_CHARS_MAX).collect();
    if line.is_empty() { line } else { format!(" ({line})") }
}

/// Returns whether the endpoint is on this machine. Proxies of the environment are not used for it.
fn is_loopback(url: &str) -> bool {
    let host = url.split("://").nth(1).unwrap_or_default();
    ["localhost", "127.", "[::1]"].iter().any(|name| host.starts_with(name))
}
