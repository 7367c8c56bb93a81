//! The shape of the model in a GGUF file, and the config.json that says the same.

use serde_json::{Map, Value, json};

use super::GgufFault;
use super::metadata::{Metadata, required};

/// Largest number of layers, and largest value of every other size. Larger ones are a mistake that would only fill
/// memory.
const LAYERS_MAX: usize = 10_000;
const SIZE_MAX: usize = 1 << 28;

/// A model family, by `general.architecture`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GgufFamily {
    /// Llama and all that are stored as Llama, such as Mistral and SmolLM.
    Llama,
    Qwen2,
    Qwen3,
    Gemma3,
    Phi3,
}

impl GgufFamily {
    const ALL: [Self; 5] = [Self::Llama, Self::Qwen2, Self::Qwen3, Self::Gemma3, Self::Phi3];

    /// Reads the family of a file.
    pub fn read(metadata: &Metadata) -> Result<Self, GgufFault> {
        let key = "general.architecture";
        let name = required(metadata.text(key)?, key)?;
        Self::ALL.into_iter().find(|family| family.name() == name).ok_or_else(|| {
            let supported: Vec<_> = Self::ALL.iter().map(|family| family.name()).collect();
            GgufFault::key(key, format!("is {name:?}, supported are {}", supported.join(", ")))
        })
    }

    /// Returns the name of the family in a GGUF file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gemma3 => "gemma3",
            Self::Phi3 => "phi3",
        }
    }

    /// Returns the model type and the class of Transformers.
    fn in_transformers(self) -> (&'static str, &'static str) {
        match self {
            Self::Llama => ("llama", "LlamaForCausalLM"),
            Self::Qwen2 => ("qwen2", "Qwen2ForCausalLM"),
            Self::Qwen3 => ("qwen3", "Qwen3ForCausalLM"),
            Self::Gemma3 => ("gemma3_text", "Gemma3ForCausalLM"),
            Self::Phi3 => ("phi3", "Phi3ForCausalLM"),
        }
    }
}

/// Sizes and constants of a decoder, as the metadata has them.
#[derive(Clone, Debug)]
pub(super) struct Decoder {
    pub family: GgufFamily,
    pub layers: usize,
    pub hidden: usize,
    pub intermediate: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// [token] -- Longest sequence.
    pub context: usize,
    /// Number of tokens by the metadata, if it has one; the embedding's rows decide.
    pub vocab: Option<usize>,
    rms_norm_eps: f64,
    rope_theta: f64,
    /// Base of RoPE in layers with a sliding window.
    rope_local_theta: f64,
    /// Factor by which positions are divided.
    linear_scaling: Option<f64>,
    /// Number of dimensions of a head that RoPE turns.
    rotary_dim: usize,
    sliding_window: Option<usize>,
}

/// Properties of the model that its tensors tell.
#[derive(Clone, Debug, Default)]
pub(super) struct TensorFacts {
    /// Number of rows of the embedding.
    pub vocab: usize,
    /// Whether there is no output head of its own.
    pub is_tied: bool,
    /// Whether q, k, v and o have biases. Qwen2 always has those of q, k and v.
    pub attention_bias: bool,
    /// Whether gate, up and down have biases.
    pub mlp_bias: bool,
    /// Scaling of RoPE as in Llama 3.1, as config.json has it.
    pub rope_scaling: Option<Value>,
    /// Name of the type in which most weights are written, as PyTorch has it.
    pub dtype: &'static str,
}

/// Keys under the architecture's prefix that are read. Every other one could change the computation, so it is refused.
const KEYS: [&str; 23] = [
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.layer_norm_rms_epsilon",
    "attention.key_length",
    "attention.value_length",
    "attention.sliding_window",
    "attention.causal",
    "rope.freq_base",
    "rope.freq_base_swa",
    "rope.dimension_count",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "rope.scale_linear",
    "expert_count",
    "expert_used_count",
    "vocab_size",
    "tensor_data_layout",
];

/// Reads keys under the prefix of an architecture.
struct Section<'a> {
    metadata: &'a Metadata,
    prefix: &'static str,
}

impl Section<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    /// Returns a size, which is at least 1 and at most `most`, if it is there.
    fn size(&self, name: &str, most: usize) -> Result<Option<usize>, GgufFault> {
        let key = self.key(name);
        match self.metadata.size(&key)? {
            Some(size) if size == 0 || size > most => {
                Err(GgufFault::key(key, format!("is {size}, 1 to {most} are allowed")))
            }
            found => Ok(found),
        }
    }

    fn required_size(&self, name: &str, most: usize) -> Result<usize, GgufFault> {
        required(self.size(name, most)?, &self.key(name))
    }

    /// Returns a number above 0, if it is there.
    fn positive(&self, name: &str) -> Result<Option<f64>, GgufFault> {
        let key = self.key(name);
        match self.metadata.number(&key)? {
            Some(number) if !(number > 0.0 && number.is_finite()) => {
                Err(GgufFault::key(key, format!("is {number}, expected a finite number above 0")))
            }
            found => Ok(found),
        }
    }
}

impl Decoder {
    /// Reads and checks the sizes.
    pub fn read(metadata: &Metadata) -> Result<Self, GgufFault> {
        let family = GgufFamily::read(metadata)?;
        let section = Section { metadata, prefix: family.name() };
        refuse_unknown_keys(&section)?;
        let heads = section.required_size("attention.head_count", SIZE_MAX)?;
        let kv_heads = section.size("attention.head_count_kv", SIZE_MAX)?.unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            let reason = format!("is {kv_heads}, which does not divide the {heads} heads");
            return Err(GgufFault::key(section.key("attention.head_count_kv"), reason));
        }
        let hidden = section.required_size("embedding_length", SIZE_MAX)?;
        let head_dim = head_dim(&section, hidden, heads)?;
        let rope_theta = section.positive("rope.freq_base")?.unwrap_or(10_000.0);
        Ok(Self {
            family,
            layers: section.required_size("block_count", LAYERS_MAX)?,
            hidden,
            intermediate: section.required_size("feed_forward_length", SIZE_MAX)?,
            heads,
            kv_heads,
            head_dim,
            context: section.required_size("context_length", SIZE_MAX)?,
            vocab: section.size("vocab_size", SIZE_MAX)?,
            rms_norm_eps: required(
                section.positive("attention.layer_norm_rms_epsilon")?,
                &section.key("attention.layer_norm_rms_epsilon"),
            )?,
            rope_theta,
            rope_local_theta: section.positive("rope.freq_base_swa")?.unwrap_or(10_000.0),
            linear_scaling: linear_scaling(&section)?,
            rotary_dim: rotary_dim(&section, family, head_dim)?,
            sliding_window: sliding_window(&section, family)?,
        })
    }

    /// Returns the model's config.json, which Transformers 4 and 5 read.
    pub fn config(&self, facts: &TensorFacts) -> Map<String, Value> {
        let (model_type, class) = self.family.in_transformers();
        let linear = self.linear_scaling.map(|factor| json!({"rope_type": "linear", "factor": factor}));
        let config = json!({
            "architectures": [class], "model_type": model_type, "vocab_size": facts.vocab,
            "hidden_size": self.hidden, "intermediate_size": self.intermediate, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads, "num_key_value_heads": self.kv_heads, "head_dim": self.head_dim,
            "max_position_embeddings": self.context, "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta, "rope_scaling": facts.rope_scaling.clone().or(linear),
            "tie_word_embeddings": facts.is_tied, "torch_dtype": facts.dtype, "use_cache": true,
        });
        let Value::Object(mut config) = config else { unreachable!("it was written as an object") };
        config.extend(self.of_family(facts));
        config
    }

    /// Returns the fields that only one family has.
    fn of_family(&self, facts: &TensorFacts) -> Map<String, Value> {
        let fields = match self.family {
            GgufFamily::Llama => json!({
                "hidden_act": "silu", "attention_bias": facts.attention_bias, "mlp_bias": facts.mlp_bias,
            }),
            GgufFamily::Qwen2 => json!({"hidden_act": "silu", "use_sliding_window": false}),
            GgufFamily::Qwen3 => json!({"hidden_act": "silu", "use_sliding_window": false, "attention_bias": false}),
            GgufFamily::Gemma3 => json!({
                "hidden_activation": "gelu_pytorch_tanh", "attention_bias": false,
                "query_pre_attn_scalar": self.query_scalar(), "sliding_window": self.sliding_window,
                "layer_types": self.layer_types(), "_sliding_window_pattern": GEMMA3_PATTERN,
                "rope_local_base_freq": self.rope_local_theta,
                "attn_logit_softcapping": null, "final_logit_softcapping": null,
            }),
            GgufFamily::Phi3 => json!({
                "hidden_act": "silu", "sliding_window": self.sliding_window,
                "partial_rotary_factor": self.rotary_dim as f64 / self.head_dim as f64,
                "original_max_position_embeddings": self.context,
                "attention_dropout": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0,
            }),
        };
        let Value::Object(fields) = fields else { unreachable!("it was written as an object") };
        fields
    }

    /// Returns the scaling of Llama 3.1 that has these factors of the frequencies; `None` if all are 1.
    ///
    /// The file has one factor per frequency, config.json the four numbers that they follow from. Three of the four are
    /// the same in all models of that kind, and the fourth is the largest factor. Others are refused.
    pub fn scaling_of(&self, factors: &[f32]) -> Result<Option<Value>, GgufFault> {
        const LOW: f64 = 1.0;
        const HIGH: f64 = 4.0;
        const ORIGINAL: f64 = 8192.0;
        let largest = f64::from(factors.iter().copied().fold(1.0, f32::max));
        for (index, &found) in factors.iter().enumerate() {
            let exponent = 2.0 * index as f64 / self.head_dim as f64;
            let wavelength = 2.0 * std::f64::consts::PI * self.rope_theta.powf(exponent);
            // Long waves are divided by the factor, short ones stay, and in between the inverse is interpolated.
            let expected = if wavelength < ORIGINAL / HIGH {
                1.0
            } else if wavelength > ORIGINAL / LOW {
                largest
            } else {
                let smooth = (ORIGINAL / wavelength - LOW) / (HIGH - LOW);
                1.0 / ((1.0 - smooth) / largest + smooth)
            };
            // The factors were computed in f32.
            let distance = (f64::from(found) - expected).abs();
            if distance.is_nan() || distance > 1e-4 * expected {
                let reason = format!(
                    "has the factor {found} at frequency {index}, expected {expected} for Llama 3.1's scaling by {largest}"
                );
                return Err(GgufFault::tensor("rope_freqs.weight", reason));
            }
        }
        let scaling = json!({
            "rope_type": "llama3", "factor": largest, "low_freq_factor": LOW, "high_freq_factor": HIGH,
            "original_max_position_embeddings": ORIGINAL as u64,
        });
        Ok((largest != 1.0).then_some(scaling))
    }

    /// Returns whether each layer of Gemma 3 attends to a window or to all: every sixth attends to all, which llama.cpp
    /// has in its code, not in the file.
    fn layer_types(&self) -> Vec<&'static str> {
        let is_full = |layer: usize| (layer + 1).is_multiple_of(GEMMA3_PATTERN);
        (0..self.layers).map(|layer| if is_full(layer) { "full_attention" } else { "sliding_attention" }).collect()
    }

    /// Returns the number whose square root divides the queries of Gemma 3: the width of a head, except in the model of
    /// 27B, which llama.cpp knows by its 62 layers.
    fn query_scalar(&self) -> usize {
        if self.layers == 62 { self.hidden / self.heads } else { self.head_dim }
    }
}

/// Every sixth layer of Gemma 3 attends to all positions.
const GEMMA3_PATTERN: usize = 6;

fn refuse_unknown_keys(section: &Section) -> Result<(), GgufFault> {
    let prefix = section.key("");
    for key in section.metadata.keys_under(&prefix) {
        if !KEYS.contains(&&key[prefix.len()..]) {
            return Err(GgufFault::key(key, "is not supported, and ignoring it could change the computation"));
        }
    }
    let experts = section.key("expert_count");
    if let Some(count) = section.metadata.size(&experts)?.filter(|&count| count > 0) {
        return Err(GgufFault::key(experts, format!("is {count}, a mixture of experts is not supported")));
    }
    let causal = section.key("attention.causal");
    if section.metadata.flag(&causal)? == Some(false) {
        return Err(GgufFault::key(causal, "is false, only causal models are supported"));
    }
    Ok(())
}

/// Returns the width of a head: `attention.key_length`, or the hidden size divided among the heads.
fn head_dim(section: &Section, hidden: usize, heads: usize) -> Result<usize, GgufFault> {
    let from_length = section.size("attention.key_length", SIZE_MAX)?;
    let width = match from_length {
        Some(width) => width,
        None if hidden.is_multiple_of(heads) => hidden / heads,
        None => {
            let reason = format!("is {heads}, which does not divide the embedding_length {hidden}");
            return Err(GgufFault::key(section.key("attention.head_count"), reason));
        }
    };
    if !width.is_multiple_of(2) {
        return Err(GgufFault::key(section.key("attention.key_length"), format!("is {width}, expected an even width")));
    }
    let value_width = section.size("attention.value_length", SIZE_MAX)?.unwrap_or(width);
    if value_width != width {
        let reason = format!("is {value_width}, only the width {width} of keys is supported");
        return Err(GgufFault::key(section.key("attention.value_length"), reason));
    }
    Ok(width)
}

/// Returns the number of dimensions that RoPE turns: all of a head, except in Phi-3, which may turn fewer.
fn rotary_dim(section: &Section, family: GgufFamily, head_dim: usize) -> Result<usize, GgufFault> {
    let turned = section.size("rope.dimension_count", SIZE_MAX)?.unwrap_or(head_dim);
    if turned == head_dim || (family == GgufFamily::Phi3 && turned < head_dim) {
        return Ok(turned);
    }
    let reason = format!("is {turned}, only the width of a head, {head_dim}, is supported");
    Err(GgufFault::key(section.key("rope.dimension_count"), reason))
}

fn linear_scaling(section: &Section) -> Result<Option<f64>, GgufFault> {
    let key = section.key("rope.scaling.type");
    match section.metadata.text(&key)? {
        // Older files name the factor alone, and mean a linear scaling.
        None => Ok(section.positive("rope.scale_linear")?.filter(|&factor| factor != 1.0)),
        Some("none") => Ok(None),
        Some("linear") => {
            let factor = section.positive("rope.scaling.factor")?;
            required(factor, &section.key("rope.scaling.factor")).map(Some)
        }
        Some(other) => Err(GgufFault::key(key, format!("is {other:?}, \"none\" and \"linear\" are supported"))),
    }
}

fn sliding_window(section: &Section, family: GgufFamily) -> Result<Option<usize>, GgufFault> {
    let key = section.key("attention.sliding_window");
    let window = section.metadata.size(&key)?.filter(|&window| window > 0);
    match (family, window) {
        (GgufFamily::Gemma3, None) => required(window, &key).map(Some),
        (GgufFamily::Gemma3 | GgufFamily::Phi3, window) => Ok(window),
        (_, None) => Ok(None),
        (_, Some(window)) => {
            Err(GgufFault::key(key, format!("is {window}, a window is not supported in {}", family.name())))
        }
    }
}
