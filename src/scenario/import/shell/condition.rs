//! Conditions: `test`, `[`, `[[` and the patterns of `case` and of `${name%pattern}`.

use brush_parser::ast::{BinaryPredicate, ExtendedTestExpr, TestExpr, UnaryPredicate};

use super::super::ImportError;
use super::Shell;
use super::field::Field;

impl Shell {
    /// Returns the value of `[ ... ]` over its fields; `None` if only a running shell knows it.
    pub(super) fn test(&mut self, fields: &[Field], line: usize) -> Result<Option<bool>, ImportError> {
        let present: Vec<&Field> = fields.iter().filter(|field| !field.is_absent).collect();
        if present.iter().any(|field| field.known().is_none()) {
            return Ok(None);
        }
        let words: Vec<String> = present.iter().map(|field| field.text.clone()).collect();
        let expression = brush_parser::test_command::parse(&words)
            .map_err(|_| ImportError::at(line, format!("the condition `{}` is not understood", words.join(" "))))?;
        self.plain(&expression, line)
    }

    fn plain(&mut self, expression: &TestExpr, line: usize) -> Result<Option<bool>, ImportError> {
        Ok(match expression {
            TestExpr::False => Some(false),
            TestExpr::Literal(text) => Some(!text.is_empty()),
            TestExpr::And(left, right) => and(self.plain(left, line)?, self.plain(right, line)?),
            TestExpr::Or(left, right) => or(self.plain(left, line)?, self.plain(right, line)?),
            TestExpr::Not(inner) => self.plain(inner, line)?.map(|value| !value),
            TestExpr::Parenthesized(inner) => self.plain(inner, line)?,
            TestExpr::UnaryTest(predicate, text) => self.unary(predicate, text),
            TestExpr::BinaryTest(predicate, left, right) => self.compare(predicate, left, right, line)?,
        })
    }

    /// Returns the value of `[[ ... ]]`; `None` if only a running shell knows it.
    pub(super) fn extended(&mut self, expression: &ExtendedTestExpr, line: usize) -> Result<Option<bool>, ImportError> {
        Ok(match expression {
            ExtendedTestExpr::And(left, right) => and(self.extended(left, line)?, self.extended(right, line)?),
            ExtendedTestExpr::Or(left, right) => or(self.extended(left, line)?, self.extended(right, line)?),
            ExtendedTestExpr::Not(inner) => self.extended(inner, line)?.map(|value| !value),
            ExtendedTestExpr::Parenthesized(inner) => self.extended(inner, line)?,
            ExtendedTestExpr::UnaryTest(predicate, word) => {
                let text = self.text(&word.value, line)?;
                text.known().and_then(|text| self.unary(predicate, text))
            }
            ExtendedTestExpr::BinaryTest(predicate, left, right) => {
                let left = self.text(&left.value, line)?;
                let right_text = self.text(&right.value, line)?;
                // Quotes would take a pattern's meaning from its characters.
                if right_text.text.contains(['*', '?', '[']) && right.value.contains(['"', '\'', '\\']) {
                    return Err(ImportError::at(line, format!("the pattern `{}` is not understood", right.value)));
                }
                match (left.known(), right_text.known()) {
                    (Some(left), Some(right)) => self.compare(predicate, left, right, line)?,
                    _ => None,
                }
            }
        })
    }

    fn unary(&self, predicate: &UnaryPredicate, text: &str) -> Option<bool> {
        match predicate {
            UnaryPredicate::StringHasZeroLength => Some(text.is_empty()),
            UnaryPredicate::StringHasNonZeroLength => Some(!text.is_empty()),
            UnaryPredicate::ShellVariableIsSetAndAssigned => Some(self.variables.contains_key(text)),
            // The others look at files and terminals.
            _ => None,
        }
    }

    fn compare(
        &mut self,
        predicate: &BinaryPredicate,
        left: &str,
        right: &str,
        line: usize,
    ) -> Result<Option<bool>, ImportError> {
        Ok(match predicate {
            BinaryPredicate::StringExactlyMatchesString => Some(left == right),
            BinaryPredicate::StringDoesNotExactlyMatchString => Some(left != right),
            BinaryPredicate::StringExactlyMatchesPattern => {
                check_pattern(right, line)?;
                Some(matches(right, left))
            }
            BinaryPredicate::StringDoesNotExactlyMatchPattern => {
                check_pattern(right, line)?;
                Some(!matches(right, left))
            }
            BinaryPredicate::ArithmeticEqualTo => Some(self.number(left, line)? == self.number(right, line)?),
            BinaryPredicate::ArithmeticNotEqualTo => Some(self.number(left, line)? != self.number(right, line)?),
            BinaryPredicate::ArithmeticLessThan => Some(self.number(left, line)? < self.number(right, line)?),
            BinaryPredicate::ArithmeticLessThanOrEqualTo => Some(self.number(left, line)? <= self.number(right, line)?),
            BinaryPredicate::ArithmeticGreaterThan => Some(self.number(left, line)? > self.number(right, line)?),
            BinaryPredicate::ArithmeticGreaterThanOrEqualTo => {
                Some(self.number(left, line)? >= self.number(right, line)?)
            }
            // Orders of text depend on the locale, the others on files.
            _ => None,
        })
    }
}

fn and(left: Option<bool>, right: Option<bool>) -> Option<bool> {
    match (left, right) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

fn or(left: Option<bool>, right: Option<bool>) -> Option<bool> {
    and(left.map(|value| !value), right.map(|value| !value)).map(|value| !value)
}

/// Refuses patterns with more than `*` and `?`.
pub(super) fn check_pattern(pattern: &str, line: usize) -> Result<(), ImportError> {
    if pattern.contains(['[', '(', '\\']) {
        return Err(ImportError::at(line, format!("the pattern `{pattern}` is not understood")));
    }
    Ok(())
}

/// Tells whether a pattern of `*`, `?` and plain characters matches a whole text.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    // Where the last star was met, and how much of the text it takes: it takes one more whenever the rest does not fit.
    let mut star = None;
    let mut at = 0;
    let mut taken = 0;
    while taken < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, taken));
                at += 1;
            }
            Some(&c) if c == '?' || c == text[taken] => {
                at += 1;
                taken += 1;
            }
            _ => match star {
                Some((star_at, star_taken)) => {
                    star = Some((star_at, star_taken + 1));
                    at = star_at + 1;
                    taken = star_taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|&c| c == '*')
}

/// Returns the places between the characters of a text, from its begin to its end.
fn places(text: &str) -> Vec<usize> {
    text.char_indices().map(|(at, _)| at).chain([text.len()]).collect()
}

pub(super) fn without_shortest_suffix(text: &str, pattern: &str) -> String {
    let found = places(text).into_iter().rev().find(|&at| matches(pattern, &text[at..]));
    text[..found.unwrap_or(text.len())].to_owned()
}

pub(super) fn without_longest_suffix(text: &str, pattern: &str) -> String {
    let found = places(text).into_iter().find(|&at| matches(pattern, &text[at..]));
    text[..found.unwrap_or(text.len())].to_owned()
}

pub(super) fn without_shortest_prefix(text: &str, pattern: &str) -> String {
    let found = places(text).into_iter().find(|&at| matches(pattern, &text[..at]));
    text[found.unwrap_or(0)..].to_owned()
}

pub(super) fn without_longest_prefix(text: &str, pattern: &str) -> String {
    let found = places(text).into_iter().rev().find(|&at| matches(pattern, &text[..at]));
    text[found.unwrap_or(0)..].to_owned()
}
