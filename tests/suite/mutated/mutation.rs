//! Random changes of a file: of its bytes, of its values, and of what stands where.

use fedreplay_sim::Stream;
use serde_json::{Map, Value, json};

/// Texts that are rarely thought of.
const ODD: [&[u8]; 16] = [
    b"",
    b"\0",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"-1",
    b"1e400",
    b"NaN",
    b"18446744073709551616",
    b"-9223372036854775808",
    b"\"",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    b"{\"a\":{\"a\":{\"a\":",
    b"\\u0000",
    b"\r\n\r\n",
    "\u{202e}\u{1F600}".as_bytes(),
    b"../../../../etc/passwd",
];

/// Number of levels of a value that is nested deeply: more than parsers allow, and more than fit a small stack.
const DEEP: usize = 20_000;

/// Changes a file with this ending, in one to four places. `other` is a file of any format.
pub fn mutate(bytes: &mut Vec<u8>, extension: &str, other: &[u8], draws: &mut Stream) {
    // A change in four puts parts of two files together, and of texts with fields every second changes a field.
    if draws.below(16) == 0 {
        return splice(bytes, other, draws);
    }
    let is_by_field = draws.below(2) == 0;
    match extension {
        "json" | "jsonl" if is_by_field => change_values(bytes, extension == "jsonl", draws),
        "ron" | "csv" | "sh" | "jinja" | "set" | "pem" if is_by_field => change_words(bytes, draws),
        _ => change_bytes(bytes, draws),
    }
}

/// Changes bytes in one to four places.
fn change_bytes(bytes: &mut Vec<u8>, draws: &mut Stream) {
    for _ in 0..=draws.below(4) {
        let length = bytes.len() as u64;
        let place = |draws: &mut Stream| draws.below(length + 1) as usize;
        // Headers and footers decide more than what is between them.
        let near_an_end = |draws: &mut Stream| match draws.below(3) {
            0 => draws.below(length.min(64) + 1) as usize,
            1 => (length - draws.below(length.min(64) + 1)) as usize,
            _ => draws.below(length + 1) as usize,
        };
        match draws.below(9) {
            0 => bytes.truncate(place(draws)),
            1 => {
                let (a, b) = (place(draws), place(draws));
                drop(bytes.drain(a.min(b)..a.max(b).min(a.min(b) + 400)));
            }
            2 => {
                let from = place(draws);
                let part = bytes[from..bytes.len().min(from + 400)].to_vec();
                let to = place(draws);
                drop(bytes.splice(to..to, part));
            }
            3 => {
                let at = near_an_end(draws);
                let word = ODD[draws.below(ODD.len() as u64) as usize];
                drop(bytes.splice(at..at, word.iter().copied()));
            }
            4 => replace_number(bytes, draws),
            5 => remove_line(bytes, draws),
            6 if length > 0 => {
                // A length, or a part of one, that no file has.
                let at = near_an_end(draws).min(bytes.len() - 1);
                for byte in bytes.iter_mut().skip(at).take(8) {
                    *byte = 0xff;
                }
            }
            _ if length > 0 => {
                let at = near_an_end(draws).min(bytes.len() - 1);
                bytes[at] ^= 1 << draws.below(8);
            }
            _ => bytes.push(draws.below(256) as u8),
        }
    }
}

/// Replaces a number in the text by an odd word.
fn replace_number(bytes: &mut Vec<u8>, draws: &mut Stream) {
    let begins = |at: usize| bytes[at].is_ascii_digit() && (at == 0 || !bytes[at - 1].is_ascii_digit());
    let numbers: Vec<usize> = (0..bytes.len()).filter(|&at| begins(at)).collect();
    if numbers.is_empty() {
        return;
    }
    let from = numbers[draws.below(numbers.len() as u64) as usize];
    let digits = bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let word = ODD[draws.below(ODD.len() as u64) as usize];
    bytes.splice(from..from + digits, word.iter().copied());
}

fn remove_line(bytes: &mut Vec<u8>, draws: &mut Stream) {
    let mut lines: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
    if lines.is_empty() {
        return;
    }
    lines.remove(draws.below(lines.len() as u64) as usize);
    *bytes = lines.concat();
}

/// Puts the beginning of a file and the end of another one together.
fn splice(bytes: &mut Vec<u8>, other: &[u8], draws: &mut Stream) {
    bytes.truncate(draws.below(bytes.len() as u64 + 1) as usize);
    let from = draws.below(other.len() as u64 + 1) as usize;
    bytes.extend_from_slice(&other[from..other.len().min(from + 100_000)]);
}

/// Changes one to three values of a JSON file, or of a line of one by lines. A file that is no JSON gets other bytes.
fn change_values(bytes: &mut Vec<u8>, is_by_line: bool, draws: &mut Stream) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let mut documents: Vec<&str> = if is_by_line { text.lines().collect() } else { vec![&text] };
    if documents.is_empty() {
        return change_bytes(bytes, draws);
    }
    let chosen = draws.below(documents.len() as u64) as usize;
    let Ok(mut value) = serde_json::from_str::<Value>(documents[chosen]) else { return change_bytes(bytes, draws) };
    for _ in 0..=draws.below(3) {
        change_value(&mut value, draws);
    }
    let mut changed = value.to_string();
    // Keys that occur twice, and depths that no tree of values is built for, exist in texts alone.
    if draws.below(8) == 0 {
        let twice = changed.replacen("{\"", "{\"\":0,\"\":1,\"", 1);
        changed = if draws.below(2) == 0 { twice } else { nested(&changed, draws) };
    }
    documents[chosen] = &changed;
    *bytes = documents.join("\n").into_bytes();
}

/// Puts a deep list or object in place of the first text or number.
fn nested(text: &str, draws: &mut Stream) -> String {
    let (open, close) = if draws.below(2) == 0 { ("[", "]") } else { ("{\"a\":", "}") };
    let deep = format!("{}1{}", open.repeat(DEEP), close.repeat(DEEP));
    match text.split_once(':') {
        Some((before, after)) => format!("{before}:{deep}{}", &after[after.find([',', '}']).unwrap_or(0)..]),
        None => deep,
    }
}

/// Changes a value somewhere in a tree.
fn change_value(value: &mut Value, draws: &mut Stream) {
    // Deeper with each step, and now and then this one.
    let is_deeper = draws.below(5) > 0;
    match value {
        Value::Object(fields) if is_deeper && !fields.is_empty() => {
            let key = fields.keys().nth(draws.below(fields.len() as u64) as usize).expect("a field").clone();
            match draws.below(6) {
                0 => drop(fields.remove(&key)),
                1 => {
                    let moved = fields.remove(&key).expect("a field");
                    let name = if draws.below(2) == 0 { format!("{key}_") } else { String::new() };
                    fields.insert(name, moved);
                }
                _ => change_value(&mut fields[&key], draws),
            }
        }
        Value::Array(items) if is_deeper && !items.is_empty() => {
            let at = draws.below(items.len() as u64) as usize;
            match draws.below(6) {
                0 => drop(items.remove(at)),
                1 => items.insert(at, items[at].clone()),
                2 => items.swap(0, at),
                _ => change_value(&mut items[at], draws),
            }
        }
        _ => *value = another(value, draws),
    }
}

/// Returns a value of any type.
fn another(value: &Value, draws: &mut Stream) -> Value {
    let odd = || json!(String::from_utf8_lossy(ODD[value.to_string().len() % ODD.len()]));
    match draws.below(14) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(0),
        3 => json!(-1),
        4 => json!(u64::MAX),
        5 => json!(i64::MIN),
        6 => json!(1e308),
        7 => json!(0.5),
        8 => json!(""),
        9 => json!([]),
        10 => Value::Object(Map::new()),
        11 => json!([value]),
        12 => json!({ "a": value }),
        _ => odd(),
    }
}

/// Changes one to three words, numbers or signs of a text: cells of CSV, fields of RON, statements of a script.
fn change_words(bytes: &mut Vec<u8>, draws: &mut Stream) {
    let mut words = words(bytes);
    for _ in 0..=draws.below(3) {
        if words.is_empty() {
            return;
        }
        let at = draws.below(words.len() as u64) as usize;
        match draws.below(6) {
            0 => drop(words.remove(at)),
            1 => words.insert(at, words[at].clone()),
            2 => {
                let other = draws.below(words.len() as u64) as usize;
                words.swap(at, other);
            }
            3 => words[at] = ODD[draws.below(ODD.len() as u64) as usize].to_vec(),
            4 => {
                let (open, close) = [("(", ")"), ("[", "]"), ("Some(", ")"), ("{", "}")][draws.below(4) as usize];
                let count = [1, 2, 200, DEEP][draws.below(4) as usize];
                words[at] = [open.repeat(count).as_bytes(), &words[at], close.repeat(count).as_bytes()].concat();
            }
            _ => {
                // A range of fields, as a row or a struct.
                let until = words.len().min(at + 1 + draws.below(12) as usize);
                let range = words[at..until].to_vec();
                drop(words.splice(at..at, range));
            }
        }
    }
    *bytes = words.concat();
}

/// Divides a text into words with the space after them, and single signs.
fn words(bytes: &[u8]) -> Vec<Vec<u8>> {
    let is_of_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-') || *byte >= 0x80;
    let mut words: Vec<Vec<u8>> = Vec::new();
    for byte in bytes {
        match words.last_mut() {
            Some(word) if is_of_word(byte) && word.last().is_some_and(is_of_word) => word.push(*byte),
            _ => words.push(vec![*byte]),
        }
    }
    words
}
