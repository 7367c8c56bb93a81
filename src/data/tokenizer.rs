//! The tokenizer of a Hugging Face model folder, and the special tokens that begin and end a text.

use std::path::Path;

use serde_json::Value;
use tokenizers::Tokenizer as HubTokenizer;

use super::error::DatasetError;

/// A tokenizer loaded from `tokenizer.json`.
///
/// The BOS and EOS tokens come from the configuration only: text such as `</s>` inside a row (it is HTML in real chats)
/// is encoded as plain characters and never ends a sequence. Transformers, by contrast, parses it as a special token.
///
/// # Examples
///
/// ```
/// use std::path::Path;
///
/// use fedreplay::data::Tokenizer;
///
/// let tokenizer = Tokenizer::load(Path::new("fixtures/tiny-base"))?;
/// let text = "What is the capital of Ostra?";
/// let encoded = tokenizer.encode(text)?;
/// assert_eq!(encoded.ends.last(), Some(&text.len()));
/// assert_eq!(tokenizer.decode(&encoded.ids)?, text);
/// // A special token that is written out in a text is text.
/// assert!(!tokenizer.encode("</s>")?.ids.contains(&tokenizer.eos()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Tokenizer {
    inner: HubTokenizer,
    /// The same tokenizer, except that it parses special tokens in a text.
    parsing: HubTokenizer,
    special_tokens: Vec<String>,
    bos: Option<u32>,
    eos: u32,
    largest_id: u32,
    content_hash: blake3::Hash,
}

/// An encoded text: the id of each token, and where the token ends in the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids.
    pub ids: Vec<u32>,
    /// [byte] -- End of each token in the input text; ascending.
    pub ends: Vec<usize>,
}

impl Encoded {
    /// Returns the number of tokens that end at or before byte `place`. The next token holds the text at `place`.
    pub(super) fn tokens_before(&self, place: usize) -> usize {
        self.ends.partition_point(|&end| end <= place)
    }
}

impl Tokenizer {
    /// Loads `tokenizer.json` of `folder`, with `tokenizer_config.json`, `special_tokens_map.json` and `config.json`
    /// where they exist.
    ///
    /// A sequence begins with the BOS token if `add_bos_token` is true or, where that key is absent, if the
    /// post-processor adds one. The EOS token is the tokenizer's `eos_token`, or else the model's `eos_token_id`.
    ///
    /// # Errors
    /// A missing or malformed file, no EOS token, a special token that is not in the vocabulary, or BPE dropout, which
    /// would make the ids random.
    pub fn load(folder: &Path) -> Result<Self, DatasetError> {
        let path = folder.join("tokenizer.json");
        let bytes = std::fs::read(&path).map_err(|source| DatasetError::Unreadable { path: path.clone(), source })?;
        let mut inner = HubTokenizer::from_bytes(&bytes).map_err(|error| bad(&path, error.to_string()))?;
        refuse_dropout(&path, &bytes)?;
        // Lengths are limited elsewhere, so settings of the file for padding and truncation must not apply.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| bad(&path, error.to_string()))?;
        // Two copies that differ in this switch alone: one for rows, one for the output of chat templates.
        let parsing = inner.clone();
        inner.set_encode_special_tokens(true);
        let added = inner.get_added_tokens_decoder();
        let special_tokens = added.into_values().filter(|token| token.special).map(|token| token.content).collect();
        let configuration = Configuration::read(folder)?;
        let bos = configuration.bos(&inner, folder)?;
        let eos = configuration.eos(&inner, folder)?;
        let largest_id =
            inner.get_vocab(true).into_values().max().ok_or_else(|| bad(&path, "its vocabulary is empty"))?;
        let content_hash = content_hash(&bytes, bos, eos);
        Ok(Self { inner, parsing, special_tokens, bos, eos, largest_id, content_hash })
    }

    /// Encodes plain text without adding special tokens.
    ///
    /// # Errors
    /// The tokenizer's own message, for a text that it cannot represent.
    pub fn encode(&self, text: &str) -> Result<Encoded, String> {
        encode_with(&self.inner, text)
    }

    /// Encodes a text that contains special tokens in writing, as chat templates produce it. No token is added.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_with_special_tokens(&self, text: &str) -> Result<Encoded, String> {
        encode_with(&self.parsing, text)
    }

    /// Returns a special token that is written out in the text, if there is one.
    pub fn special_token_in(&self, text: &str) -> Option<&str> {
        self.special_tokens.iter().map(String::as_str).find(|token| text.contains(token))
    }

    /// Decodes ids to text; special tokens are left out.
    ///
    /// # Errors
    /// The tokenizer's own message.
    pub fn decode(&self, ids: &[u32]) -> Result<String, String> {
        self.inner.decode(ids, true).map_err(|error| error.to_string())
    }

    /// Returns the token as the vocabulary writes it, such as `▁Hello`.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Returns the token that begins a sequence, if this tokenizer uses one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// Returns the token that ends an answer.
    pub fn eos(&self) -> u32 {
        self.eos
    }

    /// Returns the largest token id.
    pub fn largest_id(&self) -> u32 {
        self.largest_id
    }

    /// Returns BLAKE3 of everything that determines the ids: `tokenizer.json` and the BOS and EOS tokens.
    pub fn content_hash(&self) -> blake3::Hash {
        self.content_hash
    }

    /// Checks that every id has a row in an embedding of `vocab_size` rows.
    ///
    /// # Errors
    /// [`DatasetError::VocabularyTooSmall`], naming `folder`.
    pub fn check_vocabulary(&self, vocab_size: u32, folder: &Path) -> Result<(), DatasetError> {
        if self.largest_id < vocab_size {
            return Ok(());
        }
        Err(DatasetError::VocabularyTooSmall { path: folder.to_owned(), largest_id: self.largest_id, vocab_size })
    }
}

fn encode_with(tokenizer: &HubTokenizer, text: &str) -> Result<Encoded, String> {
    let encoding = tokenizer.encode(text, false).map_err(|error| error.to_string())?;
    let ends = encoding.get_offsets().iter().map(|&(_, end)| end).collect();
    Ok(Encoded { ids: encoding.get_ids().to_vec(), ends })
}

fn content_hash(tokenizer: &[u8], bos: Option<u32>, eos: u32) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_derive_key("fedreplay tokenizer v1");
    hasher.update(&(tokenizer.len() as u64).to_le_bytes());
    hasher.update(tokenizer);
    // Token ids have 32 bits, so u64::MAX can encode the absence of a BOS token.
    hasher.update(&bos.map_or(u64::MAX, u64::from).to_le_bytes());
    hasher.update(&u64::from(eos).to_le_bytes());
    hasher.finalize()
}

fn refuse_dropout(path: &Path, bytes: &[u8]) -> Result<(), DatasetError> {
    let json: Value = serde_json::from_slice(bytes).map_err(|error| bad(path, error.to_string()))?;
    match json["model"]["dropout"].as_f64() {
        Some(dropout) if dropout != 0.0 => {
            Err(bad(path, format!("its model has dropout {dropout}, which makes ids random; set it to null")))
        }
        _ => Ok(()),
    }
}

/// The configuration files next to `tokenizer.json`; a missing one is JSON null.
struct Configuration {
    tokenizer: Value,
    special_tokens: Value,
    model: Value,
}

impl Configuration {
    fn read(folder: &Path) -> Result<Self, DatasetError> {
        Ok(Self {
            tokenizer: optional_json(&folder.join("tokenizer_config.json"))?,
            special_tokens: optional_json(&folder.join("special_tokens_map.json"))?,
            model: optional_json(&folder.join("config.json"))?,
        })
    }

    fn bos(&self, inner: &HubTokenizer, folder: &Path) -> Result<Option<u32>, DatasetError> {
        match self.tokenizer["add_bos_token"].as_bool() {
            Some(false) => Ok(None),
            Some(true) => match self.special("bos_token", inner, folder)? {
                Some(id) => Ok(Some(id)),
                None => Err(bad(folder, "add_bos_token is true and no bos_token is named")),
            },
            None => added_in_front(inner).map_err(|message| bad(folder, message)),
        }
    }

    fn eos(&self, inner: &HubTokenizer, folder: &Path) -> Result<u32, DatasetError> {
        if let Some(id) = self.special("eos_token", inner, folder)? {
            return Ok(id);
        }
        // config.json may list several ids; the first is the model's main one.
        let declared = match &self.model["eos_token_id"] {
            Value::Array(ids) => ids.first().and_then(Value::as_u64),
            other => other.as_u64(),
        };
        declared.and_then(|id| u32::try_from(id).ok()).ok_or_else(|| {
            bad(folder, "no eos_token is named in tokenizer_config.json, special_tokens_map.json or config.json")
        })
    }

    /// Returns the id of the token under `key`, which is written as a string or as an object with `content`.
    fn special(&self, key: &str, inner: &HubTokenizer, folder: &Path) -> Result<Option<u32>, DatasetError> {
        let named = [&self.tokenizer, &self.special_tokens]
            .into_iter()
            .find_map(|file| file[key].as_str().or_else(|| file[key]["content"].as_str()));
        let Some(token) = named else { return Ok(None) };
        match inner.token_to_id(token) {
            Some(id) => Ok(Some(id)),
            None => Err(bad(folder, format!("its {key} {token:?} is not in the vocabulary"))),
        }
    }
}

/// Returns the token that the post-processor puts before a text, found by encoding one text with and without it.
fn added_in_front(inner: &HubTokenizer) -> Result<Option<u32>, String> {
    let framed = inner.encode("a", true).map_err(|error| error.to_string())?;
    let plain = inner.encode("a", false).map_err(|error| error.to_string())?;
    if framed.get_ids().first() == plain.get_ids().first() {
        return Ok(None);
    }
    Ok(Some(framed.get_ids()[0]))
}

/// Reads a JSON file; null if it does not exist.
pub(super) fn optional_json(path: &Path) -> Result<Value, DatasetError> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| bad(path, error.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
        Err(source) => Err(DatasetError::Unreadable { path: path.to_owned(), source }),
    }
}

fn bad(path: &Path, message: impl Into<String>) -> DatasetError {
    DatasetError::BadTokenizer { path: path.to_owned(), message: message.into() }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    pub const BOS: u32 = 1;
    pub const EOS: u32 = 2;

    /// A byte-level tokenizer without merges: three special tokens, then one token a byte.
    fn byte_level_json() -> Value {
        let mut alphabet: Vec<char> =
            tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().into_iter().collect();
        alphabet.sort_unstable();
        let special = ["<unk>", "<s>", "</s>"];
        let tokens = special.iter().map(|&token| token.to_owned()).chain(alphabet.iter().map(char::to_string));
        let vocab: serde_json::Map<_, _> = tokens.enumerate().map(|(id, token)| (token, json!(id))).collect();
        let added: Vec<_> = special.iter().enumerate().map(|(id, content)| json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true
        })).collect();
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
            "pre_tokenizer": bytes, "post_processor": bytes, "decoder": bytes,
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": []}
        })
    }

    fn load(tokenizer: &Value, configuration: &Value) -> Result<Tokenizer, DatasetError> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
        fs::write(folder.path().join("tokenizer_config.json"), configuration.to_string()).unwrap();
        Tokenizer::load(folder.path())
    }

    fn framed() -> Value {
        json!({"add_bos_token": true, "bos_token": "<s>", "eos_token": {"content": "</s>"}})
    }

    pub fn byte_level() -> Tokenizer {
        load(&byte_level_json(), &framed()).unwrap()
    }

    #[test]
    fn special_tokens_come_from_the_configuration() {
        let tokenizer = byte_level();
        assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.largest_id()), (Some(BOS), EOS, 258));
        let without = load(&byte_level_json(), &json!({"add_bos_token": false, "eos_token": "</s>"})).unwrap();
        assert_eq!(without.bos(), None);
        assert_ne!(without.content_hash(), tokenizer.content_hash());
    }

    #[test]
    fn without_a_switch_the_post_processor_decides() {
        let mut tokenizer = byte_level_json();
        let configuration = json!({"bos_token": "<s>", "eos_token": "</s>"});
        assert_eq!(load(&tokenizer, &configuration).unwrap().bos(), None);
        tokenizer["post_processor"] = json!({
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [BOS], "tokens": ["<s>"]}}
        });
        assert_eq!(load(&tokenizer, &configuration).unwrap().bos(), Some(BOS));
    }

    #[test]
    fn text_never_becomes_a_special_token() {
        let tokenizer = byte_level();
        let encoded = tokenizer.encode("a</s>é").unwrap();
        assert_eq!(encoded.ids.len(), 7);
        assert!(!encoded.ids.contains(&EOS));
        assert_eq!(tokenizer.decode(&encoded.ids).unwrap(), "a</s>é");
    }

    #[test]
    fn broken_tokenizers_are_refused() {
        let refused =
            |tokenizer: &Value, configuration: &Value| load(tokenizer, configuration).err().unwrap().to_string();
        let mut random = byte_level_json();
        random["model"]["dropout"] = json!(0.1);
        assert!(refused(&random, &framed()).contains("dropout 0.1"));
        assert!(refused(&byte_level_json(), &json!({})).contains("no eos_token is named"));
        assert!(
            refused(&byte_level_json(), &json!({"eos_token": "<end>"})).contains("\"<end>\" is not in the vocabulary")
        );
        assert!(
            refused(&byte_level_json(), &json!({"add_bos_token": true, "eos_token": "</s>"})).contains("no bos_token")
        );
        assert!(refused(&json!({"model": 3}), &framed()).starts_with("failed to load the tokenizer"));
        let missing = Tokenizer::load(Path::new("/nowhere")).err().unwrap().to_string();
        assert!(missing.starts_with("failed to read /nowhere/tokenizer.json"));
    }

    #[test]
    fn a_vocabulary_must_cover_every_id() {
        let folder = Path::new("model");
        assert!(byte_level().check_vocabulary(259, folder).is_ok());
        assert_eq!(
            byte_level().check_vocabulary(258, folder).unwrap_err().to_string(),
            "failed to match the tokenizer model to the model: its largest id is 258, and the model's vocabulary ends at 257"
        );
    }
}
