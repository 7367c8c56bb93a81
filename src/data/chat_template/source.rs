//! Which template a model folder names, and which special tokens it may write.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::ChatTemplateError;
use crate::data::DatasetError;
use crate::data::tokeniser::optional_json;

/// The template that is meant where none is named.
const DEFAULT: &str = "default";

/// The tokens that templates know by these names, as Transformers passes them.
const TOKENS: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// A template's text, and what belongs to it.
#[derive(Debug)]
pub(super) struct Source {
    /// File and, of several, name: for messages.
    pub label: String,
    pub text: String,
    /// The special tokens that are set, by name.
    pub tokens: BTreeMap<&'static str, String>,
}

impl Source {
    /// Reads the template `name` of a folder; `None` means its default.
    ///
    /// `chat_template.jinja` comes before tokenizer_config.json, as in Transformers.
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
        Ok(Self { label, text, tokens: tokens(&[&configuration, &special_tokens]) })
    }
}

/// The templates of a folder by name, and the file that holds them.
fn templates(folder: &Path, configuration: &Value) -> Result<(PathBuf, BTreeMap<String, String>), ChatTemplateError> {
    let path = folder.join("chat_template.jinja");
    match std::fs::read_to_string(&path) {
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

/// The special tokens that the files set, the first file first; each is a string or an object with `content`.
fn tokens(files: &[&Value]) -> BTreeMap<&'static str, String> {
    let token = |name: &&'static str| {
        let found = files.iter().find_map(|file| file[*name].as_str().or_else(|| file[*name]["content"].as_str()));
        found.map(|token| (*name, token.to_owned()))
    };
    TOKENS.iter().filter_map(token).collect()
}
