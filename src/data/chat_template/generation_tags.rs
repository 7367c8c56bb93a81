//! `{% generation %}`, a tag of Transformers that marks the tokens of an answer and renders nothing.
//!
//! Each pair of tags becomes a filter around its text, which puts a noncharacter of Unicode before and after it. The places of
//! these are the answers, and the text is what is left without them.

use std::ops::Range;

/// Name of the filter.
pub(super) const MARKER: &str = "fedreplay_generation";

const BEGIN: char = '\u{fdd3}';
const END: char = '\u{fdd4}';

/// Returns the text of an answer between its marks.
pub(super) fn marked_text(text: &str) -> String {
    format!("{BEGIN}{text}{END}")
}

/// Returns whether a template has the tag.
pub(super) fn has_tags(source: &str) -> bool {
    parts(source).any(|part| part.word() == Some("generation"))
}

/// Takes the marks out of a rendered text. Returns the text, and the byte range of each marked part that is not empty.
pub(super) fn without_marks(rendered: &str) -> (String, Vec<Range<usize>>) {
    let mut text = String::with_capacity(rendered.len());
    let mut ranges = Vec::new();
    let mut begin = 0;
    for character in rendered.chars() {
        match character {
            BEGIN => begin = text.len(),
            END if begin < text.len() => ranges.push(begin..text.len()),
            END => {}
            other => text.push(other),
        }
    }
    (text, ranges)
}

/// Replaces the tags by a filter, and by a scope of its own: what is set between them is not set outside, as in Jinja.
pub(super) fn with_filters(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    for part in parts(source) {
        // White-space control, as in `{%- generation -%}`, stays at its side.
        let (before, after) = part.controls();
        match part.word() {
            Some("generation") => result += &format!("{{%{before} filter {MARKER} %}}{{% with {after}%}}"),
            Some("endgeneration") => result += &format!("{{%{before} endwith %}}{{% endfilter {after}%}}"),
            _ => result += part.text,
        }
    }
    result
}

/// A part of a template's source: a tag `{% ... %}`, or what is between two tags.
struct Part<'a> {
    text: &'a str,
    is_tag: bool,
}

impl<'a> Part<'a> {
    /// Returns the only word of a tag.
    fn word(&self) -> Option<&'a str> {
        let inner = self.text.strip_prefix("{%")?.strip_suffix("%}")?;
        self.is_tag.then(|| inner.trim_matches(['-', '+']).trim())
    }

    /// Returns the characters of white-space control at both ends of a tag.
    fn controls(&self) -> (&'a str, &'a str) {
        let control = |character: Option<&'a str>| character.filter(|text| ["-", "+"].contains(text)).unwrap_or("");
        let end = self.text.len();
        (control(self.text.get(2..3)), control(self.text.get(end.saturating_sub(3)..end.saturating_sub(2))))
    }
}

/// Divides a source into tags and what is between them. Comments, expressions and the text between `{% raw %}` and
/// `{% endraw %}` hold no tags, nor do strings.
fn parts(source: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = source;
    let mut is_raw = false;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (length, is_tag) = match rest.get(..2) {
            Some("{%") => (closed(rest, "%}"), true),
            Some("{{") if !is_raw => (closed(rest, "}}"), false),
            Some("{#") if !is_raw => (rest.find("#}").map_or(rest.len(), |end| end + 2), false),
            _ => (next_opening(rest), false),
        };
        let (text, after) = rest.split_at(length);
        rest = after;
        let part = Part { text, is_tag };
        let word = part.word();
        if is_raw && word != Some("endraw") {
            // What looks like a tag is text here; a string in it does not hide the end.
            let length = if is_tag { 2 } else { text.len() };
            rest = &source[source.len() - rest.len() - text.len() + length..];
            return Some(Part { text: &text[..length], is_tag: false });
        }
        is_raw = word == Some("raw");
        Some(part)
    })
}

/// Returns the length of a tag or an expression at the beginning of `text`, up to its end outside of strings.
fn closed(text: &str, end: &str) -> usize {
    let mut quote = None;
    let mut is_escaped = false;
    for (place, character) in text.char_indices().skip(2) {
        match quote {
            Some(_) if is_escaped => is_escaped = false,
            Some(_) if character == '\\' => is_escaped = true,
            Some(open) if character == open => quote = None,
            Some(_) => {}
            None if text[place..].starts_with(end) => return place + end.len(),
            None if ['"', '\''].contains(&character) => quote = Some(character),
            None => {}
        }
    }
    text.len()
}

/// Returns the length of the text before the next tag, expression or comment, and at least one character.
fn next_opening(text: &str) -> usize {
    let first = text.chars().next().map_or(0, char::len_utf8);
    let places = ["{%", "{{", "{#"].iter().filter_map(|opening| text[first..].find(opening));
    places.min().map_or(text.len(), |place| first + place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_replaced_where_they_are_tags() {
        let replaced = |source: &str| with_filters(source) != source;
        assert!(replaced("a{% generation %}b{% endgeneration %}c"));
        assert!(replaced("{{ '{%' }}{%- generation -%}b{%- endgeneration -%}"));
        for source in [
            "{{ '{% generation %}' }}",
            "{% set x = \"{% generation %}\" %}",
            "{% raw %}{% generation %} ' {% endgeneration %}{% endraw %}",
            "{# {% generation %} #}",
            "{% if generation %}{% endif %}",
            "{% generation",
        ] {
            assert!(!replaced(source), "{source}");
        }
        assert_eq!(
            with_filters("x{%- generation +%}y{% endgeneration -%}z"),
            "x{%- filter fedreplay_generation %}{% with +%}y{% endwith %}{% endfilter -%}z"
        );
    }
}
