//! One request over the network, and what its failure means.

use std::time::{Duration, SystemTime};

use ureq::http::{HeaderMap, header};
use ureq::{Agent, Body};

use super::reply::judgement_in;
use super::retry::retry_after;
use super::secret::Secret;
use super::settings::Settings;
use super::verdict::Judgement;

/// [byte] No judgement comes near this.
const REPLY_BYTES_MAX: u64 = 8 << 20;

/// [characters] How much of a refusal is repeated.
const EXCERPT_CHARS_MAX: usize = 200;

/// Where the judge is asked.
pub(super) struct Endpoint {
    agent: Agent,
    url: String,
    key: Option<Secret>,
}

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// The same request may succeed later, perhaps not before the time that the endpoint names.
    TryAgain { after: Option<Duration> },
    /// This request will not succeed.
    GiveUp,
    /// No request will: the endpoint does not let us in.
    Leave,
}

/// Why there is no judgement.
#[derive(Debug)]
pub(super) struct Failure {
    pub reason: String,
    pub remedy: Remedy,
}

impl Endpoint {
    pub fn new(settings: &Settings, key: Option<Secret>) -> Self {
        // The key goes to the endpoint that was named and nowhere else, so redirects are not followed.
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

    /// Asks once.
    ///
    /// # Errors
    /// [`Failure`], without the key in its text.
    pub fn ask(&self, body: &str) -> Result<Judgement, Failure> {
        self.exchange(body).map_err(|failure| Failure { reason: self.without_key(&failure.reason), ..failure })
    }

    fn exchange(&self, body: &str) -> Result<Judgement, Failure> {
        let mut request = self.agent.post(&self.url).content_type("application/json");
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, key.bearer());
        }
        let response = request.send(body).map_err(|error| broken(&error))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = read(response.into_body());
        if status != 200 {
            return Err(refused(status, &headers, &text.unwrap_or_default()));
        }
        let text = self.without_key(&text?);
        judgement_in(&text).map_err(|reason| Failure { reason, remedy: Remedy::TryAgain { after: None } })
    }

    fn without_key(&self, text: &str) -> String {
        self.key.as_ref().map_or_else(|| text.to_owned(), |key| key.hide_in(text))
    }
}

fn read(mut body: Body) -> Result<String, Failure> {
    body.with_config().limit(REPLY_BYTES_MAX).read_to_string().map_err(|error| broken(&error))
}

/// The connection failed, before the reply or within it.
fn broken(error: &ureq::Error) -> Failure {
    Failure { reason: format!("the connection failed: {error}"), remedy: Remedy::TryAgain { after: None } }
}

/// The endpoint answered with another status than 200.
fn refused(status: u16, headers: &HeaderMap, body: &str) -> Failure {
    let of = |name| headers.get(name).and_then(|value| value.to_str().ok());
    // Both dates are the endpoint's, so that its clock need not agree with ours.
    let now = of(header::DATE).and_then(|date| httpdate::parse_http_date(date).ok()).unwrap_or_else(SystemTime::now);
    let remedy = match status {
        401 | 403 => Remedy::Leave,
        408 | 409 | 425 | 429 | 500.. => {
            Remedy::TryAgain { after: of(header::RETRY_AFTER).and_then(|value| retry_after(value, now)) }
        }
        _ => Remedy::GiveUp,
    };
    let advice = match status {
        300..=399 => "; it redirects, so give the base URL that it redirects to",
        401 | 403 => "; see that the environment holds the right key",
        404 => "; see whether the base URL and the model are right",
        _ => "",
    };
    Failure { reason: format!("it answered {status}{}{advice}", excerpt(body)), remedy }
}

/// The beginning of a refusal's text on one line.
fn excerpt(body: &str) -> String {
    let words = body.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line: String = words.collect::<Vec<_>>().join(" ").chars().take(EXCERPT_CHARS_MAX).collect();
    if line.is_empty() { line } else { format!(" ({line})") }
}

/// A proxy of the environment is for the world outside, not for an endpoint on this machine.
fn is_loopback(url: &str) -> bool {
    let host = url.split("://").nth(1).unwrap_or_default();
    ["localhost", "127.", "[::1]"].iter().any(|name| host.starts_with(name))
}
