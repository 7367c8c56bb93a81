//! Methods, filters and tests of texts as Python and Jinja have them, where those of the engine differ or are absent.

use minijinja::value::{ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

/// Adds the methods, filters and tests to an environment.
pub(super) fn add_to(environment: &mut Environment) {
    environment.set_unknown_method_callback(method);
    environment.add_filter("trim", trim);
    environment.add_filter("wordcount", |text: &str| words(text));
    environment.add_filter("center", |text: &str, width: Option<usize>| centered(text, width.unwrap_or(80), ' '));
    environment.add_filter("int", int);
    // In Python, a text and a mapping have a length and items, which is all that Jinja asks for.
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Map | ValueKind::Bytes)
    });
}

/// Calls a method of a text, or of a mapping or list.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let Some(text) = value.as_str() else { return unknown_method_callback(state, value, name, args) };
    let spaces = args.first().is_none_or(Value::is_none);
    Ok(match name {
        "strip" if spaces => Value::from(text.trim_matches(is_space)),
        "lstrip" if spaces => Value::from(text.trim_start_matches(is_space)),
        "rstrip" if spaces => Value::from(text.trim_end_matches(is_space)),
        "split" if spaces && args.len() < 2 => Value::from_iter(text.split(is_space).filter(|word| !word.is_empty())),
        "rsplit" => rsplit(text, args)?,
        "splitlines" => {
            let (keeps_ends,): (Option<bool>,) = from_args(args)?;
            Value::from_iter(lines(text, keeps_ends.unwrap_or(false)))
        }
        "partition" => {
            let (separator,): (&str,) = from_args(args)?;
            let (before, after) = text.split_once(separator).map_or((text, None), |(a, b)| (a, Some(b)));
            Value::from_iter([before, if after.is_some() { separator } else { "" }, after.unwrap_or("")])
        }
        "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            let (before, after) = text.rsplit_once(separator).map_or((None, text), |(a, b)| (Some(a), b));
            Value::from_iter([before.unwrap_or(""), if before.is_some() { separator } else { "" }, after])
        }
        "index" => {
            let (wanted,): (&str,) = from_args(args)?;
            let place = text.find(wanted).ok_or_else(|| invalid("substring not found"))?;
            Value::from(text[..place].chars().count())
        }
        "title" => Value::from(titled(text)),
        "swapcase" => Value::from(text.chars().flat_map(swapped).collect::<String>()),
        "center" => {
            let (width, fill): (usize, Option<char>) = from_args(args)?;
            Value::from(centered(text, width, fill.unwrap_or(' ')))
        }
        "ljust" | "rjust" => {
            let (width, fill): (usize, Option<char>) = from_args(args)?;
            let padding = padding(width.saturating_sub(text.chars().count()), fill.unwrap_or(' '));
            Value::from(if name == "ljust" { text.to_owned() + &padding } else { padding + text })
        }
        "zfill" => {
            let (width,): (usize,) = from_args(args)?;
            let sign = if text.starts_with(['+', '-']) { 1 } else { 0 };
            let zeros = padding(width.saturating_sub(text.chars().count()), '0');
            Value::from([&text[..sign], &zeros, &text[sign..]].concat())
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "expandtabs" => {
            let (size,): (Option<usize>,) = from_args(args)?;
            Value::from(expanded(text, size.unwrap_or(8)))
        }
        _ => return unknown_method_callback(state, value, name, args),
    })
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

/// Returns whether Python's `str.isspace` is true of a character: the white space of Unicode, and four separators.
fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// The filter `trim`.
fn trim(text: &str, characters: Option<&str>) -> String {
    match characters {
        Some(characters) => text.trim_matches(|character| characters.contains(character)).to_owned(),
        None => text.trim_matches(is_space).to_owned(),
    }
}

/// Returns the number of runs of letters, digits and underscores.
fn words(text: &str) -> usize {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    text.split(|character| !is_part(character)).filter(|word| !word.is_empty()).count()
}

/// The filter `int`: a number cut to an integer, or a text read as one.
fn int(value: &Value, default: Option<i64>) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        let text = text.trim_matches(is_space);
        let of_float = || text.parse::<f64>().ok().filter(|number| number.is_finite()).map(|number| number as i64);
        return Ok(Value::from(text.parse::<i64>().ok().or_else(of_float).or(default).unwrap_or(0)));
    }
    if value.is_integer() {
        return Ok(value.clone());
    }
    match f64::try_from(value.clone()) {
        Ok(number) if number.is_finite() => Ok(Value::from(number as i64)),
        _ => Ok(Value::from(default.unwrap_or(0))),
    }
}

fn rsplit(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (separator, limit): (Option<&str>, Option<i64>) = from_args(args)?;
    // A negative limit is none.
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let mut parts: Vec<&str> = Vec::new();
    let mut rest = if separator.is_none() { text.trim_end_matches(is_space) } else { text };
    while parts.len() < limit {
        let divided = match separator {
            Some(separator) => rest.rsplit_once(separator),
            None => rest.rsplit_once(is_space),
        };
        let Some((before, after)) = divided else { break };
        parts.push(after);
        rest = if separator.is_none() { before.trim_end_matches(is_space) } else { before };
    }
    if separator.is_some() || !rest.is_empty() {
        parts.push(rest);
    }
    parts.reverse();
    Ok(Value::from_iter(parts))
}

/// Divides a text at the line ends that `str.splitlines` knows.
fn lines(text: &str, keeps_ends: bool) -> Vec<&str> {
    let ends = ['\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}'];
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(place) = rest.find(ends) {
        let end = rest[place..].chars().next().map_or(0, char::len_utf8);
        let length = if rest[place..].starts_with("\r\n") { 2 } else { end };
        found.push(&rest[..place + if keeps_ends { length } else { 0 }]);
        rest = &rest[place + length..];
    }
    if !rest.is_empty() {
        found.push(rest);
    }
    found
}

/// Returns the text with a capital after each character that has no case, as `str.title` does.
fn titled(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    let mut follows_cased = false;
    for character in text.chars() {
        match follows_cased {
            true => titled.extend(character.to_lowercase()),
            false => titled.extend(character.to_uppercase()),
        }
        follows_cased = character.is_lowercase() || character.is_uppercase();
    }
    titled
}

fn swapped(character: char) -> Vec<char> {
    if character.is_uppercase() { character.to_lowercase().collect() } else { character.to_uppercase().collect() }
}

/// Returns the text in the middle of `width` characters, as `str.center` does.
fn centered(text: &str, width: usize, fill: char) -> String {
    let missing = width.saturating_sub(text.chars().count());
    // CPython gives the odd one to the left if the width is odd.
    let left = missing / 2 + (missing & width & 1);
    [padding(left, fill).as_str(), text, &padding(missing - left, fill)].concat()
}

fn padding(length: usize, fill: char) -> String {
    std::iter::repeat_n(fill, length).collect()
}

/// Returns the text with spaces in place of tabs, up to the next multiple of `size`.
fn expanded(text: &str, size: usize) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut column = 0;
    for character in text.chars() {
        match character {
            '\t' if size == 0 => {}
            '\t' => {
                let spaces = size - column % size;
                expanded += &padding(spaces, ' ');
                column += spaces;
            }
            other => {
                expanded.push(other);
                column = if matches!(other, '\n' | '\r') { 0 } else { column + 1 };
            }
        }
    }
    expanded
}
