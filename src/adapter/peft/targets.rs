//! Selection of modules as in PEFT: target_modules, exclude_modules, layers_to_transform, and patterns with values.
//!
//! Expressions are in Python's notation, which Oniguruma reads; an expression that it does not know is an error.

use onig::{MatchParam, Regex, RegexOptions, SearchOptions, Syntax};

/// Regular expression in Python's notation.
#[derive(Debug)]
pub struct Expression {
    text: String,
    compiled: Regex,
}

impl Expression {
    /// Compiles an expression for Python's `re.fullmatch`.
    ///
    /// # Errors
    /// If it is not a regular expression.
    pub fn new(text: &str) -> Result<Self, String> {
        Self::compile(text, &format!("(?:{text})\\Z"))
    }

    /// Compiles an expression for Python's `re.match`, which may match less than the whole path.
    fn beginning(text: &str) -> Result<Self, String> {
        Self::compile(text, text)
    }

    fn compile(text: &str, whole: &str) -> Result<Self, String> {
        let compiled = Regex::with_options(whole, RegexOptions::REGEX_OPTION_NONE, Syntax::python())
            .map_err(|error| format!("{text:?} is not a regular expression: {error}"))?;
        Ok(Self { text: text.into(), compiled })
    }

    /// Returns whether the expression matches the whole path.
    ///
    /// # Errors
    /// If matching takes too many steps.
    pub fn matches(&self, path: &str) -> Result<bool, String> {
        Ok(self.length_in(path)? == Some(path.len()))
    }

    /// Returns the length of the match at the beginning of the path, if there is one.
    fn length_in(&self, path: &str) -> Result<Option<usize>, String> {
        let found =
            self.compiled.match_with_param(path, 0, SearchOptions::SEARCH_OPTION_NONE, None, MatchParam::default());
        found.map_err(|error| format!("{:?} cannot be matched with {path}: {error}", self.text))
    }
}

/// Set of modules, as in `target_modules` and `exclude_modules`.
#[derive(Debug)]
pub enum ModuleSet {
    /// The text `all-linear`.
    AllLinear,
    /// Names or dotted suffixes of modules.
    Names(Vec<String>),
    /// An expression that matches whole paths.
    Expression(Expression),
}

impl ModuleSet {
    /// Returns whether the selection has the module at `path`.
    ///
    /// # Errors
    /// If an expression cannot be matched.
    pub fn selects(&self, path: &str) -> Result<bool, String> {
        match self {
            Self::AllLinear => Ok(true),
            Self::Names(names) => Ok(names.iter().any(|name| is_suffix(path, name))),
            Self::Expression(expression) => expression.matches(path),
        }
    }

    /// Returns whether the path itself is one of the names, which layers_to_transform does not restrict.
    fn names(&self, path: &str) -> bool {
        matches!(self, Self::Names(names) if names.iter().any(|name| name == path))
    }
}

/// Layers that `layers_to_transform` and `layers_pattern` leave to an adapter.
#[derive(Debug)]
pub struct LayerRule {
    /// Numbers of the layers.
    indices: Vec<u64>,
    /// Expressions of the path before a layer's number; the first one that matches decides.
    before: Vec<Expression>,
}

impl LayerRule {
    /// Creates the rule from the numbers of the layers and the names of the lists that hold them, which are expressions.
    /// Without names, any list that does not begin a path counts.
    ///
    /// # Errors
    /// If a name is not a regular expression.
    pub fn new(indices: Vec<u64>, lists: &[String]) -> Result<Self, String> {
        let mut before = Vec::new();
        for list in lists {
            Expression::new(list)?;
            before.push(Expression::beginning(&format!(r"(?:^|.*?\.){list}\.(?=\d+\.)"))?);
        }
        if before.is_empty() {
            before.push(Expression::beginning(r".*?\.[^.]*\.(?=\d+\.)")?);
        }
        Ok(Self { indices, before })
    }

    /// Returns whether the module at `path` is in one of the layers.
    fn have(&self, path: &str) -> Result<bool, String> {
        for before in &self.before {
            if let Some(end) = before.length_in(path)? {
                let number = path[end..].split('.').next().and_then(|number| number.parse::<u64>().ok());
                return Ok(number.is_some_and(|number| self.indices.contains(&number)));
            }
        }
        Ok(false)
    }
}

/// Rules by which PEFT chooses the modules that get an adapter.
#[derive(Debug)]
pub struct TargetRules {
    /// `target_modules`
    pub targets: ModuleSet,
    /// `exclude_modules`
    pub excluded: Option<ModuleSet>,
    /// `layers_to_transform` and `layers_pattern`
    pub layers: Option<LayerRule>,
}

impl TargetRules {
    /// Returns the key that keeps the module at `path` from getting an adapter, or `None` if it gets one.
    ///
    /// # Errors
    /// If an expression cannot be matched.
    pub fn key_against(&self, path: &str) -> Result<Option<&'static str>, String> {
        if let Some(excluded) = &self.excluded
            && excluded.selects(path)?
        {
            return Ok(Some("exclude_modules"));
        }
        if self.targets.names(path) {
            return Ok(None);
        }
        if !self.targets.selects(path)? {
            return Ok(Some("target_modules"));
        }
        match &self.layers {
            Some(layers) if !layers.have(path)? => Ok(Some("layers_to_transform")),
            _ => Ok(None),
        }
    }
}

/// Values by patterns of module paths, as in `rank_pattern` and `alpha_pattern`, in the order of the file.
#[derive(Debug)]
pub struct PatternValues<T>(Vec<(Expression, T)>);

impl<T: Copy> PatternValues<T> {
    /// Compiles the patterns. A pattern matches a path, or the end of it behind a dot.
    ///
    /// # Errors
    /// If a pattern is not a regular expression.
    pub fn new(values: Vec<(String, T)>) -> Result<Self, String> {
        let mut compiled = Vec::with_capacity(values.len());
        for (pattern, value) in values {
            Expression::new(&pattern)?;
            compiled.push((Expression::new(&format!("(.*\\.)?({pattern})"))?, value));
        }
        Ok(Self(compiled))
    }

    /// Returns the value of the first pattern that matches.
    ///
    /// # Errors
    /// If a pattern cannot be matched.
    pub fn of(&self, path: &str) -> Result<Option<T>, String> {
        for (pattern, value) in &self.0 {
            if pattern.matches(path)? {
                return Ok(Some(*value));
            }
        }
        Ok(None)
    }
}

/// Returns whether `path` is `name`, or ends in it behind a dot.
fn is_suffix(path: &str, name: &str) -> bool {
    path == name || path.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
}
