//! The call of a trainer in a shell script: its flags, with variables filled in. No shell is run.

use std::collections::BTreeMap;

/// A call of `main_sft.py` or `main_dpo.py`.
#[derive(Debug)]
pub(super) struct Call {
    pub is_dpo: bool,
    /// Flags with their values; a flag without one has none. The last of a name counts.
    pub flags: BTreeMap<String, Option<String>>,
}

impl Call {
    /// The last call in a script.
    ///
    /// # Errors
    /// If there is none.
    pub fn find(text: &str) -> Result<Self, String> {
        let joined = text.replace("\\\r\n", " ").replace("\\\n", " ");
        let mut variables = BTreeMap::new();
        let mut found = None;
        for line in joined.lines() {
            let words = words(line, &variables);
            let trainer = words.iter().position(|word| word.ends_with("main_sft.py") || word.ends_with("main_dpo.py"));
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
            if let Some(name) = word.strip_prefix("--") {
                let value = words.next_if(|next| !next.starts_with("--"));
                flags.insert(name.to_owned(), value.cloned());
            }
        }
        Self { is_dpo: trainer.ends_with("main_dpo.py"), flags }
    }
}

/// `name=value`.
fn assignment(word: &str) -> Option<(String, String)> {
    let (name, value) = word.split_once('=')?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    is_name.then(|| (name.to_owned(), value.to_owned()))
}

/// The words of a line, without quotes and comments, with variables filled in.
fn words(line: &str, variables: &BTreeMap<String, String>) -> Vec<String> {
    let (mut words, mut word, mut quote, mut is_open) = (Vec::new(), String::new(), None, false);
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => (quote, is_open) = (Some(c), true),
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

/// The value of the variable that follows a dollar; of `${name:-value}` the value, where the name has none. One that is
/// not known stands as `$name`.
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
