//! An HTTP/1.1 server on loopback that passes each request to a closure.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

/// Method of the request that ends the server.
const STOP: &str = "STOP";

/// A received request.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpRequest {
    /// Path with its query.
    pub path: String,
    /// Names in lower case and values, in their order.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl HttpRequest {
    /// Returns the value of a header by its name in lower case.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }
}

/// A server that ends when it is dropped, once all responses are written.
pub struct LoopbackServer {
    port: u16,
    thread: Option<JoinHandle<()>>,
}

impl LoopbackServer {
    /// Starts a server. `respond` writes the response to a request, each in its own thread; it begins with `accept`, which is
    /// called in the order in which the requests arrive and returns what `respond` needs.
    pub fn start<T: Send + 'static>(
        accept: impl Fn(u16, &HttpRequest) -> T + Send + 'static,
        respond: impl Fn(T, HttpRequest, TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || {
            let respond = &respond;
            // Requests are concurrent, so each has its own thread; all threads end before the server does.
            std::thread::scope(|scope| {
                for stream in listener.incoming() {
                    let stream = stream.unwrap();
                    let Some((method, request)) = read(&stream) else { continue };
                    if method == STOP {
                        return;
                    }
                    let accepted = accept(port, &request);
                    // A client that disconnects early is no failure of the server.
                    scope.spawn(move || respond(accepted, request, stream).ok());
                }
            });
        });
        Self { port, thread: Some(thread) }
    }

    /// Returns the address of the server, without a path.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for LoopbackServer {
    fn drop(&mut self) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.write_all(format!("{STOP} / HTTP/1.1\r\n\r\n").as_bytes()).unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Reads a request with its method. `None` if the client disconnects first.
fn read(stream: &TcpStream) -> Option<(String, HttpRequest)> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let path = words.next().unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        let name = name.to_ascii_lowercase();
        if name == "content-length" {
            length = value.parse().unwrap();
        }
        headers.push((name, value.to_owned()));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((method, HttpRequest { path, headers, body }))
}

/// Writes a response whose header announces the length of `body`, and then only the first `sent` bytes of the body.
pub fn write_response(
    mut stream: &TcpStream,
    status: u16,
    headers: &str,
    body: &[u8],
    sent: usize,
) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n", body.len())?;
    stream.write_all(&body[..sent.min(body.len())])
}

/// Waits until the client disconnects.
pub fn until_gone(mut stream: &TcpStream) -> std::io::Result<()> {
    stream.read_to_end(&mut Vec::new()).map(drop)
}
