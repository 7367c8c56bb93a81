//! A hub of models on loopback with one repository, which records its requests and fails on demand.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::loopback::{HttpRequest, LoopbackServer, until_gone};

pub const REPOSITORY: &str = "tiny/llama";
pub const COMMIT: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567";

/// Faults of the hub.
#[derive(Clone, Debug, Default)]
pub enum Fault {
    #[default]
    None,
    /// Whole answers to requests for a range, as some mirrors give.
    IgnoresRanges,
    /// This many answers with weights end after this many bytes.
    Cuts { answers: usize, bytes: usize },
    /// Weights longer than the listing says.
    Overlong,
    /// This many answers with weights have another last byte than the listing's hash is of.
    WrongBytes { answers: usize },
    /// Weights lie at this port of the hub's host.
    AtPort(u16),
    /// A file that is listed and not there.
    Lost(&'static str),
    /// A status and an error code for every request.
    Refuses(u16, Option<&'static str>),
    /// This text in place of the listing.
    Lists(String),
    /// Whatever this makes of a right reply.
    Makes(fn(&Asked, &mut Reply)),
}

/// What a reply is made for.
pub struct Asked<'a> {
    pub request: &'a HubRequest,
    /// Number of earlier requests of the same path.
    pub earlier: usize,
    /// Port of another server.
    pub elsewhere: u16,
}

impl Asked<'_> {
    /// Returns whether the listing is asked for.
    pub fn is_listing(&self) -> bool {
        self.request.path.starts_with("/api/")
    }

    /// Returns whether the content of a file is asked for, after redirects.
    pub fn is_content(&self, name: &str) -> bool {
        self.request.path.strip_prefix("/content/") == Some(name)
    }

    /// Returns whether a file is asked for where the hub lists it.
    pub fn is_resolved(&self, name: &str) -> bool {
        self.request.path.starts_with("/tiny/llama/resolve/") && self.request.path.ends_with(&format!("/{name}"))
    }
}

/// How a reply is sent.
#[derive(Clone, Copy, Debug, Default)]
pub enum Sending {
    /// With its length.
    #[default]
    Whole,
    /// In chunks.
    Chunked,
    /// Without its length, until the connection ends.
    UntilClosed,
    /// A byte of the body after each pause.
    Trickle(Duration),
    /// A byte of the header after each pause.
    HeaderTrickle(Duration),
    /// The header and the first bytes of the body, then nothing until the client disconnects.
    Stalls,
    /// Nothing until the client disconnects.
    Silent,
    /// The body alone, without a header.
    Bare,
}

/// One request: path, and the headers that matter.
#[derive(Clone, Debug, PartialEq)]
pub struct HubRequest {
    pub path: String,
    pub range: Option<String>,
    pub authorization: Option<String>,
    pub host: String,
}

struct State {
    port: u16,
    files: BTreeMap<String, Vec<u8>>,
    elsewhere: u16,
    fault: Fault,
    requests: Vec<HubRequest>,
}

/// The hub; it ends when dropped.
pub struct ModelHub {
    state: Arc<Mutex<State>>,
    server: LoopbackServer,
}

impl ModelHub {
    /// Serves these files as [`REPOSITORY`] at [`COMMIT`], which is its branch `main` and its tag `v1`.
    pub fn start(files: BTreeMap<String, Vec<u8>>) -> Self {
        let state = Arc::new(Mutex::new(State { port: 0, files, elsewhere: 0, fault: Fault::None, requests: vec![] }));
        let shared = state.clone();
        let accept = move |port, request: &HttpRequest| {
            let request = HubRequest {
                path: request.path.clone(),
                range: request.header("range"),
                authorization: request.header("authorization"),
                host: request.header("host").unwrap_or_default(),
            };
            let mut state = shared.lock().unwrap();
            state.port = port;
            let mut reply = state.reply(&request);
            if let Fault::Makes(make) = state.fault {
                let earlier = state.requests.iter().filter(|known| known.path == request.path).count();
                make(&Asked { request: &request, earlier, elsewhere: state.elsewhere }, &mut reply);
            }
            state.requests.push(request);
            reply
        };
        let server = LoopbackServer::start(accept, |reply: Reply, _, stream| reply.send(&stream));
        Self { state, server }
    }

    /// Returns the value for HF_ENDPOINT.
    pub fn endpoint(&self) -> String {
        self.server.url()
    }

    /// Returns the port at which it listens.
    pub fn port(&self) -> u16 {
        self.endpoint().rsplit(':').next().unwrap().parse().unwrap()
    }

    /// Says at which port another server listens, for [`Asked::elsewhere`].
    pub fn set_elsewhere(&self, port: u16) {
        self.state.lock().unwrap().elsewhere = port;
    }

    pub fn set(&self, fault: Fault) {
        self.state.lock().unwrap().fault = fault;
    }

    pub fn edit(&self, edit: impl FnOnce(&mut BTreeMap<String, Vec<u8>>)) {
        edit(&mut self.state.lock().unwrap().files);
    }

    /// Returns the requests since the last call.
    pub fn take_requests(&self) -> Vec<HubRequest> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }

    /// Returns the paths of the requests for contents since the last call, without those that were redirected.
    pub fn take_contents(&self) -> Vec<String> {
        let requests = self.take_requests().into_iter().map(|request| request.path);
        requests.filter_map(|path| path.strip_prefix("/content/").map(str::to_owned)).collect()
    }
}

/// Returns the hash by which large files are listed.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Returns the hash by which git names a file.
pub fn git_hash(bytes: &[u8]) -> String {
    hex(&Sha1::digest([format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A reply before it is sent.
pub struct Reply {
    pub status: u16,
    /// Further lines of the header, each with its line break.
    pub headers: String,
    pub body: Vec<u8>,
    /// Number of bytes of the body that are sent. `None` selects all.
    pub cut: Option<usize>,
    pub sending: Sending,
}

impl Reply {
    pub fn new(status: u16, headers: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: headers.into(), body: body.into(), cut: None, sending: Sending::Whole }
    }

    fn send(&self, mut stream: &TcpStream) -> std::io::Result<()> {
        let body = &self.body[..self.cut.unwrap_or(self.body.len()).min(self.body.len())];
        let framing = match self.sending {
            Sending::Chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
            Sending::UntilClosed => String::new(),
            _ => format!("Content-Length: {}\r\n", self.body.len()),
        };
        let header = format!("HTTP/1.1 {} x\r\nConnection: close\r\n{framing}{}\r\n", self.status, self.headers);
        match self.sending {
            Sending::Silent => return until_gone(stream),
            Sending::Bare => {}
            Sending::HeaderTrickle(pause) => trickle(stream, header.as_bytes(), pause)?,
            _ => stream.write_all(header.as_bytes())?,
        }
        match self.sending {
            Sending::Chunked => {
                for chunk in body.chunks(777) {
                    write!(stream, "{:x}\r\n", chunk.len())?;
                    stream.write_all(chunk)?;
                    stream.write_all(b"\r\n")?;
                }
                if self.cut.is_none() {
                    stream.write_all(b"0\r\n\r\n")?;
                }
                Ok(())
            }
            Sending::Trickle(pause) => trickle(stream, body, pause),
            Sending::Stalls => {
                stream.write_all(body)?;
                until_gone(stream)
            }
            _ => stream.write_all(body),
        }
    }
}

/// Sends a byte after each pause.
fn trickle(mut stream: &TcpStream, bytes: &[u8], pause: Duration) -> std::io::Result<()> {
    for byte in bytes {
        std::thread::sleep(pause);
        stream.write_all(&[*byte])?;
    }
    Ok(())
}

impl State {
    fn reply(&mut self, request: &HubRequest) -> Reply {
        if let Fault::Refuses(status, code) = self.fault {
            let header = code.map_or(String::new(), |code| format!("X-Error-Code: {code}\r\n"));
            return Reply::new(status, header, "no");
        }
        let not_found = |code: &str| Reply::new(404, format!("X-Error-Code: {code}\r\n"), "");
        let path = request.path.as_str();
        if let Some(revision) = path.strip_prefix("/api/models/tiny/llama/revision/") {
            return match revision.strip_suffix("?blobs=true") {
                Some("main" | "v1" | "refs%2Fpr%2F1" | COMMIT) => self.listing(),
                Some(_) => not_found("RevisionNotFound"),
                None => Reply::new(400, "", ""),
            };
        }
        let resolved =
            path.strip_prefix("/tiny/llama/resolve/").and_then(|rest| rest.strip_prefix(COMMIT)?.strip_prefix('/'));
        match (resolved, path.strip_prefix("/content/")) {
            (Some(name), _) if self.is_lost(name) => not_found("EntryNotFound"),
            // Large files lie on another host, small ones on a path of this one.
            (Some(name), _) if name.ends_with(".safetensors") && matches!(self.fault, Fault::AtPort(_)) => {
                let Fault::AtPort(port) = self.fault else { unreachable!("it was just matched") };
                Reply::new(302, format!("Location: http://127.0.0.1:{port}/content/{name}\r\n"), "")
            }
            (Some(name), _) if name.ends_with(".safetensors") => {
                Reply::new(302, format!("Location: http://localhost:{}/content/{name}\r\n", self.port), "")
            }
            (Some(name), _) => Reply::new(307, format!("Location: /content/{name}\r\n"), ""),
            (_, Some(name)) if self.files.contains_key(name) => self.content(name, request.range.as_deref()),
            _ => not_found("RepoNotFound"),
        }
    }

    fn is_lost(&self, name: &str) -> bool {
        !self.files.contains_key(name) || matches!(self.fault, Fault::Lost(lost) if lost == name)
    }

    fn listing(&self) -> Reply {
        if let Fault::Lists(text) = &self.fault {
            return Reply::new(200, "", text.as_str());
        }
        let siblings: Vec<Value> = self
            .files
            .iter()
            .map(|(name, bytes)| {
                let mut file = json!({"rfilename": name, "size": bytes.len(), "blobId": git_hash(bytes)});
                if name.ends_with(".safetensors") {
                    file["lfs"] = json!({"sha256": sha256(bytes), "size": bytes.len(), "pointerSize": 135});
                }
                file
            })
            .collect();
        Reply::new(200, "", json!({"id": REPOSITORY, "sha": COMMIT, "siblings": siblings}).to_string())
    }

    fn content(&mut self, name: &str, range: Option<&str>) -> Reply {
        let bytes = &self.files[name];
        let start =
            range.map(|range| range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap());
        let mut reply = match start {
            Some(start) if start >= bytes.len() => {
                Reply::new(416, format!("Content-Range: bytes */{}\r\n", bytes.len()), "")
            }
            Some(start) if !matches!(self.fault, Fault::IgnoresRanges) => {
                let header = format!("Content-Range: bytes {start}-{}/{}\r\n", bytes.len() - 1, bytes.len());
                Reply::new(206, header, &bytes[start..])
            }
            _ => Reply::new(200, "", bytes.as_slice()),
        };
        let is_large = name.ends_with(".safetensors");
        match &mut self.fault {
            Fault::Cuts { answers, bytes } if is_large && *answers > 0 => {
                *answers -= 1;
                reply.cut = Some(*bytes);
            }
            Fault::Overlong if is_large => reply.body.push(0),
            Fault::WrongBytes { answers } if is_large && *answers > 0 => {
                *answers -= 1;
                *reply.body.last_mut().unwrap() ^= 1;
            }
            _ => {}
        }
        reply
    }
}
