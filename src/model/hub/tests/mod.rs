//! A hub on loopback and a fresh cache a test: what is asked for, what lies in the cache, and what is said of faults.

mod moods;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use fedreplay_sim::Seed;
use serde_json::json;
use tempfile::TempDir;

use super::Hub;
use crate::model::{Config, Folder, random, tensor_specs};
use crate::test_support::model_hub::{COMMIT, Fault, ModelHub, REPOSITORY, sha256};

const WEIGHTS: &str = "model.safetensors";
const SHARDS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

fn config() -> Config {
    Config::llama(32, 16, 24, 2, 2)
}

/// A repository as they are: the files that are wanted, and others.
fn repository() -> BTreeMap<String, Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    random::write_folder(folder.path(), &config(), Seed(7)).unwrap();
    let mut files: BTreeMap<String, Vec<u8>> = ["config.json", WEIGHTS]
        .into_iter()
        .map(|name| (name.to_owned(), fs::read(folder.path().join(name)).unwrap()))
        .collect();
    for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
        files.insert(name.into(), format!("content of {name}").into());
    }
    for name in ["README.md", "pytorch_model.bin", "consolidated.safetensors", "onnx/model.onnx", "training_args.bin"] {
        files.insert(name.into(), b"never asked for".to_vec());
    }
    files
}

/// The repository with its weights in two files and an index.
fn sharded() -> BTreeMap<String, Vec<u8>> {
    let mut files = repository();
    files.remove(WEIGHTS);
    let mut map = BTreeMap::new();
    let specs = tensor_specs(&config());
    let halves = specs.chunks(specs.len().div_ceil(2));
    for (name, half) in SHARDS.iter().zip(halves) {
        let folder = tempfile::tempdir().unwrap();
        let tensors: Vec<_> = half
            .iter()
            .map(|spec| (spec.name.clone(), spec.shape.clone(), random::initial_values(spec, Seed(7), 0)))
            .collect();
        random::write_values(folder.path(), &config(), &tensors).unwrap();
        files.insert((*name).into(), fs::read(folder.path().join(WEIGHTS)).unwrap());
        map.extend(half.iter().map(|spec| (spec.name.clone(), name.to_string())));
    }
    let index = json!({"metadata": {"total_size": 0}, "weight_map": map});
    files.insert("model.safetensors.index.json".into(), index.to_string().into());
    files
}

/// A hub at this URL with a cache in `home`.
fn hub_at(endpoint: String, home: &TempDir) -> Hub {
    let cache = home.path().join("hub");
    Hub { endpoint, cache, notes: None, token: None, is_offline: false, patience: Duration::from_secs(10) }
}

impl ModelHub {
    /// A hub at this server with a cache in `home`.
    fn hub(&self, home: &TempDir) -> Hub {
        hub_at(self.endpoint(), home)
    }
}

fn started() -> (ModelHub, TempDir) {
    (ModelHub::start(repository()), tempfile::tempdir().unwrap())
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn refused(hub: &Hub) -> String {
    hub.fetch(REPOSITORY, None).unwrap_err().to_string()
}

#[test]
fn a_model_is_fetched_once_and_then_found_without_asking() {
    let (server, home) = started();
    let hub = server.hub(&home);
    let folder = hub.fetch(REPOSITORY, None).unwrap();
    assert_eq!(folder, hub.cache.join("models--tiny--llama/snapshots").join(COMMIT));
    assert_eq!(Folder::open(&folder).unwrap().config(), &config());
    let wanted = ["chat_template.jinja", "config.json", WEIGHTS, "tokenizer.json", "tokenizer_config.json"];
    assert_eq!(names(&folder), wanted);
    for name in wanted {
        assert_eq!(fs::read(folder.join(name)).unwrap(), repository()[name], "{name}");
    }
    let mut asked = server.take_contents();
    assert_eq!(asked.last().unwrap(), WEIGHTS);
    asked.sort();
    assert_eq!(asked, wanted);

    // A branch may have moved, so the hub is asked where it is, and for nothing else.
    assert_eq!(hub.fetch(REPOSITORY, Some("v1")).unwrap(), folder);
    assert_eq!(server.take_requests().len(), 1);
    // A commit cannot move.
    assert_eq!(hub.fetch(REPOSITORY, Some(COMMIT)).unwrap(), folder);
    let offline = Hub { is_offline: true, ..hub };
    assert_eq!(offline.fetch(REPOSITORY, None).unwrap(), folder);
    assert_eq!(offline.fetch(REPOSITORY, Some("v1")).unwrap(), folder);
    assert_eq!(offline.fetch(REPOSITORY, Some(COMMIT)).unwrap(), folder);
    assert_eq!(server.take_requests(), []);
}

#[test]
fn the_cache_is_laid_out_as_other_clients_expect_it() {
    let (server, home) = started();
    let hub = server.hub(&home);
    let folder = hub.fetch(REPOSITORY, Some("refs/pr/1")).unwrap();
    let root = hub.cache.join("models--tiny--llama");
    assert_eq!(fs::read_to_string(root.join("refs/refs/pr/1")).unwrap(), COMMIT);
    let hash = sha256(&repository()[WEIGHTS]);
    assert_eq!(fs::read_link(folder.join(WEIGHTS)).unwrap(), Path::new("../../blobs").join(hash));
    // Five contents under their hashes, and nothing unfinished.
    assert_eq!(names(&root.join("blobs")).len(), 5);
    assert!(names(&root.join("blobs")).iter().all(|name| name.bytes().all(|b| b.is_ascii_hexdigit())));
}

#[test]
fn a_model_in_several_files_is_fetched_by_its_index() {
    let (server, home) = (ModelHub::start(sharded()), tempfile::tempdir().unwrap());
    let hub = server.hub(&home);
    let folder = hub.fetch(REPOSITORY, None).unwrap();
    assert!(Folder::open(&folder).is_ok());
    let asked = server.take_contents();
    assert_eq!(asked[asked.len() - 2..], SHARDS);
    assert!(!asked.iter().any(|name| name.contains("consolidated")));

    fs::remove_file(folder.join(SHARDS[1])).unwrap();
    let offline = Hub { is_offline: true, ..hub.clone() };
    assert!(refused(&offline).contains(SHARDS[1]));
    assert_eq!(hub.fetch(REPOSITORY, Some(COMMIT)).unwrap(), folder);
    assert_eq!(server.take_contents(), [""; 0], "the content was still there, only its name was not");
    assert!(offline.fetch(REPOSITORY, None).is_ok());
}

#[test]
fn an_index_cannot_name_a_pickle_or_a_file_elsewhere() {
    for name in ["pytorch_model.bin", "..", ".safetensors"] {
        let (server, home) = (ModelHub::start(sharded()), tempfile::tempdir().unwrap());
        let index = json!({"weight_map": {"a": name}}).to_string();
        server.edit(|files| drop(files.insert("model.safetensors.index.json".into(), index.into())));
        let text = refused(&server.hub(&home));
        assert!(text.contains(&format!("it names {name:?} as a weight file")), "{text}");
    }
}

#[test]
fn a_broken_connection_is_taken_up_where_it_broke() {
    let (server, home) = started();
    server.set(Fault::Cuts { answers: 2, bytes: 1_000 });
    let folder = server.hub(&home).fetch(REPOSITORY, None).unwrap();
    assert!(Folder::open(&folder).is_ok());
    let requests = server.take_requests().into_iter();
    let ranges: Vec<_> = requests.filter(|r| r.path == "/content/model.safetensors").map(|r| r.range).collect();
    assert_eq!(ranges, [None, Some("bytes=1000-".into()), Some("bytes=2000-".into())]);
}

#[test]
fn a_download_that_keeps_breaking_is_an_error_and_the_next_call_goes_on() {
    let (server, home) = started();
    let hub = server.hub(&home);
    server.set(Fault::Cuts { answers: 5, bytes: 300 });
    let length = repository()[WEIGHTS].len();
    let text = refused(&hub);
    let expected = format!(
        "failed to download {}/tiny/llama/resolve/{COMMIT}/model.safetensors: the connection ended after 1500 of \
         {length} bytes",
        hub.endpoint
    );
    assert!(text.starts_with(&expected), "{text}");
    let offline = Hub { is_offline: true, ..hub.clone() };
    assert!(refused(&offline).contains("models--tiny--llama is not there"), "{}", refused(&offline));

    server.take_requests();
    let folder = hub.fetch(REPOSITORY, None).unwrap();
    assert!(Folder::open(&folder).is_ok());
    let requests = server.take_requests();
    assert_eq!(requests.last().unwrap().range.as_deref(), Some("bytes=1500-"));
    assert_eq!(requests.len(), 3, "the listing, the redirect and the rest of the weights: {requests:?}");
}

#[test]
fn a_server_without_ranges_sends_the_file_again() {
    let (server, home) = started();
    let hub = server.hub(&home);
    server.set(Fault::Cuts { answers: 5, bytes: 300 });
    assert!(hub.fetch(REPOSITORY, None).is_err());
    server.set(Fault::IgnoresRanges);
    let folder = hub.fetch(REPOSITORY, None).unwrap();
    assert_eq!(fs::read(folder.join(WEIGHTS)).unwrap(), repository()[WEIGHTS]);
}

#[test]
fn a_file_of_another_length_than_listed_is_refused() {
    let (server, home) = started();
    let hub = server.hub(&home);
    server.set(Fault::Overlong);
    let text = refused(&hub);
    let length = repository()[WEIGHTS].len();
    assert!(text.ends_with(&format!("it has {} bytes, and the hub lists {length}", length + 1)), "{text}");
    // A content that another program left incomplete is fetched anew.
    server.set(Fault::None);
    let folder = hub.fetch(REPOSITORY, None).unwrap();
    let blob = fs::canonicalize(folder.join(WEIGHTS)).unwrap();
    fs::write(&blob, "short").unwrap();
    hub.fetch(REPOSITORY, None).unwrap();
    assert_eq!(fs::read(folder.join(WEIGHTS)).unwrap(), repository()[WEIGHTS]);
}

#[test]
fn bytes_of_the_right_length_and_another_hash_are_not_kept() {
    let (server, home) = started();
    let hub = server.hub(&home);
    server.set(Fault::WrongBytes { answers: 1 });
    let text = refused(&hub);
    let hash = sha256(&repository()[WEIGHTS]);
    assert!(text.contains("/model.safetensors: its content has the hash "), "{text}");
    assert!(text.contains(&format!("and the hub lists {hash}; nothing of it is kept")), "{text}");
    let blob = hub.cache.join("models--tiny--llama/blobs").join(&hash);
    assert!(!blob.exists());
    assert_eq!(fs::metadata(blob.with_extension("fedreplay-part")).unwrap().len(), 0);
    // An honest answer on the same cache.
    let folder = hub.fetch(REPOSITORY, None).unwrap();
    assert_eq!(fs::read(folder.join(WEIGHTS)).unwrap(), repository()[WEIGHTS]);
    // A small file, which has git's hash.
    let files = repository();
    let length = files["tokenizer.json"].len();
    let fresh = tempfile::tempdir().unwrap();
    let listing = json!({"sha": COMMIT, "siblings": [
        {"rfilename": "config.json", "size": files["config.json"].len(), "blobId": git_id(&folder, "config.json")},
        {"rfilename": "tokenizer.json", "size": length, "blobId": git_id(&folder, "tokenizer.json")},
    ]});
    server.edit(|files| {
        files.insert("tokenizer.json".into(), vec![b'x'; length]);
    });
    server.set(Fault::Lists(listing.to_string()));
    let text = refused(&server.hub(&fresh));
    assert!(text.contains("/tokenizer.json: its content has the hash "), "{text}");
}

/// The name of a file's content in the cache.
fn git_id(folder: &Path, name: &str) -> String {
    let content = fs::canonicalize(folder.join(name)).unwrap();
    content.file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_part_that_was_damaged_is_not_continued_to_a_model() {
    let (server, home) = started();
    let hub = server.hub(&home);
    server.set(Fault::Cuts { answers: 5, bytes: 300 });
    assert!(refused(&hub).contains("the connection ended"));
    // As a power cut leaves it: the length is right, and bytes are zeros.
    let blobs = hub.cache.join("models--tiny--llama/blobs");
    let part = blobs.join(format!("{}.fedreplay-part", sha256(&repository()[WEIGHTS])));
    let mut bytes = fs::read(&part).unwrap();
    assert_eq!(bytes.len(), 1_500);
    bytes[700..].fill(0);
    fs::write(&part, bytes).unwrap();
    server.set(Fault::None);
    server.take_requests();
    let folder = hub.fetch(REPOSITORY, None).unwrap();
    assert_eq!(fs::read(folder.join(WEIGHTS)).unwrap(), repository()[WEIGHTS]);
    let requests = server.take_requests().into_iter().filter(|request| request.path.starts_with("/content/"));
    assert_eq!(requests.map(|request| request.range).collect::<Vec<_>>(), [Some("bytes=1500-".into()), None]);
}

#[test]
fn a_damaged_cache_is_repaired_and_offline_it_is_refused() {
    let (server, home) = started();
    let hub = server.hub(&home);
    let folder = hub.fetch(REPOSITORY, None).unwrap();
    for name in ["config.json", "tokenizer.json", WEIGHTS] {
        let content = fs::canonicalize(folder.join(name)).unwrap();
        let mut bytes = fs::read(&content).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&content, bytes).unwrap();
        let offline = Hub { is_offline: true, ..hub.clone() };
        let text = refused(&offline);
        assert!(text.contains(name) && text.contains("its content is not what its name in the cache says"), "{text}");
        // Under a commit no request is needed otherwise.
        hub.fetch(REPOSITORY, Some(COMMIT)).unwrap();
        assert_eq!(fs::read(&content).unwrap(), repository()[name], "{name}");
        offline.fetch(REPOSITORY, None).unwrap();
    }
}

#[test]
fn what_is_not_there_is_named() {
    let (server, home) = started();
    let hub = server.hub(&home);
    let endpoint = hub.endpoint.clone();
    let error = |repository: &str, revision| hub.fetch(repository, revision).unwrap_err().to_string();
    assert_eq!(
        error("tiny/lama", None),
        format!(
            "failed to find tiny/lama (revision main) at {endpoint}: there is no such repository, or it is private \
             and HF_TOKEN gives no access to it"
        )
    );
    assert_eq!(
        error(REPOSITORY, Some("v2")),
        format!("failed to find tiny/llama (revision v2) at {endpoint}: the repository is there, its revision is not")
    );
    server.set(Fault::Lost("tokenizer.json"));
    assert_eq!(error(REPOSITORY, None), "failed to find tokenizer.json in tiny/llama (revision main)");
    server.set(Fault::None);
    server.edit(|files| drop(files.remove(WEIGHTS)));
    assert_eq!(
        error(REPOSITORY, None),
        "failed to find model.safetensors in tiny/llama (revision main); its weights are pickles, which can run code \
         and are never read"
    );
    server.edit(|files| drop(files.remove("config.json")));
    assert_eq!(error(REPOSITORY, None), "failed to find config.json in tiny/llama (revision main)");
    assert!(!server.take_contents().iter().any(|name| name.ends_with(".bin")));
}

#[test]
fn refusals_say_what_can_be_done() {
    let (server, home) = started();
    let hub = server.hub(&home);
    let said = |status, code| {
        server.set(Fault::Refuses(status, code));
        refused(&hub)
    };
    assert!(said(401, Some("GatedRepo")).contains("access is restricted; accept its terms"));
    assert!(said(403, None).contains("access is restricted"));
    assert!(said(401, None).contains("there is no such repository, or it is private"));
    assert!(said(503, None).ends_with("the server answered with status 503"));
    // Redirects without an aim are an answer that makes no sense.
    assert!(said(302, None).starts_with("failed to understand the answer of http://127.0.0.1"));
}

#[test]
fn a_listing_that_makes_no_sense_is_an_error() {
    let (server, home) = started();
    let hub = server.hub(&home);
    let said = |text: String| {
        server.set(Fault::Lists(text));
        refused(&hub)
    };
    assert!(said("<html>".into()).contains("?blobs=true: expected value at line 1"));
    assert!(said(json!({"sha": "../..", "siblings": []}).to_string()).ends_with("its sha \"../..\" is no commit"));
    let listed = |file: serde_json::Value| said(json!({"sha": COMMIT, "siblings": [file]}).to_string());
    let config = "config.json";
    assert!(listed(json!({"rfilename": config})).ends_with("it gives no length and hash of config.json"));
    let outside = json!({"rfilename": config, "size": 3, "blobId": "../../x"});
    assert!(listed(outside).ends_with("it gives no length and hash of config.json"));
}

#[test]
fn an_unreachable_hub_is_an_error_that_mentions_a_cached_copy() {
    let (server, home) = started();
    let mut hub = server.hub(&home);
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let reachable = std::mem::replace(&mut hub.endpoint, format!("http://127.0.0.1:{port}"));
    let text = refused(&hub);
    assert!(text.starts_with(&format!("failed to reach http://127.0.0.1:{port}/api/models/tiny/llama")), "{text}");
    assert!(!text.contains("HF_HUB_OFFLINE"), "{text}");
    hub.fetch(REPOSITORY, Some(COMMIT)).unwrap_err();

    let unreachable = std::mem::replace(&mut hub.endpoint, reachable);
    let folder = hub.fetch(REPOSITORY, None).unwrap();
    hub.endpoint = unreachable;
    assert!(refused(&hub).ends_with("; a copy is in the cache, HF_HUB_OFFLINE=1 uses it"));
    assert_eq!(hub.fetch(REPOSITORY, Some(COMMIT)).unwrap(), folder);
}

#[test]
fn a_hub_that_does_not_speak_tls_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (_, home) = started();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    let hub = hub_at(endpoint, &home);
    let text = std::thread::scope(|scope| {
        scope.spawn(|| listener.accept().unwrap().0.write_all(b"HTTP/1.1 400 x\r\n\r\n").unwrap());
        refused(&hub)
    });
    assert!(text.starts_with("failed to reach https://127.0.0.1"), "{text}");
}

#[test]
fn offline_without_a_copy_is_an_error_that_names_the_cache() {
    let (server, home) = started();
    let hub = Hub { is_offline: true, ..server.hub(&home) };
    let missing = hub.cache.join("models--tiny--llama");
    assert_eq!(
        refused(&hub),
        format!(
            "failed to find tiny/llama (revision main) offline: HF_HUB_OFFLINE is set and {} is not there; fetch it \
             once online, or set HF_HOME to a cache that holds it",
            missing.display()
        )
    );
    let error = hub.fetch(REPOSITORY, Some(COMMIT)).unwrap_err().to_string();
    let config = missing.join("snapshots").join(COMMIT).join("config.json");
    assert!(error.contains(&format!("{} is not there", config.display())), "{error}");
    assert_eq!(server.take_requests(), []);
}

#[test]
fn the_token_goes_to_the_hub_and_not_to_other_hosts() {
    let (server, home) = started();
    let hub = Hub { token: Some("hf_abc".into()), ..server.hub(&home) };
    hub.fetch(REPOSITORY, None).unwrap();
    let requests = server.take_requests();
    let has_token = |host: &str| -> Vec<bool> {
        let of_host = requests.iter().filter(|request| request.host.starts_with(host));
        of_host.map(|request| request.authorization.as_deref() == Some("Bearer hf_abc")).collect()
    };
    assert!(has_token("127.0.0.1").into_iter().all(|is_sent| is_sent));
    assert_eq!(has_token("localhost"), [false]);
}

#[test]
fn the_token_goes_to_no_other_port_of_the_hubs_host() {
    let (server, home) = started();
    let (other, _) = started();
    let port = other.endpoint().rsplit(':').next().unwrap().parse().unwrap();
    server.set(Fault::AtPort(port));
    let hub = Hub { token: Some("hf_abc".into()), ..server.hub(&home) };
    hub.fetch(REPOSITORY, None).unwrap();
    let requests = other.take_requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].authorization, None);
}

#[test]
fn a_hub_that_repeats_the_token_does_not_spread_it() {
    let (server, home) = started();
    let token = "hf_AbCdEfGhIjKlMnOpQrStUvWxYz";
    let hub = Hub { token: Some(token.into()), ..server.hub(&home) };
    for text in [
        json!({"sha": token, "siblings": []}),
        json!({"sha": COMMIT, "siblings": token}),
        json!({"sha": COMMIT, "siblings": [{"rfilename": "config.json", "size": token}]}),
        json!({"sha": COMMIT, "siblings": [{"rfilename": "config.json", "size": 3, "blobId": token}]}),
    ] {
        server.set(Fault::Lists(text.to_string()));
        let said = format!("{:?}", hub.fetch(REPOSITORY, None).unwrap_err());
        assert!(!said.contains("EfGhIjKl"), "{said}");
    }
}

#[test]
fn fetches_at_the_same_time_share_one_download() {
    let (server, home) = started();
    let hub = server.hub(&home);
    let folders: Vec<_> = std::thread::scope(|scope| {
        let fetches: Vec<_> = (0..4).map(|_| scope.spawn(|| hub.fetch(REPOSITORY, None).unwrap())).collect();
        fetches.into_iter().map(|fetch| fetch.join().unwrap()).collect()
    });
    assert!(folders.iter().all(|folder| Folder::open(folder).is_ok()));
    let weights = server.take_contents().into_iter().filter(|name| name == WEIGHTS).count();
    assert_eq!(weights, 1);
}
