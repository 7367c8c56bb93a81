//! Expansion of words: quotes, variables, arithmetic, braces and splitting at blanks, in bash's order.

use brush_parser::ParserOptions;
use brush_parser::ast::Word;
use brush_parser::word::{
    self, BraceExpressionMember, BraceExpressionOrText, Parameter, ParameterExpr, ParameterTestType,
    SubstringMatchKind, WordPiece,
};

use super::super::ImportError;
use super::field::{Field, Fields};
use super::variables::Found;
use super::{Shell, condition, line_of};

/// Tells whether an unquoted word is a pattern for file names.
fn is_pattern(text: &str) -> bool {
    let has_class = text.split_once('[').is_some_and(|(_, rest)| rest.contains(']'));
    has_class || text.contains(['*', '?'])
}

impl Shell {
    /// Expands a word of a command into fields.
    pub(super) fn fields(&mut self, word: &Word) -> Result<Vec<Field>, ImportError> {
        let line = line_of(word);
        let mut fields = Vec::new();
        for word in braces(&word.value, line)? {
            let mut expanded = Fields::new(true);
            self.expand(&word, line, &mut expanded)?;
            for field in expanded.finish() {
                self.spend(field.text.len() + 1, line)?;
                fields.push(field);
            }
        }
        Ok(fields)
    }

    /// Expands a word into one text, as on the right side of an assignment.
    pub(super) fn text(&mut self, word: &str, line: usize) -> Result<Field, ImportError> {
        let mut expanded = Fields::new(false);
        self.expand(word, line, &mut expanded)?;
        let mut text = Field::default();
        for (index, field) in expanded.finish().iter().enumerate() {
            if index > 0 {
                text.text.push(' ');
            }
            text.append(field);
        }
        self.spend(text.text.len(), line)?;
        Ok(text)
    }

    fn expand(&mut self, word: &str, line: usize, fields: &mut Fields) -> Result<(), ImportError> {
        let pieces = word::parse(word, &ParserOptions::default())
            .map_err(|_| ImportError::at(line, format!("the word `{word}` is not understood")))?;
        for piece in &pieces {
            self.piece(&piece.piece, line, false, fields)?;
        }
        Ok(())
    }

    fn piece(
        &mut self,
        piece: &WordPiece,
        line: usize,
        is_quoted: bool,
        fields: &mut Fields,
    ) -> Result<(), ImportError> {
        match piece {
            WordPiece::Text(text) => {
                if !is_quoted && fields.splits && is_pattern(text) {
                    let what =
                        format!("`{text}` is a pattern for file names, which are known only when the script runs");
                    return Err(ImportError::at(line, what));
                }
                fields.push(&Field::literal(text));
            }
            WordPiece::SingleQuotedText(text) => fields.push(&Field::literal(text)),
            WordPiece::AnsiCQuotedText(text) if text.contains('\\') => {
                return Err(ImportError::at(line, format!("the escapes of $'{text}'")));
            }
            WordPiece::AnsiCQuotedText(text) => fields.push(&Field::literal(text)),
            WordPiece::DoubleQuotedSequence(pieces) | WordPiece::GettextDoubleQuotedSequence(pieces) => {
                // An empty array between quotes is no word, and everything else is.
                let is_list = pieces.len() == 1 && is_list(&pieces[0].piece);
                if !is_list {
                    fields.open();
                }
                for piece in pieces {
                    self.piece(&piece.piece, line, true, fields)?;
                }
            }
            WordPiece::EscapeSequence(sequence) => {
                let escaped = sequence.strip_prefix('\\').unwrap_or(sequence);
                // Between double quotes a backslash escapes four characters only.
                let is_kept = is_quoted && !escaped.starts_with(['$', '`', '"', '\\', '\n']);
                let text = if is_kept { sequence } else { escaped };
                fields.push(&Field::literal(text.trim_start_matches('\n')));
            }
            WordPiece::TildePrefix(_) => fields.push(&Field::computed("~")),
            WordPiece::CommandSubstitution(command) => fields.push(&Field::computed(&format!("$({command})"))),
            WordPiece::BackquotedCommandSubstitution(command) => {
                fields.push(&Field::computed(&format!("`{command}`")));
            }
            WordPiece::ArithmeticExpression(expression) => {
                let value = self.number(&expression.value, line)?;
                fields.push(&Field::literal(&value.to_string()));
            }
            WordPiece::ParameterExpansion(expression) => {
                let value = self.parameter(expression, line)?;
                emit(value, is_quoted, line, fields)?;
            }
        }
        Ok(())
    }

    /// Returns the value of a parameter expansion.
    fn parameter(&mut self, expression: &ParameterExpr, line: usize) -> Result<Found, ImportError> {
        let not_understood = || Err(ImportError::at(line, "an expansion of a variable that is not understood"));
        Ok(match expression {
            ParameterExpr::Parameter { parameter, indirect: false } => self.look_up(parameter, line)?,
            ParameterExpr::UseDefaultValues { parameter, indirect: false, test_type, default_value } => {
                let found = self.look_up(parameter, line)?;
                match missing(&found, test_type) {
                    Some(name) => {
                        let default = self.text(default_value.as_deref().unwrap_or_default(), line)?;
                        self.notes.push(format!("line {line}: {name} has its default, `{}`", default.text));
                        Found::One(default)
                    }
                    None => found,
                }
            }
            ParameterExpr::AssignDefaultValues { parameter, indirect: false, test_type, default_value } => {
                let found = self.look_up(parameter, line)?;
                match (missing(&found, test_type), parameter) {
                    (Some(_), Parameter::Named(name)) => {
                        let default = self.text(default_value.as_deref().unwrap_or_default(), line)?;
                        self.notes.push(format!("line {line}: ${name} has its default, `{}`", default.text));
                        self.assign_scalar(name, default.clone(), false, line)?;
                        Found::One(default)
                    }
                    (Some(name), _) => return Err(ImportError::at(line, format!("{name} cannot be assigned"))),
                    (None, _) => found,
                }
            }
            ParameterExpr::UseAlternativeValue { parameter, indirect: false, test_type, alternative_value } => {
                let found = self.look_up(parameter, line)?;
                match missing(&found, test_type) {
                    Some(name) => Found::Unset(name),
                    None => Found::One(self.text(alternative_value.as_deref().unwrap_or_default(), line)?),
                }
            }
            ParameterExpr::IndicateErrorIfNullOrUnset { parameter, indirect: false, test_type, .. } => {
                let found = self.look_up(parameter, line)?;
                if let Some(name) = missing(&found, test_type) {
                    return Err(ImportError::at(line, format!("the script ends here without {name}")));
                }
                found
            }
            ParameterExpr::ParameterLength { parameter, indirect: false } => {
                let length = match self.look_up(parameter, line)? {
                    Found::Unset(_) => 0,
                    Found::One(value) => value.known_at(line)?.chars().count(),
                    Found::Many(values, _) => values.len(),
                };
                Found::One(Field::literal(&length.to_string()))
            }
            ParameterExpr::RemoveSmallestSuffixPattern { parameter, indirect: false, pattern } => {
                self.removed(parameter, pattern.as_deref(), line, condition::without_shortest_suffix)?
            }
            ParameterExpr::RemoveLargestSuffixPattern { parameter, indirect: false, pattern } => {
                self.removed(parameter, pattern.as_deref(), line, condition::without_longest_suffix)?
            }
            ParameterExpr::RemoveSmallestPrefixPattern { parameter, indirect: false, pattern } => {
                self.removed(parameter, pattern.as_deref(), line, condition::without_shortest_prefix)?
            }
            ParameterExpr::RemoveLargestPrefixPattern { parameter, indirect: false, pattern } => {
                self.removed(parameter, pattern.as_deref(), line, condition::without_longest_prefix)?
            }
            ParameterExpr::ReplaceSubstring { parameter, indirect: false, pattern, replacement, match_kind } => {
                let pattern = self.text(pattern, line)?.known_at(line)?.to_owned();
                let replacement =
                    self.text(replacement.as_deref().unwrap_or_default(), line)?.known_at(line)?.to_owned();
                if pattern.contains(['*', '?', '[']) || pattern.is_empty() {
                    return not_understood();
                }
                let found = self.look_up(parameter, line)?;
                edited(found, line, &|text| match match_kind {
                    SubstringMatchKind::FirstOccurrence => text.replacen(&pattern, &replacement, 1),
                    SubstringMatchKind::Anywhere => text.replace(&pattern, &replacement),
                    SubstringMatchKind::Prefix => match text.strip_prefix(&pattern) {
                        Some(rest) => format!("{replacement}{rest}"),
                        None => text.to_owned(),
                    },
                    SubstringMatchKind::Suffix => match text.strip_suffix(&pattern) {
                        Some(rest) => format!("{rest}{replacement}"),
                        None => text.to_owned(),
                    },
                })?
            }
            ParameterExpr::UppercasePattern { parameter, indirect: false, pattern } if is_whole(pattern) => {
                let found = self.look_up(parameter, line)?;
                edited(found, line, &|text| text.to_uppercase())?
            }
            ParameterExpr::LowercasePattern { parameter, indirect: false, pattern } if is_whole(pattern) => {
                let found = self.look_up(parameter, line)?;
                edited(found, line, &|text| text.to_lowercase())?
            }
            _ => return not_understood(),
        })
    }

    /// Removes a pattern from an end of a parameter's value.
    fn removed(
        &mut self,
        parameter: &Parameter,
        pattern: Option<&str>,
        line: usize,
        remove: fn(&str, &str) -> String,
    ) -> Result<Found, ImportError> {
        let pattern = self.text(pattern.unwrap_or_default(), line)?.known_at(line)?.to_owned();
        condition::check_pattern(&pattern, line)?;
        let found = self.look_up(parameter, line)?;
        edited(found, line, &|text| remove(text, &pattern))
    }
}

/// Tells whether a change of case applies to every character.
fn is_whole(pattern: &Option<String>) -> bool {
    pattern.as_deref().unwrap_or_default().is_empty()
}

/// Adds a value to the fields of the word that it stands in.
fn emit(value: Found, is_quoted: bool, line: usize, fields: &mut Fields) -> Result<(), ImportError> {
    let values = match value {
        Found::Unset(name) => vec![Field::unset(name)],
        Found::One(value) => vec![value],
        Found::Many(values, is_joined) if !fields.splits || (is_quoted && is_joined) => {
            let mut joined = Field::default();
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    joined.text.push(' ');
                }
                joined.append(value);
            }
            vec![joined]
        }
        Found::Many(values, _) => values,
    };
    let count = values.len();
    for (index, value) in values.iter().enumerate() {
        if is_quoted {
            fields.push(value);
        } else if fields.splits && value.known().is_some() && is_pattern(&value.text) {
            let what =
                format!("`{}` is a pattern for file names, which are known only when the script runs", value.text);
            return Err(ImportError::at(line, what));
        } else {
            fields.split(value);
        }
        if index + 1 < count {
            fields.close();
        }
    }
    Ok(())
}

/// Returns the parameter's name if it is unset, or empty where the test asks for that too.
fn missing(found: &Found, test: &ParameterTestType) -> Option<String> {
    let counts_empty = matches!(test, ParameterTestType::UnsetOrNull);
    match found {
        Found::Unset(name) => Some(name.clone()),
        Found::One(value) if counts_empty && value.text.is_empty() => Some("an empty variable".to_owned()),
        Found::Many(values, _) if values.is_empty() => Some("an empty list".to_owned()),
        _ => None,
    }
}

/// Changes the text of a value, whose length must not depend on a running shell.
fn edited(found: Found, line: usize, edit: &dyn Fn(&str) -> String) -> Result<Found, ImportError> {
    let change = |mut value: Field| -> Result<Field, ImportError> {
        value.text = edit(value.known_at(line)?);
        Ok(value)
    };
    Ok(match found {
        Found::Unset(name) => Found::Unset(name),
        Found::One(value) => Found::One(change(value)?),
        Found::Many(values, joined) => Found::Many(values.into_iter().map(change).collect::<Result<_, _>>()?, joined),
    })
}

/// Tells whether a piece expands to all elements of a list, each a word of its own.
fn is_list(piece: &WordPiece) -> bool {
    use brush_parser::word::SpecialParameter::AllPositionalParameters;
    matches!(
        piece,
        WordPiece::ParameterExpansion(ParameterExpr::Parameter {
            parameter: Parameter::NamedWithAllIndices { concatenate: false, .. }
                | Parameter::Special(AllPositionalParameters { concatenate: false }),
            ..
        })
    )
}

/// Expands the braces of a word: `{1,2}` and `{1..3}`.
fn braces(word: &str, line: usize) -> Result<Vec<String>, ImportError> {
    let parts = word::parse_brace_expansions(word, &ParserOptions::default());
    match parts {
        Ok(Some(parts)) => alternatives(&parts, line),
        _ => Ok(vec![word.to_owned()]),
    }
}

fn alternatives(parts: &[BraceExpressionOrText], line: usize) -> Result<Vec<String>, ImportError> {
    let mut words = vec![String::new()];
    for part in parts {
        let endings = match part {
            BraceExpressionOrText::Text(text) => vec![text.clone()],
            BraceExpressionOrText::Expr(members) => {
                let mut endings = Vec::new();
                for member in members {
                    endings.extend(members_of(member, line)?);
                }
                endings
            }
        };
        if words.len() * endings.len() > 1_000 {
            return Err(ImportError::at(line, "its braces make more than 1000 words"));
        }
        words = words.iter().flat_map(|word| endings.iter().map(move |ending| format!("{word}{ending}"))).collect();
    }
    Ok(words)
}

fn members_of(member: &BraceExpressionMember, line: usize) -> Result<Vec<String>, ImportError> {
    match member {
        BraceExpressionMember::Child(parts) => alternatives(parts, line),
        BraceExpressionMember::NumberSequence { start, end, increment } => {
            let step = increment.unsigned_abs().max(1);
            let count = start.abs_diff(*end) / step;
            if count >= 1_000 {
                return Err(ImportError::at(line, "its braces make more than 1000 words"));
            }
            let sign = if end < start { -1 } else { 1 };
            Ok((0..=count as i64).map(|index| (start + sign * index * step as i64).to_string()).collect())
        }
        BraceExpressionMember::CharSequence { .. } => Err(ImportError::at(line, "braces with a range of letters")),
    }
}
