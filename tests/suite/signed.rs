//! Signed statements about runs. The keys and the signature of `lab` were made with OpenSSL 3.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use fedreplay::ledger::{Manifest, RunState};
use serde_json::{Value, json};

use super::support::{World, copy, project};

pub const LAB: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIHV1OwfFV7aJox83hozzjvniT4UmllPQfxPiCMRfxGhv\n-----END PRIVATE KEY-----\n";
pub const LAB_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAxoWOFXgjgFKo/YdGmjjt/tkScM8mo+DhXWI6DW/Xt/4=\n-----END PUBLIC KEY-----\n";
const OTHER_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAMLHsbsiQLQPV/d4kSn7n/BGPyLv8yVxB9TOEIi3CBe8=\n-----END PUBLIC KEY-----\n";
/// By `openssl pkey -pubin -in lab.pub.pem -outform DER | sha256sum`.
const LAB_FINGERPRINT: &str = "a89b5c4913929b395b52eee882b381b55093ebee6b17640d83eda9d5134153fb";
const X25519: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VuBCIEIKDC0YAtQ9EZRZ+gcVGTm64r0ZrriRtjyNgh04d7PeVY\n-----END PRIVATE KEY-----\n";
const X25519_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VuAyEAEesiUt0g9irf98pqH067mEZHqdvhCWvxo4RAIm6VzDc=\n-----END PUBLIC KEY-----\n";

/// A finished run `run` of two rounds and the keys.
fn world() -> World {
    let world = World::new();
    world.run("run", &["--set=rounds=2", "--set=evaluation.local_baseline=false"]).succeeded();
    for (name, key) in [("lab.pem", LAB), ("lab.pub.pem", LAB_PUBLIC), ("other.pub.pem", OTHER_PUBLIC)] {
        world.write(name, key);
    }
    world
}

#[track_caller]
fn differs(world: &World, arguments: &[&str], expected: &str) {
    let said = world.fedreplay(arguments);
    assert_eq!(said.code, Some(3), "{expected}: {}{}", said.stdout, said.stderr);
    assert!(said.stdout.contains(expected), "{expected}: {}", said.stdout);
}

fn envelope(world: &World, name: &str) -> Value {
    serde_json::from_slice(&fs::read(world.path(name)).expect("a statement")).expect("JSON")
}

fn payload(envelope: &Value) -> Value {
    let bytes = BASE64.decode(envelope["payload"].as_str().expect("a text")).expect("base64");
    serde_json::from_slice(&bytes).expect("JSON")
}

#[test]
fn a_signed_statement_ties_a_run_to_a_key() {
    let world = world();
    let certify = ["certify", "run", "--key", "lab.pem", "--json"];
    let said = world.fedreplay(&certify).succeeded();
    assert!(said.stdout.contains(LAB_FINGERPRINT), "{}", said.stdout);
    let signed = envelope(&world, "run.intoto.json");
    let run = Manifest::read(&world.path("run")).expect("a manifest");
    let digest = run.digest.expect("a finished run").to_string();
    let statement = payload(&signed);
    assert_eq!(signed["payloadType"], "application/vnd.in-toto+json");
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["subject"], json!([{ "name": run.name, "digest": { "fedreplayRun": digest } }]));
    let certificate = fs::read(world.path("run/certificate.json")).expect("a certificate");
    assert_eq!(statement["predicate"], serde_json::from_slice::<Value>(&certificate).expect("JSON"));

    let verify = ["verify", "run", "--signed-by", "lab.pub.pem"];
    let said = world.fedreplay(&verify).succeeded();
    assert!(said.stdout.contains(&format!("signed with the key {LAB_FINGERPRINT}")), "{}", said.stdout);
    differs(&world, &["verify", "run", "--signed-by", "other.pub.pem"], "it is not signed with this key");

    // Ed25519 signs without chance: the same run gives the same statement.
    let before = fs::read(world.path("run.intoto.json")).expect("a statement");
    world.fedreplay(&["certify", "run/.", "--key", "lab.pem", "--out", "again.json"]).succeeded();
    assert_eq!(fs::read(world.path("again.json")).expect("a statement"), before);
    // A run is listed whole: nothing is written into it.
    world
        .fedreplay(&["certify", "run", "--key", "lab.pem", "--out", "run/signed.json"])
        .refused(2, &["run/signed.json"]);
}

#[test]
fn a_statement_about_another_run_or_with_another_text_does_not_count() {
    let world = world();
    world.fedreplay(&["certify", "run", "--key", "lab.pem"]).succeeded();
    let other = ["--set=rounds=2", "--set=evaluation.local_baseline=false", "--seed=2"];
    world.run("other", &other).succeeded();
    let verify = ["verify", "other", "--signed-by", "lab.pub.pem", "--statement", "run.intoto.json"];
    differs(&world, &verify, "certificate: the scenario is another");

    // Said to be unfinished, a run could have other adapters and fewer rounds.
    copy(&world.path("run"), &world.path("begun"));
    let mut manifest = Manifest::read(&world.path("begun")).expect("a manifest");
    manifest.state = RunState::Running;
    manifest.digest = None;
    manifest.files.clear();
    manifest.write(&world.path("begun")).expect("a writable folder");
    let verify = ["verify", "begun", "--signed-by", "lab.pub.pem", "--statement", "run.intoto.json"];
    differs(&world, &verify, "the run is not finished");

    // One digit of one hash, in the payload alone.
    let whole = envelope(&world, "run.intoto.json");
    let text = payload(&whole).to_string();
    let digest = payload(&whole)["predicate"]["digest"].as_str().expect("a digest").to_owned();
    let changed = if digest.starts_with('0') { "1" } else { "0" };
    let mut forged = whole.clone();
    forged["payload"] = json!(BASE64.encode(text.replace(&digest, &format!("{changed}{}", &digest[1..]))));
    world.write("forged.json", &forged.to_string());
    let verify = ["verify", "run", "--signed-by", "lab.pub.pem", "--statement", "forged.json"];
    differs(&world, &verify, "forged.json: it is not signed with this key");

    // A second signature, or one that is none, takes nothing from the first.
    let mut many = whole.clone();
    let own = whole["signatures"][0].clone();
    many["signatures"] = json!([{ "sig": "!" }, { "sig": "AAAA", "keyid": "x" }, own]);
    world.write("many.json", &many.to_string());
    world.fedreplay(&["verify", "run", "--signed-by", "lab.pub.pem", "--statement", "many.json"]).succeeded();
    many["signatures"] = json!([]);
    world.write("none.json", &many.to_string());
    let verify = ["verify", "run", "--signed-by", "lab.pub.pem", "--statement", "none.json"];
    differs(&world, &verify, "it is not signed with this key");
}

#[test]
fn only_a_run_that_verifies_is_signed() {
    let world = world();
    world.run("short", &["--set=rounds=2", "--set=evaluation.local_baseline=false"]).succeeded();
    fs::write(world.path("short/adapters/notes"), "x").expect("a writable folder");
    world.fedreplay(&["certify", "short", "--key", "lab.pem"]).refused(3, &["failed to certify short", "notes"]);
    assert!(!world.path("short.intoto.json").exists());
    // Tables of an older version, of which less is compared.
    copy(&project("fixtures/schema-3/run"), &world.path("older"));
    fs::copy(world.path("run/certificate.json"), world.path("older/certificate.json")).expect("a copy");
    world.fedreplay(&["certify", "older", "--key", "lab.pem"]).refused(2, &["failed to certify older"]);
    world.fedreplay(&["certify", "run", "--key", "lab.pem", "--out", "./lab.pem"]).refused(2, &["the file of the key"]);
    assert_eq!(fs::read_to_string(world.path("lab.pem")).expect("a key"), LAB);
    world.fedreplay(&["plan", "scenario.ron", "--out", "planned"]).succeeded();
    world.fedreplay(&["certify", "planned", "--key", "lab.pem"]).refused(2, &["failed to certify planned"]);
}

#[test]
fn keys_and_statements_of_other_kinds_are_named() {
    let world = world();
    world.fedreplay(&["certify", "run", "--key", "lab.pem"]).succeeded();
    world.write("x.pem", X25519);
    world.write("x.pub.pem", X25519_PUBLIC);
    let certify = |key: &str| world.fedreplay(&["certify", "run", "--key", key, "--out", "out.json"]);
    certify("x.pem").refused(2, &["failed to read the key x.pem", "another kind than Ed25519"]);
    certify("lab.pub.pem").refused(2, &["lab.pub.pem", "no private key"]);
    certify("missing.pem").refused(1, &["missing.pem"]);
    let verify =
        |key: &str, statement: &str| world.fedreplay(&["verify", "run", "--signed-by", key, "--statement", statement]);
    verify("x.pub.pem", "run.intoto.json").refused(2, &["x.pub.pem", "another kind than Ed25519"]);
    verify("lab.pem", "run.intoto.json").refused(2, &["lab.pem", "no public key"]);
    verify("lab.pub.pem", "run/manifest.json").refused(2, &["failed to read the statement run/manifest.json"]);
    let mut image = envelope(&world, "run.intoto.json");
    image["payloadType"] = json!("image/png");
    world.write("image.json", &image.to_string());
    verify("lab.pub.pem", "image.json").refused(2, &["image.json", "image/png"]);
    world.fedreplay(&["verify", "run", "--statement", "run.intoto.json"]).refused(2, &["--signed-by"]);
}
