//! Bytes off the hub: the listing of a repository, and files that are resumed where a connection broke.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use ureq::config::RedirectAuthHeaders;
use ureq::http::{Response, header};
use ureq::{Agent, Body};

use super::cache::has_length;
use super::error::HubError;
use super::listing::{Listing, RemoteFile};
use super::settings::Hub;
use super::source::Source;

/// How long a connection may take to come up, and how long it may stay silent.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a file is taken up again in one call.
const ATTEMPTS_MAX: usize = 5;

/// No listing of a repository comes near this [byte].
const LISTING_BYTES_MAX: u64 = 64 << 20;

/// Bytes between two writes.
const BUFFER_BYTES: usize = 1 << 20;

/// The hub's side of one source.
pub(super) struct Transfer<'a> {
    hub: &'a Hub,
    source: &'a Source,
    agent: Agent,
}

impl<'a> Transfer<'a> {
    /// Prepares requests; none is made yet.
    pub fn new(hub: &'a Hub, source: &'a Source) -> Self {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .timeout_connect(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE))
            .user_agent(concat!("fedreplay/", env!("CARGO_PKG_VERSION")));
        // A proxy of the environment is for the world outside, not for a hub on this machine.
        if is_loopback(&hub.endpoint) {
            config = config.proxy(None);
        }
        Self { hub, source, agent: config.build().into() }
    }

    /// Asks which commit the revision is at, and what that commit holds.
    ///
    /// # Errors
    /// [`HubError`]: unreachable, not found, denied, refused, or an answer that is no listing.
    pub fn listing(&self) -> Result<Listing, HubError> {
        let url = self.listing_url();
        let response = self.get(&url, None)?;
        match response.status().as_u16() {
            200 => {}
            status => return Err(self.refusal(&url, status, &response)),
        }
        let mut body = response.into_body();
        let text = body.with_config().limit(LISTING_BYTES_MAX).read_to_string();
        let text = text.map_err(|error| connection_error(&url, error))?;
        Listing::parse(&text).map_err(|reason| HubError::Answer { url, reason })
    }

    /// Where the listing is.
    pub fn listing_url(&self) -> String {
        let Source { repository, revision } = self.source;
        format!("{}/api/models/{repository}/revision/{}?blobs=true", self.hub.endpoint, escaped(revision))
    }

    /// Brings a file of a commit to `blob`. The path appears when all its bytes are there.
    ///
    /// # Errors
    /// [`HubError`]: see its kinds; what has arrived is kept for the next call.
    pub fn download(&self, commit: &str, file: &RemoteFile, blob: &Path) -> Result<(), HubError> {
        let folder = blob.parent().expect("a blob stands in a folder");
        fs::create_dir_all(folder).map_err(HubError::io(folder))?;
        let path = folder.join(format!("{}.fedreplay-part", file.id));
        let mut part = Part::open(&path, file.bytes)?;
        // Another process may have held the lock, and then it has done the work.
        if has_length(blob, file.bytes) {
            let _ = fs::remove_file(&path);
            return Ok(());
        }
        tracing::info!(file = %file.name, model = %self.source, bytes = file.bytes, "fetching");
        self.fill(&mut part, commit, &file.name)?;
        fs::rename(&path, blob).map_err(HubError::io(blob))
    }

    /// Requests what is missing of the file until nothing is, or nothing more arrives.
    fn fill(&self, part: &mut Part, commit: &str, name: &str) -> Result<(), HubError> {
        let url = format!("{}/{}/resolve/{commit}/{name}", self.hub.endpoint, self.source.repository);
        let mut reason = String::new();
        for _ in 0..ATTEMPTS_MAX {
            if part.is_complete() {
                return Ok(());
            }
            reason = self.receive(part, &url, name)?;
        }
        match part.is_complete() {
            true => Ok(()),
            false => {
                let (expected_bytes, received_bytes) = (part.expected_bytes, part.bytes);
                Err(HubError::Truncated { url, expected_bytes, received_bytes, reason })
            }
        }
    }

    /// One request. Returns why the connection ended.
    fn receive(&self, part: &mut Part, url: &str, name: &str) -> Result<String, HubError> {
        let response = self.get(url, (part.bytes > 0).then_some(part.bytes))?;
        match response.status().as_u16() {
            // The whole file: whoever answers knows no ranges, or none was asked for.
            200 => part.cut(0)?,
            206 if range_start(&response) == Some(part.bytes) => {}
            206 => {
                let reason = format!("it sends another range than the one from byte {} on", part.bytes);
                return Err(HubError::Answer { url: url.into(), reason });
            }
            416 => {
                part.cut(0)?;
                return Ok("the server refused to go on from there".into());
            }
            404 => return Err(HubError::NoFile { file: name.into(), model: self.source.to_string(), hint: "" }),
            status => return Err(self.refusal(url, status, &response)),
        }
        part.append(response.into_body().into_reader(), url)
    }

    fn get(&self, url: &str, from: Option<u64>) -> Result<Response<Body>, HubError> {
        // Ranges count the bytes of the file, so they must not travel compressed.
        let mut request = self.agent.get(url).header(header::ACCEPT_ENCODING, "identity");
        if let Some(start) = from {
            request = request.header(header::RANGE, format!("bytes={start}-"));
        }
        if let Some(token) = &self.hub.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        request.call().map_err(|error| connection_error(url, error))
    }

    /// What a status other than success means. The hub answers 401 for repositories that do not exist, so as not to
    /// tell which private ones do, and says more in a header.
    fn refusal(&self, url: &str, status: u16, response: &Response<Body>) -> HubError {
        let code = response.headers().get("x-error-code").and_then(|code| code.to_str().ok());
        let (model, endpoint) = (self.source.to_string(), self.hub.endpoint.clone());
        match (status, code) {
            (_, Some("RevisionNotFound")) => HubError::NoRevision { model, endpoint },
            (_, Some("GatedRepo")) | (403, _) => HubError::Denied { model, endpoint },
            (401 | 404, _) => HubError::NoRepository { model, endpoint },
            _ => HubError::Refused { url: url.into(), status },
        }
    }
}

/// A file that is not yet complete, locked against other processes.
struct Part {
    file: File,
    path: std::path::PathBuf,
    bytes: u64,
    expected_bytes: u64,
}

impl Part {
    /// Opens or makes the file, and waits until no other process writes to it.
    fn open(path: &Path, expected_bytes: u64) -> Result<Self, HubError> {
        let file = OpenOptions::new().create(true).read(true).append(true).open(path).map_err(HubError::io(path))?;
        file.lock().map_err(HubError::io(path))?;
        let bytes = file.metadata().map_err(HubError::io(path))?.len();
        let mut part = Self { file, path: path.to_owned(), bytes, expected_bytes };
        if bytes > expected_bytes {
            part.cut(0)?;
        }
        Ok(part)
    }

    fn is_complete(&self) -> bool {
        self.bytes == self.expected_bytes
    }

    fn cut(&mut self, bytes: u64) -> Result<(), HubError> {
        self.file.set_len(bytes).map_err(HubError::io(&self.path))?;
        self.file.seek(SeekFrom::Start(bytes)).map_err(HubError::io(&self.path))?;
        self.bytes = bytes;
        Ok(())
    }

    /// Appends what arrives. Returns why it ended; more bytes than the file has are an error.
    fn append(&mut self, mut body: impl Read, url: &str) -> Result<String, HubError> {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let count = match body.read(&mut buffer) {
                Ok(0) => return Ok("the server closed it".into()),
                Ok(count) => count,
                Err(error) => return Ok(error.to_string()),
            };
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

/// The first byte of the range that is answered with.
fn range_start(response: &Response<Body>) -> Option<u64> {
    let range = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

/// A revision as one step of a URL: only `/` needs an escape among the letters that a revision may have.
fn escaped(revision: &str) -> String {
    revision.replace('/', "%2F")
}

fn is_loopback(endpoint: &str) -> bool {
    let host = endpoint.split("://").nth(1).unwrap_or_default().split(['/', ':']).next().unwrap_or_default();
    host == "localhost" || host.starts_with("127.") || endpoint.contains("://[::1]")
}

/// Sorts what the client says into "no answer" and "no sensible answer".
fn connection_error(url: &str, error: ureq::Error) -> HubError {
    let (url, reason) = (url.to_owned(), error.to_string());
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
