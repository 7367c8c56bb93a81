//! Datasets with damage from known seeds, and any JSON: they are read or refused.

use std::path::Path;

use fedreplay::data::{BadRows, Federation};
use fedreplay_sim::{Purpose, Seed, Stream};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::test_support::dataset_readers::read_in_every_way;

/// Files of every form, as seeds of damage.
fn seeds() -> Vec<String> {
    let message = |from: &str| json!({"from": from, "value": "é \u{1F600}"});
    let dialogue = json!({"conversations": [message("human"), message("gpt"), message("human")], "language": "fr"});
    let single = json!({"instruction": "i", "response": "r", "n": [1, null, {"x": 1e300}]});
    let pair =
        json!({"prompt": "p", "chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"});
    let alpaca = json!({"instruction": "i", "input": "", "output": "o", "question": "q", "answer": "a"});
    let mut seeds: Vec<String> = [&dialogue, &single, &pair, &alpaca]
        .into_iter()
        .flat_map(|row| [json!({"a": [row], "b": [row, row]}).to_string(), json!([row, row]).to_string()])
        .collect();
    seeds.push(format!("\u{feff}{single}\r\n{single}\n\n"));
    seeds.push(json!({"a": [dialogue, single, pair], "a\u{0}": []}).to_string());
    seeds
}

/// A thousand damaged files of each form: bytes flipped, cut out, doubled and spliced, the same in every run.
#[test]
fn damaged_files_are_read_or_refused() {
    let seeds = seeds();
    for (form, seed) in seeds.iter().enumerate() {
        let mut stream = Stream::new(Seed(1), Purpose::SyntheticData, form as u64);
        for _ in 0..1_000 {
            let mut bytes = seed.clone().into_bytes();
            for _ in 0..=stream.below(4) {
                damage(&mut bytes, &seeds, &mut stream);
            }
            read_in_every_way(&bytes);
        }
    }
}

fn damage(bytes: &mut Vec<u8>, seeds: &[String], stream: &mut Stream) {
    let length = bytes.len() as u64;
    let (a, b) = (stream.below(length + 1) as usize, stream.below(length + 1) as usize);
    let (from, to) = (a.min(b), a.max(b));
    match stream.below(5) {
        0 => drop(bytes.drain(from..to)),
        1 => bytes.truncate(from),
        2 => drop(bytes.splice(from..from, bytes[from..to].to_vec())),
        3 => {
            let other = seeds[stream.below(seeds.len() as u64) as usize].as_bytes();
            let part = stream.below(other.len() as u64) as usize;
            drop(bytes.splice(from..to, other[part..].to_vec()));
        }
        _ => bytes.iter_mut().skip(from).take(3).for_each(|byte| *byte = stream.below(256) as u8),
    }
    bytes.truncate(4_096);
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let key = prop_oneof![
            Just("instruction"),
            Just("response"),
            Just("conversations"),
            Just("from"),
            Just("value"),
            Just("prompt"),
            Just("chosen"),
            Just("rejected"),
            Just("input"),
            Just("output"),
            Just("content"),
            Just("x")
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..4).prop_map(|fields| {
                Value::Object(fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_is_read_or_refused(value in anything(), wraps in 0..3u8) {
        let value = match wraps {
            0 => value,
            1 => json!([value]),
            _ => json!({"a": [value]}),
        };
        read_in_every_way(value.to_string().as_bytes());
    }

    /// What is wrong with a row says so and takes nothing else with it.
    #[test]
    fn a_bad_row_is_refused_or_skipped_alone(place in 0..6usize, fault in 0..7usize) {
        let good = json!({"instruction": "i", "response": "r"});
        let bad = [
            json!({"instruction": "i"}), json!({"instruction": [1], "response": "r"}), json!([]), json!("text"),
            json!({"instruction": "i", "response": " "}),
            json!({"prompt": "p", "chosen": "c", "rejected": "r"}),
            json!({"conversations": [{"from": "human", "value": "q"}]}),
        ];
        let mut rows = vec![good; 6];
        rows.insert(place + 1, bad[fault].clone());
        let text = json!({"c": rows}).to_string();
        let read = |policy| Federation::read_from(text.as_bytes(), Path::new("d"), policy);
        let refused = read(BadRows::Refuse).unwrap_err().to_string();
        let expected = format!("client \"c\", row {}: ", place + 1);
        prop_assert!(refused.contains(&expected), "{}", refused);
        let skipped = read(BadRows::Skip).unwrap();
        prop_assert_eq!((skipped.rows(), skipped.skipped.len(), skipped.skipped[0].row), (6, 1, place + 1));
    }
}
