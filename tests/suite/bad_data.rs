//! Damaged datasets, through the binary: a clear error with its place, or a counted skip, as was asked for.

use std::fs;

use crate::support::World;

const ROW: &str = r#"{"instruction": "i", "response": "r"}"#;

/// What is wrong, the file, what the error says, and how many rows are left out where bad ones are; none if the file is
/// refused all the same.
type Case = (&'static str, Vec<u8>, Vec<&'static str>, Option<u32>);

fn cases() -> Vec<Case> {
    let dialogue = |turns: &str| format!(r#"[{{"conversations": [{turns}]}}, {{"conversations": [{GOOD}]}}]"#);
    const GOOD: &str = r#"{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}"#;
    let invalid = [b"[{\"instruction\": \"\xff\", ".as_slice(), b"\"response\": \"r\"}]"].concat();
    vec![
        (
            "broken JSON",
            format!("{{\"a\": [{ROW},\n  {{\"instruction\": oops}}]}}").into_bytes(),
            vec!["line 2, column", "client \"a\", row 1", "expected value"],
            Some(1),
        ),
        (
            "a file that ends too early",
            format!("{{\"a\": [{ROW}, ").into_bytes(),
            vec!["line 1, column", "client \"a\", row 1", "EOF"],
            None,
        ),
        (
            "a client without rows",
            format!("{{\"a\": [{ROW}],\n\"b\": []}}").into_bytes(),
            vec!["1 client with no usable row (the first is \"b\"; lifted by --skip-bad-rows)"],
            Some(0),
        ),
        (
            "a client of bad rows only",
            format!("{{\"a\": [{ROW}],\n\"b\": [{{}}]}}").into_bytes(),
            vec!["line 2", "client \"b\", row 0", "it has no \"instruction\""],
            Some(1),
        ),
        (
            "rows of mixed kinds",
            format!(r#"[{ROW}, {{"prompt": "p", "chosen": "c", "rejected": "r"}}]"#).into_bytes(),
            vec!["row 1", "a preference row in a file of single-turn rows"],
            Some(1),
        ),
        (
            "a conversation that does not alternate",
            dialogue(r#"{"from": "human", "value": "q"}, {"from": "human", "value": "q"}"#).into_bytes(),
            vec!["row 0", "turn 1 of its conversation does not alternate"],
            Some(1),
        ),
        (
            "an unknown role",
            dialogue(r#"{"from": "narrator", "value": "s"}"#).into_bytes(),
            vec!["row 0", "turn 0", "the role \"narrator\""],
            Some(1),
        ),
        (
            "a client twice",
            format!("{{\"a\": [{ROW}],\n\"a\": [{ROW}]}}").into_bytes(),
            vec!["line 2", "client \"a\" appears twice"],
            None,
        ),
        ("a number out of range", beside(b"1e999"), vec!["client \"a\", row 1", "number out of range"], Some(1)),
        ("an infinite number", beside(b"-Infinity"), vec!["client \"a\", row 1", "invalid number"], Some(1)),
        ("a raw tab in a text", beside(b"\"\t\""), vec!["client \"a\", row 1", "control character"], Some(1)),
        ("half of a surrogate pair", beside(b"\"\\udc00\""), vec!["client \"a\", row 1", "hex escape"], Some(1)),
        ("a byte of no UTF-8", beside(b"\"\xc3\x28\""), vec!["client \"a\", row 1", "invalid unicode"], Some(1)),
        ("invalid UTF-8", invalid, vec!["line 1, column", "row 0", "invalid unicode"], None),
        ("nothing", vec![], vec!["EOF while parsing a value"], None),
        ("no clients", b"{}".to_vec(), vec!["no client with a usable row"], None),
    ]
}

/// A file in which one row of three has this as the value of a column that nothing reads.
fn beside(value: &[u8]) -> Vec<u8> {
    let bad = [b"{\"instruction\": \"i\", \"response\": \"r\", \"x\": ".as_slice(), value, b"}"].concat();
    [format!("{{\"a\": [{ROW}, ").as_bytes(), &bad, format!(", {ROW}]}}").as_bytes()].concat()
}

#[test]
fn every_fault_is_named_or_counted() {
    let world = World::new();
    for (what, bytes, parts, skipped) in cases() {
        fs::write(world.path("bad.json"), bytes).expect("a writable folder");
        world.fedreplay(&["data", "inspect", "bad.json"]).refused(2, &[&["bad.json"], &parts[..]].concat());
        let said = world.fedreplay(&["data", "inspect", "bad.json", "--skip-bad-rows", "--json"]);
        let Some(skipped) = skipped else {
            said.refused(2, &parts);
            continue;
        };
        let said = said.succeeded();
        let last: serde_json::Value = serde_json::from_str(said.stdout.lines().last().expect("a line")).expect("JSON");
        assert_eq!(last["skipped_rows"], skipped, "{what}: {}", said.stdout);
    }
}

#[test]
fn the_commands_for_data_count_all_bad_rows_at_once() {
    let world = World::new();
    let rows = [ROW, "{\"instruction\": \"torn", "{}", "{\"a\": 1}", ROW];
    fs::write(world.path("bad.jsonl"), rows.join("\n")).expect("a writable folder");
    let parts = [
        "1 row of 1 client with torn or not JSON (the first at line 2, client \"local\", row 1: it is not JSON, at line 2, ",
        "2 rows of 1 client with a column missing or not text (the first at line 3, client \"local\", row 2",
        "lifted by --columns, or --skip-bad-rows",
    ];
    for command in ["inspect", "split", "diversity"] {
        let mut arguments = vec!["data", command, "bad.jsonl"];
        if command != "inspect" {
            arguments.extend(["--out", "out"]);
        }
        world.fedreplay(&arguments).refused(2, &parts);
    }
    let said = world.fedreplay(&["data", "inspect", "bad.jsonl", "--skip-bad-rows"]).succeeded();
    for line in
        ["samples     2", "left out    1 with torn or not JSON", "left out    2 with a column missing or not text"]
    {
        assert!(said.stdout.lines().any(|one| one == line), "{line} in {}", said.stdout);
    }
}
