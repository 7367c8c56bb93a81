//! JSON as Python's `json.dumps` writes it: spaces after commas and colons, or an indent.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// Where white space goes.
#[derive(Clone, Debug)]
pub(super) struct Style {
    indent: Option<usize>,
    between_items: String,
    after_key: String,
    depth: usize,
    is_empty: bool,
}

impl Style {
    /// Python's defaults: `", "` and `": "`; with an indent, no space before the end of a line.
    pub fn new(indent: Option<usize>, separators: Option<Vec<String>>) -> Self {
        let (between_items, after_key) = match separators.as_deref() {
            Some([items, keys]) => (items.clone(), keys.clone()),
            _ => (if indent.is_some() { "," } else { ", " }.into(), ": ".into()),
        };
        Self { indent, between_items, after_key, depth: 0, is_empty: true }
    }

    /// Writes a value; keys in their own order or, if asked for, sorted.
    pub fn write(self, value: &impl Serialize, is_sorted: bool) -> serde_json::Result<String> {
        let mut bytes = Vec::new();
        let mut serializer = Serializer::with_formatter(&mut bytes, self);
        match is_sorted {
            true => {
                let mut value = serde_json::to_value(value)?;
                value.sort_all_objects();
                value.serialize(&mut serializer)?;
            }
            false => value.serialize(&mut serializer)?,
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
        // What has just ended is an item of what surrounds it.
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
