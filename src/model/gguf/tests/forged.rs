//! GGUF files written by hand.

/// A file that is being written: pairs of metadata and tensors, each as its bytes.
#[derive(Clone, Default)]
pub struct Forged {
    pub pairs: Vec<Vec<u8>>,
    pub tensors: Vec<Vec<u8>>,
    pub data: Vec<u8>,
}

pub fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

impl Forged {
    /// A Llama of one layer with eight weights per row, all 0, and three tokens.
    pub fn llama() -> Self {
        let mut file = Self::default();
        file.put_text("general.architecture", "llama");
        for (key, value) in [
            ("block_count", 1),
            ("context_length", 16),
            ("embedding_length", 8),
            ("feed_forward_length", 8),
            ("attention.head_count", 2),
        ] {
            file.put_u32(&format!("llama.{key}"), value);
        }
        file.put("llama.attention.layer_norm_rms_epsilon", 6, &1e-5f32.to_le_bytes());
        file.put_text("tokenizer.ggml.model", "gpt2");
        file.put_text("tokenizer.ggml.pre", "gpt-2");
        file.put_texts("tokenizer.ggml.tokens", &["<s>", "a", "b"]);
        file.put_texts("tokenizer.ggml.merges", &[]);
        file.put_u32("tokenizer.ggml.eos_token_id", 0);
        file.put_tensor("token_embd.weight", &[8, 3], 0);
        file.put_tensor("output_norm.weight", &[8], 0);
        for name in ["attn_norm", "ffn_norm"] {
            file.put_tensor(&format!("blk.0.{name}.weight"), &[8], 0);
        }
        for name in ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"] {
            file.put_tensor(&format!("blk.0.{name}.weight"), &[8, 8], 0);
        }
        file.data.resize(8 * 8 * 4, 0);
        file
    }

    pub fn put(&mut self, key: &str, kind: u32, value: &[u8]) {
        let mut bytes = text(key);
        bytes.extend(kind.to_le_bytes());
        bytes.extend(value);
        self.pairs.push(bytes);
    }

    pub fn put_text(&mut self, key: &str, value: &str) {
        self.put(key, 8, &text(value));
    }

    pub fn put_u32(&mut self, key: &str, value: u32) {
        self.put(key, 4, &value.to_le_bytes());
    }

    pub fn put_texts(&mut self, key: &str, values: &[&str]) {
        let mut bytes = 8u32.to_le_bytes().to_vec();
        bytes.extend((values.len() as u64).to_le_bytes());
        bytes.extend(values.iter().flat_map(|value| text(value)));
        self.put(key, 9, &bytes);
    }

    /// Adds a tensor whose data begins where those of all others do. `sizes` begin with the innermost.
    pub fn put_tensor(&mut self, name: &str, sizes: &[u64], kind: u32) {
        let mut bytes = text(name);
        bytes.extend((sizes.len() as u32).to_le_bytes());
        bytes.extend(sizes.iter().flat_map(|size| size.to_le_bytes()));
        bytes.extend(kind.to_le_bytes());
        bytes.extend(0u64.to_le_bytes());
        self.tensors.push(bytes);
    }

    /// Removes the pairs or tensors of a name.
    pub fn remove(&mut self, name: &str) {
        let begins = text(name);
        self.pairs.retain(|bytes| !bytes.starts_with(&begins));
        self.tensors.retain(|bytes| !bytes.starts_with(&begins));
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.pairs.len() as u64).to_le_bytes());
        bytes.extend(self.pairs.concat());
        bytes.extend(self.tensors.concat());
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(&self.data);
        bytes
    }
}
