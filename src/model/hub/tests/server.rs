//! A hub on loopback: one repository, the requests that were made, and a fault to order.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::{Value, json};

pub const REPOSITORY: &str = "tiny/llama";
pub const COMMIT: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567";

/// What the server does wrong.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Fault {
    #[default]
    None,
    /// Whole answers to requests for a range, as some mirrors give.
    IgnoresRanges,
    /// This many answers with weights end after this many bytes.
    Cuts { answers: usize, bytes: usize },
    /// Weights longer than the listing says.
    Overlong,
    /// A file that is listed and not there.
    Lost(&'static str),
    /// A status and an error code for every request.
    Refuses(u16, Option<&'static str>),
    /// This text in place of the listing.
    Lists(String),
}

/// One request: path, and the headers that matter.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub path: String,
    pub range: Option<String>,
    pub authorization: Option<String>,
    pub host: String,
}

struct State {
    port: u16,
    files: BTreeMap<String, Vec<u8>>,
    fault: Fault,
    requests: Vec<Request>,
}

/// The server; it ends when dropped.
pub struct Server {
    state: Arc<Mutex<State>>,
    port: u16,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves these files as [`REPOSITORY`] at [`COMMIT`], which is its branch `main` and its tag `v1`.
    pub fn start(files: BTreeMap<String, Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = State { port, files, fault: Fault::None, requests: vec![] };
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that goes away in the middle is no failure of the server.
                if let Ok(false) = answer(&stream.unwrap(), &shared) {
                    return;
                }
            }
        });
        Self { state, port, thread: Some(thread) }
    }

    /// What HF_ENDPOINT is to be.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn set(&self, fault: Fault) {
        self.state.lock().unwrap().fault = fault;
    }

    pub fn edit(&self, edit: impl FnOnce(&mut BTreeMap<String, Vec<u8>>)) {
        edit(&mut self.state.lock().unwrap().files);
    }

    /// The requests since the last call.
    pub fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }

    /// The paths of the requests for contents since the last call, without those that were redirected.
    pub fn take_contents(&self) -> Vec<String> {
        let requests = self.take_requests().into_iter().map(|request| request.path);
        requests.filter_map(|path| path.strip_prefix("/content/").map(str::to_owned)).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.write_all(b"STOP / HTTP/1.1\r\n\r\n").unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Answers one request; `false` if it was the one to stop.
fn answer(stream: &TcpStream, state: &Mutex<State>) -> std::io::Result<bool> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut request = Request { path: String::new(), range: None, authorization: None, host: String::new() };
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap();
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range = Some(value.into()),
            "authorization" => request.authorization = Some(value.into()),
            "host" => request.host = value.into(),
            _ => {}
        }
    }
    let mut words = first.split(' ');
    if words.next() == Some("STOP") {
        return Ok(false);
    }
    request.path = words.next().unwrap_or_default().into();
    let reply = state.lock().unwrap().reply(&request);
    state.lock().unwrap().requests.push(request);
    let Reply { status, headers, body, cut } = reply;
    let mut stream = stream;
    write!(stream, "HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n", body.len())?;
    stream.write_all(&body[..cut.unwrap_or(body.len()).min(body.len())])?;
    Ok(true)
}

struct Reply {
    status: u16,
    headers: String,
    body: Vec<u8>,
    cut: Option<usize>,
}

impl Reply {
    fn new(status: u16, headers: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: headers.into(), body: body.into(), cut: None }
    }
}

impl State {
    fn reply(&mut self, request: &Request) -> Reply {
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
                let hash = blake3::hash(bytes).to_hex();
                let mut file = json!({"rfilename": name, "size": bytes.len(), "blobId": hash[..40]});
                if name.ends_with(".safetensors") {
                    file["lfs"] = json!({"sha256": hash.as_str(), "size": bytes.len(), "pointerSize": 135});
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
            Some(start) if self.fault != Fault::IgnoresRanges => {
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
            _ => {}
        }
        reply
    }
}
