//! Commands: lists, loops, conditions, functions, builtins, and calls of a trainer.

use std::rc::Rc;

use brush_parser::ast::{
    AndOr, AndOrList, CaseClauseCommand, CaseItemPostAction, Command, CommandPrefixOrSuffixItem, CompoundCommand,
    CompoundList, ForClauseCommand, FunctionBody, IfClauseCommand, IoRedirect, Pipeline, SeparatorOperator,
    SimpleCommand, SourceLocation, WhileOrUntilClauseCommand,
};

use super::super::ImportError;
use super::field::Field;
use super::{Call, DEEPEST, Shell, condition, line_of};

/// Way in which a script goes on after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Next,
    /// Leaves this number of loops.
    Break(u64),
    /// Leaves all but one of this number of loops, and goes on with the next turn of that one.
    Continue(u64),
    Return,
    Exit,
}

/// Programs that start another, which may be a trainer.
const LAUNCHERS: &[&str] = &[
    "accelerate",
    "apptainer",
    "conda",
    "deepspeed",
    "env",
    "exec",
    "mpiexec",
    "mpirun",
    "nice",
    "nohup",
    "numactl",
    "pdm",
    "poetry",
    "singularity",
    "srun",
    "stdbuf",
    "sudo",
    "taskset",
    "time",
    "timeout",
    "torchrun",
    "uv",
];
/// Programs that name a trainer's file without running it.
const READERS: &[&str] = &[
    "awk",
    "cat",
    "chmod",
    "cp",
    "diff",
    "echo",
    "git",
    "grep",
    "head",
    "less",
    "ls",
    "md5sum",
    "mv",
    "printf",
    "rm",
    "rsync",
    "sed",
    "sha256sum",
    "tail",
    "tee",
    "test",
    "touch",
    "wc",
];
/// Builtins that take settings from where a script does not show them.
const NOT_UNDERSTOOD: &[&str] =
    &[".", "alias", "coproc", "eval", "getopts", "let", "mapfile", "read", "readarray", "select", "source"];

/// Commands that may be carried out.
type Branch<'b> = &'b dyn Fn(&mut Shell) -> Result<Flow, ImportError>;

impl Shell {
    pub(super) fn list(&mut self, list: &CompoundList) -> Result<Flow, ImportError> {
        for item in &list.0 {
            let flow = match item.1 {
                SeparatorOperator::Async => self.subshell(|shell| shell.and_or(&item.0))?,
                SeparatorOperator::Sequence => self.and_or(&item.0)?,
            };
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn and_or(&mut self, list: &AndOrList) -> Result<Flow, ImportError> {
        let mut flow = self.pipeline(&list.first)?;
        for next in &list.additional {
            if flow != Flow::Next {
                return Ok(flow);
            }
            let (runs_on, pipeline) = match next {
                AndOr::And(pipeline) => (true, pipeline),
                AndOr::Or(pipeline) => (false, pipeline),
            };
            match self.status {
                Some(status) if status == runs_on => flow = self.pipeline(pipeline)?,
                Some(_) => {}
                None => {
                    self.undecided(self.line, &[&|shell: &mut Self| shell.pipeline(pipeline)])?;
                    self.status = None;
                }
            }
        }
        Ok(flow)
    }

    fn pipeline(&mut self, pipeline: &Pipeline) -> Result<Flow, ImportError> {
        let mut flow = Flow::Next;
        if let [command] = pipeline.seq.as_slice() {
            flow = self.command(command)?;
        } else {
            for command in &pipeline.seq {
                self.subshell(|shell| shell.command(command))?;
            }
        }
        if pipeline.bang {
            self.status = self.status.map(|status| !status);
        }
        Ok(flow)
    }

    /// Runs commands whose assignments end with them. Their calls stay.
    fn subshell(&mut self, run: impl FnOnce(&mut Self) -> Result<Flow, ImportError>) -> Result<Flow, ImportError> {
        let mut inner = self.clone();
        run(&mut inner)?;
        self.calls = inner.calls;
        self.notes = inner.notes;
        self.steps = inner.steps;
        self.text = inner.text;
        self.status = inner.status;
        Ok(Flow::Next)
    }

    /// Reads branches of which only a running shell knows whether they are taken. None may change what is imported.
    fn undecided(&mut self, line: usize, branches: &[Branch]) -> Result<(), ImportError> {
        for branch in branches {
            let mut taken = self.clone();
            let flow = branch(&mut taken)?;
            let is_same = flow == Flow::Next
                && taken.variables == self.variables
                && taken.calls == self.calls
                && taken.positional == self.positional
                && taken.functions.len() == self.functions.len();
            if !is_same {
                return Err(ImportError::at(line, "whether it is carried out is known only when the script runs"));
            }
            self.steps = taken.steps;
            self.text = taken.text;
        }
        Ok(())
    }

    fn command(&mut self, command: &Command) -> Result<Flow, ImportError> {
        let line = command.location().map_or(self.line, |location| location.start.line);
        self.line = line;
        self.step(line)?;
        match command {
            Command::Simple(simple) => self.simple(simple),
            Command::Compound(compound, _) => self.nested(compound, line),
            Command::Function(function) => {
                self.functions.insert(function.fname.value.clone(), Rc::new(function.body.clone()));
                self.status = Some(true);
                Ok(Flow::Next)
            }
            Command::ExtendedTest(test) => {
                self.status = self.extended(&test.expr, line)?;
                Ok(Flow::Next)
            }
        }
    }

    /// Runs a group, loop or condition one level deeper.
    fn nested(&mut self, compound: &CompoundCommand, line: usize) -> Result<Flow, ImportError> {
        if self.depth == DEEPEST {
            return Err(ImportError::at(line, format!("more than {DEEPEST} groups or functions are open")));
        }
        self.depth += 1;
        let flow = self.compound(compound, line);
        self.depth -= 1;
        flow
    }

    fn compound(&mut self, compound: &CompoundCommand, line: usize) -> Result<Flow, ImportError> {
        match compound {
            CompoundCommand::Arithmetic(arithmetic) => {
                self.status = Some(self.number(&arithmetic.expr.value, line)? != 0);
                Ok(Flow::Next)
            }
            CompoundCommand::BraceGroup(group) => self.list(&group.list),
            CompoundCommand::Subshell(group) => self.subshell(|shell| shell.list(&group.list)),
            CompoundCommand::ForClause(clause) => self.for_each(clause),
            CompoundCommand::CaseClause(clause) => self.case(clause, line),
            CompoundCommand::IfClause(clause) => self.if_then(clause),
            CompoundCommand::WhileClause(clause) => self.repeat(clause, true),
            CompoundCommand::UntilClause(clause) => self.repeat(clause, false),
            CompoundCommand::ArithmeticForClause(clause) => {
                if let Some(first) = &clause.initializer {
                    self.number(&first.value, line)?;
                }
                loop {
                    self.step(line)?;
                    if let Some(condition) = &clause.condition
                        && self.number(&condition.value, line)? == 0
                    {
                        return Ok(Flow::Next);
                    }
                    if let Some(flow) = left(self.list(&clause.body.list)?) {
                        return Ok(flow);
                    }
                    if let Some(update) = &clause.updater {
                        self.number(&update.value, line)?;
                    }
                }
            }
        }
    }

    fn for_each(&mut self, clause: &ForClauseCommand) -> Result<Flow, ImportError> {
        let line = clause.loc.start.line;
        let mut values = self.positional.clone();
        if let Some(words) = &clause.values {
            values.clear();
            for word in words {
                values.extend(self.fields(word)?.into_iter().filter(|field| !field.is_absent));
            }
        }
        for value in values {
            value.known_at(line)?;
            self.step(line)?;
            self.assign_scalar(&clause.variable_name, value, false, line)?;
            if let Some(flow) = left(self.list(&clause.body.list)?) {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn repeat(&mut self, clause: &WhileOrUntilClauseCommand, while_true: bool) -> Result<Flow, ImportError> {
        let line = clause.2.start.line;
        loop {
            self.step(line)?;
            let flow = self.list(&clause.0)?;
            if flow != Flow::Next {
                return Ok(flow);
            }
            match self.status {
                Some(status) if status == while_true => {}
                Some(_) => return Ok(Flow::Next),
                None => {
                    self.undecided(line, &[&|shell: &mut Self| shell.list(&clause.1.list)])?;
                    return Ok(Flow::Next);
                }
            }
            if let Some(flow) = left(self.list(&clause.1.list)?) {
                return Ok(flow);
            }
        }
    }

    fn if_then(&mut self, clause: &IfClauseCommand) -> Result<Flow, ImportError> {
        let elses = clause.elses.as_deref().unwrap_or_default();
        let mut branches = vec![(Some(&clause.condition), &clause.then)];
        branches.extend(elses.iter().map(|branch| (branch.condition.as_ref(), &branch.body)));
        for (index, (condition, body)) in branches.iter().enumerate() {
            if let Some(condition) = condition {
                let flow = self.list(condition)?;
                if flow != Flow::Next {
                    return Ok(flow);
                }
                match self.status {
                    Some(true) => {}
                    Some(false) => continue,
                    // Any of the bodies from here on may be carried out.
                    None => {
                        for (_, body) in &branches[index..] {
                            self.undecided(clause.loc.start.line, &[&|shell: &mut Self| shell.list(body)])?;
                        }
                        self.status = None;
                        return Ok(Flow::Next);
                    }
                }
            }
            return self.list(body);
        }
        self.status = Some(true);
        Ok(Flow::Next)
    }

    fn case(&mut self, clause: &CaseClauseCommand, line: usize) -> Result<Flow, ImportError> {
        let value = self.text(&clause.value.value, line)?.known_at(line)?.to_owned();
        for item in &clause.cases {
            if !matches!(item.post_action, CaseItemPostAction::ExitCase) {
                return Err(ImportError::at(line, "a case that goes on with the next"));
            }
            for pattern in &item.patterns {
                let text = self.text(&pattern.value, line)?.known_at(line)?.to_owned();
                condition::check_pattern(&text, line)?;
                let is_literal = pattern.value.contains(['"', '\'']);
                if (is_literal && text == value) || (!is_literal && condition::matches(&text, &value)) {
                    return item.cmd.as_ref().map_or(Ok(Flow::Next), |list| self.list(list));
                }
            }
        }
        Ok(Flow::Next)
    }

    fn simple(&mut self, simple: &SimpleCommand) -> Result<Flow, ImportError> {
        let line = self.line;
        let prefix = simple.prefix.as_ref().map_or(&[][..], |prefix| &prefix.0);
        let suffix = simple.suffix.as_ref().map_or(&[][..], |suffix| &suffix.0);
        let Some(name) = &simple.word_or_name else {
            for item in prefix {
                if let CommandPrefixOrSuffixItem::AssignmentWord(assignment, _) = item {
                    self.assign(assignment)?;
                }
            }
            self.status = Some(true);
            return Ok(Flow::Next);
        };
        if matches!(name.value.as_str(), "export" | "declare" | "typeset" | "local" | "readonly") {
            return self.declaration(suffix, line);
        }
        let mut fields = self.fields(name)?;
        for item in suffix {
            match item {
                CommandPrefixOrSuffixItem::Word(word) | CommandPrefixOrSuffixItem::AssignmentWord(_, word) => {
                    let line = line_of(word);
                    fields.extend(self.fields(word).map_err(|error| elsewhere(error, line))?);
                }
                CommandPrefixOrSuffixItem::ProcessSubstitution(..) => fields.push(Field::computed("<(...)")),
                CommandPrefixOrSuffixItem::IoRedirect(_) => {}
            }
        }
        // An absent first word makes the next one the command's name.
        let first = fields.iter().position(|field| !field.is_absent);
        fields.drain(..first.unwrap_or(fields.len()));
        let Some(name) = fields.first().cloned() else {
            self.status = Some(true);
            return Ok(Flow::Next);
        };
        if let Some(body) = self.functions.get(&name.text).cloned() {
            return self.function(&body, fields.split_off(1), line);
        }
        self.builtin(&name.text, &fields[1..], line).unwrap_or_else(|| {
            let documents = suffix.iter().filter_map(|item| match item {
                CommandPrefixOrSuffixItem::IoRedirect(IoRedirect::HereDocument(_, document)) => Some(document),
                _ => None,
            });
            let reads_trainer = documents.into_iter().any(|document| names_trainer(&document.doc.value));
            self.external(&fields, reads_trainer, line)?;
            Ok(Flow::Next)
        })
    }

    fn declaration(&mut self, suffix: &[CommandPrefixOrSuffixItem], line: usize) -> Result<Flow, ImportError> {
        for item in suffix {
            match item {
                CommandPrefixOrSuffixItem::AssignmentWord(assignment, _) => self.declare(assignment)?,
                CommandPrefixOrSuffixItem::Word(word)
                    if word.value.starts_with('-') && word.value.contains(['A', 'i', 'n', 'l', 'u', 'f', 'p']) =>
                {
                    return Err(ImportError::at(line, format!("the option {} of a declaration", word.value)));
                }
                // A name alone changes no value, and other options none that is imported.
                _ => {}
            }
        }
        self.status = Some(true);
        Ok(Flow::Next)
    }

    fn function(&mut self, body: &FunctionBody, arguments: Vec<Field>, line: usize) -> Result<Flow, ImportError> {
        let outer = std::mem::replace(&mut self.positional, arguments);
        let flow = self.nested(&body.0, line)?;
        self.positional = outer;
        Ok(if flow == Flow::Return { Flow::Next } else { flow })
    }

    /// Carries out a builtin; `None` if `name` is none.
    fn builtin(&mut self, name: &str, arguments: &[Field], line: usize) -> Option<Result<Flow, ImportError>> {
        let mut status = Some(true);
        let mut flow = Flow::Next;
        let count = || arguments.first().and_then(|field| field.text.parse().ok()).unwrap_or(1);
        match name {
            ":" | "true" | "shopt" | "trap" | "ulimit" | "umask" | "wait" | "sleep" => {}
            "false" => status = Some(false),
            "[" | "test" => {
                let end = arguments.len() - usize::from(name == "[" && !arguments.is_empty());
                match self.test(&arguments[..end], line) {
                    Ok(value) => status = value,
                    Err(error) => return Some(Err(error)),
                }
            }
            "unset" => {
                for field in arguments.iter().filter(|field| !field.text.starts_with('-')) {
                    self.variables.remove(&field.text);
                    self.functions.remove(&field.text);
                }
            }
            // Options such as `-e` change no value; words after `--` are new arguments.
            "set" => {
                if let Some(at) = arguments.iter().position(|field| field.text == "--") {
                    self.positional = arguments[at + 1..].to_vec();
                } else if arguments.first().is_some_and(|field| !field.text.starts_with(['-', '+'])) {
                    self.positional = arguments.to_vec();
                }
            }
            "shift" => {
                let count = usize::try_from(count()).unwrap_or(usize::MAX);
                status = Some(count <= self.positional.len());
                if count <= self.positional.len() {
                    self.positional.drain(..count);
                }
            }
            "break" => flow = Flow::Break(count()),
            "continue" => flow = Flow::Continue(count()),
            "return" => flow = Flow::Return,
            "exit" => flow = Flow::Exit,
            "cd" | "pushd" | "popd" => {
                let folder: Vec<&str> = arguments.iter().map(|field| field.text.as_str()).collect();
                self.notes.push(format!(
                    "line {line}: {name} {}: paths are written as the script has them",
                    folder.join(" ")
                ));
            }
            name if NOT_UNDERSTOOD.contains(&name) => {
                return Some(Err(ImportError::at(line, format!("`{name}` is not understood"))));
            }
            "printf" if arguments.first().is_some_and(|field| field.text == "-v") => {
                return Some(Err(ImportError::at(line, "`printf -v` is not understood")));
            }
            _ => return None,
        }
        self.status = status;
        Some(Ok(flow))
    }

    /// Notes the call, if a program is a trainer or starts one. Other programs are taken to succeed.
    fn external(&mut self, fields: &[Field], reads_trainer: bool, line: usize) -> Result<(), ImportError> {
        let name = fields[0].text.rsplit('/').next().unwrap_or_default();
        let names = |field: &Field| names_trainer(&field.text);
        self.status = Some(true);
        if READERS.contains(&name) || !(reads_trainer || fields.iter().any(names)) {
            return Ok(());
        }
        let Some(at) = fields.iter().position(|field| is_trainer(&field.text)) else {
            return Err(ImportError::at(line, format!("`{name}` runs a trainer in a way that is not understood")));
        };
        let starts_it =
            at == 0 || LAUNCHERS.contains(&name) || name.starts_with("python") || !fields[0].unset.is_empty();
        if !starts_it && fields[0].known().is_some() {
            return Err(ImportError::at(line, format!("whether `{name}` runs a trainer is not known")));
        }
        self.calls.push(Call {
            line,
            is_dpo: fields[at].text.ends_with("main_dpo.py"),
            arguments: fields[at + 1..].to_vec(),
        });
        Ok(())
    }
}

fn is_trainer(word: &str) -> bool {
    matches!(word.rsplit('/').next(), Some("main_sft.py" | "main_dpo.py"))
}

fn names_trainer(text: &str) -> bool {
    text.contains("main_sft.py") || text.contains("main_dpo.py")
}

/// Returns how a loop is left after a turn of it; `None` if its next turn follows.
fn left(flow: Flow) -> Option<Flow> {
    match flow {
        Flow::Next | Flow::Continue(0 | 1) => None,
        Flow::Break(0 | 1) => Some(Flow::Next),
        Flow::Break(loops) => Some(Flow::Break(loops - 1)),
        Flow::Continue(loops) => Some(Flow::Continue(loops - 1)),
        Flow::Return | Flow::Exit => Some(flow),
    }
}

/// Gives an error of a word the word's own line, which is more exact than that of its command.
fn elsewhere(error: ImportError, line: usize) -> ImportError {
    match error {
        ImportError::Line { what, .. } => ImportError::Line { line, what },
        other => other,
    }
}
