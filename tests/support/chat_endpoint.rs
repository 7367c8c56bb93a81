//! A chat endpoint on loopback that records its requests and misbehaves on demand.

use std::collections::VecDeque;
use std::net::TcpStream;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Barrier, Mutex};

use serde_json::{Value, json};

use super::loopback::{HttpRequest, LoopbackServer, until_gone, write_response};

/// The endpoint's reaction to one request.
#[derive(Clone, Debug)]
pub enum Turn {
    /// A complete response with this judgment.
    Says(&'static str),
    /// A status, further header lines and a body.
    Answers(u16, &'static str, &'static str),
    /// A response that ends in the middle of its JSON, although its length is right.
    Truncated,
    /// A response that announces more bytes than it has.
    Cut,
    /// The connection is closed without a response.
    Closes,
    /// The beginning of a response, then nothing until the client disconnects.
    Stalls,
    /// Nothing until the client disconnects.
    Silent,
    /// Signals that the request arrived, then sends nothing until the client disconnects.
    Holds(Sender<()>),
    /// Sends the end of a channel when the request arrived, and responds with this body when something comes through it.
    Waits(Sender<Sender<()>>, &'static str),
    /// The response repeats the request's Authorization header as the judgment, or as an error.
    Repeats { status: u16 },
    /// Responds once all requests of the barrier have arrived.
    Together(Arc<Barrier>),
}

/// A received request.
#[derive(Clone, Debug)]
pub struct ChatRequest {
    pub path: String,
    pub authorization: Option<String>,
    pub body: Value,
}

#[derive(Default)]
struct State {
    turns: VecDeque<Turn>,
    requests: Vec<ChatRequest>,
}

/// An endpoint that ends when it is dropped. After its last turn it responds with the rating 7.
pub struct ChatEndpoint {
    state: Arc<Mutex<State>>,
    server: LoopbackServer,
}

impl ChatEndpoint {
    pub fn start(turns: impl IntoIterator<Item = Turn>) -> Self {
        let state = Arc::new(Mutex::new(State { turns: turns.into_iter().collect(), requests: vec![] }));
        let shared = state.clone();
        let accept = move |_, request: &HttpRequest| {
            let request = ChatRequest {
                path: request.path.clone(),
                authorization: request.header("authorization"),
                body: serde_json::from_slice(&request.body).unwrap_or_default(),
            };
            let mut state = shared.lock().unwrap();
            state.requests.push(request);
            state.turns.pop_front().unwrap_or(Turn::Says("Rating: [[7]]"))
        };
        let server = LoopbackServer::start(accept, |turn: Turn, request, stream| turn.respond(&stream, &request));
        Self { state, server }
    }

    pub fn base_url(&self) -> String {
        format!("{}/v1", self.server.url())
    }

    /// Returns the requests since the last call.
    pub fn take_requests(&self) -> Vec<ChatRequest> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }
}

/// Returns a chat completion with this text.
fn completion(text: &str) -> String {
    let usage = json!({"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110});
    let choice = json!({"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"});
    json!({"id": "x", "model": "judge-0125", "choices": [choice], "usage": usage}).to_string()
}

impl Turn {
    fn respond(self, stream: &TcpStream, request: &HttpRequest) -> std::io::Result<()> {
        let rating = completion("[[9]]");
        match self {
            Self::Says(text) => write_whole(stream, 200, "", &completion(text)),
            Self::Answers(status, headers, body) => write_whole(stream, status, headers, body),
            Self::Truncated => write_whole(stream, 200, "", &rating[..60]),
            Self::Cut => write_response(stream, 200, "", rating.as_bytes(), 60),
            Self::Closes => Ok(()),
            Self::Stalls => {
                write_response(stream, 200, "", rating.as_bytes(), 60)?;
                until_gone(stream)
            }
            Self::Silent => until_gone(stream),
            Self::Holds(tell) => {
                let _ = tell.send(());
                until_gone(stream)
            }
            Self::Waits(tell, body) => {
                let (release, released) = std::sync::mpsc::channel();
                let _ = tell.send(release);
                let _ = released.recv();
                write_whole(stream, 200, "", body)
            }
            Self::Repeats { status } => {
                let sent = request.header("authorization").unwrap_or_default();
                let body = if status == 200 { completion(&sent) } else { sent };
                write_whole(stream, status, "", &body)
            }
            Self::Together(barrier) => {
                barrier.wait();
                write_whole(stream, 200, "", &completion("[[7]]"))
            }
        }
    }
}

fn write_whole(stream: &TcpStream, status: u16, headers: &str, body: &str) -> std::io::Result<()> {
    write_response(stream, status, headers, body.as_bytes(), body.len())
}
