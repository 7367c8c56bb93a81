//! A chat endpoint on loopback that records its requests and misbehaves on demand; tests of the binary use it too.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Barrier, Mutex};
use std::thread::JoinHandle;

use serde_json::{Value, json};

/// The server's reaction to one request.
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
    /// The response repeats the request's Authorization header as the judgment, or as an error.
    Repeats { status: u16 },
    /// Responds once all requests of the barrier have arrived.
    Together(Arc<Barrier>),
}

/// A received request.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    pub authorization: Option<String>,
    pub body: Value,
}

#[derive(Default)]
struct State {
    turns: VecDeque<Turn>,
    requests: Vec<Request>,
}

/// A server that ends when it is dropped. After its last turn it responds with the rating 7.
pub struct Server {
    state: Arc<Mutex<State>>,
    port: u16,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(turns: impl IntoIterator<Item = Turn>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State { turns: turns.into_iter().collect(), requests: vec![] }));
        let shared = state.clone();
        let thread = std::thread::spawn(move || {
            // Requests are concurrent, so each has its own thread; all threads end before the server does.
            std::thread::scope(|scope| {
                for stream in listener.incoming() {
                    let stream = stream.unwrap();
                    let Some((request, is_last)) = read(&stream) else { continue };
                    if is_last {
                        return;
                    }
                    let turn = {
                        let mut state = shared.lock().unwrap();
                        state.requests.push(request.clone());
                        state.turns.pop_front().unwrap_or(Turn::Says("Rating: [[7]]"))
                    };
                    // A client that disconnects early is no failure of the server.
                    scope.spawn(move || turn.respond(stream, &request).ok());
                }
            });
        });
        Self { state, port, thread: Some(thread) }
    }

    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    /// Returns the requests since the last call.
    pub fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.write_all(b"STOP / HTTP/1.1\r\n\r\n").unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Reads a request, and returns with it whether it is the one that stops the server.
fn read(stream: &TcpStream) -> Option<(Request, bool)> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let is_last = words.next() == Some("STOP");
    let mut request = Request { path: words.next().unwrap_or_default().into(), authorization: None, body: Value::Null };
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "authorization" => request.authorization = Some(value.into()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    request.body = serde_json::from_slice(&body).unwrap_or_default();
    Some((request, is_last))
}

fn judgement(text: &str) -> String {
    let usage = json!({"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110});
    let choice = json!({"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"});
    json!({"id": "x", "model": "judge-0125", "choices": [choice], "usage": usage}).to_string()
}

impl Turn {
    fn respond(self, mut stream: TcpStream, request: &Request) -> std::io::Result<()> {
        let mut answer = |status: u16, headers: &str, body: &str, bytes: usize| {
            write!(stream, "HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: {bytes}\r\n{headers}\r\n{body}")
        };
        let whole = |text: &str| judgement(text);
        match self {
            Self::Says(text) => answer(200, "", &whole(text), whole(text).len()),
            Self::Answers(status, headers, body) => answer(status, headers, body, body.len()),
            Self::Truncated => answer(200, "", &whole("[[9]]")[..60], 60),
            Self::Cut => answer(200, "", &whole("[[9]]")[..60], whole("[[9]]").len()),
            Self::Closes => Ok(()),
            Self::Stalls => {
                answer(200, "", &whole("[[9]]")[..60], whole("[[9]]").len())?;
                until_gone(&mut stream)
            }
            Self::Silent => until_gone(&mut stream),
            Self::Holds(tell) => {
                let _ = tell.send(());
                until_gone(&mut stream)
            }
            Self::Repeats { status } => {
                let sent = request.authorization.clone().unwrap_or_default();
                let body = if status == 200 { whole(&sent) } else { sent };
                answer(status, "", &body, body.len())
            }
            Self::Together(barrier) => {
                barrier.wait();
                answer(200, "", &whole("[[7]]"), whole("[[7]]").len())
            }
        }
    }
}

fn until_gone(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.read_to_end(&mut Vec::new()).map(|_| ())
}
