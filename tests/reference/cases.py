"""The small random models, token rows and hyper-parameters that the reference numbers are made for.

Everything here is a pure function of the case's name and number: a torch.Generator a purpose, no global state.
"""

import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file

QV = ["q_proj", "v_proj"]
ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ROWS = 10
STEPS = 10


@dataclass(frozen=True)
class Case:
    """One model configuration, as written to config.json, and what is trained on it."""

    name: str
    config: dict
    targets: list
    optimizers: list = field(default_factory=lambda: ["adamw"])


COMMON = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "hidden_act": "silu",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "max_position_embeddings": 512,
}

# Some are in the form that Transformers 4 wrote (rope_theta, rope_scaling, torch_dtype), some in the form of
# Transformers 5 (rope_parameters, dtype), because both are found in the wild.
CASES = [
    Case(
        "llama",
        COMMON
        | {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": 96,
            "intermediate_size": 112,
            "num_key_value_heads": 4,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "rope_scaling": None,
            "tie_word_embeddings": False,
            "torch_dtype": "float32",
        },
        QV,
        ["adamw", "adamw_per_token", "adamw_transformers", "sgd"],
    ),
    Case(
        "llama_gqa_tied",
        COMMON
        | {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": 112,
            "intermediate_size": 128,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 10000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 256,
            },
            "tie_word_embeddings": True,
            "dtype": "float32",
        },
        ALL_LINEAR,
    ),
    Case(
        "mistral",
        COMMON
        | {
            "architectures": ["MistralForCausalLM"],
            "model_type": "mistral",
            "vocab_size": 96,
            "intermediate_size": 96,
            "num_key_value_heads": 2,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "sliding_window": 6,
            "tie_word_embeddings": False,
            "torch_dtype": "float32",
        },
        QV,
    ),
    Case(
        "qwen2",
        COMMON
        | {
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "vocab_size": 128,
            "intermediate_size": 96,
            "num_key_value_heads": 2,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
            "use_sliding_window": False,
            "sliding_window": None,
            "max_window_layers": 2,
            "tie_word_embeddings": False,
            "dtype": "float32",
        },
        ALL_LINEAR,
    ),
    # Small, for what the four above leave out: linear RoPE scaling, heads wider than hidden_size / heads, one layer.
    Case(
        "llama_linear",
        COMMON
        | {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": 64,
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 24,
            "intermediate_size": 48,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "rope_scaling": {"type": "linear", "factor": 4.0},
            "tie_word_embeddings": False,
            "torch_dtype": "float32",
        },
        ["q_proj", "o_proj"],
    ),
]


def generator(case, purpose):
    """A generator of its own for each case and purpose, so that a new case disturbs no other."""
    return torch.Generator().manual_seed(zlib.crc32(f"{case.name}/{purpose}".encode()))


def base_shapes(case):
    """Name and shape of every tensor of the base model, in Hugging Face's naming; weights are [out, in]."""
    c = case.config
    hidden, inner, vocab = c["hidden_size"], c["intermediate_size"], c["vocab_size"]
    head_dim = c.get("head_dim", hidden // c["num_attention_heads"])
    wide, kv = head_dim * c["num_attention_heads"], head_dim * c["num_key_value_heads"]
    shapes = {"model.embed_tokens.weight": (vocab, hidden), "model.norm.weight": (hidden,)}
    if not c["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (vocab, hidden)
    for i in range(c["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        for name, rows in (("q", wide), ("k", kv), ("v", kv)):
            shapes[f"{layer}self_attn.{name}_proj.weight"] = (rows, hidden)
            if c["model_type"] == "qwen2":
                shapes[f"{layer}self_attn.{name}_proj.bias"] = (rows,)
        shapes[layer + "self_attn.o_proj.weight"] = (hidden, wide)
        shapes[layer + "mlp.gate_proj.weight"] = (inner, hidden)
        shapes[layer + "mlp.up_proj.weight"] = (inner, hidden)
        shapes[layer + "mlp.down_proj.weight"] = (hidden, inner)
        shapes[layer + "input_layernorm.weight"] = (hidden,)
        shapes[layer + "post_attention_layernorm.weight"] = (hidden,)
    return shapes


def write_model(case, folder: Path):
    """Writes config.json and model.safetensors with random weights that are large enough to matter."""
    folder.mkdir(parents=True)
    text = json.dumps(case.config, indent=2, sort_keys=True)
    (folder / "config.json").write_text(text + "\n")
    draw = generator(case, "base")
    tensors = {}
    for name, shape in sorted(base_shapes(case).items()):
        noise = torch.randn(shape, generator=draw)
        if "norm" in name:
            tensors[name] = 1.0 + 0.2 * noise
        elif name.endswith("bias"):
            tensors[name] = 0.3 * noise
        elif "embed" in name or "lm_head" in name:
            tensors[name] = 0.25 * noise
        else:
            tensors[name] = 0.12 * noise
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def random_row(case, draw, length, turns):
    """A row of `length` tokens; response[t] is 1 where token t is to be predicted. The first token never is."""
    ids = torch.randint(3, case.config["vocab_size"], (length,), generator=draw).tolist()
    response = [0] * length
    cut = length * 2 // 5
    response[cut:] = [1] * (length - cut)
    if turns == 2:
        gap = (cut + length) // 2
        response[gap : gap + 2] = [0, 0]
    return {"ids": ids, "response": response}


def training_rows(case):
    """Rows of unequal length, 8 to 25 tokens; every third one has a second prompt within its response."""
    draw = generator(case, "rows")
    lengths = torch.randint(8, 26, (ROWS,), generator=draw).tolist()
    lengths[0], lengths[1] = 25, 11
    return [random_row(case, draw, n, 2 if i % 3 == 0 else 1) for i, n in enumerate(lengths)]


def training_plan(case):
    """plan[step][micro] = row numbers: ten steps of two micro-batches of two rows."""
    draw = generator(case, "plan")
    return [[torch.randperm(ROWS, generator=draw)[:2].tolist() for _ in range(2)] for _ in range(STEPS)]


def preference_pairs(case):
    """Three pairs with a shared prompt and answers of unequal length."""
    draw = generator(case, "preferences")
    pairs = []
    for prompt_len, chosen_len, rejected_len in ((5, 9, 4), (8, 3, 12), (4, 7, 7)):
        prompt, chosen, rejected = (
            torch.randint(3, case.config["vocab_size"], (n,), generator=draw).tolist()
            for n in (prompt_len, chosen_len, rejected_len)
        )
        rows = [{"ids": prompt + a, "response": [0] * prompt_len + [1] * len(a)} for a in (chosen, rejected)]
        pairs.append({"chosen": rows[0], "rejected": rows[1]})
    return pairs


def generation_prompt(case):
    """Seven tokens to go on from."""
    return torch.randint(3, case.config["vocab_size"], (7,), generator=generator(case, "prompt")).tolist()
