//! JSON in the format of Python's `json.dumps`: spaces after commas and colons, or indentation.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use crate::data::fields::float_text;

/// The white space of a JSON document, as a formatter of serde_json.
#[derive(Clone, Debug)]
pub(super) struct Style {
    indent: Option<usize>,
    between_items: String,
    after_key: String,
    depth: usize,
    /// Whether the array or object being written has no item yet.
    is_empty: bool,
}

impl Style {
    /// Creates a style with the given separators, or with Python's defaults `", "` and `": "`. With indentation, the
    /// default has no space between a comma and the end of the line.
    pub fn new(indent: Option<usize>, separators: Option<Vec<String>>) -> Self {
        if let Some([between_items, after_key]) = separators.as_deref() {
            let between_items = between_items.clone();
            let after_key = after_key.clone();
            return Self { indent, between_items, after_key, depth: 0, is_empty: true };
        }
        let between_items = if indent.is_some() { "," } else { ", " };
        Self { indent, between_items: between_items.into(), after_key: ": ".into(), depth: 0, is_empty: true }
    }

    /// Writes a value as JSON, with object keys in their own order or sorted.
    pub fn write(self, value: &impl Serialize, is_sorted: bool) -> serde_json::Result<String> {
        let mut bytes = Vec::new();
        let mut serializer = Serializer::with_formatter(&mut bytes, self);
        if is_sorted {
            let mut value = serde_json::to_value(value)?;
            value.sort_all_objects();
            value.serialize(&mut serializer)?;
        } else {
            value.serialize(&mut serializer)?;
        }
        Ok(String::from_utf8(bytes).expect("JSON is UTF-8"))
    }

    fn begin<W: Write + ?Sized>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.is_empty = true;
        writer.write_all(bracket)
    }

    fn end<W: Write + ?Sized>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if !self.is_empty {
            self.new_line(writer)?;
        }
        // What has just ended is an item of the enclosing array or object, which is therefore not empty.
        self.is_empty = false;
        writer.write_all(bracket)
    }

    fn item<W: Write + ?Sized>(&mut self, writer: &mut W, is_first: bool) -> io::Result<()> {
        if !is_first {
            writer.write_all(self.between_items.as_bytes())?;
        }
        self.is_empty = false;
        self.new_line(writer)
    }

    fn new_line<W: Write + ?Sized>(&self, writer: &mut W) -> io::Result<()> {
        match self.indent {
            Some(width) => write!(writer, "\n{:1$}", "", width * self.depth),
            None => Ok(()),
        }
    }
}

impl Formatter for Style {
    fn write_f64<W: Write + ?Sized>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(float_text(value).as_bytes())
    }

    fn begin_array<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer, b"[")
    }

    fn end_array<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, b"]")
    }

    fn begin_array_value<W: Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.item(writer, first)
    }

    fn begin_object<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer, b"{")
    }

    fn end_object<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, b"}")
    }

    fn begin_object_key<W: Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.item(writer, first)
    }

    fn begin_object_value<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(self.after_key.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    // The expected texts are those of Python's json.dumps.
    #[test]
    fn floats_are_those_of_python() {
        let value = json!([1.0, 0.5, 1e16, 1e-7, -2.5e300, 1e15]);
        let written = Style::new(None, None).write(&value, false).unwrap();
        assert_eq!(written, "[1.0, 0.5, 1e+16, 1e-07, -2.5e+300, 1000000000000000.0]");
    }

    #[test]
    fn white_space_is_that_of_python() {
        let value = json!({"b": [1, "é<&>", {}], "a": [], "c": {"d": null}});
        let write = |indent, separators, sorted| Style::new(indent, separators).write(&value, sorted).unwrap();
        assert_eq!(write(None, None, true), r#"{"a": [], "b": [1, "é<&>", {}], "c": {"d": null}}"#);
        let compact = vec![",".to_owned(), ":".to_owned()];
        assert_eq!(write(None, Some(compact), true), r#"{"a":[],"b":[1,"é<&>",{}],"c":{"d":null}}"#);
        let lines =
            "{\n  \"a\": [],\n  \"b\": [\n    1,\n    \"é<&>\",\n    {}\n  ],\n  \"c\": {\n    \"d\": null\n  }\n}";
        assert_eq!(write(Some(2), None, true), lines);
    }
}
