//! Requests to the hub: the listing of a repository, and downloads that resume where a connection broke.

use std::fs;
use std::io::Read;
use std::thread;
use std::time::Duration;

use ureq::http::{HeaderValue, Response, header};
use ureq::{Agent, Body};

use super::cache::{CachedRepository, has_length};
use super::content_hash::hash_like;
use super::error::HubError;
use super::listing::{Listing, RemoteFile};
use super::part::{Part, Steady};
use super::redirect::{origin, redirected};
use super::settings::Hub;
use super::source::Source;
use crate::store::SecretText;

/// Largest number of requests for a file in one call.
const ATTEMPTS_MAX: usize = 5;

/// Largest number of requests for one answer: the hub redirects once or twice.
const REDIRECTS_MAX: usize = 10;

/// Number of times that a request is repeated if the server is busy.
const REPEATS_MAX: u32 = 3;

/// [byte] -- Longest listing that is accepted; real ones are far shorter.
const LISTING_BYTES_MAX: u64 = 64 << 20;

/// A client of the hub for one repository.
pub(super) struct Transfer<'a> {
    hub: &'a Hub,
    source: &'a Source,
    agent: Agent,
}

impl<'a> Transfer<'a> {
    /// Creates a client, without sending a request.
    pub fn new(hub: &'a Hub, source: &'a Source) -> Self {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // Redirects are followed by hand: the token stays at the hub's own scheme, host and port.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(Some(hub.patience))
            .timeout_connect(Some(hub.patience))
            .timeout_recv_response(Some(hub.patience))
            .timeout_per_read(Some(hub.patience))
            .timeout_per_write(Some(hub.patience))
            .user_agent(concat!("fedreplay/", env!("CARGO_PKG_VERSION")));
        // The proxy of the environment must not be used for a hub on this machine.
        if is_loopback(&hub.endpoint) {
            config = config.proxy(None);
        }
        Self { hub, source, agent: config.build().into() }
    }

    /// Requests the commit of the revision and the files of that commit.
    ///
    /// # Errors
    /// [`HubError`]: unreachable, not found, denied, refused, or an answer that is not a listing.
    pub fn listing(&self) -> Result<Listing, HubError> {
        let url = self.listing_url();
        let response = self.get(&url, None)?;
        match response.status().as_u16() {
            200 => {}
            status => return Err(self.refusal(&url, status, &response)),
        }
        let text = self.text(response).map_err(|reason| self.malformed(&url, reason))?;
        let listing = Listing::parse(&text).map_err(|reason| self.malformed(&url, reason))?;
        if self.source.is_commit() && listing.commit != self.source.revision {
            return Err(self.malformed(&url, format!("it lists the files of the commit {}", listing.commit)));
        }
        Ok(listing)
    }

    /// Reads an answer that is a text.
    fn text(&self, response: Response<Body>) -> Result<String, String> {
        let page = web_page(&response);
        let mut bytes = Vec::new();
        let body = Steady::new(response.into_body().into_reader(), self.hub.patience);
        body.take(LISTING_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        if bytes.len() as u64 > LISTING_BYTES_MAX {
            return Err(format!("it is longer than {LISTING_BYTES_MAX} bytes"));
        }
        match page {
            Some(page) => Err(format!("it is {page}, not a list of files")),
            None => String::from_utf8(bytes).map_err(|error| error.to_string()),
        }
    }

    /// Returns the error of an answer that is malformed.
    fn malformed(&self, url: &str, reason: String) -> HubError {
        HubError::Answer { url: url.into(), reason: self.without_token(reason) }
    }

    /// Returns the URL of the listing.
    pub fn listing_url(&self) -> String {
        let Source { repository, revision } = self.source;
        format!("{}/api/models/{repository}/revision/{}?blobs=true", self.hub.endpoint, escaped(revision))
    }

    /// Downloads a file of a commit into the cache. Its content gets its name only once it is complete and has the hash that
    /// the hub lists.
    ///
    /// # Errors
    /// [`HubError`]; the bytes received so far are kept for the next call, unless they are wrong.
    pub fn download(&self, commit: &str, file: &RemoteFile, cache: &CachedRepository) -> Result<(), HubError> {
        let blob = cache.blob(file);
        let folder = blob.parent().expect("a blob stands in a folder");
        fs::create_dir_all(folder).map_err(HubError::io(folder))?;
        let path = folder.join(format!("{}.fedreplay-part", file.id));
        let mut part = Part::open(&path, file.bytes)?;
        // While this call waited for the lock, another process may have completed the download.
        if has_length(&blob, file.bytes) && cache.notes().is_whole(&blob, &file.id) {
            let _ = fs::remove_file(&path);
            return Ok(());
        }
        tracing::info!(file = %file.name, model = %self.source, bytes = file.bytes, "fetching");
        let mut is_repeated = false;
        loop {
            self.fill(&mut part, commit, &file.name)?;
            let found = hash_like(&file.id, &path).map_err(HubError::io(&path))?;
            if found == file.id {
                break;
            }
            let is_of_pieces = part.is_of_pieces;
            part.cut(0)?;
            // What an earlier call had received may have been damaged since, as by a power cut, and two answers may have been of
            // different files. What came in one answer was sent so.
            if is_repeated || !is_of_pieces {
                let url = self.file_url(commit, &file.name);
                return Err(HubError::WrongContent { url, expected: file.id.clone(), found });
            }
            is_repeated = true;
            tracing::warn!(file = %file.name, "what was received of it before is damaged; it is fetched from its beginning");
        }
        // On disk before the name is, so that a power cut leaves no name without its content.
        part.file.sync_all().map_err(HubError::io(&path))?;
        fs::rename(&path, &blob).map_err(HubError::io(&blob))?;
        cache.notes().add(&blob, &file.id);
        Ok(())
    }

    /// Returns the URL of a file.
    fn file_url(&self, commit: &str, name: &str) -> String {
        format!("{}/{}/resolve/{commit}/{name}", self.hub.endpoint, self.source.repository)
    }

    /// Requests the rest of the file until it is complete or the attempts are used up.
    fn fill(&self, part: &mut Part, commit: &str, name: &str) -> Result<(), HubError> {
        let url = self.file_url(commit, name);
        let mut reason = String::new();
        for _ in 0..ATTEMPTS_MAX {
            if part.is_complete() {
                return Ok(());
            }
            reason = self.receive(part, &url, name)?;
        }
        if part.is_complete() {
            return Ok(());
        }
        Err(HubError::Truncated { url, expected_bytes: part.expected_bytes, received_bytes: part.bytes, reason })
    }

    /// Sends one request and appends what arrives. Returns why the connection ended.
    fn receive(&self, part: &mut Part, url: &str, name: &str) -> Result<String, HubError> {
        let response = self.get(url, (part.bytes > 0).then_some(part.bytes))?;
        match response.status().as_u16() {
            // The whole file: no range was requested, or the server does not support ranges.
            200 => {}
            206 if range(&response).is_some_and(|range| range.first == part.bytes) => {}
            206 => {
                let reason = format!("it sends another range than the one from byte {} on", part.bytes);
                return Err(self.malformed(url, reason));
            }
            // The server has no such range, so the part cannot belong to this file: the next request starts over.
            416 => {
                part.cut(0)?;
                return Ok("the server refused to go on from there".into());
            }
            404 => return Err(HubError::NoFile { file: name.into(), model: self.source.to_string(), hint: "" }),
            status => return Err(self.refusal(url, status, &response)),
        }
        let expected = part.expected_bytes;
        if let Some(announced) = announced_bytes(&response).filter(|&announced| announced != expected) {
            let page = web_page(&response).map_or(String::new(), |page| format!("; it is {page}"));
            let reason = format!("it has {announced} bytes, and the hub lists {expected}{page}");
            return Err(self.malformed(url, reason));
        }
        if response.status().as_u16() == 200 {
            part.cut(0)?;
        }
        let ended = part.append(Steady::new(response.into_body().into_reader(), self.hub.patience), url)?;
        Ok(self.without_token(ended))
    }

    /// Sends a request and follows redirects. It is repeated if the server is busy.
    fn get(&self, url: &str, from: Option<u64>) -> Result<Response<Body>, HubError> {
        for repeats in 0.. {
            let response = self.redirected_from(url, from)?;
            match self.wait(&response) {
                Some(wait) if repeats < REPEATS_MAX => {
                    let wait = wait.unwrap_or(self.hub.patience / 60 * (1 << repeats));
                    tracing::info!(status = response.status().as_u16(), ?wait, "the server is busy");
                    thread::sleep(wait);
                }
                _ => return Ok(response),
            }
        }
        unreachable!("the last repeat returns")
    }

    /// Returns how long to wait until a request is repeated, which the server may say. `None` if it is of no use.
    fn wait(&self, response: &Response<Body>) -> Option<Option<Duration>> {
        if !matches!(response.status().as_u16(), 429 | 500 | 502 | 503 | 504) {
            return None;
        }
        match retry_after(response) {
            Some(wait) if wait > self.hub.patience => None,
            wait => Some(wait),
        }
    }

    /// Sends a request and follows redirects.
    fn redirected_from(&self, url: &str, from: Option<u64>) -> Result<Response<Body>, HubError> {
        let mut place = url.to_owned();
        for _ in 0..REDIRECTS_MAX {
            let response = self.request(&place, from).map_err(|error| self.connection_error(url, error))?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return match encoding(&response) {
                    None => Ok(response),
                    Some(encoding) => {
                        let reason = format!("it is encoded as {encoding:?}, and no encoding was asked for");
                        Err(self.malformed(url, reason))
                    }
                };
            }
            place = redirected(&place, &response).map_err(|reason| self.malformed(url, reason))?;
        }
        Err(HubError::Answer { url: url.into(), reason: format!("it redirects more than {REDIRECTS_MAX} times") })
    }

    /// Sends one request, with the token if it goes to the hub itself.
    fn request(&self, url: &str, from: Option<u64>) -> Result<Response<Body>, ureq::Error> {
        // Ranges count the bytes of the file, so the transfer must not be compressed.
        let mut request = self.agent.get(url).header(header::ACCEPT_ENCODING, "identity");
        if let Some(start) = from {
            request = request.header(header::RANGE, format!("bytes={start}-"));
        }
        let is_hub = origin(url).is_some() && origin(url) == origin(&self.hub.endpoint);
        if let Some(token) = self.hub.token.as_ref().filter(|_| is_hub) {
            // A sensitive header is not shown by logs of requests.
            let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(ureq::http::Error::from)?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        request.call()
    }

    /// Returns a foreign text without the token, which it may repeat.
    fn without_token(&self, text: String) -> String {
        match &self.hub.token {
            Some(token) => SecretText::new(token.as_str()).hide_in(&text),
            None => text,
        }
    }

    /// Distinguishes a server that did not answer from one whose answer is malformed.
    fn connection_error(&self, url: &str, error: ureq::Error) -> HubError {
        let url = url.to_owned();
        let reason = self.without_token(error.to_string());
        match error {
            ureq::Error::Io(_)
            | ureq::Error::Timeout(_)
            | ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed
            | ureq::Error::InvalidProxyUrl
            | ureq::Error::Tls(_)
            | ureq::Error::Rustls(_) => HubError::Unreachable { url, reason, is_cached: false },
            _ => HubError::Answer { url, reason },
        }
    }

    /// Interprets an error status. The hub answers 401 for repositories that do not exist, in order not to reveal
    /// private ones, and gives the reason in a header.
    fn refusal(&self, url: &str, status: u16, response: &Response<Body>) -> HubError {
        let code = response.headers().get("x-error-code").and_then(|code| code.to_str().ok());
        let model = self.source.to_string();
        let endpoint = self.hub.endpoint.clone();
        match (status, code) {
            (_, Some("RevisionNotFound")) => HubError::NoRevision { model, endpoint },
            (_, Some("GatedRepo")) | (403, _) => HubError::Denied { model, endpoint },
            (401 | 404, _) => HubError::NoRepository { model, endpoint },
            _ => HubError::Refused { url: url.into(), status, wait: retry_after(response) },
        }
    }
}

/// The part of a file that an answer has.
struct AnsweredRange {
    /// [byte] -- Its first byte.
    first: u64,
    /// [byte] -- Length of the whole file, if the answer has it.
    total: Option<u64>,
}

/// Returns the range in an answer.
fn range(response: &Response<Body>) -> Option<AnsweredRange> {
    let range = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    // Of the form `bytes 200-999/1000`.
    let (range, total) = range.strip_prefix("bytes ")?.split_once('/')?;
    Some(AnsweredRange { first: range.split('-').next()?.parse().ok()?, total: total.parse().ok() })
}

/// Returns the length of the whole file, if an answer has it.
fn announced_bytes(response: &Response<Body>) -> Option<u64> {
    match range(response) {
        Some(range) => range.total,
        None => response.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok(),
    }
}

/// Returns the encoding of an answer's content, if it has one.
fn encoding(response: &Response<Body>) -> Option<String> {
    let encoding = response.headers().get(header::CONTENT_ENCODING)?;
    let encoding = String::from_utf8_lossy(encoding.as_bytes()).trim().to_ascii_lowercase();
    (!encoding.is_empty() && encoding != "identity").then_some(encoding)
}

/// Returns what an answer is that was meant for a reader, such as the log-in page of a network.
fn web_page(response: &Response<Body>) -> Option<&'static str> {
    let kind = response.headers().get(header::CONTENT_TYPE)?.to_str().ok()?;
    kind.trim_start().to_ascii_lowercase().starts_with("text/html").then_some("a web page")
}

/// Returns the wait in seconds that a server asks for.
fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let seconds = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Returns a revision as one component of a URL. Of the characters that a revision may have, only `/` needs an escape.
fn escaped(revision: &str) -> String {
    revision.replace('/', "%2F")
}

fn is_loopback(endpoint: &str) -> bool {
    let host = endpoint.split("://").nth(1).unwrap_or_default().split(['/', ':']).next().unwrap_or_default();
    host == "localhost" || host.starts_with("127.") || endpoint.contains("://[::1]")
}
