//! A state machine that finds where a JSON value ends, whether or not what is inside it is well-formed.

/// Scanner of one JSON value, byte by byte. It knows strings and brackets only, so that a value with a bad escape, a bare
/// `NaN` or a byte that is no UTF-8 still has an end.
#[derive(Debug, Default)]
pub(super) struct ValueEnd {
    /// Closing brackets that are expected, the innermost last.
    open: Vec<u8>,
    in_string: bool,
    is_escaped: bool,
    is_bare: bool,
    has_begun: bool,
}

/// State of a value after one more byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The value goes on.
    More,
    /// The byte is the last one of the value.
    Last,
    /// The byte is behind the value, which was a bare word such as a number.
    Behind,
    /// The byte closes another bracket than the innermost one, or begins no value.
    Broken,
}

impl ValueEnd {
    /// Takes the next byte. White space before the value must have been passed over.
    pub fn step(&mut self, byte: u8) -> Step {
        if self.in_string {
            return self.in_text(byte);
        }
        if self.is_bare {
            return if matches!(byte, b',' | b']' | b'}' | b':') || byte.is_ascii_whitespace() {
                Step::Behind
            } else {
                Step::More
            };
        }
        let is_first = !self.has_begun;
        self.has_begun = true;
        match byte {
            b'"' => self.in_string = true,
            b'{' => self.open.push(b'}'),
            b'[' => self.open.push(b']'),
            b'}' | b']' => {
                if self.open.pop() != Some(byte) {
                    return Step::Broken;
                }
                return if self.open.is_empty() { Step::Last } else { Step::More };
            }
            b',' | b':' if is_first => return Step::Broken,
            _ if is_first => self.is_bare = true,
            _ => {}
        }
        Step::More
    }

    fn in_text(&mut self, byte: u8) -> Step {
        if self.is_escaped {
            self.is_escaped = false;
        } else if byte == b'\\' {
            self.is_escaped = true;
        } else if byte == b'"' {
            self.in_string = false;
            return if self.open.is_empty() { Step::Last } else { Step::More };
        }
        Step::More
    }

    /// Returns whether the last byte was inside a string.
    pub fn is_in_string(&self) -> bool {
        self.in_string
    }

    /// Returns whether the value is a bare word so far, which may end anywhere.
    pub fn is_bare(&self) -> bool {
        self.is_bare
    }

    /// Returns whether the innermost open bracket is that of an object.
    pub fn is_in_object(&self) -> bool {
        self.open.last() == Some(&b'}')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(text: &[u8]) -> (usize, Step) {
        let mut scanner = ValueEnd::default();
        for (place, &byte) in text.iter().enumerate() {
            match scanner.step(byte) {
                Step::More => {}
                step => return (place, step),
            }
        }
        (text.len(), Step::More)
    }

    #[test]
    fn a_value_ends_where_its_brackets_do() {
        assert_eq!(end(br#"{"a": "}\"]", "b": [1, {}]} x"#), (26, Step::Last));
        assert_eq!(end(b"\"a\\\\\"b"), (4, Step::Last));
        assert_eq!(end(b"{\"a\": NaN, \"b\": \"\\ud800 \xff \t\"}"), (28, Step::Last));
        assert_eq!(end(b"-1.5e3,"), (6, Step::Behind));
        assert_eq!(end(b"{]"), (1, Step::Broken));
        assert_eq!(end(b"{\"a\": \"b"), (8, Step::More));
    }
}
