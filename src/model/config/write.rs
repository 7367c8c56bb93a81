//! Writing a config.json.

use serde_json::{Value, json};

use super::{Activation, Config, RopeScaling, fields};

/// Keys that only some classes know, and that are left out elsewhere even if they set nothing.
const NEW: [&str; 3] = ["attn_logit_softcapping", "final_logit_softcapping", "rope_local_base_freq"];

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
        if self.attention_dropout != 0.0 {
            written["attention_dropout"] = self.attention_dropout.into();
        }
        self.write_variant(&mut written);
        // What the class does not know is left out, unless it sets nothing in all classes.
        let keys = written.as_object_mut().expect("it was written as one");
        keys.retain(|key, value| {
            fields::is_of_class(self.architecture, key) || fields::is_unset(value) && !NEW.contains(&key.as_str())
        });
        written
    }

    fn layer_types(&self) -> Value {
        let kind = |layer| if self.window(layer).is_some() { "sliding_attention" } else { "full_attention" };
        (0..self.layers).map(kind).collect()
    }

    /// Adds the keys of families that differ from Llama; those that the class does not know are removed afterwards.
    fn write_variant(&self, written: &mut Value) {
        let variant = &self.variant;
        if variant.activation == Activation::GeluTanh {
            written["hidden_activation"] = "gelu_pytorch_tanh".into();
        }
        if let Some(rotated) = variant.rotated {
            written["partial_rotary_factor"] = (rotated as f64 / self.head_dim as f64).into();
        }
        if let Some(layers) = &variant.rotated_layers {
            written["no_rope_layers"] = layers.iter().map(|&is_rotated| Value::from(u8::from(is_rotated))).collect();
        }
        if let Some(scale) = variant.attention_scale {
            written["attention_multiplier"] = scale.into();
            written["query_pre_attn_scalar"] = (1.0 / (scale * scale)).into();
        }
        written["rope_local_base_freq"] = variant.local_rope_theta.into();
        written["attn_logit_softcapping"] = variant.attention_cap.into();
        written["final_logit_softcapping"] = variant.logit_cap.into();
        written["embedding_multiplier"] = variant.embedding_scale.into();
        written["residual_multiplier"] = variant.residual_scale.into();
        written["logits_scaling"] = (1.0 / variant.logit_scale).into();
    }
}
