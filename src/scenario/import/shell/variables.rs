//! Variables of a script: their values, assignments, and lookups by a parameter of an expansion.

use brush_parser::ast::{Assignment, AssignmentName, AssignmentValue};
use brush_parser::word::{Parameter, SpecialParameter};

use super::super::ImportError;
use super::field::Field;
use super::{Shell, line_of};

/// Value of a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Scalar(Field),
    Array(Vec<Field>),
}

/// Value of a parameter.
pub(super) enum Found {
    /// No value, with the parameter's name.
    Unset(String),
    One(Field),
    /// All elements of an array, and whether they are joined into one word.
    Many(Vec<Field>, bool),
}

/// Variables that a shell, a login or a scheduler sets, so that their values are not those of the script.
const SET_BY_OTHERS: &[&str] = &[
    "BASHPID",
    "BASH_SOURCE",
    "CONDA_PREFIX",
    "CUDA_VISIBLE_DEVICES",
    "FUNCNAME",
    "HF_HOME",
    "HOME",
    "HOSTNAME",
    "LANG",
    "LINENO",
    "LOGNAME",
    "OLDPWD",
    "PATH",
    "PPID",
    "PWD",
    "PYTHONPATH",
    "RANDOM",
    "SECONDS",
    "SHELL",
    "SHLVL",
    "TERM",
    "TMPDIR",
    "UID",
    "USER",
    "VIRTUAL_ENV",
];

impl Shell {
    /// Carries out an assignment.
    pub(super) fn assign(&mut self, assignment: &Assignment) -> Result<(), ImportError> {
        let line = assignment.loc.start.line;
        match (&assignment.name, &assignment.value) {
            (AssignmentName::VariableName(name), AssignmentValue::Scalar(word)) => {
                let value = self.text(&word.value, line)?;
                self.assign_scalar(name, value, assignment.append, line)
            }
            (AssignmentName::VariableName(name), AssignmentValue::Array(words)) => {
                let mut elements = match self.variables.remove(name) {
                    Some(Value::Array(old)) if assignment.append => old,
                    Some(Value::Scalar(old)) if assignment.append => vec![old],
                    _ => vec![],
                };
                for (index, word) in words {
                    if index.is_some() {
                        return Err(ImportError::at(line, format!("`{name}` has elements with an index")));
                    }
                    elements.extend(self.fields(word)?.into_iter().filter(|field| !field.is_absent));
                }
                self.variables.insert(name.clone(), Value::Array(elements));
                Ok(())
            }
            (AssignmentName::ArrayElementName(name, index), AssignmentValue::Scalar(word)) => {
                let value = self.text(&word.value, line)?;
                self.assign_element(name, index, value, assignment.append, line)
            }
            (AssignmentName::ArrayElementName(name, _), AssignmentValue::Array(_)) => {
                Err(ImportError::at(line, format!("an element of `{name}` is an array")))
            }
        }
    }

    pub(super) fn assign_scalar(
        &mut self,
        name: &str,
        value: Field,
        appends: bool,
        line: usize,
    ) -> Result<(), ImportError> {
        self.spend(value.text.len(), line)?;
        let old = self.variables.get_mut(name);
        match (old, appends) {
            (Some(Value::Scalar(old)), true) => {
                let all = old.text.len();
                old.append(&value);
                return self.spend(all, line);
            }
            // A plain value for an array sets its first element.
            (Some(Value::Array(old)), _) => match (old.first_mut(), appends) {
                (Some(first), true) => first.append(&value),
                (Some(first), false) => *first = value,
                (None, _) => old.push(value),
            },
            _ => {
                self.variables.insert(name.to_owned(), Value::Scalar(value));
            }
        }
        Ok(())
    }

    fn assign_element(
        &mut self,
        name: &str,
        index: &str,
        value: Field,
        appends: bool,
        line: usize,
    ) -> Result<(), ImportError> {
        self.spend(value.text.len(), line)?;
        let index = self.number(index, line)?;
        let old = self.variables.entry(name.to_owned()).or_insert_with(|| Value::Array(vec![]));
        if let Value::Scalar(scalar) = old {
            *old = Value::Array(vec![std::mem::take(scalar)]);
        }
        let Value::Array(elements) = old else { unreachable!("a scalar was made an array") };
        let length = elements.len();
        let index = usize::try_from(index).ok().filter(|&index| index <= length);
        match index {
            Some(index) if index == length => elements.push(value),
            Some(index) if appends => elements[index].append(&value),
            Some(index) => elements[index] = value,
            None => return Err(ImportError::at(line, format!("`{name}` would have gaps between its elements"))),
        }
        Ok(())
    }

    /// Returns the value of a parameter of an expansion.
    pub(super) fn look_up(&mut self, parameter: &Parameter, line: usize) -> Result<Found, ImportError> {
        Ok(match parameter {
            Parameter::Positional(0) | Parameter::Special(SpecialParameter::ShellName) => {
                Found::One(Field::computed("$0"))
            }
            Parameter::Positional(number) => match self.positional.get(*number as usize - 1) {
                Some(argument) => Found::One(argument.clone()),
                None => Found::Unset(format!("${number}")),
            },
            Parameter::Special(SpecialParameter::AllPositionalParameters { concatenate }) => {
                Found::Many(self.positional.clone(), *concatenate)
            }
            Parameter::Special(SpecialParameter::PositionalParameterCount) => {
                Found::One(Field::literal(&self.positional.len().to_string()))
            }
            Parameter::Special(SpecialParameter::LastExitStatus) => Found::One(Field::computed("$?")),
            Parameter::Special(SpecialParameter::ProcessId) => Found::One(Field::computed("$$")),
            Parameter::Special(SpecialParameter::LastBackgroundProcessId) => Found::One(Field::computed("$!")),
            Parameter::Special(SpecialParameter::CurrentOptionFlags) => Found::One(Field::computed("$-")),
            Parameter::Named(name) => match self.variables.get(name) {
                Some(Value::Scalar(value)) => Found::One(value.clone()),
                Some(Value::Array(elements)) => match elements.first() {
                    Some(first) => Found::One(first.clone()),
                    None => Found::Unset(format!("${name}")),
                },
                None => unset(name),
            },
            Parameter::NamedWithIndex { name, index } => {
                let index = self.number(index, line)?;
                match self.variables.get(name) {
                    Some(Value::Array(elements)) => {
                        // A negative index counts from the end.
                        let from_end = if index < 0 { elements.len() as i64 } else { 0 };
                        let at = usize::try_from(index + from_end).ok();
                        match at.and_then(|at| elements.get(at)) {
                            Some(element) => Found::One(element.clone()),
                            None => Found::Unset(format!("${name}[{index}]")),
                        }
                    }
                    Some(Value::Scalar(value)) if index == 0 || index == -1 => Found::One(value.clone()),
                    Some(Value::Scalar(_)) => Found::Unset(format!("${name}[{index}]")),
                    None => unset(name),
                }
            }
            Parameter::NamedWithAllIndices { name, concatenate } => match self.variables.get(name) {
                Some(Value::Array(elements)) => Found::Many(elements.clone(), *concatenate),
                Some(Value::Scalar(value)) => Found::Many(vec![value.clone()], *concatenate),
                None => match unset(name) {
                    Found::One(computed) => Found::One(computed),
                    _ => Found::Many(vec![], *concatenate),
                },
            },
        })
    }

    /// Carries out the assignments of `export`, `local` and their like.
    pub(super) fn declare(&mut self, assignment: &Assignment) -> Result<(), ImportError> {
        self.step(line_of(assignment))?;
        self.assign(assignment)
    }
}

/// Returns the value of a variable that the script does not set.
fn unset(name: &str) -> Found {
    if SET_BY_OTHERS.contains(&name) || name.starts_with("SLURM_") {
        Found::One(Field::computed(&format!("${name}")))
    } else {
        Found::Unset(format!("${name}"))
    }
}
