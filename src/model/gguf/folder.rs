//! The import itself: reads a GGUF file and writes a folder, whole or not at all.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use serde_json::{Value, json};

use super::container::Container;
use super::decoder::{Decoder, TensorFacts};
use super::metadata::Metadata;
use super::names::{self, ROPE_FACTORS};
use super::tokenizer::{BuiltTokenizer, tokenizer};
use super::vocabulary::Vocabulary;
use super::weights::{self, WeightType, Written};
use super::{GgufError, GgufFault};
use crate::store::atomic::PendingFolder;

/// Choices of an import.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Type of all weights; `None` selects for each the type that loses nothing.
    pub dtype: Option<WeightType>,
    /// Name of the pre-tokenizer, where the file has none or a wrong one.
    pub pre_tokenizer: Option<String>,
}

/// The result of an import, for people to read.
#[derive(Clone, Debug)]
pub struct ImportSummary {
    /// `general.architecture`.
    pub architecture: String,
    /// Number of weights.
    pub parameters: u64,
    /// Formats of the tensors in the file, each with the number of tensors.
    pub formats: Vec<(String, usize)>,
    /// Type of most of the written weights, as PyTorch names it.
    pub dtype: String,
    /// Number of tokens.
    pub tokens: usize,
    /// Kind of the tokenizer.
    pub tokenizer: String,
    /// Whether the file has a chat template.
    pub has_chat_template: bool,
    /// Names of its further chat templates, such as `tool_use`.
    pub named_chat_templates: Vec<String>,
}

/// Writes the model in the GGUF file `source` as the Hugging Face folder `target`, which must not exist or be empty.
///
/// # Errors
/// If the file is damaged, or has an architecture, tensor format, tokenizer or key that is not supported; if the folder
/// cannot be written. There is no folder then.
pub fn import(source: &Path, target: &Path, options: &ImportOptions) -> Result<ImportSummary, GgufError> {
    check_target(target)?;
    let file = File::open(source).map_err(GgufError::io(source))?;
    let model = Model::read(file, options).map_err(|fault| GgufError::File { path: source.into(), fault })?;
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A folder of its own next to the target: renaming it makes all files appear at once.
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let partial = PendingFolder::create(parent, &name).map_err(GgufError::io(parent))?;
    let summary = model.write(source, partial.path(), options)?;
    partial.commit(target).map_err(|source| match source.kind() {
        // Another process has written it since.
        ErrorKind::DirectoryNotEmpty => GgufError::TargetExists(target.into()),
        _ => GgufError::io(target)(source),
    })?;
    Ok(summary)
}

fn check_target(target: &Path) -> Result<(), GgufError> {
    match fs::read_dir(target) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(GgufError::TargetExists(target.into())),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(_) if target.exists() => Err(GgufError::TargetExists(target.into())),
        Err(error) => Err(GgufError::io(target)(error)),
    }
}

/// Everything of a GGUF file except the weights.
struct Model {
    container: Container,
    decoder: Decoder,
    facts: TensorFacts,
    tokenizer: BuiltTokenizer,
    chat_template: Option<String>,
    /// Further chat templates by name.
    named_templates: BTreeMap<String, String>,
}

impl Model {
    fn read(mut file: File, options: &ImportOptions) -> Result<Self, GgufFault> {
        let container = Container::open(&file)?;
        let decoder = Decoder::read(&container.metadata)?;
        let mut facts = names::facts(&decoder, &container.tensors)?;
        if let Some(factors) = container.tensors.get(ROPE_FACTORS) {
            if factors.shape != [decoder.head_dim / 2] {
                let reason = format!("has shape {:?}, expected {:?}", factors.shape, [decoder.head_dim / 2]);
                return Err(GgufFault::tensor(ROPE_FACTORS, reason));
            }
            let factors = weights::read_values(&mut file, factors)?;
            facts.rope_scaling = decoder.scaling_of(&factors)?;
        }
        let tokenizer = tokenizer(&container.metadata, decoder.family, options.pre_tokenizer.as_deref())?;
        let tokens = tokenizer.vocabulary.tokens.len();
        if tokens > facts.vocab {
            let reason = format!("has {tokens} elements, the embedding has {} rows", facts.vocab);
            return Err(GgufFault::key("tokenizer.ggml.tokens", reason));
        }
        let chat_template = container.metadata.text("tokenizer.chat_template")?.map(str::to_owned);
        let named_templates = named_templates(&container.metadata)?;
        Ok(Self { container, decoder, facts, tokenizer, chat_template, named_templates })
    }

    /// Writes all files into an empty folder.
    fn write(self, source: &Path, folder: &Path, options: &ImportOptions) -> Result<ImportSummary, GgufError> {
        let stored = &self.container.tensors;
        let planned = names::planned(&self.decoder, &self.facts, stored)
            .map_err(|fault| GgufError::File { path: source.into(), fault })?;
        let written: Vec<Written> =
            planned.iter().map(|planned| Written::new(planned, &stored[&planned.source], options.dtype)).collect();
        let dtype = weights::main_type(&written);
        weights::write(source, &written, &folder.join("model.safetensors"))?;

        let vocabulary = &self.tokenizer.vocabulary;
        let mut config = self.decoder.config(&TensorFacts { dtype: dtype.in_torch(), ..self.facts.clone() });
        config.insert("bos_token_id".into(), json!(vocabulary.bos));
        config.insert("eos_token_id".into(), json!(vocabulary.eos));
        config.insert("pad_token_id".into(), json!(vocabulary.padding));
        write_json(folder, "config.json", &Value::Object(config))?;
        write_json(folder, "generation_config.json", &generation_config(vocabulary))?;
        write_json(folder, "tokenizer.json", &self.tokenizer.json)?;
        write_json(folder, "tokenizer_config.json", &tokenizer_config(vocabulary, self.decoder.context))?;
        if let Some(template) = &self.chat_template {
            write_file(folder, "chat_template.jinja", template.as_bytes())?;
        }
        if !self.named_templates.is_empty() {
            let folder = folder.join("additional_chat_templates");
            fs::create_dir(&folder).map_err(GgufError::io(&folder))?;
            for (name, template) in &self.named_templates {
                write_file(&folder, &format!("{name}.jinja"), template.as_bytes())?;
            }
        }

        let mut formats = BTreeMap::new();
        for tensor in stored.values() {
            *formats.entry(tensor.kind).or_insert(0) += 1;
        }
        Ok(ImportSummary {
            architecture: self.decoder.family.name().into(),
            parameters: written.iter().map(|tensor| tensor.values() as u64).sum(),
            formats: formats.into_iter().map(|(kind, count)| (kind.name().to_owned(), count)).collect(),
            dtype: dtype.in_torch().into(),
            tokens: vocabulary.tokens.len(),
            tokenizer: self.tokenizer.description,
            has_chat_template: self.chat_template.is_some(),
            named_chat_templates: self.named_templates.into_keys().collect(),
        })
    }
}

/// Beginning of the keys of chat templates with names.
const NAMED_TEMPLATE: &str = "tokenizer.chat_template.";

/// Returns the chat templates that have names.
fn named_templates(metadata: &Metadata) -> Result<BTreeMap<String, String>, GgufFault> {
    let mut templates = BTreeMap::new();
    for key in metadata.keys_under(NAMED_TEMPLATE) {
        let name = &key[NAMED_TEMPLATE.len()..];
        // The name becomes the name of a file.
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) {
            return Err(GgufFault::key(key, "ends in a name that is not of letters, digits, `_` and `-`"));
        }
        if let Some(template) = metadata.text(key)? {
            templates.insert(name.to_owned(), template.to_owned());
        }
    }
    Ok(templates)
}

fn generation_config(vocabulary: &Vocabulary) -> Value {
    // A chat model ends an answer with either of the two.
    let mut ends: Vec<u32> = [vocabulary.eos, vocabulary.end_of_turn].into_iter().flatten().collect();
    ends.dedup();
    let eos = match ends[..] {
        [] => Value::Null,
        [one] => json!(one),
        _ => json!(ends),
    };
    json!({"bos_token_id": vocabulary.bos, "eos_token_id": eos, "pad_token_id": vocabulary.padding})
}

fn tokenizer_config(vocabulary: &Vocabulary, context: usize) -> Value {
    let token = |id: Option<u32>| id.map(|id| vocabulary.text(id));
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": context,
        "clean_up_tokenization_spaces": false,
        "add_bos_token": vocabulary.adds_bos, "add_eos_token": vocabulary.adds_eos,
        "bos_token": token(vocabulary.bos), "eos_token": token(vocabulary.eos),
        "unk_token": token(vocabulary.unknown), "pad_token": token(vocabulary.padding),
    })
}

fn write_json(folder: &Path, name: &str, value: &Value) -> Result<(), GgufError> {
    let mut text = serde_json::to_string_pretty(value).expect("JSON values can be written");
    text.push('\n');
    write_file(folder, name, text.as_bytes())
}

fn write_file(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), GgufError> {
    let path = folder.join(name);
    fs::write(&path, bytes).map_err(GgufError::io(&path))
}
