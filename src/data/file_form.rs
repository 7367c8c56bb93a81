//! Layouts of dataset files, and the policy for rows that cannot be used.

use super::row::TEXT_COLUMNS;
use super::scanner::{ScanError, Scanner};

/// Id of the only client of a pooled file. It does not depend on the file's name, so renaming the file changes nothing.
pub const LOCAL_CLIENT: &str = "local";

/// Names under which files have the list of their rows. They are no clients.
const ROW_KEYS: [&str; 5] = ["data", "rows", "examples", "instances", "records"];

/// The layout of a dataset, after section 1.3 of the description of FedLLM-Bench and as other tools write theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileForm {
    /// `{client: [row, ...], ...}`.
    Federated,
    /// LEAF's `{"users": [...], "num_samples": [...], "user_data": {client: ...}}`.
    Leaf,
    /// `[row, ...]`: one client, [`LOCAL_CLIENT`].
    Array,
    /// `{"data": [row, ...]}`, or with the key `rows`, `examples`, `instances` or `records`: one client, [`LOCAL_CLIENT`].
    Wrapped,
    /// JSON Lines, one row per line: one client, [`LOCAL_CLIENT`].
    Lines,
    /// `{column: {index: value, ...}, ...}` or `{column: [value, ...], ...}`, as pandas and Datasets write tables: one
    /// client, [`LOCAL_CLIENT`].
    Columns,
    /// Text separated by commas, or by tabs, under a line of column names: one client, [`LOCAL_CLIENT`].
    Csv,
    /// A Parquet file: one client, [`LOCAL_CLIENT`].
    Parquet,
    /// A folder with one file or one folder per client.
    Folder,
}

/// The policy for rows that cannot be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BadRows {
    /// Refuses the file.
    #[default]
    Refuse,
    /// Leaves the row out and records it; a client without usable rows is left out as well. A file whose rows cannot be
    /// told apart is still an error.
    Skip,
}

impl FileForm {
    /// Detects the layout of a JSON file that starts with `head`, by the keys of its first object that lie in it. `named` is the
    /// column of the instruction, if the scenario names it.
    ///
    /// Anything that is no object and no list is read as federated, and that reader's errors say what was expected.
    pub(super) fn of(head: &[u8], named: Option<&str>) -> Self {
        match head.trim_ascii_start().first() {
            Some(b'[') => Self::Array,
            Some(b'{') => Self::of_object(&FirstObject::read(head), named),
            _ => Self::Federated,
        }
    }

    fn of_object(object: &FirstObject, named: Option<&str>) -> Self {
        let keys = &object.keys;
        let has = |name: &str| keys.iter().any(|(key, _)| key == name);
        if keys.iter().any(|(key, shape)| key == "user_data" && matches!(shape, Shape::Object { .. }))
            || (has("users") && has("num_samples"))
        {
            return Self::Leaf;
        }
        // A file may say something of itself in texts beside its list of rows. It has no other object behind it, as rows have.
        let is_rows = |key: &str, shape: &Shape| ROW_KEYS.contains(&key) && matches!(shape, Shape::Objects);
        let has_text = keys.iter().any(|(key, _)| TEXT_COLUMNS.contains(&key.as_str()) || named == Some(key.as_str()));
        if !object.has_next && !has_text && keys.iter().any(|(key, shape)| is_rows(key, shape)) {
            let lists = keys.iter().filter(|(_, shape)| !matches!(shape, Shape::Scalar | Shape::Object { .. })).count();
            if lists == 1 {
                return Self::Wrapped;
            }
        }
        // A row has a text, or a list of messages; a client has neither.
        if keys.iter().any(|(_, shape)| matches!(shape, Shape::Scalar | Shape::Messages)) {
            return Self::Lines;
        }
        let is_table = |shape: &Shape| matches!(shape, Shape::Object { is_indexed: true } | Shape::Values);
        if !keys.is_empty() && keys.iter().all(|(_, shape)| is_table(shape)) {
            return Self::Columns;
        }
        match keys.first() {
            Some((key, Shape::List | Shape::Objects)) if ROW_KEYS.contains(&key.as_str()) => Self::Wrapped,
            _ => Self::Federated,
        }
    }
}

/// The outermost form of a value.
enum Shape {
    /// Text, a number, a boolean or null.
    Scalar,
    /// A list of objects that name a role.
    Messages,
    /// A list of scalars.
    Values,
    /// A list of other objects.
    Objects,
    /// Another list, or one that is empty.
    List,
    /// An object; `is_indexed` if its first key is a number and what stands under it is no object.
    Object { is_indexed: bool },
}

/// The first object of a text, as far as it is in it.
#[derive(Default)]
struct FirstObject {
    keys: Vec<(String, Shape)>,
    /// Whether another object follows.
    has_next: bool,
}

impl FirstObject {
    fn read(head: &[u8]) -> Self {
        let mut object = Self::default();
        // The text is cut off, so an error only means that there is no more to see.
        let _ = object.read_from(&mut Scanner::new(head));
        object
    }

    fn read_from(&mut self, scanner: &mut Scanner<&[u8]>) -> Result<(), ScanError> {
        scanner.expect(b'{', "an object")?;
        while scanner.peek()? == Some(b'"') {
            let key = scanner.key()?;
            let Some(first) = scanner.peek()? else { return Ok(()) };
            self.keys.push((key, Shape::of(first, scanner.rest())));
            scanner.value()?;
            scanner.takes(b',')?;
        }
        self.has_next = scanner.takes(b'}')? && scanner.peek()? == Some(b'{');
        Ok(())
    }
}

impl Shape {
    /// Returns the shape of the value that begins with `first`; `rest` is the text from there on.
    fn of(first: u8, rest: &[u8]) -> Self {
        match first {
            b'[' => Self::of_list(rest[1..].trim_ascii_start()),
            b'{' => Self::of_inner_object(rest),
            _ => Self::Scalar,
        }
    }

    fn of_list(elements: &[u8]) -> Self {
        match elements.first() {
            None | Some(b'[' | b']') => Self::List,
            Some(b'{') => {
                let names_role = FirstObject::read(elements).keys.iter().any(|(key, _)| key == "role" || key == "from");
                if names_role { Self::Messages } else { Self::Objects }
            }
            Some(_) => Self::Values,
        }
    }

    fn of_inner_object(object: &[u8]) -> Self {
        let is_indexed = match FirstObject::read(object).keys.first() {
            Some((key, shape)) => key.parse::<u64>().is_ok() && !matches!(shape, Self::Object { .. }),
            None => false,
        };
        Self::Object { is_indexed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_object_tells_the_layout() {
        let forms = [
            (r#"[{"instruction": "i"}]"#, FileForm::Array),
            (r#"{"a": [{"instruction": "i"}]}"#, FileForm::Federated),
            (r#"{"a": [], "b": [{"instruction": "i"}]}"#, FileForm::Federated),
            (r#"{"data": [{"instruction": "i"}]}"#, FileForm::Wrapped),
            (r#"{"rows": [{"instruction": "i"}], "meta": {}}"#, FileForm::Wrapped),
            (r#"{"a": [{"instruction": "i"}], "data": [{"instruction": "i"}]}"#, FileForm::Federated),
            (r#"{"data": [{"x": 1}], "instruction": "i"}"#, FileForm::Lines),
            (r#"{"version": "1.0", "data": [{"question": "q"}], "meta": {}}"#, FileForm::Wrapped),
            (r#"{"data": [{"question": "q"}], "count": 1}"#, FileForm::Wrapped),
            ("{\"question\": \"q\", \"examples\": [{\"x\": 1}]}\n{\"question\": \"p\"}", FileForm::Lines),
            (r#"{"question": "q", "examples": [{"x": 1}], "records": [{"x": 1}]}"#, FileForm::Lines),
            (r#"{"question": "q", "tags": ["a"], "data": [{"x": 1}]}"#, FileForm::Lines),
            (r#"{"instruction": "i"}"#, FileForm::Lines),
            (r#"{"messages": [{"role": "user"}]}"#, FileForm::Lines),
            (r#"{"conversations": [{"from": "human"}]}"#, FileForm::Lines),
            (r#"{"chosen": [{"content": "x", "role": "user"}], "rejected": []}"#, FileForm::Lines),
            (r#"{"tags": ["a"], "instruction": "i"}"#, FileForm::Lines),
            (r#"{"meta": {"a": 1}, "instruction": "i"}"#, FileForm::Lines),
            (r#"{"users": ["u"], "num_samples": [1], "user_data": {"u": []}}"#, FileForm::Leaf),
            (r#"{"user_data": {"u": [{"instruction": "i"}]}, "users": ["u"]}"#, FileForm::Leaf),
            (r#"{"question": {"0": "q"}, "answer": {"0": "a"}}"#, FileForm::Columns),
            (r#"{"question": ["q"], "answer": ["a"]}"#, FileForm::Columns),
            (r#"{"c1": {"0": {"instruction": "i"}}}"#, FileForm::Federated),
            ("\"text\"", FileForm::Federated),
            ("", FileForm::Federated),
        ];
        for (head, form) in forms {
            assert_eq!(FileForm::of(head.as_bytes(), None), form, "{head}");
        }
    }

    #[test]
    fn a_head_that_is_cut_off_tells_as_much_as_is_in_it() {
        let of_one_line = br#"{"question": "q", "examples": [{"x": 1}]}"#;
        assert_eq!(FileForm::of(of_one_line, None), FileForm::Wrapped);
        assert_eq!(FileForm::of(of_one_line, Some("question")), FileForm::Lines, "its text is named");
        assert_eq!(FileForm::of(br#"{"a": [{"instruction": "i"#, None), FileForm::Federated);
        assert_eq!(FileForm::of(br#"{"data": [{"instruction": "i"#, None), FileForm::Wrapped);
        assert_eq!(FileForm::of(br#"{"messages": [{"role": "user", "content": "i"#, None), FileForm::Lines);
        assert_eq!(FileForm::of(br#"{"users": ["a", "b"], "num_samples": [1"#, None), FileForm::Leaf);
    }
}
