//! Requests to the hub: the listing of a repository, and downloads that resume where a connection broke.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use ureq::http::{HeaderValue, Response, Uri, header};
use ureq::{Agent, Body};

use super::cache::{CachedRepository, has_length};
use super::content_hash::hash_like;
use super::error::HubError;
use super::listing::{Listing, RemoteFile};
use super::settings::Hub;
use super::source::Source;
use crate::store::SecretText;

/// Timeout for establishing a connection, and for each read.
const PATIENCE: Duration = Duration::from_secs(60);

/// Largest number of requests for a file in one call.
const ATTEMPTS_MAX: usize = 5;

/// Largest number of requests for one answer: the hub redirects once or twice.
const REDIRECTS_MAX: usize = 10;

/// [byte] -- Longest listing that is accepted; real ones are far shorter.
const LISTING_BYTES_MAX: u64 = 64 << 20;

/// [byte] -- Size of the read buffer.
const BUFFER_BYTES: usize = 1 << 20;

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
            .timeout_connect(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE))
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
        let mut body = response.into_body();
        let text = body.with_config().limit(LISTING_BYTES_MAX).read_to_string();
        let text = text.map_err(|error| self.connection_error(&url, error))?;
        Listing::parse(&text).map_err(|reason| HubError::Answer { url, reason: self.without_token(reason) })
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
        loop {
            let is_continued = part.bytes > 0;
            self.fill(&mut part, commit, &file.name)?;
            let found = hash_like(&file.id, &path).map_err(HubError::io(&path))?;
            if found == file.id {
                break;
            }
            part.cut(0)?;
            // What an earlier call had received may have been damaged since, as by a power cut. What this one received was
            // sent so.
            if !is_continued {
                let url = self.file_url(commit, &file.name);
                return Err(HubError::WrongContent { url, expected: file.id.clone(), found });
            }
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
            200 => part.cut(0)?,
            206 if range_start(&response) == Some(part.bytes) => {}
            206 => {
                let reason = format!("it sends another range than the one from byte {} on", part.bytes);
                return Err(HubError::Answer { url: url.into(), reason });
            }
            // The server has no such range, so the part cannot belong to this file: the next request starts over.
            416 => {
                part.cut(0)?;
                return Ok("the server refused to go on from there".into());
            }
            404 => return Err(HubError::NoFile { file: name.into(), model: self.source.to_string(), hint: "" }),
            status => return Err(self.refusal(url, status, &response)),
        }
        let ended = part.append(response.into_body().into_reader(), url)?;
        Ok(self.without_token(ended))
    }

    /// Sends a request and follows redirects.
    fn get(&self, url: &str, from: Option<u64>) -> Result<Response<Body>, HubError> {
        let mut place = url.to_owned();
        for _ in 0..REDIRECTS_MAX {
            let response = self.request(&place, from).map_err(|error| self.connection_error(url, error))?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            place = redirected(&place, &response)
                .map_err(|reason| HubError::Answer { url: url.into(), reason: self.without_token(reason) })?;
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
            _ => HubError::Refused { url: url.into(), status },
        }
    }
}

/// An incomplete file, locked against other processes.
struct Part {
    file: File,
    path: std::path::PathBuf,
    bytes: u64,
    expected_bytes: u64,
}

impl Part {
    /// Opens or creates the file, and waits until no other process writes to it.
    fn open(path: &Path, expected_bytes: u64) -> Result<Self, HubError> {
        let file = OpenOptions::new().create(true).read(true).append(true).open(path).map_err(HubError::io(path))?;
        file.lock().map_err(HubError::io(path))?;
        let bytes = file.metadata().map_err(HubError::io(path))?.len();
        let mut part = Self { file, path: path.to_owned(), bytes, expected_bytes };
        // A part that is too long is damaged, and the download starts over.
        if bytes > expected_bytes {
            part.cut(0)?;
        }
        Ok(part)
    }

    fn is_complete(&self) -> bool {
        self.bytes == self.expected_bytes
    }

    /// Truncates the file to `bytes`.
    fn cut(&mut self, bytes: u64) -> Result<(), HubError> {
        // The file is in append mode, so the next write goes to the new end.
        self.file.set_len(bytes).map_err(HubError::io(&self.path))?;
        self.file.seek(SeekFrom::Start(bytes)).map_err(HubError::io(&self.path))?;
        self.bytes = bytes;
        Ok(())
    }

    /// Appends what arrives, and returns why it ended. More bytes than the file has are an error.
    fn append(&mut self, mut body: impl Read, url: &str) -> Result<String, HubError> {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            // A broken connection is no error here: the caller requests the rest.
            let count = match body.read(&mut buffer) {
                Ok(0) => return Ok("the server closed it".into()),
                Ok(count) => count,
                Err(error) => return Ok(error.to_string()),
            };
            // What has been received cannot be trusted either, so nothing of it is kept.
            if self.bytes + count as u64 > self.expected_bytes {
                self.cut(0)?;
                let reason = format!("it sends more than the {} bytes that the hub lists", self.expected_bytes);
                return Err(HubError::Answer { url: url.into(), reason });
            }
            self.file.write_all(&buffer[..count]).map_err(HubError::io(&self.path))?;
            self.bytes += count as u64;
        }
    }
}

/// Returns scheme, host and port of a URL.
fn origin(url: &str) -> Option<(String, String, u16)> {
    let url: Uri = url.parse().ok()?;
    let scheme = url.scheme_str()?.to_ascii_lowercase();
    let port = url.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Some((scheme, url.host()?.to_ascii_lowercase(), port))
}

/// Returns the URL that an answer from `url` redirects to.
///
/// # Errors
/// What is wrong with it. None leads from an encrypted connection to one that is not.
fn redirected<T>(url: &str, response: &Response<T>) -> Result<String, String> {
    let location = response.headers().get(header::LOCATION).ok_or("it redirects to nowhere")?;
    let target = String::from_utf8_lossy(location.as_bytes());
    let Some((absolute, (next, host, _))) = absolute(url, &target).and_then(|url| Some((url.clone(), origin(&url)?)))
    else {
        return Err(format!("it redirects to {target:?}, which is no URL"));
    };
    match next.as_str() {
        "https" => Ok(absolute),
        "http" if url.starts_with("http://") => Ok(absolute),
        "http" => Err(format!("it redirects from https to {host} without encryption, which is not followed")),
        _ => Err(format!("it redirects to a URL of the scheme {next}, and https and http are followed")),
    }
}

/// Returns the target of a redirect from `url` as a whole URL.
fn absolute(url: &str, target: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    Some(if target.contains("://") && !target.starts_with('/') {
        target.to_owned()
    } else if let Some(elsewhere) = target.strip_prefix("//") {
        format!("{scheme}://{elsewhere}")
    } else if target.starts_with('/') {
        format!("{scheme}://{}{target}", rest.split(['/', '?', '#']).next()?)
    } else {
        let path = url.split(['?', '#']).next()?;
        format!("{}/{target}", path.rsplit_once('/')?.0)
    })
}

/// Returns the first byte of the range in an answer.
fn range_start(response: &Response<Body>) -> Option<u64> {
    let range = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    // Of the form `bytes 200-999/1000`.
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

/// Returns a revision as one component of a URL. Of the characters that a revision may have, only `/` needs an escape.
fn escaped(revision: &str) -> String {
    revision.replace('/', "%2F")
}

fn is_loopback(endpoint: &str) -> bool {
    let host = endpoint.split("://").nth(1).unwrap_or_default().split(['/', ':']).next().unwrap_or_default();
    host == "localhost" || host.starts_with("127.") || endpoint.contains("://[::1]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, location: &str, expected: Result<&str, &str>) {
        let response = Response::builder().header(header::LOCATION, location).body(()).expect("a response");
        assert_eq!(redirected(url, &response), expected.map(str::to_owned).map_err(str::to_owned), "{location}");
    }

    #[test]
    fn a_redirect_is_followed_or_refused_with_its_reason() {
        let hub = "https://hub.example/a/b?c=1";
        check(hub, "https://cdn.example/x", Ok("https://cdn.example/x"));
        check(hub, "//cdn.example/x", Ok("https://cdn.example/x"));
        check(hub, "/x", Ok("https://hub.example/x"));
        check(hub, "x", Ok("https://hub.example/a/x"));
        check("http://127.0.0.1:80/a", "http://localhost/x", Ok("http://localhost/x"));
        check("http://127.0.0.1:80/a", "https://localhost/x", Ok("https://localhost/x"));
        let open = "it redirects from https to cdn.example without encryption, which is not followed";
        check(hub, "http://cdn.example/x", Err(open));
        check(
            hub,
            "ftp://cdn.example/x",
            Err("it redirects to a URL of the scheme ftp, and https and http are followed"),
        );
        check(hub, "https://", Err("it redirects to \"https://\", which is no URL"));
        let nowhere = Response::builder().body(()).expect("a response");
        assert_eq!(redirected(hub, &nowhere), Err("it redirects to nowhere".to_owned()));
    }
}
