//! Parser for the call of a trainer in a shell script: its flags, with variables expanded. No shell is run.

use std::collections::BTreeMap;

/// Call of `main_sft.py` or `main_dpo.py`.
#[derive(Debug)]
pub(super) struct Call {
    pub is_dpo: bool,
    /// Flags with their values, or `None` for a flag without a value. The last occurrence of a flag counts.
    pub flags: BTreeMap<String, Option<String>>,
}

impl Call {
    /// Finds the last call in a script.
    ///
    /// # Errors
    /// If there is none.
    pub fn find(text: &str) -> Result<Self, String> {
        // A backslash at the end of a line continues it.
        let joined = text.replace("\\\r\n", " ").replace("\\\n", " ");
        let mut variables = BTreeMap::new();
        let mut found = None;
        for line in joined.lines() {
            let words = words(line, &variables);
            let trainer = words.iter().position(|word| word.ends_with("main_sft.py") || word.ends_with("main_dpo.py"));
            // Variables count from their assignments on, as a shell would run the lines.
            match trainer {
                Some(at) => found = Some(Self::of(&words[at], &words[at + 1..])),
                None => variables.extend(words.iter().map_while(|word| assignment(word))),
            }
        }
        found.ok_or_else(|| "it calls neither main_sft.py nor main_dpo.py".to_owned())
    }

    fn of(trainer: &str, words: &[String]) -> Self {
        let mut flags = BTreeMap::new();
        let mut words = words.iter().peekable();
        while let Some(word) = words.next() {
            // A flag takes the next word as its value, unless that is a flag itself.
            if let Some(name) = word.strip_prefix("--") {
                let value = words.next_if(|next| !next.starts_with("--"));
                flags.insert(name.to_owned(), value.cloned());
            }
        }
        Self { is_dpo: trainer.ends_with("main_dpo.py"), flags }
    }
}

/// Splits a word of the form `name=value`.
fn assignment(word: &str) -> Option<(String, String)> {
    let (name, value) = word.split_once('=')?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    if is_name { Some((name.to_owned(), value.to_owned())) } else { None }
}

/// Splits a line into words, removes quotes and comments, and expands variables.
fn words(line: &str, variables: &BTreeMap<String, String>) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    // Whether `word` has begun: it may be open and empty, after a pair of quotes.
    let mut is_open = false;
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        // Double quotes expand variables and single quotes do not; a comment starts only between words.
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                is_open = true;
            }
            ('#', None) if !is_open => break,
            (c, None) if c.is_whitespace() => {
                if std::mem::take(&mut is_open) {
                    words.push(std::mem::take(&mut word));
                }
            }
            ('$', None | Some('"')) => {
                is_open = true;
                word.push_str(&variable(&mut rest, variables));
            }
            (c, _) => {
                is_open = true;
                word.push(c);
            }
        }
    }
    if is_open {
        words.push(word);
    }
    words
}

/// Reads the variable after a dollar sign and returns its value.
///
/// An unknown variable has the default of `${name:-default}`, or else expands to `$name` itself.
fn variable(rest: &mut std::iter::Peekable<std::str::Chars>, variables: &BTreeMap<String, String>) -> String {
    let is_braced = rest.next_if_eq(&'{').is_some();
    let mut name = String::new();
    while let Some(c) = rest.next_if(|&c| if is_braced { c != '}' } else { c.is_alphanumeric() || c == '_' }) {
        name.push(c);
    }
    if is_braced {
        rest.next();
    }
    let (name, default) = name.split_once(":-").map_or((name.as_str(), None), |(name, value)| (name, Some(value)));
    match (variables.get(name), default) {
        (Some(value), _) => value.clone(),
        (None, Some(value)) => value.to_owned(),
        (None, None) => format!("${name}"),
    }
}
