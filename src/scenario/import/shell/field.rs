//! Words of a command after expansion.

use super::super::ImportError;

/// Text after expansion, with what it lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Field {
    pub text: String,
    /// Variables in it that the script never sets. They are empty.
    pub unset: Vec<String>,
    /// Parts of it that only a running shell knows, as the script writes them; the text contains them so.
    pub computed: Vec<String>,
    /// Whether bash drops the word, since nothing is left of it after expansion and it has no quotes.
    pub is_absent: bool,
}

impl Field {
    pub(super) fn literal(text: &str) -> Self {
        Self { text: text.to_owned(), ..Self::default() }
    }

    pub(super) fn unset(name: String) -> Self {
        Self { unset: vec![name], ..Self::default() }
    }

    pub(super) fn computed(text: &str) -> Self {
        Self { text: text.to_owned(), computed: vec![text.to_owned()], ..Self::default() }
    }

    pub(super) fn append(&mut self, other: &Self) {
        self.text.push_str(&other.text);
        add_new(&mut self.unset, &other.unset);
        add_new(&mut self.computed, &other.computed);
    }

    /// Returns the text, if the script alone determines it.
    pub(super) fn known(&self) -> Option<&str> {
        if self.computed.is_empty() { Some(&self.text) } else { None }
    }

    /// Returns the text.
    ///
    /// # Errors
    /// If only a running shell knows it.
    pub(super) fn known_at(&self, line: usize) -> Result<&str, ImportError> {
        self.known().ok_or_else(|| {
            ImportError::at(line, format!("`{}` is known only when the script runs", self.computed.join("`, `")))
        })
    }
}

/// Adds names that are not there yet: a script that doubles a word must not double the list.
fn add_new(names: &mut Vec<String>, others: &[String]) {
    for other in others {
        if !names.contains(other) {
            names.push(other.clone());
        }
    }
}

/// Fields into which a word is being expanded.
pub(super) struct Fields {
    /// Whether unquoted values are split at blanks, as in the words of a command and not in assignments.
    pub splits: bool,
    done: Vec<Field>,
    open: Option<Field>,
    /// Expansions without any text, outside of quotes: they make no field of their own.
    empty: Field,
}

impl Fields {
    pub fn new(splits: bool) -> Self {
        Self { splits, done: vec![], open: None, empty: Field::default() }
    }

    /// Begins a field, if none is open: quotes make a field even if nothing is in them.
    pub fn open(&mut self) -> &mut Field {
        self.open.get_or_insert_default()
    }

    /// Adds text that is never split.
    pub fn push(&mut self, text: &Field) {
        self.open().append(text);
    }

    /// Ends the open field.
    pub fn close(&mut self) {
        self.done.extend(self.open.take());
    }

    /// Adds the value of an unquoted expansion, split at blanks.
    pub fn split(&mut self, value: &Field) {
        if !self.splits || !value.computed.is_empty() {
            return self.push(value);
        }
        if value.text.is_empty() {
            return self.empty.append(value);
        }
        let is_blank = |c: char| matches!(c, ' ' | '\t' | '\n');
        if value.text.starts_with(is_blank) {
            self.close();
        }
        for (index, part) in value.text.split(is_blank).filter(|part| !part.is_empty()).enumerate() {
            if index > 0 {
                self.close();
            }
            self.push(&Field { text: part.to_owned(), unset: value.unset.clone(), ..Field::default() });
        }
        if value.text.ends_with(is_blank) {
            self.close();
        }
    }

    /// Returns the fields. A word of empty expansions alone is one absent field.
    pub fn finish(mut self) -> Vec<Field> {
        self.close();
        if let Some(first) = self.done.first_mut() {
            first.unset.extend(self.empty.unset);
        } else if !self.empty.unset.is_empty() {
            self.done.push(Field { is_absent: true, ..self.empty });
        }
        self.done
    }
}
