//! The chat template of a model folder, and the special tokens that it may refer to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::ChatTemplateError;
use crate::data::DatasetError;
use crate::data::tokenizer_files::optional_json;
use crate::store::read_text_limited;

/// Name of the template that is used by default.
const DEFAULT: &str = "default";

/// Names by which templates refer to special tokens, as in Transformers.
const TOKENS: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// The text of a template, with its origin and special tokens.
#[derive(Debug)]
pub(super) struct Source {
    /// File and, if the file has several templates, name; for error messages.
    pub label: String,
    pub text: String,
    /// The special tokens that are configured, by name.
    pub tokens: BTreeMap<&'static str, String>,
}

impl Source {
    /// Reads the template `name` of a folder; `None` selects the default.
    ///
    /// `chat_template.jinja` takes precedence over tokenizer_config.json, as in Transformers.
    pub fn read(folder: &Path, name: Option<&str>) -> Result<Self, ChatTemplateError> {
        let configuration = optional_json(&folder.join("tokenizer_config.json"))?;
        let special_tokens = optional_json(&folder.join("special_tokens_map.json"))?;
        let (path, templates) = templates(folder, &configuration)?;
        let name = name.unwrap_or(DEFAULT);
        let several = templates.len() > 1;
        let known = templates.keys().cloned().collect();
        let Some(text) = templates.get(name).cloned() else {
            return Err(ChatTemplateError::UnknownName { path, name: name.into(), known });
        };
        let label = if several { format!("{name:?} of {}", path.display()) } else { path.display().to_string() };
        Ok(Self { label, text: with_line_feeds(&text), tokens: tokens(&[&configuration, &special_tokens]) })
    }
}

/// Returns a template's source with line feeds as line ends, which Jinja makes of `\r\n` and `\r`. Messages keep theirs.
fn with_line_feeds(source: &str) -> String {
    source.replace("\r\n", "\n").replace('\r', "\n")
}

/// Returns the file that holds the templates of a folder, and the templates by name.
fn templates(folder: &Path, configuration: &Value) -> Result<(PathBuf, BTreeMap<String, String>), ChatTemplateError> {
    let path = folder.join("chat_template.jinja");
    match read_text_limited(&path) {
        Ok(text) => return Ok((path, BTreeMap::from([(DEFAULT.to_owned(), text)]))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(DatasetError::Unreadable { path, source }.into()),
    }
    let path = folder.join("tokenizer_config.json");
    let templates = match &configuration["chat_template"] {
        Value::Null => return Err(ChatTemplateError::Missing { folder: folder.to_owned() }),
        Value::String(text) => Some(BTreeMap::from([(DEFAULT.to_owned(), text.clone())])),
        Value::Array(entries) => entries.iter().map(named).collect(),
        _ => None,
    };
    match templates {
        Some(templates) => Ok((path, templates)),
        None => {
            let message = "its chat_template must be a string or a list of objects with name and template".into();
            Err(DatasetError::BadTokenizer { path, message }.into())
        }
    }
}

fn named(entry: &Value) -> Option<(String, String)> {
    Some((entry["name"].as_str()?.to_owned(), entry["template"].as_str()?.to_owned()))
}

/// Returns the special tokens that the files configure, as a string or an object with `content`. Earlier files take
/// precedence.
fn tokens(files: &[&Value]) -> BTreeMap<&'static str, String> {
    let mut tokens = BTreeMap::new();
    for name in TOKENS {
        let found = files.iter().find_map(|file| file[name].as_str().or_else(|| file[name]["content"].as_str()));
        if let Some(token) = found {
            tokens.insert(name, token.to_owned());
        }
    }
    tokens
}
