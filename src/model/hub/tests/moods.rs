//! The hub in every mood: what comes out, what lies in the cache then, where the token was seen, and that a right answer repairs
//! everything.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use super::{Hub, WEIGHTS, names, repository};
use crate::model::hub::HubError;
use crate::test_support::model_hub::{Asked, COMMIT, Fault, ModelHub, REPOSITORY, Reply, Sending, git_hash, sha256};

const TOKEN: &str = "hf_AbCdEfGhIjKlMnOpQrStUvWxYz";

/// Time after which a mood counts as one that hangs. The slowest ends after five times the short patience.
const LIMIT: Duration = Duration::from_secs(30);

/// Patience in moods that are about it, and in others.
const SHORT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(10);

/// What a fetch ends with.
#[derive(Debug)]
enum End {
    /// The model, byte for byte.
    Right,
    /// An error with these parts, for which the program ends with code 1.
    Failed(&'static [&'static str]),
    /// An error with these parts, for which the program ends with code 2.
    Refused(&'static [&'static str]),
}

use End::{Failed, Refused, Right};

struct Mood {
    name: &'static str,
    /// Changes a right reply.
    make: fn(&Asked, &mut Reply),
    /// Changes the cache before.
    before: fn(&Cache),
    patience: Duration,
    revision: Option<&'static str>,
    has_token: bool,
    end: End,
}

/// A mood of the server.
fn mood(name: &'static str, make: fn(&Asked, &mut Reply), end: End) -> Mood {
    Mood { name, make, before: |_| {}, patience: LONG, revision: None, has_token: true, end }
}

/// A mood in which the server is too slow.
fn slow(name: &'static str, make: fn(&Asked, &mut Reply), end: End) -> Mood {
    Mood { patience: SHORT, ..mood(name, make, end) }
}

/// A right server, and a cache that is not.
fn damaged(name: &'static str, before: fn(&Cache)) -> Mood {
    Mood { before, ..mood(name, |_, _| {}, Right) }
}

/// Changes the answers with the weights.
fn on_weights(asked: &Asked, change: impl FnOnce()) {
    if asked.is_content(WEIGHTS) {
        change();
    }
}

/// The cached repository of a test.
struct Cache {
    home: TempDir,
}

impl Cache {
    fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    fn root(&self) -> PathBuf {
        self.home.path().join("hub/models--tiny--llama")
    }

    fn write(&self, name: &str, content: &[u8]) {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Returns the path of the content of the weights in the cached repository.
    fn weights(&self) -> String {
        format!("blobs/{}", sha256(&repository()[WEIGHTS]))
    }

    fn write_part(&self, content: &[u8]) {
        self.write(&format!("{}.fedreplay-part", self.weights()), content);
    }

    /// Fetches the model from a right hub.
    fn fill(&self) {
        let server = ModelHub::start(repository());
        fetch(&hub(&server, self, LONG, true), None).unwrap();
    }

    /// Fails if a content has a name that is not its hash, or a file of the snapshot another content than the hub has. Hashes are computed
    /// anew.
    fn is_sound(&self, about: &str) {
        if names(self.home.path()).is_empty() {
            return;
        }
        assert_eq!(names(self.home.path()), ["hub"], "{about}: something is next to the cache");
        assert_eq!(names(&self.home.path().join("hub")), ["models--tiny--llama"], "{about}");
        for name in entries(&self.root().join("blobs")) {
            let Ok(content) = fs::read(self.root().join("blobs").join(&name)) else { continue };
            match name.len() {
                40 => assert_eq!(git_hash(&content), name, "{about}: a content that is not what its name says"),
                64 => assert_eq!(sha256(&content), name, "{about}: a content that is not what its name says"),
                _ => assert!(name.ends_with(".fedreplay-part"), "{about}: {name}"),
            }
        }
        let right = repository();
        let snapshot = self.root().join("snapshots").join(COMMIT);
        for name in entries(&snapshot) {
            let content = fs::read(snapshot.join(&name)).unwrap_or_else(|error| panic!("{about}: {name}: {error}"));
            assert!(right.get(&name) == Some(&content), "{about}: {name} has other bytes");
        }
    }

    fn is_complete(&self, folder: &Path, about: &str) {
        assert_eq!(folder, self.root().join("snapshots").join(COMMIT), "{about}");
        let wanted = ["chat_template.jinja", "config.json", WEIGHTS, "tokenizer.json", "tokenizer_config.json"];
        let mut found = names(folder);
        found.retain(|name| !name.starts_with('.'));
        assert_eq!(found, wanted, "{about}");
        self.is_sound(about);
        // Of a content that no listing names any more, an empty file may be left: another process may wait for it.
        let blobs = self.root().join("blobs");
        let is_left = |name: &String| name.ends_with("-part") && fs::metadata(blobs.join(name)).unwrap().len() > 0;
        let parts: Vec<String> = entries(&blobs).into_iter().filter(is_left).collect();
        assert_eq!(parts, [""; 0], "{about}: a part is left");
    }
}

/// Returns the names in a folder that may be missing.
fn entries(folder: &Path) -> Vec<String> {
    if folder.is_dir() { names(folder) } else { vec![] }
}

fn hub(server: &ModelHub, cache: &Cache, patience: Duration, has_token: bool) -> Hub {
    let token = has_token.then(|| TOKEN.to_owned());
    Hub {
        endpoint: server.endpoint(),
        cache: cache.home.path().join("hub"),
        notes: None,
        token,
        is_offline: false,
        patience,
    }
}

/// Fetches the model, and fails where that hangs.
fn fetch(hub: &Hub, revision: Option<&'static str>) -> Result<PathBuf, HubError> {
    let (tell, told) = mpsc::channel();
    let hub = hub.clone();
    thread::spawn(move || tell.send(hub.fetch(REPOSITORY, revision)));
    told.recv_timeout(LIMIT).expect("the fetch hangs")
}

fn lists(reply: &mut Reply, change: impl FnOnce(&mut serde_json::Value)) {
    let mut listing = serde_json::from_slice(&reply.body).unwrap();
    change(&mut listing);
    reply.body = listing.to_string().into();
}

/// Replaces a listed field of the file `name`.
fn lists_as(asked: &Asked, reply: &mut Reply, name: &str, field: &str, value: serde_json::Value) {
    if asked.is_listing() {
        lists(reply, |listing| {
            let files = listing["siblings"].as_array_mut().unwrap();
            let file = files.iter_mut().find(|file| file["rfilename"] == name).unwrap();
            file[field] = value;
        });
    }
}

fn redirects(reply: &mut Reply, location: &str) {
    *reply = Reply::new(302, format!("Location: {location}\r\n"), "");
}

/// A log-in page, as of a hotel's network.
fn becomes_a_page(reply: &mut Reply) {
    *reply = Reply::new(200, "Content-Type: text/html; charset=utf-8\r\n", "<html>Log in</html>");
}

fn contents() -> Vec<Mood> {
    vec![
        mood("right", |_, _| {}, Right),
        mood(
            "other bytes of the right length",
            |asked, reply| on_weights(asked, || reply.body[999] ^= 1),
            Failed(&["/model.safetensors: its content has the hash ", "nothing of it is kept"]),
        ),
        mood(
            "other bytes of a small file",
            |asked, reply| {
                if asked.is_content("tokenizer.json") {
                    reply.body[3] ^= 1;
                }
            },
            Failed(&["/tokenizer.json: its content has the hash ", "nothing of it is kept"]),
        ),
        mood(
            "too short",
            |asked, reply| on_weights(asked, || reply.body.truncate(reply.body.len() - 1)),
            Failed(&["/model.safetensors: it has ", " bytes, and the hub lists "]),
        ),
        mood(
            "too short, in chunks",
            |asked, reply| {
                on_weights(asked, || {
                    reply.body.pop();
                    reply.sending = Sending::Chunked;
                });
            },
            Failed(&["/model.safetensors: ", " bytes"]),
        ),
        mood(
            "too long",
            |asked, reply| on_weights(asked, || reply.body.push(0)),
            Failed(&["/model.safetensors: it has ", " bytes, and the hub lists "]),
        ),
        mood(
            "too long, in chunks",
            |asked, reply| {
                on_weights(asked, || {
                    reply.body.extend([0; 5000]);
                    reply.sending = Sending::Chunked;
                });
            },
            Failed(&["/model.safetensors: it sends more than the "]),
        ),
        mood(
            "a pointer of Git LFS in place of the file",
            |asked, reply| {
                let pointer =
                    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 9\n", "0".repeat(64));
                on_weights(asked, || reply.body = pointer.into());
            },
            Failed(&["/model.safetensors: it has 126 bytes, and the hub lists "]),
        ),
        mood(
            "a page in place of the weights",
            |asked, reply| on_weights(asked, || becomes_a_page(reply)),
            Failed(&["/model.safetensors: it has 19 bytes", "it is a web page"]),
        ),
        mood(
            "gzip that was not asked for",
            |asked, reply| on_weights(asked, || reply.headers.push_str("Content-Encoding: gzip\r\n")),
            Failed(&["/model.safetensors: it is encoded as \"gzip\""]),
        ),
        mood("in chunks", |_, reply| reply.sending = Sending::Chunked, Right),
        mood("without a length", |_, reply| reply.sending = Sending::UntilClosed, Right),
        mood("encoded as it is", |_, reply| reply.headers.push_str("Content-Encoding: identity\r\n"), Right),
    ]
}

/// Cuts the first answer with the weights, and lets `then` change those that follow.
fn cut_first(asked: &Asked, reply: &mut Reply, then: impl FnOnce(&mut Reply)) {
    if asked.is_content(WEIGHTS) {
        match asked.earlier {
            0 => reply.cut = Some(1000),
            _ => then(reply),
        }
    }
}

fn connections() -> Vec<Mood> {
    vec![
        mood("closed in the middle", |asked, reply| cut_first(asked, reply, |_| {}), Right),
        mood(
            "closed in the middle of a chunk",
            |asked, reply| {
                if asked.is_content(WEIGHTS) && asked.earlier == 0 {
                    reply.sending = Sending::Chunked;
                    reply.cut = Some(1000);
                }
            },
            Right,
        ),
        mood(
            "closed in the middle each time",
            |asked, reply| on_weights(asked, || reply.cut = Some(100)),
            Failed(&["/model.safetensors: the connection ended after 500 of ", "goes on from there"]),
        ),
        mood(
            "closed before an answer",
            |asked, reply| {
                on_weights(asked, || {
                    reply.sending = Sending::Bare;
                    reply.body.clear();
                });
            },
            Failed(&["/model.safetensors: "]),
        ),
        mood(
            "an answer that is not HTTP",
            |_, reply| {
                reply.sending = Sending::Bare;
                reply.body = b"SSH-2.0-OpenSSH_9.9\r\n\r\n".to_vec();
            },
            Failed(&["/api/models/tiny/llama/revision/main"]),
        ),
        mood(
            "a header without end",
            |asked, reply| on_weights(asked, || reply.headers = format!("X-Long: {}\r\n", "x".repeat(200_000))),
            Failed(&["/model.safetensors: "]),
        ),
        mood(
            "two lengths",
            |asked, reply| on_weights(asked, || reply.headers.push_str("Content-Length: 7\r\n")),
            Failed(&["/model.safetensors: "]),
        ),
        mood(
            "connections refused after the first file",
            |asked, reply| {
                if asked.is_resolved("tokenizer.json") {
                    // Nothing listens at the port for which root alone may ask.
                    redirects(reply, "http://127.0.0.1:1/tokenizer.json");
                }
            },
            Failed(&["failed to reach ", "/tokenizer.json: "]),
        ),
        slow("silent", |_, reply| reply.sending = Sending::Silent, Failed(&["failed to reach ", "/api/models/"])),
        slow(
            "silent where the weights are",
            |asked, reply| on_weights(asked, || reply.sending = Sending::Silent),
            Failed(&["failed to reach ", "/model.safetensors: timeout"]),
        ),
        slow(
            "a stall",
            |asked, reply| {
                on_weights(asked, || {
                    reply.sending = Sending::Stalls;
                    reply.cut = Some(100);
                });
            },
            Failed(&["/model.safetensors: the connection ended after 500 of ", "timeout"]),
        ),
        slow(
            "a trickle",
            |asked, reply| on_weights(asked, || reply.sending = Sending::Trickle(Duration::from_millis(20))),
            Failed(&["/model.safetensors: the connection ended after ", "bytes arrived in "]),
        ),
        slow(
            "a trickle of a header",
            |asked, reply| on_weights(asked, || reply.sending = Sending::HeaderTrickle(Duration::from_millis(20))),
            Failed(&["failed to reach ", "/model.safetensors: timeout"]),
        ),
        slow(
            "a trickle of the listing",
            |_, reply| reply.sending = Sending::Trickle(Duration::from_millis(20)),
            Failed(&["/revision/main?blobs=true: only ", "bytes arrived in "]),
        ),
    ]
}

fn ranges() -> Vec<Mood> {
    const RANGE: &str = "/model.safetensors: it sends another range than the one from byte 1000 on";
    vec![
        mood(
            "ranges are ignored",
            |asked, reply| {
                cut_first(asked, reply, |reply| *reply = Reply::new(200, "", repository()[WEIGHTS].as_slice()));
            },
            Right,
        ),
        mood(
            "the wrong range",
            |asked, reply| {
                cut_first(asked, reply, |reply| reply.headers = "Content-Range: bytes 999-2000/2001\r\n".into());
            },
            Failed(&[RANGE]),
        ),
        mood(
            "a range that is not said",
            |asked, reply| cut_first(asked, reply, |reply| reply.headers.clear()),
            Failed(&[RANGE]),
        ),
        mood(
            "a range that nobody asked for",
            |asked, reply| on_weights(asked, || *reply = Reply::new(206, "Content-Range: bytes 9-10/11\r\n", "xx")),
            Failed(&["/model.safetensors: it sends another range than the one from byte 0 on"]),
        ),
        mood(
            "a range of another file",
            |asked, reply| {
                cut_first(asked, reply, |reply| reply.headers = "Content-Range: bytes 1000-1999/2000\r\n".into());
            },
            Failed(&["/model.safetensors: it has 2000 bytes, and the hub lists "]),
        ),
        mood(
            "a range whose file has no length",
            |asked, reply| {
                cut_first(asked, reply, |reply| reply.headers = "Content-Range: bytes 1000-1999/*\r\n".into());
            },
            Right,
        ),
        mood(
            "416 once",
            |asked, reply| {
                cut_first(asked, reply, |reply| {
                    if asked.earlier == 1 {
                        *reply = Reply::new(416, "", "");
                    }
                });
            },
            Right,
        ),
        mood(
            "416 for each range",
            |asked, reply| {
                on_weights(asked, || match asked.request.range {
                    Some(_) => *reply = Reply::new(416, "", ""),
                    None => reply.cut = Some(1000),
                });
            },
            Failed(&["/model.safetensors: the connection ended after "]),
        ),
        mood(
            "another ETag for each part",
            |asked, reply| {
                write!(reply.headers, "ETag: \"{}\"\r\n", asked.earlier).unwrap();
                cut_first(asked, reply, |_| {});
            },
            Right,
        ),
        mood(
            "another file and ETag after the first part",
            |asked, reply| {
                write!(reply.headers, "ETag: \"{}\"\r\n", asked.earlier).unwrap();
                if asked.is_content(WEIGHTS) && asked.earlier == 0 {
                    reply.body[..1000].fill(7);
                }
                cut_first(asked, reply, |_| {});
            },
            Right,
        ),
        mood(
            "another file for each part",
            |asked, reply| {
                on_weights(asked, || {
                    reply.body.fill(asked.earlier as u8);
                    reply.cut = Some(9000);
                });
            },
            Failed(&["/model.safetensors: "]),
        ),
    ]
}

fn refusals() -> Vec<Mood> {
    vec![
        mood(
            "429 with a short wait",
            |asked, reply| {
                if asked.earlier < 2 && (asked.is_listing() || asked.is_content(WEIGHTS)) {
                    *reply = Reply::new(429, "Retry-After: 0\r\n", "");
                }
            },
            Right,
        ),
        mood(
            "429 with a long wait",
            |_, reply| *reply = Reply::new(429, "Retry-After: 3600\r\n", ""),
            Failed(&["/revision/main?blobs=true: the server answered with status 429 and asks to wait for 3600 s"]),
        ),
        mood(
            "503, then right",
            |asked, reply| {
                if asked.earlier == 0 {
                    *reply = Reply::new(503, "", "");
                }
            },
            Right,
        ),
        mood(
            "503 for the weights",
            |asked, reply| on_weights(asked, || *reply = Reply::new(503, "", "")),
            Failed(&["/model.safetensors: the server answered with status 503"]),
        ),
        mood(
            "204",
            |_, reply| *reply = Reply::new(204, "", ""),
            Failed(&["?blobs=true: the server answered with status 204"]),
        ),
        mood(
            "410 for the weights",
            |asked, reply| on_weights(asked, || *reply = Reply::new(410, "", "")),
            Failed(&["/model.safetensors: the server answered with status 410"]),
        ),
        Mood {
            has_token: false,
            ..mood(
                "401 without a token",
                |asked, reply| {
                    if asked.request.authorization.is_none() {
                        *reply = Reply::new(401, "", "");
                    }
                },
                Refused(&["failed to find tiny/llama (revision main)", "HF_TOKEN"]),
            )
        },
        mood(
            "401 at the hub without its token",
            |asked, reply| {
                let is_hub = asked.request.host.starts_with("127.0.0.1");
                if is_hub && asked.request.authorization.as_deref() != Some("Bearer hf_AbCdEfGhIjKlMnOpQrStUvWxYz") {
                    *reply = Reply::new(401, "", "");
                }
            },
            Right,
        ),
        mood(
            "403",
            |_, reply| *reply = Reply::new(403, "", ""),
            Refused(&["failed to read tiny/llama (revision main)", "access is restricted", "HF_TOKEN"]),
        ),
        mood(
            "403 for the weights",
            |asked, reply| {
                if asked.is_resolved(WEIGHTS) {
                    *reply = Reply::new(403, "X-Error-Code: GatedRepo\r\n", "");
                }
            },
            Refused(&["failed to read tiny/llama (revision main)", "access is restricted", "HF_TOKEN"]),
        ),
        mood(
            "404",
            |_, reply| *reply = Reply::new(404, "X-Error-Code: RepoNotFound\r\n", ""),
            Refused(&["failed to find tiny/llama (revision main)", "there is no such repository"]),
        ),
        mood(
            "404 for the weights",
            |asked, reply| on_weights(asked, || *reply = Reply::new(404, "", "")),
            Refused(&["failed to find model.safetensors in tiny/llama (revision main)"]),
        ),
        mood(
            "a refusal that repeats the token",
            |asked, reply| {
                let token = asked.request.authorization.clone().unwrap_or_default();
                redirects(reply, &format!("gopher://{token}/"));
            },
            Failed(&["?blobs=true: it redirects"]),
        ),
    ]
}

fn redirections() -> Vec<Mood> {
    vec![
        mood(
            "redirects to another port",
            |asked, reply| {
                if asked.is_resolved(WEIGHTS) {
                    redirects(reply, &format!("http://127.0.0.1:{}/content/{WEIGHTS}", asked.elsewhere));
                }
            },
            Right,
        ),
        mood(
            "redirects to another host and back",
            |asked, reply| {
                if asked.is_content(WEIGHTS) && !asked.request.host.starts_with("127.0.0.1") {
                    let port = asked.request.host.split(':').nth(1).unwrap();
                    redirects(reply, &format!("http://127.0.0.1:{port}/content/{WEIGHTS}"));
                }
            },
            Right,
        ),
        mood(
            "redirects to a name that looks like the hub",
            |asked, reply| {
                if asked.is_resolved(WEIGHTS) {
                    let hub = &asked.request.host;
                    redirects(reply, &format!("http://{hub}@localhost:{}/content/{WEIGHTS}", asked.elsewhere));
                }
            },
            Failed(&["/model.safetensors: it redirects to a URL with a user name"]),
        ),
        mood(
            "redirects to a place without a scheme",
            |asked, reply| {
                if asked.is_resolved(WEIGHTS) {
                    redirects(reply, &format!("//127.0.0.1:{}/content/{WEIGHTS}", asked.elsewhere));
                }
            },
            Right,
        ),
        mood(
            "redirects upward",
            |asked, reply| {
                if asked.is_resolved(WEIGHTS) {
                    redirects(reply, &format!("../../../../content/{WEIGHTS}#weights"));
                }
            },
            Right,
        ),
        mood(
            "redirects in a circle",
            |asked, reply| on_weights(asked, || redirects(reply, &format!("/content/{WEIGHTS}"))),
            Failed(&["/model.safetensors: it redirects more than 10 times"]),
        ),
        mood(
            "redirects to nowhere",
            |asked, reply| on_weights(asked, || *reply = Reply::new(302, "", "")),
            Failed(&["/model.safetensors: it redirects to nowhere"]),
        ),
        mood(
            "redirects to a file of this machine",
            |asked, reply| on_weights(asked, || redirects(reply, "file:///etc/passwd")),
            Failed(&["/model.safetensors: it redirects to "]),
        ),
        mood(
            "redirects the listing",
            |asked, reply| {
                if asked.is_listing() && asked.earlier == 0 {
                    redirects(reply, &asked.request.path);
                }
            },
            Right,
        ),
    ]
}

fn listings() -> Vec<Mood> {
    const LISTING: &str = "failed to understand the answer of http://127.0.0.1:";
    vec![
        mood(
            "a listing that is cut",
            |asked, reply| {
                if asked.is_listing() {
                    reply.body.truncate(200);
                }
            },
            Failed(&[LISTING, "EOF while parsing"]),
        ),
        mood(
            "a listing whose connection is cut",
            |asked, reply| {
                if asked.is_listing() {
                    reply.cut = Some(200);
                }
            },
            Failed(&[LISTING]),
        ),
        mood(
            "a listing of 65 MiB",
            |asked, reply| {
                if asked.is_listing() {
                    reply.body.resize(65 << 20, b' ');
                }
            },
            Failed(&[LISTING, "it is longer than 67108864 bytes"]),
        ),
        mood(
            "a listing that is nested",
            |asked, reply| {
                if asked.is_listing() {
                    reply.body = "[".repeat(1 << 20).into();
                }
            },
            Failed(&[LISTING]),
        ),
        mood(
            "a listing of bytes",
            |asked, reply| {
                if asked.is_listing() {
                    reply.body = vec![0xff; 300];
                }
            },
            Failed(&[LISTING, "utf-8"]),
        ),
        mood(
            "a listing of nothing",
            |asked, reply| {
                if asked.is_listing() {
                    reply.body = b"null".to_vec();
                }
            },
            Failed(&[LISTING]),
        ),
        mood(
            "a page in place of the listing",
            |_, reply| becomes_a_page(reply),
            Failed(&[LISTING, "it is a web page"]),
        ),
        mood(
            "a listing in gzip",
            |asked, reply| {
                if asked.is_listing() {
                    reply.headers.push_str("Content-Encoding: GZIP\r\n");
                }
            },
            Failed(&[LISTING, "it is encoded as \"gzip\""]),
        ),
        mood(
            "files elsewhere",
            |asked, reply| {
                if asked.is_listing() {
                    lists(reply, |listing| {
                        for name in ["../../../config.json", "/etc/passwd", "a/../../x", "C:\\x", "", "\0"] {
                            let file = json!({"rfilename": name, "size": 1, "blobId": "0".repeat(40)});
                            listing["siblings"].as_array_mut().unwrap().insert(0, file);
                        }
                    });
                }
            },
            Right,
        ),
        mood(
            "a commit elsewhere",
            |asked, reply| {
                if asked.is_listing() {
                    lists(reply, |listing| listing["sha"] = json!("../../../../../../etc/aaaaaaaaaaaaaaaaaaa"));
                }
            },
            Failed(&[LISTING, "is no commit"]),
        ),
        Mood {
            revision: Some(COMMIT),
            ..mood(
                "another commit than was asked for",
                |asked, reply| {
                    if asked.is_listing() {
                        lists(reply, |listing| listing["sha"] = json!("f".repeat(40)));
                    }
                },
                Failed(&[LISTING, "it lists the files of the commit ffff"]),
            )
        },
        Mood { revision: Some(COMMIT), ..mood("the commit that was asked for", |_, _| {}, Right) },
        mood(
            "a hash of git that is wrong",
            |asked, reply| {
                lists_as(asked, reply, "config.json", "blobId", json!("0".repeat(40)));
            },
            Failed(&["/config.json: its content has the hash ", "and the hub lists 0000"]),
        ),
        mood(
            "a hash elsewhere",
            |asked, reply| {
                lists_as(asked, reply, "config.json", "blobId", json!("../../../../../../../../../../../../etc/p"));
            },
            Failed(&[LISTING, "it gives no length and hash of config.json"]),
        ),
        mood(
            "a length below zero",
            |asked, reply| {
                lists_as(asked, reply, "config.json", "size", json!(-1));
            },
            Failed(&[LISTING, "invalid value: integer `-1`"]),
        ),
        mood(
            "a length beyond every disk",
            |asked, reply| {
                let large = json!({"sha256": "0".repeat(64), "size": u64::MAX});
                lists_as(asked, reply, WEIGHTS, "lfs", large);
            },
            Failed(&["/model.safetensors: it has ", "and the hub lists 18446744073709551615"]),
        ),
        mood(
            "weights without the hash of LFS",
            |asked, reply| {
                lists_as(asked, reply, WEIGHTS, "lfs", json!(null));
            },
            Right,
        ),
        mood(
            "no weights",
            |asked, reply| {
                if asked.is_listing() {
                    lists(reply, |listing| {
                        listing["siblings"].as_array_mut().unwrap().retain(|file| file["rfilename"] != WEIGHTS);
                    });
                }
            },
            Refused(&["failed to find model.safetensors in tiny/llama (revision main); its weights are pickles"]),
        ),
    ]
}

fn caches() -> Vec<Mood> {
    vec![
        damaged("a part of other bytes", |cache| cache.write_part(&[0; 700])),
        damaged("a part of the whole length", |cache| cache.write_part(&vec![0; repository()[WEIGHTS].len()])),
        damaged("a part that is too long", |cache| cache.write_part(&vec![0; repository()[WEIGHTS].len() + 1])),
        damaged("a part that lacks its name alone", |cache| cache.write_part(&repository()[WEIGHTS])),
        damaged("a right part", |cache| cache.write_part(&repository()[WEIGHTS][..1234])),
        damaged("a content of other bytes", |cache| {
            cache.write(&cache.weights(), &vec![1; repository()[WEIGHTS].len()])
        }),
        damaged("a content that is empty", |cache| cache.write(&cache.weights(), &[])),
        damaged("a whole cache with a content that was changed", |cache| {
            cache.fill();
            let content = repository()[WEIGHTS].iter().map(|byte| byte ^ 1).collect::<Vec<_>>();
            cache.write(&cache.weights(), &content);
        }),
        damaged("a whole cache without a content", |cache| {
            cache.fill();
            fs::remove_file(cache.root().join(cache.weights())).unwrap();
        }),
        damaged("a whole cache with a name of another content", |cache| {
            cache.fill();
            let name = cache.root().join("snapshots").join(COMMIT).join("tokenizer.json");
            fs::remove_file(&name).unwrap();
            std::os::unix::fs::symlink(Path::new("../../").join(cache.weights()), name).unwrap();
        }),
        damaged("a whole cache with a file in place of a name", |cache| {
            cache.fill();
            let name = cache.root().join("snapshots").join(COMMIT).join("tokenizer.json");
            fs::remove_file(&name).unwrap();
            fs::write(&name, "content of another").unwrap();
        }),
        damaged("notes that are damaged", |cache| {
            cache.fill();
            let hash = sha256(&repository()[WEIGHTS]);
            cache.write(&format!("fedreplay-checked/{hash}"), b"\xff\0 of nothing");
        }),
        damaged("a branch at a commit that is not there", |cache| cache.write("refs/main", "f".repeat(40).as_bytes())),
        damaged("a branch that is no commit", |cache| cache.write("refs/main", b"../../..\xff")),
    ]
}

#[track_caller]
fn check(mood: &Mood) {
    let server = ModelHub::start(repository());
    let other = ModelHub::start(repository());
    server.set_elsewhere(other.port());
    let cache = Cache::new();
    (mood.before)(&cache);
    server.set(Fault::Makes(mood.make));
    let asker = hub(&server, &cache, mood.patience, mood.has_token);
    let ended = fetch(&asker, mood.revision);
    let name = mood.name;
    match (&ended, &mood.end) {
        (Ok(folder), Right) => cache.is_complete(folder, name),
        (Err(error), Failed(parts) | Refused(parts)) => {
            let text = error.to_string();
            for part in *parts {
                assert!(text.contains(part), "{name}: no `{part}` in {text}");
            }
            assert!(!text.contains('\n') && text.len() < 1000, "{name}: {text}");
            assert!(!format!("{text}{error:?}").contains("AbCdEfGh"), "{name}: the token is in {text} or {error:?}");
            assert_eq!(error.is_of_the_asker(), matches!(mood.end, Refused(_)), "{name}: {text}");
            cache.is_sound(name);
            assert!(!cache.root().join("refs/main").exists(), "{name}: a branch without all of its files");
        }
        _ => panic!("{name}: {ended:?} in place of {:?}", mood.end),
    }
    // The token was seen at the hub's own host and port, and nowhere else.
    let own = format!("127.0.0.1:{}", server.port());
    let bearer = mood.has_token.then(|| format!("Bearer {TOKEN}"));
    for request in server.take_requests() {
        let expected = if request.host == own { bearer.clone() } else { None };
        assert_eq!(request.authorization, expected, "{name}: {request:?}");
    }
    for request in other.take_requests() {
        assert_eq!(request.authorization, None, "{name}: the token at another port: {request:?}");
    }
    // A right answer repairs everything.
    server.set(Fault::None);
    let about = format!("{name}, then right");
    let asker = hub(&server, &cache, LONG, true);
    let folder = fetch(&asker, None).unwrap_or_else(|error| panic!("{about}: {error}"));
    cache.is_complete(&folder, &about);
    server.take_requests();
    let offline = Hub { is_offline: true, ..asker };
    assert_eq!(fetch(&offline, None).unwrap(), folder, "{about}, then offline");
    assert_eq!(server.take_requests(), [], "{about}, then offline");
}

#[test]
fn contents_are_right_or_refused() {
    contents().iter().for_each(check);
}

#[test]
fn connections_go_on_or_end_in_time() {
    // Together, since some wait.
    let moods = connections();
    thread::scope(|scope| {
        for mood in &moods {
            scope.spawn(|| check(mood));
        }
    });
}

#[test]
fn ranges_are_those_that_were_asked_for() {
    ranges().iter().for_each(check);
}

#[test]
fn refusals_are_repeated_or_explained() {
    refusals().iter().for_each(check);
}

#[test]
fn redirects_are_followed_without_the_token() {
    redirections().iter().for_each(check);
}

#[test]
fn listings_are_right_or_refused() {
    listings().iter().for_each(check);
}

#[test]
fn damaged_caches_are_repaired() {
    caches().iter().for_each(check);
}

/// A cache in which nothing can be made: files stand where folders would be, since permissions do not stop the superuser.
#[test]
fn a_cache_that_cannot_be_written_to_is_named() {
    for folder in ["blobs", "snapshots", "refs"] {
        let server = ModelHub::start(repository());
        let cache = Cache::new();
        cache.write(folder, b"");
        let error = fetch(&hub(&server, &cache, LONG, true), None).unwrap_err();
        assert!(error.to_string().starts_with("failed to access "), "{folder}: {error}");
        assert!(error.to_string().contains("models--tiny--llama"), "{folder}: {error}");
        fs::remove_file(cache.root().join(folder)).unwrap();
        let path = fetch(&hub(&server, &cache, LONG, true), None).unwrap();
        cache.is_complete(&path, folder);
    }
}

/// The port of the hub is closed in the middle of a download.
#[test]
fn a_hub_that_goes_away_leaves_what_was_whole() {
    let cache = Cache::new();
    let server = ModelHub::start(repository());
    server.set(Fault::Makes(|asked, reply| on_weights(asked, || reply.cut = Some(0))));
    let asker = hub(&server, &cache, LONG, true);
    fetch(&asker, None).unwrap_err();
    drop(server);
    let text = fetch(&asker, None).unwrap_err().to_string();
    assert!(text.starts_with("failed to reach ") && !text.contains("a copy is in the cache"), "{text}");
    cache.is_sound("gone");
    let server = ModelHub::start(repository());
    let folder = fetch(&hub(&server, &cache, LONG, true), None).unwrap();
    cache.is_complete(&folder, "another hub");
    assert_eq!(server.take_contents(), [WEIGHTS], "small files were fetched twice");
}
