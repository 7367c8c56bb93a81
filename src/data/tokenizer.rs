//! The tokenizer of a Hugging Face model folder, and the special tokens that begin and end a text.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use tokenizers::{AddedToken, Encoding, Tokenizer as HubTokenizer};

use super::error::{DatasetError, TokenizerError};
use super::tokenizer_files::{ReadTokenizer, TokenizerFiles, bad};
use crate::store::without_panic;

/// Two noncharacters of Unicode, which no text has, as a token before texts that follow a special token.
const ANCHOR: &str = "\u{fdd0}\u{fdd1}";

/// A noncharacter of Unicode that chat templates put into texts where these spell a special token.
pub(super) const MARK: char = '\u{fdd2}';

/// A tokenizer loaded from `tokenizer.json` and the files next to it.
///
/// Special tokens come from the files and from chat templates only: text such as `</s>` inside a row (it is HTML in real
/// chats) is encoded as plain characters and never ends a sequence. Transformers, by contrast, parses it as a special
/// token.
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
    special_ids: BTreeSet<u32>,
    /// Special tokens and those that are added to the vocabulary without being special.
    added_ids: BTreeSet<u32>,
    bos: Option<u32>,
    eos: u32,
    largest_id: u32,
    content_hash: blake3::Hash,
    doubles_space: bool,
    differences: Vec<String>,
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
    /// Loads `tokenizer.json` of `folder`, with `tokenizer_config.json`, `special_tokens_map.json`, `added_tokens.json` and
    /// `config.json` where they exist, as Transformers 5 does.
    ///
    /// A sequence begins with the BOS token if the post-processor of `tokenizer.json` adds one. The EOS token is the
    /// tokenizer's `eos_token`, or else the model's `eos_token_id`.
    ///
    /// # Errors
    /// A missing or malformed file, no EOS token, a special token that is not in the vocabulary or that two files give
    /// different ids, or BPE dropout, which would make the ids random.
    pub fn load(folder: &Path) -> Result<Self, DatasetError> {
        without_panic(|| Self::load_from(folder)).unwrap_or_else(|panic| Err(bad(folder, panic)))
    }

    fn load_from(folder: &Path) -> Result<Self, DatasetError> {
        let files = TokenizerFiles::read(folder)?;
        let ReadTokenizer { mut inner, content, doubles_space, mut differences, dispensable } = files.tokenizer()?;
        let mut special_tokens = Vec::new();
        let mut special_ids = BTreeSet::new();
        let mut added_ids = BTreeSet::new();
        for (id, token) in inner.get_added_tokens_decoder() {
            added_ids.insert(id);
            if token.special {
                special_tokens.push(token.content);
                special_ids.insert(id);
            }
        }
        special_tokens.sort_unstable();
        let bos = files.bos(&inner)?;
        differences.extend(files.other_beginning(bos));
        let eos = files.eos(&inner)?;
        let ids = inner.get_vocab(true).into_values().filter(|id| !dispensable.contains(id));
        let largest_id = ids.max().ok_or_else(|| bad(folder, "its vocabulary is empty"))?;
        let content_hash = content_hash(&content, bos, eos);
        let anchor = AddedToken::from(ANCHOR, false).normalized(false);
        inner.add_tokens([anchor]).map_err(|error| bad(folder, error.to_string()))?;
        // Two copies that differ in this switch alone: one for rows, one for the output of chat templates.
        let parsing = inner.clone();
        inner.set_encode_special_tokens(true);
        Ok(Self {
            inner,
            parsing,
            special_tokens,
            special_ids,
            added_ids,
            bos,
            eos,
            largest_id,
            content_hash,
            doubles_space,
            differences,
        })
    }

    /// Returns in which ways Transformers 4 makes other ids of the same folder, as whole clauses.
    pub fn differences(&self) -> &[String] {
        &self.differences
    }

    /// Encodes plain text without adding special tokens.
    ///
    /// # Errors
    /// The tokenizer's own message, for a text that it cannot represent.
    pub fn encode(&self, text: &str) -> Result<Encoded, TokenizerError> {
        encode_with(&self.inner, text)
    }

    /// Encodes a whole text as the slow tokenizer of Transformers 4 does, which FedLLM-Bench's code uses: special tokens are
    /// parsed, and the dummy space of Llama comes before a text that begins with a space, too.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub(super) fn encode_as_slow(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let space = if self.doubles_space && text.starts_with(' ') { " " } else { "" };
        Ok(self.encode_with_special_tokens(&[space, text].concat())?.ids)
    }

    /// Encodes plain text that follows a special token, such as a later question of a dialogue. Tokenizers that begin a
    /// text with a dummy space (`Metaspace` with `prepend_scheme: first`) do not do so here.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_continued(&self, text: &str) -> Result<Encoded, TokenizerError> {
        encode_continued(&self.inner, text)
    }

    /// Encodes a text that contains special tokens in writing, as chat templates produce it. No token is added.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_with_special_tokens(&self, text: &str) -> Result<Encoded, TokenizerError> {
        encode_with(&self.parsing, text)
    }

    /// Encodes the output of a chat template. What holds a `MARK` stays text.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_chat(&self, text: &str) -> Result<Encoded, TokenizerError> {
        if !text.contains(MARK) {
            return self.encode_with_special_tokens(text);
        }
        // A marked token is not found, so that those found here are the template's own. The text between them is encoded
        // without its marks.
        let found = encoding_of(&self.parsing, text)?;
        let mut encoded = Encoded { ids: Vec::new(), ends: Vec::new() };
        let mut done = 0;
        for (&id, &(start, end)) in found.get_ids().iter().zip(found.get_offsets()) {
            if self.special_ids.contains(&id) {
                self.append_marked(&mut encoded, text, done..start)?;
                encoded.ids.push(id);
                encoded.ends.push(end);
                done = end;
            }
        }
        self.append_marked(&mut encoded, text, done..text.len())?;
        Ok(encoded)
    }

    /// Appends the tokens of a part of a text without its marks; ends of tokens are places in the marked text.
    fn append_marked(&self, encoded: &mut Encoded, text: &str, part: Range<usize>) -> Result<(), TokenizerError> {
        let plain = text[part.clone()].replace(MARK, "");
        if plain.is_empty() {
            return Ok(());
        }
        let added = if part.start == 0 { self.encode(&plain)? } else { self.encode_continued(&plain)? };
        // Place in the marked text of each byte of the plain text, and of its end.
        let mut places = Vec::with_capacity(plain.len() + 1);
        for (place, character) in text[part.clone()].char_indices() {
            if character != MARK {
                places.extend((0..character.len_utf8()).map(|byte| part.start + place + byte));
            }
        }
        places.push(part.end);
        encoded.ids.extend(added.ids);
        encoded.ends.extend(added.ends.iter().map(|&end| places[end]));
        Ok(())
    }

    /// Encodes the turns of a dialogue under a prompt template: BOS where the tokenizer uses one, and the EOS token between
    /// two turns.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_turns(&self, turns: &[&str]) -> Result<Vec<u32>, TokenizerError> {
        let mut ids: Vec<u32> = self.bos.into_iter().collect();
        for (turn, text) in turns.iter().enumerate() {
            if turn > 0 {
                ids.push(self.eos);
            }
            ids.extend(self.encode_turn(text, turn)?.ids);
        }
        Ok(ids)
    }

    /// Encodes turn `turn` of a dialogue, counted from 0. Later ones follow the EOS token.
    pub(super) fn encode_turn(&self, text: &str, turn: usize) -> Result<Encoded, TokenizerError> {
        if turn == 0 { self.encode(text) } else { self.encode_continued(text) }
    }

    /// Encodes turn `turn` of a dialogue with the special tokens that it spells.
    pub(super) fn encode_parsed_turn(&self, text: &str, turn: usize) -> Result<Encoded, TokenizerError> {
        if turn == 0 {
            return self.encode_with_special_tokens(text);
        }
        encode_continued(&self.parsing, text)
    }

    /// Returns the first special token that is written out in a text.
    pub fn first_special_token(&self, text: &str) -> Option<u32> {
        let encoded = self.encode_with_special_tokens(text).ok()?;
        encoded.ids.into_iter().find(|id| self.added_ids.contains(id))
    }

    /// Returns the special tokens as they are written.
    pub fn special_tokens(&self) -> &[String] {
        &self.special_tokens
    }

    /// Returns a special token that is written out in the text, if there is one.
    pub fn special_token_in(&self, text: &str) -> Option<&str> {
        self.special_tokens.iter().map(String::as_str).find(|token| text.contains(token))
    }

    /// Decodes ids to text; special tokens are left out.
    ///
    /// # Errors
    /// The tokenizer's own message.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        let decoded = without_panic(|| self.inner.decode(ids, true)).map_err(TokenizerError)?;
        decoded.map_err(|error| TokenizerError(error.to_string()))
    }

    /// Decodes `ids` as the continuation of `prompt`: returns what the text of both has beyond the text of `prompt`.
    ///
    /// The decoders of Llama-2 and Mistral drop the space that begins a text, so that `ids` decoded alone would lose a
    /// space that belongs to them.
    ///
    /// # Errors
    /// The tokenizer's own message.
    pub fn decode_after(&self, prompt: &[u32], ids: &[u32]) -> Result<String, TokenizerError> {
        let before = self.decode(prompt)?;
        let whole = self.decode(&[prompt, ids].concat())?;
        if let Some(text) = whole.strip_prefix(&before) {
            return Ok(text.to_owned());
        }
        // A decoder that rewrites the end of the prompt: the continuation begins where the two texts part.
        let mut common = 0;
        for (a, b) in before.chars().zip(whole.chars()) {
            if a != b {
                break;
            }
            common += a.len_utf8();
        }
        Ok(whole[common..].to_owned())
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

    /// Checks that every id has a row in an embedding of `vocab_size` rows. Tokens such as padding that the folder only names
    /// need none.
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

fn encode_with(tokenizer: &HubTokenizer, text: &str) -> Result<Encoded, TokenizerError> {
    if text.contains(ANCHOR) {
        let message = "it contains U+FDD0 U+FDD1, noncharacters that stand for a token here";
        return Err(TokenizerError(message.to_owned()));
    }
    encode_unchecked(tokenizer, text)
}

/// Encodes a text as text after a special token: after [`ANCHOR`], whose own token is dropped.
fn encode_continued(tokenizer: &HubTokenizer, text: &str) -> Result<Encoded, TokenizerError> {
    if text.contains(ANCHOR) {
        return encode_with(tokenizer, text);
    }
    let mut encoded = encode_unchecked(tokenizer, &[ANCHOR, text].concat())?;
    encoded.ids.remove(0);
    encoded.ends.remove(0);
    for end in &mut encoded.ends {
        *end -= ANCHOR.len();
    }
    Ok(encoded)
}

fn encode_unchecked(tokenizer: &HubTokenizer, text: &str) -> Result<Encoded, TokenizerError> {
    let encoding = encoding_of(tokenizer, text)?;
    let ends = encoding.get_offsets().iter().map(|&(_, end)| end).collect();
    Ok(Encoded { ids: encoding.get_ids().to_vec(), ends })
}

/// Encodes a text without special tokens. Some tokenizers whose file was damaged panic.
fn encoding_of(tokenizer: &HubTokenizer, text: &str) -> Result<Encoding, TokenizerError> {
    let encoded = without_panic(|| tokenizer.encode(text, false)).map_err(TokenizerError)?;
    encoded.map_err(|error| TokenizerError(error.to_string()))
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

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use serde_json::{Value, json};

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
            "pre_tokenizer": bytes, "post_processor": with_bos(), "decoder": bytes,
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": []}
        })
    }

    /// A post-processor that begins a sequence with BOS.
    fn with_bos() -> Value {
        json!({
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [BOS], "tokens": ["<s>"]}}
        })
    }

    fn load(tokenizer: &Value, configuration: &Value) -> Result<Tokenizer, DatasetError> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
        fs::write(folder.path().join("tokenizer_config.json"), configuration.to_string()).unwrap();
        Tokenizer::load(folder.path())
    }

    fn framed() -> Value {
        json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}})
    }

    pub fn byte_level() -> Tokenizer {
        load(&byte_level_json(), &framed()).unwrap()
    }

    #[test]
    fn the_post_processor_decides_how_a_sequence_begins() {
        let tokenizer = byte_level();
        assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.largest_id()), (Some(BOS), EOS, 258));
        let mut file = byte_level_json();
        file["post_processor"] = Value::Null;
        let without = load(&file, &framed()).unwrap();
        assert_eq!(without.bos(), None);
        assert_ne!(without.content_hash(), tokenizer.content_hash());
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
        let ids = json!({"eos_token": "</s>", "added_tokens_decoder": {"300": {"content": "<end>"}}});
        let expected =
            "the token \"<end>\" has id 300 in added_tokens_decoder of tokenizer_config.json and id 259 after";
        assert!(refused(&byte_level_json(), &ids).contains(expected), "{}", refused(&byte_level_json(), &ids));
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

    #[test]
    fn a_token_that_no_sequence_needs_may_lack_a_row_of_the_embedding() {
        let folder = Path::new("model");
        let named = |more: Value| {
            let mut configuration = framed();
            configuration.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
            load(&byte_level_json(), &configuration).unwrap()
        };
        for name in ["pad_token", "unk_token", "sep_token", "cls_token", "mask_token"] {
            let tokenizer = named(json!({ name: "<new>" }));
            assert_eq!(tokenizer.largest_id(), 258, "{name}");
            assert!(tokenizer.check_vocabulary(259, folder).is_ok());
            assert!(tokenizer.special_tokens().contains(&"<new>".to_owned()), "{name}");
        }
        for more in [
            json!({"additional_special_tokens": ["<new>"]}),
            json!({"pad_token": "<new>", "additional_special_tokens": ["<new>"]}),
            json!({"pad_token": "<new>", "added_tokens_decoder": {"259": {"content": "<new>"}}}),
        ] {
            assert_eq!(named(more).largest_id(), 259);
        }
    }
}
