//! The files of a tokenizer's folder, read as Transformers 5 reads them: `tokenizer.json`, `tokenizer_config.json`,
//! `special_tokens_map.json`, `added_tokens.json` and `config.json`.
//!
//! Tests compare the rules with tables that `tests/reference/make_tokenizer_tables.py` made with Transformers 4 and 5.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokenizers::{AddedToken, Tokenizer as HubTokenizer};

use super::error::DatasetError;
use crate::store::{parse_json, read_limited};

/// Names under which a configuration has a special token.
const NAMED: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Those of them that no sequence needs. A folder may name one without giving it a row of the embedding.
const DISPENSABLE: [&str; 5] = ["unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Names under which a configuration lists further special tokens.
const LISTS: [&str; 3] = ["additional_special_tokens", "extra_special_tokens", "model_specific_special_tokens"];

/// The files of a folder. A missing one is JSON null.
pub(super) struct TokenizerFiles {
    folder: PathBuf,
    configuration: Value,
    special_tokens: Value,
    added_tokens: Value,
    model: Value,
}

/// A tokenizer as the files describe it.
pub(super) struct ReadTokenizer {
    pub inner: HubTokenizer,
    /// Everything that determines ids, as bytes to be hashed.
    pub content: Vec<u8>,
    /// Whether the slow tokenizer puts a dummy space even before a text that begins with a space.
    pub doubles_space: bool,
    /// Ways in which Transformers 4 makes other ids of the same folder.
    pub differences: Vec<String>,
    /// Ids of tokens that are only named, and that no sequence needs.
    pub dispensable: BTreeSet<u32>,
}

/// A token that one of the files adds to those of `tokenizer.json`.
struct Added {
    token: AddedToken,
    /// The id that the file gives it, if it gives one.
    id: Option<u32>,
    /// The file, for errors.
    file: &'static str,
}

impl TokenizerFiles {
    /// Reads the files next to `tokenizer.json`.
    ///
    /// # Errors
    /// A file that is not JSON or cannot be read.
    pub fn read(folder: &Path) -> Result<Self, DatasetError> {
        let configuration = optional_json(&folder.join("tokenizer_config.json"))?;
        Ok(Self {
            folder: folder.to_owned(),
            special_tokens: optional_json(&folder.join("special_tokens_map.json"))?,
            added_tokens: optional_json(&folder.join("added_tokens.json"))?,
            model: optional_json(&folder.join("config.json"))?,
            configuration,
        })
    }

    /// Reads `tokenizer.json`, and adds what the other files have.
    ///
    /// # Errors
    /// A missing or malformed file, BPE dropout, or a token that two files give different ids.
    pub fn tokenizer(&self) -> Result<ReadTokenizer, DatasetError> {
        let path = self.folder.join("tokenizer.json");
        let bytes = read_limited(&path).map_err(|source| DatasetError::Unreadable { path: path.clone(), source })?;
        let mut file: Value = parse_json(&bytes).map_err(|error| bad(&path, error.to_string()))?;
        refuse_dropout(&path, &file)?;
        let mut differences = Vec::new();
        let is_rebuilt = self.is_rebuilt_by_class(&file, &bytes);
        let inner = if is_rebuilt {
            differences.extend(self.rebuild(&mut file));
            HubTokenizer::from_bytes(file.to_string())
        } else {
            HubTokenizer::from_bytes(&bytes)
        };
        let mut inner = inner.map_err(|error| bad(&path, error.to_string()))?;
        // Lengths are limited elsewhere, so settings of the file for padding and truncation must not apply.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| bad(&path, error.to_string()))?;
        let mut content = bytes;
        if is_rebuilt {
            content.extend_from_slice(file["pre_tokenizer"].to_string().as_bytes());
        }
        let dispensable = self.add_tokens(&mut inner, &mut content)?;
        let doubles_space = is_rebuilt && file["pre_tokenizer"]["prepend_scheme"] != "never";
        Ok(ReadTokenizer { inner, content, doubles_space, differences, dispensable })
    }

    /// Returns whether Transformers 5 takes vocabulary and merges alone from the file, because its class for Llama sets
    /// the rest. It does not where the file works on bytes.
    fn is_rebuilt_by_class(&self, file: &Value, bytes: &[u8]) -> bool {
        let is_byte_level = bytes.windows(11).any(|window| window == b"\"ByteLevel\"");
        self.class().is_some_and(is_llama_class) && !is_byte_level && file["model"]["type"] == "BPE"
    }

    fn class(&self) -> Option<&str> {
        self.configuration["tokenizer_class"].as_str()
    }

    /// Sets normalizer, pre-tokenizer and decoder as the class for Llama of Transformers 5 does. Returns in which way
    /// Transformers 4 differs, if it does.
    fn rebuild(&self, file: &mut Value) -> Option<String> {
        let adds_space = self.configuration["add_prefix_space"].as_bool();
        let is_legacy = self.configuration["legacy"].as_bool() == Some(true);
        let scheme = match (adds_space.unwrap_or(true), is_legacy) {
            (false, _) => "never",
            (true, true) => "always",
            (true, false) => "first",
        };
        let of_file = scheme_of(file).map(str::to_owned);
        let mut decoders = vec![
            json!({"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        if adds_space.unwrap_or(true) {
            decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        file["normalizer"] = Value::Null;
        file["pre_tokenizer"] =
            json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": scheme, "split": false});
        file["decoder"] = json!({"type": "Sequence", "decoders": decoders});
        file["model"]["fuse_unk"] = json!(true);
        file["model"]["byte_fallback"] = json!(true);
        // Transformers 4 reads the file as it is, unless `add_prefix_space` makes it convert tokenizer.model anew.
        let of_file = of_file.unwrap_or_else(|| "another".to_owned());
        if of_file == scheme || adds_space.is_some() {
            return None;
        }
        Some(format!(
            "texts after a special token get the dummy space of scheme `{scheme}`, as in Transformers 5 for this class; \
             Transformers 4 uses that of tokenizer.json, `{of_file}`"
        ))
    }

    /// Adds the tokens of the other files, in the order of Transformers. Returns the ids of new ones that no sequence needs.
    fn add_tokens(&self, inner: &mut HubTokenizer, content: &mut Vec<u8>) -> Result<BTreeSet<u32>, DatasetError> {
        let needed = self.needed_tokens();
        let mut dispensable = BTreeSet::new();
        for Added { token, id, file } in self.added() {
            let listed = inner.get_added_tokens_decoder();
            let known = listed.values().find(|known| known.content == token.content);
            // A token that is only named keeps the properties that it has.
            if known.is_some_and(|known| id.is_none() || *known == token) && self.agrees(inner, &token, id, file)? {
                continue;
            }
            let text = format!("{:?}", (&token.content, token.special, token.lstrip, token.rstrip, token.normalized));
            content.extend_from_slice(text.as_bytes());
            let is_new = inner.token_to_id(&token.content).is_none();
            inner.add_tokens([token.clone()]).map_err(|error| bad(&self.folder, error.to_string()))?;
            self.agrees(inner, &token, id, file)?;
            if is_new && id.is_none() && !needed.contains(&token.content) {
                dispensable.extend(inner.token_to_id(&token.content));
            }
        }
        Ok(dispensable)
    }

    /// Returns the named tokens that a sequence may hold: all but [`DISPENSABLE`] ones.
    fn needed_tokens(&self) -> BTreeSet<String> {
        let mut needed = BTreeSet::new();
        for file in [&self.configuration, &self.special_tokens] {
            let mut named = file.clone();
            if let Some(entries) = named.as_object_mut() {
                entries.retain(|name, _| !DISPENSABLE.contains(&name.as_str()));
            }
            needed.extend(named_tokens(&named, "").into_iter().map(|added| added.token.content));
        }
        needed
    }

    /// Returns true if the token has the id that `file` gives it.
    fn agrees(
        &self,
        inner: &HubTokenizer,
        token: &AddedToken,
        id: Option<u32>,
        file: &'static str,
    ) -> Result<bool, DatasetError> {
        let Some(id) = id else { return Ok(true) };
        match inner.token_to_id(&token.content) {
            Some(found) if found != id => Err(bad(
                &self.folder,
                format!("the token {:?} has id {id} in {file} and id {found} after tokenizer.json", token.content),
            )),
            _ => Ok(true),
        }
    }

    /// Returns the tokens that the files next to `tokenizer.json` add.
    fn added(&self) -> Vec<Added> {
        let mut added = Vec::new();
        for (id, entry) in self.declared("added_tokens_decoder") {
            let Some(token) = token_of(&entry, entry["special"].as_bool() == Some(true)) else { continue };
            added.push(Added { token, id: Some(id), file: "added_tokens_decoder of tokenizer_config.json" });
        }
        // `added_tokens_decoder` replaced two older files, which add nothing where it stands.
        let is_older = !self.configuration["added_tokens_decoder"].is_object();
        let mut named = named_tokens(&self.configuration, "tokenizer_config.json");
        if is_older {
            named.extend(named_tokens(&self.special_tokens, "special_tokens_map.json"));
            added.extend(self.numbered(&named));
        }
        added.extend(named);
        added
    }

    /// Returns the tokens of added_tokens.json, by id. The file has no more than their ids: a token is special where another
    /// file names it as such.
    fn numbered(&self, named: &[Added]) -> Vec<Added> {
        let mut of_file: Vec<(u32, &String)> = Vec::new();
        for (content, id) in self.added_tokens.as_object().into_iter().flatten() {
            of_file.extend(id.as_u64().and_then(|id| u32::try_from(id).ok()).map(|id| (id, content)));
        }
        of_file.sort_unstable();
        let mut added = Vec::new();
        for (id, content) in of_file {
            let is_special = named.iter().any(|one| one.token.content == *content);
            let token = AddedToken::from(content.as_str(), is_special);
            added.push(Added { token, id: Some(id), file: "added_tokens.json" });
        }
        added
    }

    /// Returns the entries of a table by id, in their order.
    fn declared(&self, key: &str) -> BTreeMap<u32, Value> {
        let mut declared = BTreeMap::new();
        for (id, entry) in self.configuration[key].as_object().into_iter().flatten() {
            if let Ok(id) = id.parse() {
                declared.insert(id, entry.clone());
            }
        }
        declared
    }

    /// Returns the token that begins a sequence: the one that the post-processor of `tokenizer.json` adds.
    ///
    /// # Errors
    /// The tokenizer's message.
    pub fn bos(&self, inner: &HubTokenizer) -> Result<Option<u32>, DatasetError> {
        let framed = inner.encode("a", true).map_err(|error| bad(&self.folder, error.to_string()))?;
        let plain = inner.encode("a", false).map_err(|error| bad(&self.folder, error.to_string()))?;
        if framed.get_ids().first() == plain.get_ids().first() {
            return Ok(None);
        }
        Ok(Some(framed.get_ids()[0]))
    }

    /// Returns how Transformers 4 begins a sequence, if it does so in another way: there the classes for Llama follow
    /// `add_bos_token`, which is true by default, whatever the post-processor is.
    pub fn other_beginning(&self, bos: Option<u32>) -> Option<String> {
        let is_llama = match self.class() {
            Some(class) => is_llama_class(class),
            None => self.model["model_type"] == "llama",
        };
        let switch = self.configuration["add_bos_token"].as_bool();
        if !is_llama || switch.unwrap_or(true) == bos.is_some() {
            return None;
        }
        let (ours, theirs) = if bos.is_some() { ("begin", "do not") } else { ("do not begin", "do") };
        Some(format!(
            "sequences {ours} with BOS, as the post-processor of tokenizer.json says and Transformers 5 does; under \
             Transformers 4, which follows add_bos_token for this class, they {theirs}"
        ))
    }

    /// Returns the token that ends an answer.
    ///
    /// # Errors
    /// No file names one, or it is not in the vocabulary.
    pub fn eos(&self, inner: &HubTokenizer) -> Result<u32, DatasetError> {
        let named =
            [&self.configuration, &self.special_tokens].into_iter().find_map(|file| text_of(&file["eos_token"]));
        if let Some(token) = named {
            return inner
                .token_to_id(token)
                .ok_or_else(|| bad(&self.folder, format!("its eos_token {token:?} is not in the vocabulary")));
        }
        // config.json may list several ids; the first is the model's main one.
        let declared = match &self.model["eos_token_id"] {
            Value::Array(ids) => ids.first().and_then(Value::as_u64),
            other => other.as_u64(),
        };
        declared.and_then(|id| u32::try_from(id).ok()).ok_or_else(|| {
            let files = "tokenizer_config.json, special_tokens_map.json or config.json";
            bad(&self.folder, format!("no eos_token is named in {files}"))
        })
    }
}

fn is_llama_class(class: &str) -> bool {
    matches!(class, "LlamaTokenizer" | "LlamaTokenizerFast")
}

/// Returns where a file puts the dummy space: by the normalizer `Prepend`, or by the pre-tokenizer `Metaspace`.
fn scheme_of(file: &Value) -> Option<&str> {
    if file["pre_tokenizer"]["type"] == "Metaspace" {
        return file["pre_tokenizer"]["prepend_scheme"].as_str();
    }
    let normalizer = &file["normalizer"];
    let parts = normalizer["normalizers"].as_array().map_or(std::slice::from_ref(normalizer), Vec::as_slice);
    if parts.iter().any(|part| part["type"] == "Prepend") { Some("always") } else { Some("never") }
}

/// Returns the special tokens that a file names.
fn named_tokens(values: &Value, file: &'static str) -> Vec<Added> {
    let mut found: Vec<&Value> = NAMED.iter().map(|name| &values[name]).collect();
    for name in LISTS {
        found.extend(entries(&values[name]));
    }
    let tokens = found.into_iter().filter_map(|entry| token_of(entry, true));
    tokens.map(|token| Added { token, id: None, file }).collect()
}

/// Returns a token that is written as a string or as an object with `content`.
fn text_of(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["content"].as_str())
}

/// Returns the token of an entry, with the properties that it has.
fn token_of(entry: &Value, is_special: bool) -> Option<AddedToken> {
    let content = text_of(entry).filter(|content| !content.is_empty())?;
    let flag = |name: &str| entry[name].as_bool();
    let token = AddedToken::from(content, is_special)
        .single_word(flag("single_word").unwrap_or(false))
        .lstrip(flag("lstrip").unwrap_or(false))
        .rstrip(flag("rstrip").unwrap_or(false));
    Some(match flag("normalized") {
        Some(normalized) => token.normalized(normalized),
        None => token,
    })
}

/// Returns the entries of a list, or the values of an object.
fn entries(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(list) => list.iter().collect(),
        Value::Object(table) => table.values().collect(),
        _ => vec![],
    }
}

fn refuse_dropout(path: &Path, file: &Value) -> Result<(), DatasetError> {
    match file["model"]["dropout"].as_f64() {
        Some(dropout) if dropout != 0.0 => {
            Err(bad(path, format!("its model has dropout {dropout}, which makes ids random; set it to null")))
        }
        _ => Ok(()),
    }
}

/// Reads a JSON file; null if it does not exist.
pub(super) fn optional_json(path: &Path) -> Result<Value, DatasetError> {
    match read_limited(path) {
        Ok(bytes) => parse_json(&bytes).map_err(|error| bad(path, error.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
        Err(source) => Err(DatasetError::Unreadable { path: path.to_owned(), source }),
    }
}

pub(super) fn bad(path: &Path, message: impl Into<String>) -> DatasetError {
    DatasetError::BadTokenizer { path: path.to_owned(), message: message.into() }
}
