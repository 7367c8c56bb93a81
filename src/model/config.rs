//! The fields of a Hugging Face config.json that determine the computation.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::ModelError;

/// A model family that uses the Llama decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Architecture {
    /// Llama 1, 2 and 3.
    Llama,
    /// Mistral: Llama with an optional sliding window.
    Mistral,
    /// Qwen2 and 2.5: Llama with biases on q, k and v.
    Qwen2,
}

/// The scaling of RoPE for positions beyond those of pretraining.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum RopeScaling {
    /// Positions are divided by `factor`.
    Linear {
        /// At least 1.
        factor: f64,
    },
    /// Llama 3.1: low frequencies are divided by `factor`, high ones are unchanged, with a ramp in between.
    Llama3 {
        /// At least 1.
        factor: f64,
        /// Wavelengths above `original_positions / low_freq_factor` are scaled.
        low_freq_factor: f64,
        /// Wavelengths below `original_positions / high_freq_factor` are unchanged.
        high_freq_factor: f64,
        /// Number of positions in pretraining.
        original_positions: f64,
    },
}

/// The shape of a decoder, and the constants of its computation.
///
/// # Examples
///
/// ```
/// use std::path::Path;
///
/// use fedreplay::model::{Architecture, Config};
///
/// let config = Config::read(Path::new("fixtures/tiny-base"))?;
/// assert_eq!(config.architecture, Architecture::Llama);
/// assert_eq!((config.layers, config.hidden_size, config.vocab_size), (4, 128, 1024));
/// assert!(config.tied);
/// // What is written reads back as the same model.
/// assert_eq!(Config::parse(config.to_json().to_string().as_bytes())?, config);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The model family.
    pub architecture: Architecture,
    /// Number of tokens in the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the hidden layer of the MLP.
    pub intermediate_size: usize,
    /// Number of decoder layers.
    pub layers: usize,
    /// Number of query heads.
    pub heads: usize,
    /// Number of key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head; even.
    pub head_dim: usize,
    /// Epsilon of RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary embedding.
    pub rope_theta: f64,
    /// The scaling of RoPE, if any.
    pub rope_scaling: Option<RopeScaling>,
    /// [token] -- Longest sequence.
    pub max_positions: usize,
    /// [token] -- Number of keys that a query attends to, including its own, if limited.
    pub sliding_window: Option<usize>,
    /// Whether the output head is the embedding.
    pub tied: bool,
    /// Whether q, k and v have biases.
    pub qkv_bias: bool,
    /// Whether o has a bias.
    pub output_bias: bool,
    /// Whether gate, up and down have biases.
    pub mlp_bias: bool,
}

impl Config {
    /// Returns a Llama without biases, grouped heads or RoPE scaling, for tests and small generated models.
    pub fn llama(vocab_size: usize, hidden_size: usize, intermediate_size: usize, layers: usize, heads: usize) -> Self {
        Self {
            architecture: Architecture::Llama,
            vocab_size,
            hidden_size,
            intermediate_size,
            layers,
            heads,
            kv_heads: heads,
            head_dim: hidden_size / heads,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            rope_scaling: None,
            max_positions: 2048,
            sliding_window: None,
            tied: false,
            qkv_bias: false,
            output_bias: false,
            mlp_bias: false,
        }
    }

    /// Reads and checks `config.json` in `folder`.
    ///
    /// # Errors
    /// If the file is missing or malformed, or names an architecture, activation or RoPE type that is not supported.
    pub fn read(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join("config.json");
        let bytes = std::fs::read(&path).map_err(ModelError::io(&path))?;
        Self::parse(&bytes).map_err(|reason| ModelError::Config { path, reason })
    }

    /// Parses the text of a config.json. The error is a description without the name of the file.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let raw: Raw = serde_json::from_slice(json).map_err(|e| e.to_string())?;
        let architecture = architecture_of(&raw)?;
        let config = raw.resolve(architecture)?;
        config.check()?;
        Ok(config)
    }

    /// Returns a config.json that describes this model and can be read by Transformers 4 and 5.
    pub fn to_json(&self) -> Value {
        let (model_type, class) = match self.architecture {
            Architecture::Llama => ("llama", "LlamaForCausalLM"),
            Architecture::Mistral => ("mistral", "MistralForCausalLM"),
            Architecture::Qwen2 => ("qwen2", "Qwen2ForCausalLM"),
        };
        let scaling = self.rope_scaling.map(|scaling| match scaling {
            RopeScaling::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_positions } => json!({
                "rope_type": "llama3", "factor": factor, "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor, "original_max_position_embeddings": original_positions as u64,
            }),
        });
        json!({
            "architectures": [class], "model_type": model_type, "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size, "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads, "head_dim": self.head_dim, "hidden_act": "silu",
            "rms_norm_eps": self.rms_norm_eps, "rope_theta": self.rope_theta, "rope_scaling": scaling,
            "max_position_embeddings": self.max_positions, "tie_word_embeddings": self.tied,
            "attention_bias": self.output_bias, "mlp_bias": self.mlp_bias, "torch_dtype": "float32",
            "sliding_window": self.sliding_window, "use_sliding_window": self.sliding_window.is_some(),
        })
    }

    /// Checks the properties that the rest of the program relies on.
    fn check(&self) -> Result<(), String> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.layers),
            ("num_attention_heads", self.heads),
            ("num_key_value_heads", self.kv_heads),
            ("max_position_embeddings", self.max_positions),
            ("head_dim", self.head_dim),
        ];
        if let Some((name, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return Err(format!("{name} is 0, at least 1 is needed"));
        }
        if self.layers > LAYERS_MAX {
            return Err(format!("num_hidden_layers is {}, at most {LAYERS_MAX} are allowed", self.layers));
        }
        if let Some((name, size)) = sizes.into_iter().find(|(_, size)| *size > SIZE_MAX) {
            return Err(format!("{name} is {size}, at most {SIZE_MAX} is allowed"));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(format!(
                "num_key_value_heads {} does not divide num_attention_heads {}",
                self.kv_heads, self.heads
            ));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(format!("head_dim is {}, the rotary embedding needs an even one", self.head_dim));
        }
        if !(self.rms_norm_eps > 0.0 && self.rope_theta > 0.0) {
            return Err("rms_norm_eps and rope_theta must be above 0".into());
        }
        Ok(())
    }
}

/// Largest number of layers. No decoder has as many; a larger number is a mistake that would only fill memory.
const LAYERS_MAX: usize = 10_000;

/// Largest value of every other size. Products of two of them, in bytes, stay below 2^63.
const SIZE_MAX: usize = 1 << 28;

/// The raw contents of config.json. Unknown fields are ignored: Transformers writes dozens that do not matter here.
#[derive(Deserialize)]
struct Raw {
    model_type: Option<String>,
    #[serde(default)]
    architectures: Vec<String>,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    hidden_act: Option<String>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    rope_scaling: Option<Value>,
    rope_parameters: Option<Value>,
    max_position_embeddings: Option<usize>,
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
    max_window_layers: Option<usize>,
    #[serde(default)]
    tie_word_embeddings: bool,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
}

impl Raw {
    /// Fills in the defaults of Transformers and of the architecture.
    fn resolve(self, architecture: Architecture) -> Result<Config, String> {
        // `swish` is another name of `silu`, x sigmoid(x).
        let activation = self.hidden_act.as_deref().unwrap_or("silu");
        if activation != "silu" && activation != "swish" {
            return Err(format!("hidden_act is {activation:?}, only \"silu\" is supported"));
        }
        // Older files have no `head_dim`: the heads then divide the residual stream among them.
        let head_dim = match self.head_dim {
            Some(width) => width,
            None if self.num_attention_heads > 0 && self.hidden_size.is_multiple_of(self.num_attention_heads) => {
                self.hidden_size / self.num_attention_heads
            }
            None => return Err(format!("hidden_size {} is no multiple of num_attention_heads", self.hidden_size)),
        };
        let attention_bias = self.attention_bias.unwrap_or(false);
        Ok(Config {
            architecture,
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            layers: self.num_hidden_layers,
            heads: self.num_attention_heads,
            kv_heads: self.num_key_value_heads.unwrap_or(self.num_attention_heads),
            head_dim,
            rms_norm_eps: self.rms_norm_eps.unwrap_or(1e-6),
            rope_theta: self.rope_theta().unwrap_or(10_000.0),
            rope_scaling: self.rope_scaling()?,
            max_positions: self.max_position_embeddings.unwrap_or(2048),
            sliding_window: self.sliding_window(architecture)?,
            tied: self.tie_word_embeddings,
            // Qwen2 has these biases without naming them; for the other modules, only Llama honors the keys.
            qkv_bias: architecture == Architecture::Qwen2 || attention_bias,
            output_bias: architecture == Architecture::Llama && attention_bias,
            mlp_bias: architecture == Architecture::Llama && self.mlp_bias.unwrap_or(false),
        })
    }

    /// Returns `rope_theta`, which is at the top level up to Transformers 4 and inside `rope_parameters` from 5 on.
    fn rope_theta(&self) -> Option<f64> {
        let inside = self.rope_parameters.as_ref().and_then(|parameters| parameters["rope_theta"].as_f64());
        inside.or(self.rope_theta)
    }

    fn rope_scaling(&self) -> Result<Option<RopeScaling>, String> {
        // Transformers 5 writes `rope_parameters`, which takes precedence over the older `rope_scaling`.
        let Some(value) = self.rope_parameters.as_ref().or(self.rope_scaling.as_ref()).filter(|v| !v.is_null()) else {
            return Ok(None);
        };
        let kind = value["rope_type"].as_str().or(value["type"].as_str()).unwrap_or("default");
        match kind {
            "default" => Ok(None),
            "linear" => Ok(Some(RopeScaling::Linear { factor: positive(value, kind, "factor")? })),
            "llama3" => Ok(Some(RopeScaling::Llama3 {
                factor: positive(value, kind, "factor")?,
                low_freq_factor: positive(value, kind, "low_freq_factor")?,
                high_freq_factor: positive(value, kind, "high_freq_factor")?,
                original_positions: positive(value, kind, "original_max_position_embeddings")?,
            })),
            other => Err(format!("rope type is {other:?}, supported are \"default\", \"linear\" and \"llama3\"")),
        }
    }

    /// Returns the sliding window. Qwen2 uses its window only if `use_sliding_window` is set, and only from layer
    /// `max_window_layers` on.
    fn sliding_window(&self, architecture: Architecture) -> Result<Option<usize>, String> {
        match architecture {
            Architecture::Mistral => Ok(self.sliding_window),
            Architecture::Llama => Ok(None),
            Architecture::Qwen2 if self.use_sliding_window != Some(true) => Ok(None),
            Architecture::Qwen2 if self.max_window_layers == Some(0) => Ok(self.sliding_window),
            // The window would begin after the last layer, so it is never used.
            Architecture::Qwen2 if self.max_window_layers.is_some_and(|from| from >= self.num_hidden_layers) => {
                Ok(None)
            }
            Architecture::Qwen2 => Err("use_sliding_window with full attention in some layers is not supported".into()),
        }
    }
}

/// Returns a parameter of RoPE scaling, which must be a number above 0.
fn positive(parameters: &Value, kind: &str, name: &str) -> Result<f64, String> {
    match parameters[name].as_f64() {
        Some(number) if number > 0.0 => Ok(number),
        _ => Err(format!("rope type {kind:?} needs a positive {name}")),
    }
}

fn architecture_of(raw: &Raw) -> Result<Architecture, String> {
    let name = raw.model_type.as_deref().or(raw.architectures.first().map(String::as_str));
    match name {
        Some("llama" | "LlamaForCausalLM") => Ok(Architecture::Llama),
        Some("mistral" | "MistralForCausalLM") => Ok(Architecture::Mistral),
        Some("qwen2" | "Qwen2ForCausalLM") => Ok(Architecture::Qwen2),
        Some(other) => Err(format!("model_type is {other:?}, supported are \"llama\", \"mistral\" and \"qwen2\"")),
        None => Err("model_type is missing".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(edit: impl Fn(&mut Value)) -> Result<Config, String> {
        let mut json = Config::llama(100, 32, 64, 2, 4).to_json();
        edit(&mut json);
        Config::parse(json.to_string().as_bytes())
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut config = Config::llama(100, 32, 64, 2, 4);
        config.kv_heads = 2;
        config.tied = true;
        config.rope_scaling = Some(RopeScaling::Linear { factor: 2.0 });
        assert_eq!(Config::parse(config.to_json().to_string().as_bytes()), Ok(config.clone()));
        config.architecture = Architecture::Qwen2;
        config.qkv_bias = true;
        assert_eq!(Config::parse(config.to_json().to_string().as_bytes()), Ok(config.clone()));
        config.architecture = Architecture::Mistral;
        config.qkv_bias = false;
        config.sliding_window = Some(16);
        assert_eq!(Config::parse(config.to_json().to_string().as_bytes()), Ok(config));
    }

    #[test]
    fn both_spellings_of_rope_are_read() {
        let scaled = json!({"rope_theta": 5e5, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192});
        let config = parsed(|json| json["rope_parameters"] = scaled.clone()).unwrap();
        assert_eq!(config.rope_theta, 5e5);
        assert!(matches!(config.rope_scaling, Some(RopeScaling::Llama3 { factor: 8.0, .. })));
        let config = parsed(|json| json["rope_scaling"] = json!({"type": "linear", "factor": 4.0})).unwrap();
        assert_eq!(config.rope_scaling, Some(RopeScaling::Linear { factor: 4.0 }));
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        let reason = |edit: &dyn Fn(&mut Value)| parsed(edit).unwrap_err();
        assert!(reason(&|json| json["model_type"] = "gpt2".into()).contains("\"gpt2\""));
        assert!(reason(&|json| json["hidden_act"] = "gelu".into()).contains("\"gelu\""));
        assert!(reason(&|json| json["rope_scaling"] = json!({"rope_type": "yarn"})).contains("\"yarn\""));
        assert!(reason(&|json| json["num_key_value_heads"] = 3.into()).contains("does not divide"));
        assert!(reason(&|json| json["num_hidden_layers"] = 0.into()).contains("num_hidden_layers"));
        assert!(reason(&|json| json["num_hidden_layers"] = 4_000_000_000u64.into()).contains("at most 10000"));
        assert!(reason(&|json| json["vocab_size"] = (1u64 << 60).into()).contains("at most 268435456"));
        assert!(reason(&|json| json["vocab_size"] = "many".into()).contains("invalid type"));
    }
}
