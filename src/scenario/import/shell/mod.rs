//! Calls of a trainer that bash would make for a script. Nothing is executed.
//!
//! `brush-parser` reads bash's grammar. The commands and words get the meaning that they have in bash, as far as training
//! scripts need it: variables, arrays, loops, conditions, functions. A script is read as if it were started without
//! arguments, in an environment that sets none of its variables. Everything else is refused with its line, so that no setting
//! is guessed.

mod arithmetic;
mod command;
mod condition;
mod expand;
mod field;
mod variables;

use std::collections::BTreeMap;
use std::rc::Rc;

use brush_parser::ast::{FunctionBody, SourceLocation};
use brush_parser::{ParserOptions, SourceInfo, TokenizerOptions, parse_tokens, tokenize_str_with_options};

use super::ImportError;
use crate::store::without_panic;
pub(super) use field::Field;
use variables::Value;

/// Longest script that is read [byte].
const LONGEST_SCRIPT: usize = 1 << 18;
/// Commands that a script may run, and bytes that its words may take together: loops and doublings end there.
const MOST_STEPS: usize = 10_000;
const MOST_TEXT: usize = 1 << 22;
/// Functions and groups that may be open at once.
const DEEPEST: usize = 50;
/// Braces that may be open at once in a word.
const DEEPEST_BRACES: usize = 10;

/// Call of `main_sft.py` or `main_dpo.py`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// Line of the trainer's name.
    pub line: usize,
    pub is_dpo: bool,
    /// Words after the trainer's name.
    pub arguments: Vec<Field>,
}

/// Calls of a script, in the order in which bash makes them, and notes about what the script leaves to its user.
#[derive(Debug)]
pub(super) struct Calls {
    pub calls: Vec<Call>,
    pub notes: Vec<String>,
}

/// Returns the calls of a trainer in a script.
///
/// # Errors
/// If the script is no valid bash, or a command that it runs is not understood.
pub(super) fn calls(text: &str) -> Result<Calls, ImportError> {
    if text.len() > LONGEST_SCRIPT {
        return Err(ImportError::Syntax(format!("it has {} bytes, and {LONGEST_SCRIPT} are read", text.len())));
    }
    let text = text.replace("\r\n", "\n");
    if most_open(&text, *b"()") > DEEPEST {
        return Err(ImportError::Syntax(format!("more than {DEEPEST} parentheses are open at once")));
    }
    if text.split([' ', '\t', '\n']).any(|word| most_open(word, *b"{}") > DEEPEST_BRACES) {
        return Err(ImportError::Syntax(format!("more than {DEEPEST_BRACES} braces are open at once in a word")));
    }
    // The parser calls itself for every nested expression, and a panic of it is no reason for ours.
    let reader = std::thread::Builder::new().stack_size(256 << 20).spawn(move || without_panic(|| read(&text)));
    let reader = reader.map_err(|error| ImportError::Syntax(format!("failed to start a thread: {error}")))?;
    let read = reader.join().unwrap_or_else(|_| Err("its parser failed".to_owned()));
    read.unwrap_or_else(|panic| Err(ImportError::Syntax(panic)))
}

/// Returns the most of these brackets that are open at once. The parser's time grows steeply with them.
fn most_open(text: &str, [opening, closing]: [u8; 2]) -> usize {
    let mut open = 0usize;
    let mut most = 0;
    for byte in text.bytes() {
        if byte == opening {
            open += 1;
            most = most.max(open);
        } else if byte == closing {
            open = open.saturating_sub(1);
        }
    }
    most
}

fn read(text: &str) -> Result<Calls, ImportError> {
    let tokens = tokenize_str_with_options(text, &TokenizerOptions::default())
        .map_err(|error| ImportError::Syntax(error.to_string()))?;
    let program = parse_tokens(&tokens, &ParserOptions::default(), &SourceInfo::default())
        .map_err(|error| ImportError::Syntax(error.to_string()))?;
    let mut shell = Shell::default();
    for list in &program.complete_commands {
        if shell.list(list)? == command::Flow::Exit {
            break;
        }
    }
    Ok(Calls { calls: shell.calls, notes: shell.notes })
}

/// State of a shell while a script is read.
#[derive(Clone, Default)]
struct Shell {
    variables: BTreeMap<String, Value>,
    functions: BTreeMap<String, Rc<FunctionBody>>,
    /// Arguments of the function that is read; the script itself has none.
    positional: Vec<Field>,
    /// Whether the last command succeeded; `None` if only a running shell knows.
    status: Option<bool>,
    calls: Vec<Call>,
    notes: Vec<String>,
    /// Line of the command that is read.
    line: usize,
    steps: usize,
    text: usize,
    depth: usize,
}

impl Shell {
    /// Counts bytes of words, and refuses what no training script needs.
    fn spend(&mut self, bytes: usize, line: usize) -> Result<(), ImportError> {
        self.text += bytes;
        if self.text > MOST_TEXT {
            return Err(ImportError::at(line, format!("its words take more than {MOST_TEXT} bytes")));
        }
        Ok(())
    }

    fn step(&mut self, line: usize) -> Result<(), ImportError> {
        self.steps += 1;
        if self.steps > MOST_STEPS {
            return Err(ImportError::at(line, format!("the script runs more than {MOST_STEPS} commands")));
        }
        Ok(())
    }
}

/// Returns the line on which a part of a script begins.
fn line_of(part: &impl SourceLocation) -> usize {
    part.location().map_or(1, |location| location.start.line)
}
