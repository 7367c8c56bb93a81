//! Writing a config.json.

use serde_json::{Value, json};

use super::{Config, RopeScaling, fields};

impl Config {
    /// Returns a config.json that describes this model and can be read by Transformers 4 and 5.
    pub fn to_json(&self) -> Value {
        let scaling = self.rope_scaling.map(|scaling| match scaling {
            RopeScaling::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_positions } => json!({
                "rope_type": "llama3", "factor": factor, "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor, "original_max_position_embeddings": original_positions as u64,
            }),
        });
        let mut written = json!({
            "architectures": [self.architecture.class()], "model_type": self.architecture.model_type(),
            "vocab_size": self.vocab_size, "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads, "num_key_value_heads": self.kv_heads, "head_dim": self.head_dim,
            "hidden_act": "silu", "rms_norm_eps": self.rms_norm_eps, "rope_theta": self.rope_theta,
            "rope_scaling": scaling, "max_position_embeddings": self.max_positions,
            "tie_word_embeddings": self.tied, "attention_bias": self.output_bias, "mlp_bias": self.mlp_bias,
            "torch_dtype": "float32", "sliding_window": self.sliding_window,
            "use_sliding_window": self.sliding_window.is_some(),
        });
        if self.sliding_window.is_some() {
            written["layer_types"] = self.layer_types();
        }
        // What the class does not know is left out, unless it sets nothing.
        let keys = written.as_object_mut().expect("it was written as one");
        keys.retain(|key, value| fields::is_of_class(self.architecture, key) || fields::is_unset(value));
        written
    }

    fn layer_types(&self) -> Value {
        let kind = |layer| if self.window(layer).is_some() { "sliding_attention" } else { "full_attention" };
        (0..self.layers).map(kind).collect()
    }
}
