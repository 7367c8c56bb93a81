"""Writes fixtures/reference/configs.json: config.json files as they are found, and what Transformers makes of each.

For each file: sizes, epsilon, the rotary embedding's frequencies, and the window of every layer, taken from the model that
Transformers builds of it.
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

SMALL = {
    "vocab_size": 96, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LINEAR = {"rope_type": "linear", "factor": 4.0}
PLAIN = {"rope_type": "default", "rope_theta": 1e6}
ABSENT = "absent"  # for a key that is left out
SLIDING, FULL = "sliding_attention", "full_attention"

# model_type, and what is added to the small config.
CASES = [
    ("llama", {}),
    ("llama", {"rope_theta": 5e5}),
    ("llama", {"rope_parameters": {"rope_type": "default"}, "rope_theta": 5e5}),
    ("llama", {"rope_parameters": PLAIN, "rope_theta": 5e5}),
    ("llama", {"rope_scaling": LINEAR, "rope_parameters": PLAIN}),
    ("llama", {"rope_scaling": LINEAR, "rope_parameters": PLAIN, "rope_theta": 5e5}),
    ("llama", {"rope_scaling": LINEAR | {"rope_theta": 7.0}, "rope_theta": 5e5}),
    ("llama", {"rope_scaling": {"type": "linear", "rope_type": "default", "factor": 4.0}}),
    ("llama", {"rope_scaling": {}, "rope_parameters": LINEAR}),
    ("llama", {"rope_scaling": {"factor": 2.0}}),
    ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 0.5}}),
    ("llama", {"rope_scaling": LLAMA3 | {"original_max_position_embeddings": 64}}),
    ("llama", {"rope_scaling": LLAMA3 | {"original_max_position_embeddings": 64}, "original_max_position_embeddings": 32}),
    ("llama", {"rope_scaling": LLAMA3, "original_max_position_embeddings": 32, "max_position_embeddings": 128}),
    ("llama", {"rope_scaling": LLAMA3, "max_position_embeddings": 128}),
    ("llama", {"rope_parameters": LLAMA3}),
    ("llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}),
    ("llama", {"head_dim": 24, "rms_norm_eps": 1e-5, "tie_word_embeddings": True}),
    ("llama", {"num_key_value_heads": None, "max_position_embeddings": 512, "rms_norm_eps": 1e-5}),
    ("llama", {"layer_types": [FULL] * 4}),
    ("mistral", {}),
    ("mistral", {"sliding_window": None, "rope_theta": 1e6}),
    ("mistral", {"sliding_window": 7, "num_key_value_heads": ABSENT, "num_attention_heads": 8}),
    ("qwen2", {}),
    ("qwen2", {"use_sliding_window": True}),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 2}),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 0}),
    ("qwen2", {"use_sliding_window": False, "sliding_window": 9, "max_window_layers": 0}),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 9, "layer_types": [SLIDING, FULL, FULL, SLIDING]}),
    ("qwen2", {"head_dim": 32, "rope_theta": 1e6}),
    ("qwen3", {}),
    ("qwen3", {"use_sliding_window": True, "max_window_layers": 1, "head_dim": 24}),
    ("smollm3", {}),
    ("smollm3", {"no_rope_layers": [1, 1, 0, 1], "use_sliding_window": True, "sliding_window": 9, "max_window_layers": 28}),
    ("smollm3", {"no_rope_layer_interval": 3, "rope_theta": 5e6, "layer_types": [FULL] * 4, "use_sliding_window": False}),
    ("granite", {}),
    ("granite", {"head_dim": 24, "rope_theta": 1e7}),
    ("olmo2", {"rope_scaling": LINEAR}),
    ("internlm3", {"rope_scaling": {"rope_type": "dynamic", "factor": 6.0}}),
    ("phi3", {}),
    ("phi3", {"partial_rotary_factor": 0.75, "sliding_window": 5}),
    ("phi3", {"rope_parameters": PLAIN | {"partial_rotary_factor": 0.5}, "partial_rotary_factor": 0.75}),
    ("gemma2", {}),
    ("gemma2", {"head_dim": 24, "sliding_window": 5, "layer_types": [FULL, SLIDING, FULL, FULL], "hidden_act": "gelu"}),
    ("gemma3_text", {"num_hidden_layers": 7}),
    ("gemma3_text", {"sliding_window_pattern": 2, "sliding_window": 7, "rope_theta": 5e5, "rope_local_base_freq": 2e4}),
    ("gemma3_text", {"num_hidden_layers": 7, "_sliding_window_pattern": 2, "rope_scaling": LINEAR}),
    ("gemma3_text", {"num_hidden_layers": 7, "rope_parameters": {FULL: PLAIN, SLIDING: {"rope_type": "default", "rope_theta": 300.0}}}),
    ("gemma3_text", {"num_hidden_layers": 7, "rope_parameters": {FULL: {"rope_theta": 9e5}}, "rope_scaling": LINEAR,
                     "rope_local_base_freq": 77}),
]


def case(model_type, changes):
    """The config and what is computed under it."""
    config = {"model_type": model_type, "pad_token_id": 0} | SMALL | changes
    config = {key: value for key, value in config.items() if value is not ABSENT}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        read = AutoConfig.from_pretrained(folder)
    model = AutoModelForCausalLM.from_config(read)
    rotary = model.model.rotary_emb
    layers = [layer.self_attn for layer in model.model.layers]
    has_window = model_type in ("mistral", "phi3")
    norm = model.model.norm
    has_two = hasattr(rotary, "sliding_attention_inv_freq") and hasattr(rotary, "full_attention_inv_freq")
    return {
        "config": config,
        "head_dim": layers[0].head_dim,
        "kv_heads": read.num_key_value_heads,
        "eps": norm.eps if hasattr(norm, "eps") else norm.variance_epsilon,
        "max_positions": read.max_position_embeddings,
        "tied": model.lm_head.weight is model.model.embed_tokens.weight,
        "inverse_frequencies": (rotary.full_attention_inv_freq if has_two else rotary.inv_freq).tolist(),
        "local_frequencies": rotary.sliding_attention_inv_freq.tolist() if has_two else None,
        "windows": [read.sliding_window if has_window else getattr(layer, "sliding_window", None) for layer in layers],
        "rotated": [bool(getattr(layer, "use_rope", True)) for layer in layers],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    out = Path(__file__).parents[2] / "fixtures" / "reference" / "configs.json"
    parser.add_argument("--out", type=Path, default=out)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [json.dumps(case(*row), separators=(",", ":")) for row in CASES]
    options.out.write_text("[\n" + ",\n".join(rows) + "\n]\n")


if __name__ == "__main__":
    main()
