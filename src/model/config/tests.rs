//! The reading of config.json against what Transformers makes of the same files.

use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::{Architecture, Config, families};
use crate::model::{ConfigError, Rope};

/// A small config.json of a class with changes; null removes a key.
fn changed(model_type: &str, changes: Value) -> Map<String, Value> {
    let mut json = json!({
        "model_type": model_type, "vocab_size": 96, "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    });
    let given = json.as_object_mut().unwrap();
    for (key, value) in changes.as_object().unwrap() {
        given.insert(key.clone(), value.clone());
    }
    given.clone()
}

fn parse(json: &Map<String, Value>) -> Result<Config, ConfigError> {
    Config::parse(&serde_json::to_vec(json).unwrap())
}

fn reason(model_type: &str, changes: Value) -> String {
    parse(&changed(model_type, changes)).unwrap_err().to_string()
}

/// The sines of the angles of position 1, which are the frequencies but for a bend.
fn sines(rope: &Rope) -> Vec<f64> {
    let (_, sin) = rope.at(&[1], tch::Kind::Double, tch::Device::Cpu).unwrap();
    Vec::<f64>::try_from(sin.flatten(0, -1)).unwrap()
}

#[test]
fn files_as_they_are_found_read_as_transformers_reads_them() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("../../../fixtures/reference/configs.json")).unwrap();
    for case in cases {
        let file = &case["config"];
        let config = parse(file.as_object().unwrap()).unwrap_or_else(|reason| panic!("{file}: {reason}"));
        let found = json!({
            "head_dim": config.head_dim, "kv_heads": config.kv_heads, "eps": config.rms_norm_eps,
            "max_positions": config.max_positions, "tied": config.tied,
            "windows": (0..config.layers).map(|layer| config.window(layer)).collect::<Vec<_>>(),
            "rotated": (0..config.layers).map(|layer| config.rotary(layer).is_some()).collect::<Vec<_>>(),
        });
        for (key, value) in found.as_object().unwrap() {
            assert_eq!(value, &case[key], "{key} of {file}");
        }
        assert_frequencies(file, &Rope::new(&config), &case["inverse_frequencies"]);
        assert_eq!(case["local_frequencies"].is_null(), config.variant.local_rope_theta.is_none(), "{file}");
        if let Some(local) = Rope::local(&config) {
            assert_frequencies(file, &local, &case["local_frequencies"]);
        }
    }
}

fn assert_frequencies(file: &Value, rope: &Rope, expected: &Value) {
    let expected: Vec<f64> = serde_json::from_value(expected.clone()).unwrap();
    let sines = sines(rope);
    assert_eq!(sines.len(), expected.len(), "{file}");
    for (found, expected) in sines.iter().zip(expected) {
        assert!((found - expected.sin()).abs() < 1e-6 * expected, "{file}: {found} for the sine of {expected}");
    }
}

#[test]
fn every_key_of_every_class_is_read_or_without_effect() {
    for architecture in Architecture::ALL {
        let model_type = architecture.model_type();
        let fields = Fields::new(changed(model_type, json!({})), architecture);
        families::read(architecture, &fields).unwrap();
        assert_eq!(fields.overlooked(), Vec::<String>::new(), "{model_type}");
    }
}

#[test]
fn a_setting_that_is_not_supported_is_refused_by_name_and_value() {
    for (changes, expected) in [
        (json!({"attention_dropout": 1.0}), "attention_dropout is 1, allowed is 0 up to below 1"),
        (json!({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}), "rope type is \"yarn\""),
        (json!({"rope_parameters": {"rope_type": "default", "mscale": 2.0}}), "mscale is 2.0"),
        (json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor is 0.5"),
        (json!({"hidden_act": "gelu"}), "hidden_act is \"gelu\""),
        (json!({"rms_norm_eps": null}), "rms_norm_eps is null"),
        (json!({"head_dim": 2.5}), "head_dim is 2.5, a whole number is needed"),
        (json!({"logit_scale": 2.0}), "logit_scale is 2.0, which is not known"),
        (json!({"activation": "gelu"}), "activation is \"gelu\""),
        (json!({"sliding_window": 8}), "sliding_window is 8, which is not known"),
        (json!({"layer_types": ["sliding_attention", "full_attention"]}), "layer_types is"),
        (
            json!({"quantization_config": {"quant_method": "gptq"}}),
            "quantization_config is set (quant_method \"gptq\")",
        ),
    ] {
        let found = reason("llama", changes);
        assert!(found.contains(expected), "{found}");
    }
}

/// The table is of an experiment with Transformers: a window changes the cache of any class, and `head_dim` the heads of most.
#[test]
fn a_key_that_the_class_does_not_read_passes() {
    for (model_type, changes) in [
        ("llama", json!({"attention_multiplier": 0.5, "max_window_layers": 28, "use_sliding_window": true})),
        ("mistral", json!({"attention_bias": true, "mlp_bias": true})),
        ("gemma2", json!({"hidden_act": "silu", "logits_scaling": 2.0})),
        ("qwen3", json!({"query_pre_attn_scalar": 8})),
    ] {
        let plain = parse(&changed(model_type, json!({})));
        assert_eq!(parse(&changed(model_type, changes.clone())), plain, "{model_type} {changes}");
    }
    for model_type in ["llama", "granite", "internlm3", "olmo2"] {
        assert!(reason(model_type, json!({"sliding_window": 8})).contains("sliding_window is 8"), "{model_type}");
    }
}

#[test]
fn layers_of_which_some_have_a_window_are_refused_where_the_class_has_one_kind() {
    let kinds = json!({"sliding_window": 8, "layer_types": ["full_attention", "full_attention"]});
    assert!(reason("mistral", kinds).contains("layer_types is [\"full_attention\",\"full_attention\"]"));
    let kinds = json!({"layer_types": ["sliding_attention", "full_attention"]});
    assert!(reason("qwen2", kinds).contains("no sliding window is set"));
    let kinds = json!({"layer_types": ["full_attention"]});
    assert!(reason("qwen2", kinds).contains("one type per layer"));
    let kinds = json!({"layer_types": ["full_attention", "chunked_attention"]});
    assert!(reason("qwen2", kinds).contains("\"chunked_attention\""));
}

#[test]
fn what_a_family_does_not_support_is_refused_by_name() {
    for (model_type, changes, expected) in [
        ("phi3", json!({"rope_scaling": {"type": "longrope", "short_factor": [1.0]}}), "short_factor is [1.0]"),
        ("phi3", json!({"rope_scaling": {"type": "longrope"}}), "rope type is \"longrope\""),
        ("phi3", json!({"resid_pdrop": 0.1}), "resid_pdrop is 0.1"),
        ("phi3", json!({"partial_rotary_factor": 0.2}), "3 elements of each head are rotated"),
        ("gemma2", json!({"hidden_activation": "gelu"}), "hidden_activation is \"gelu\""),
        ("gemma3_text", json!({"use_bidirectional_attention": true}), "use_bidirectional_attention is true"),
        ("gemma3_text", json!({"rope_parameters": {"rope_type": "default"}}), "rope_parameters has rope_type"),
        ("internlm3", json!({"qkv_bias": true}), "qkv_bias is true and bias is false"),
        ("smollm3", json!({"no_rope_layers": [1]}), "no_rope_layers is [1]"),
        ("granite", json!({"logits_scaling": 0}), "logits_scaling is 0"),
        ("qwen3", json!({"clip_qkv": 2.0}), "clip_qkv is 2.0, which is not known"),
        ("gemma3", json!({}), "model_type is \"gemma3\", supported are \"llama\""),
    ] {
        let found = reason(model_type, changes);
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn keys_without_effect_pass_whatever_they_hold() {
    let plain = parse(&changed("llama", json!({}))).unwrap();
    let named = json!({
        "_name_or_path": "x", "architectures": ["LlamaForCausalLM"], "torch_dtype": "bfloat16", "use_cache": false,
        "pretraining_tp": 2, "transformers_version": "4.40.0", "temperature": 0.6, "auto_map": {"AutoConfig": "x"},
        "activation": "swiglu", "mlp_bias": false, "rope_interleaved": false, "quantization_config": null, "pruned_heads": {},
    });
    assert_eq!(parse(&changed("llama", named)), Ok(plain));
}
